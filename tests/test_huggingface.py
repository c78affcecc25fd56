"""The exported folder, opened by `transformers`."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from personacore.export.card import model_card
from personacore.export.huggingface import PROVENANCE, export_huggingface
from personacore.generation.generate import generate
from personacore.generation.prompts import encode_prompt
from personacore.generation.sampling import Sampling
from personacore.model.gpt import GPTConfig
from tests.test_tokenizer_bpe import HARD_TEXTS, trained
from tests.toys import toy_model

SHAPE = GPTConfig(vocab_size=trained().vocab_size, n_layer=2, n_head=2, n_embd=16, block_size=24)
VARIANTS = {
    "tied": SHAPE,
    "untied": dataclasses.replace(SHAPE, tie_weights=False),
    "no positions": dataclasses.replace(SHAPE, position="none"),
    "half depth": dataclasses.replace(SHAPE, n_layer=1),
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def both(request, tmp_path):
    model = toy_model(request.param)
    export_huggingface(tmp_path, model, trained(), "A card.")
    return model, AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.fixture(scope="module")
def peer_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("huggingface")
    export_huggingface(folder, toy_model(SHAPE), trained(), "A card.")
    return AutoTokenizer.from_pretrained(folder)


def test_logits_and_greedy_text_are_ours(both):
    model, peer = both
    tokens = torch.randint(SHAPE.vocab_size, (3, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(peer(tokens).logits, model(tokens), atol=1e-4, rtol=0)
    ours = torch.stack(list(generate(model, tokens[:, :8], max_new_tokens=16, sampling=Sampling(0.0), seed=0)), 1)
    theirs = peer.generate(tokens[:, :8], do_sample=False, min_new_tokens=16, max_new_tokens=16, eos_token_id=None)[:, 8:]
    assert torch.equal(theirs, ours)


@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
def test_ids_are_ours_and_decode_to_the_text(peer_tokenizer, text):
    """`transformers` takes the names of specials for specials unless it is told not to."""
    ids = peer_tokenizer(text, split_special_tokens=True)["input_ids"]
    assert ids == trained().encode(text)
    assert peer_tokenizer.decode(ids) == text


def test_the_chat_template_is_our_prompt(peer_tokenizer):
    messages = [{"role": "user", "content": "Where do I live?"}]
    ids = peer_tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == encode_prompt(trained(), "Where do I live?")


def test_an_interrupted_export_has_no_config(tmp_path, monkeypatch):
    monkeypatch.setattr("personacore.export.huggingface.tokenizer_file", lambda tokenizer: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_huggingface(tmp_path, toy_model(SHAPE), trained(), "A card.")
    assert not (tmp_path / "config.json").exists()


def test_the_folder_says_what_it_was_made_from_if_that_is_given(tmp_path):
    export_huggingface(tmp_path / "without", toy_model(SHAPE), trained(), "A card.")
    assert not (tmp_path / "without" / PROVENANCE).exists()
    provenance = {"code": {"commit": "c" * 40, "dirty": False}, "made_from": {"config.json": "d" * 64}}
    export_huggingface(tmp_path, toy_model(SHAPE), trained(), "A card.", provenance)
    assert json.loads((tmp_path / PROVENANCE).read_text()) == provenance


def test_the_card_says_what_was_measured_with_what_it_was_measured_on():
    root = Path(__file__).resolve().parent.parent / "metrics"
    corpus, evaluate, forgetting, recall = (
        json.loads((root / f"{name}.json").read_text()) for name in ("corpus", "evaluate", "forgetting", "recall")
    )
    card = model_card(corpus, evaluate, forgetting["conversational"], recall, "c" * 64)
    gate = recall["in_context_recall"]
    assert card.startswith("---\nlicense: mit\n") and "c" * 64 in card
    assert f"| {gate['value']:.1%} of {gate['asked']:,} |" in card
    assert f"{evaluate['scored_bytes']:,} unseen bytes" in card and f"{corpus['train_documents']:,} stories" in card
    without_gates = model_card(corpus | {"source": "a.txt"}, evaluate, forgetting["conversational"], {}, "c" * 64)
    assert "grammar that ships" not in without_gates and "asked for |" not in without_gates
