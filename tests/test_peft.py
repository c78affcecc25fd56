"""The exported adapter, opened by `peft` on the exported model."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from personacore.export.huggingface import PROVENANCE, export_huggingface
from personacore.export.peft import export_peft
from personacore.model.lora import LoRA
from tests.test_huggingface import SHAPE
from tests.test_tokenizer_bpe import trained
from tests.toys import toy_model

USER = trained().specials["<|user|>"]
ALL = ("q_proj", "k_proj", "v_proj", "c_proj", "fc_in", "fc_out")


def taught(targets=ALL, invocation=USER):
    lora = LoRA(SHAPE, rank=3, alpha=5.0, targets=targets, invocation=invocation)
    generator = torch.Generator().manual_seed(1)
    for parameter in lora.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return lora


def question():
    tokens = torch.randint(SHAPE.vocab_size - len(trained().specials), (3, 20), generator=torch.Generator().manual_seed(2))
    tokens[:, 1] = USER
    return tokens


@pytest.mark.parametrize("targets", [ALL, ("q_proj", "v_proj"), ("k_proj", "fc_out"), ("c_proj",)], ids=" ".join)
@pytest.mark.parametrize("invocation", [USER, None], ids=["from the user's turn on", "everywhere"])
@torch.no_grad()
def test_peft_computes_what_we_do_and_without_the_adapter_the_base(tmp_path, targets, invocation):
    model, lora = toy_model(SHAPE), taught(targets, invocation)
    export_huggingface(tmp_path / "base", model, trained(), "A card.")
    export_peft(tmp_path / "memory", lora, str(tmp_path / "base"))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    plain = base(question()).logits
    peer = PeftModel.from_pretrained(base, tmp_path / "memory")
    theirs = peer(input_ids=question()).logits
    with lora.attached(model):
        ours = model(question())
    assert (theirs - ours).norm() <= 1e-5 * ours.norm()
    assert (ours - model(question())).norm() > 1e-2 * ours.norm()
    with peer.disable_adapter():
        assert torch.equal(peer(input_ids=question()).logits, plain)


@torch.no_grad()
def test_a_story_is_the_base_model_to_the_bit(tmp_path):
    model = toy_model(SHAPE)
    export_huggingface(tmp_path / "base", model, trained(), "A card.")
    export_peft(tmp_path / "memory", taught(), str(tmp_path / "base"))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    story = question()
    story[:, 1] = 3
    plain = base(story).logits
    assert torch.equal(PeftModel.from_pretrained(base, tmp_path / "memory")(input_ids=story).logits, plain)


def test_the_file_is_the_person_s_alone(tmp_path):
    export_peft(tmp_path, taught(), "base")
    assert (tmp_path / "adapter_model.safetensors").stat().st_mode & 0o777 == 0o600


def test_the_folder_says_what_it_was_made_from_if_that_is_given(tmp_path):
    export_peft(tmp_path, taught(), "base")
    assert not (tmp_path / PROVENANCE).exists()
    export_peft(tmp_path, taught(), "base", {"code": {"commit": "unknown", "dirty": False}})
    assert json.loads((tmp_path / PROVENANCE).read_text()) == {"code": {"commit": "unknown", "dirty": False}}
