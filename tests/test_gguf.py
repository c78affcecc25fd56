"""The files for llama.cpp, opened by the reader of `gguf`; `benchmarks/same_story.py` lets llama.cpp itself write from them."""

import dataclasses
import json

import gguf
import numpy as np
import pytest
import regex
import torch

from personacore.export.gguf import PRECISIONS, PROVENANCE, export_gguf, export_gguf_adapter, llama_name
from personacore.export.huggingface import peer_weights
from personacore.export.peft import peer_factors
from personacore.tokenizer.pretokenize import split_words
from tests.test_huggingface import SHAPE, VARIANTS
from tests.test_peft import taught
from tests.test_tokenizer_bpe import HARD_TEXTS, trained
from tests.toys import toy_model

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
WIDE = dataclasses.replace(SHAPE, n_embd=32)


def tensors(file):
    return {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(file).tensors}


def fields(file):
    return {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_float32_holds_every_weight_to_the_bit_the_way_round_that_linear_layers_are(tmp_path, config):
    model = toy_model(config)
    export_gguf(tmp_path, model, trained())
    found = tensors(tmp_path / "f32.gguf")
    assert found.keys() == {llama_name(name) for name in peer_weights(model)}
    attention = model.blocks[0].attn
    queries_keys_values = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    np.testing.assert_array_equal(found["blk.0.attn_qkv.weight"], queries_keys_values)
    np.testing.assert_array_equal(found["blk.0.ffn_down.weight"], model.blocks[0].mlp.fc_out.weight)
    np.testing.assert_array_equal(found["blk.0.ffn_norm.bias"], model.blocks[0].ln_2.bias)
    np.testing.assert_array_equal(found["token_embd.weight"], model.wte.weight)
    assert ("output.weight" in found) == (not config.tie_weights)


@pytest.mark.parametrize(("precision", "bits"), [("f16", 11), ("q8_0", 7)])
def test_a_smaller_file_is_off_by_no_more_than_its_bits(tmp_path, precision, bits):
    model = toy_model(WIDE)
    export_gguf(tmp_path, model, trained())
    exact, rounded = tensors(tmp_path / "f32.gguf"), tensors(tmp_path / f"{precision}.gguf")
    for name, weight in exact.items():
        assert np.abs(rounded[name] - weight).max() <= np.abs(weight).max() / 2**bits
        assert (rounded[name] == weight).all() == (weight.ndim == 1 or name == "position_embd.weight"), name
    sizes = [(tmp_path / f"{each}.gguf").stat().st_size for each in PRECISIONS]
    assert sizes == sorted(sizes, reverse=True)


def test_rows_that_do_not_fill_the_blocks_of_q8_0_are_kept_in_float16(tmp_path):
    export_gguf(tmp_path, toy_model(SHAPE), trained())
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "q8_0.gguf").tensors}
    assert kinds["blk.0.attn_qkv.weight"] == "F16" and kinds["blk.0.ffn_down.weight"] == "Q8_0"


def test_the_shape_and_the_tokenizer_are_in_the_file(tmp_path):
    export_gguf(tmp_path, toy_model(SHAPE), trained())
    found, specials = fields(tmp_path / "q8_0.gguf"), trained().specials
    assert (found["gpt2.context_length"], found["gpt2.block_count"]) == (SHAPE.block_size, SHAPE.n_layer)
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(tokens) == trained().vocab_size and tokens[trained().encode(" the")[0]].startswith("Ġ")
    assert {name: tokens.index(name) for name in specials} == specials
    assert {tokens[place] for place, kind in enumerate(kinds) if kind == gguf.TokenType.CONTROL} == set(specials)
    assert len(found["tokenizer.ggml.merges"]) == len(trained().merges)
    assert found["tokenizer.ggml.eot_token_id"] == specials["<|end|>"]


def test_an_adapter_changes_each_matrix_by_what_it_does_in_peft(tmp_path):
    lora = taught()
    export_gguf_adapter(tmp_path / "adapter.gguf", lora)
    found, alpha = tensors(tmp_path / "adapter.gguf"), fields(tmp_path / "adapter.gguf")["adapter.lora.alpha"]
    theirs = peer_factors(lora)
    for name in [name for name in theirs if name.endswith("lora_A.weight")]:
        layer = llama_name(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        a, b = (found[f"{layer}.weight.lora_{which}"] for which in "ab")
        expected = lora.scale * theirs[name.replace("lora_A", "lora_B")] @ theirs[name]
        np.testing.assert_allclose(alpha / b.shape[1] * (b @ a), expected, rtol=1e-5, atol=1e-6)


def test_an_adapter_names_its_kind_and_the_tokens_from_which_it_acts(tmp_path):
    export_gguf_adapter(tmp_path / "adapter.gguf", taught())
    found = gguf.GGUFReader(tmp_path / "adapter.gguf").fields
    assert (found["general.type"].contents(), found["adapter.type"].contents()) == ("adapter", "lora")
    invocation = found["adapter.alora.invocation_tokens"]
    assert invocation.contents() == [trained().specials["<|user|>"]]
    assert invocation.types == [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32]  # llama.cpp takes no other
    export_gguf_adapter(tmp_path / "everywhere.gguf", taught(invocation=None))
    assert "adapter.alora.invocation_tokens" not in gguf.GGUFReader(tmp_path / "everywhere.gguf").fields


@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
def test_words_are_split_as_smollm_does_but_for_white_space_before_a_digit(text):
    """`smollm` takes digits out first, then splits what lies between by GPT-2's pattern."""
    text = regex.sub(r"\s+(?=\p{N})", " ", text)
    pieces = regex.split(r"(\p{N})", text)
    assert [word for piece in pieces for word in regex.findall(GPT2, piece)] == split_words(text)


def test_the_files_say_what_they_were_made_from_if_it_is_given(tmp_path):
    provenance = {"code": {"commit": "c" * 40, "dirty": False}, "made_from": {"config.json": "d" * 64}}
    export_gguf(tmp_path, toy_model(SHAPE), trained(), provenance)
    export_gguf_adapter(tmp_path / "adapter.gguf", taught(), provenance)
    for name in (*PRECISIONS, "adapter"):
        assert json.loads(fields(tmp_path / f"{name}.gguf")[PROVENANCE]) == provenance
    export_gguf_adapter(tmp_path / "adapter.gguf", taught())
    assert PROVENANCE not in fields(tmp_path / "adapter.gguf")


def test_an_adapter_is_the_person_s_alone(tmp_path):
    export_gguf_adapter(tmp_path / "adapter.gguf", taught())
    assert (tmp_path / "adapter.gguf").stat().st_mode & 0o777 == 0o600


def test_an_interrupted_export_leaves_the_file_before(tmp_path, monkeypatch):
    export_gguf(tmp_path, toy_model(SHAPE), trained())
    before = (tmp_path / "f32.gguf").read_bytes()
    monkeypatch.setattr("personacore.export.gguf._write", lambda writer: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_gguf(tmp_path, toy_model(SHAPE, seed=1), trained())
    assert (tmp_path / "f32.gguf").read_bytes() == before and len(list(tmp_path.iterdir())) == len(PRECISIONS)
