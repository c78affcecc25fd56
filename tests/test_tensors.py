import dataclasses
import errno
import json
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from personacore.errors import UserError
from personacore.model import tensors as module
from personacore.model.files import build_model, load_model, save_model
from personacore.model.gpt import GPT, GPTConfig
from personacore.model.tensors import load_tensors, save_tensors

TOY = GPTConfig(vocab_size=11, n_layer=1, n_head=2, n_embd=4, block_size=6)
UNTIED = dataclasses.replace(TOY, tie_weights=False)


def some_tensors() -> dict[str, torch.Tensor]:
    return {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, -2]), "c.half": torch.ones(3, dtype=torch.bfloat16)}


def weights_of(config: GPTConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    model = GPT(config)
    model.reset_parameters(seed)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def assert_refused(path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_model(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    assert all(word in message for word in words), message


def test_tensors_and_their_description_come_back(tmp_path):
    path, description = tmp_path / "some.safetensors", {"step": 3, "name": "Übung", "nested": {"list": [1, None, True]}}
    save_tensors(path, some_tensors(), description)
    tensors, found = load_tensors(path)
    assert found == description
    assert tensors.keys() == some_tensors().keys()
    for name, tensor in some_tensors().items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_equal_input_gives_equal_bytes(tmp_path):
    for name in ("one", "two"):
        save_tensors(tmp_path / name, some_tensors(), {"b": 1, "a": 2})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_transposed_and_trained_tensors_are_saved_by_value(tmp_path):
    trained = torch.arange(6.0).reshape(2, 3).requires_grad_(True)
    save_tensors(tmp_path / "file", {"transposed": trained.T}, {})
    assert torch.equal(load_tensors(tmp_path / "file")[0]["transposed"], trained.detach().T)


def test_the_file_is_plain_safetensors(tmp_path):
    save_tensors(tmp_path / "file", some_tensors(), {})
    assert load_file(tmp_path / "file").keys() == some_tensors().keys()


def test_saving_leaves_one_file_that_others_may_read(tmp_path):
    save_tensors(tmp_path / "deep" / "file", some_tensors(), {})
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["file"]
    assert stat.S_IMODE((tmp_path / "deep" / "file").stat().st_mode) == 0o644


def test_a_full_disk_is_said_in_one_line_and_keeps_what_stood_there(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    save_tensors(path, some_tensors(), {"step": 1})

    def fill(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save_file", fill)
    with pytest.raises(UserError, match=r"state\.safetensors: the disk is full"):
        save_tensors(path, some_tensors(), {"step": 2})
    assert load_tensors(path)[1] == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_refused_by_name(tmp_path):
    assert_refused(tmp_path / "none.safetensors", "is missing")


def test_a_file_cut_anywhere_is_refused_by_name(tmp_path):
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_model(whole, TOY, weights_of(TOY), {})
    data = whole.read_bytes()
    for length in (0, 1, 7, 8, 9, 300, len(data) // 2, len(data) - 1):
        cut.write_bytes(data[:length])
        assert_refused(cut, "damaged")


@pytest.mark.parametrize("data", [b"not tensors at all", b"\xff" * 100, b"\x80\x04\x95pickle....", b"{}" * 50])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, data):
    path = tmp_path / "other.safetensors"
    path.write_bytes(data)
    assert_refused(path, "damaged")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"personacore": "[1]"}, {"personacore": "{"}])
def test_a_file_that_another_program_wrote_is_refused_by_name(tmp_path, metadata):
    path = tmp_path / "foreign.safetensors"
    save_file(some_tensors(), path, metadata=metadata)
    assert_refused(path, "not written by personacore")


@pytest.mark.parametrize("config", [TOY, UNTIED], ids=["tied", "untied"])
def test_a_model_comes_back_with_its_shape_weights_and_origin(tmp_path, config):
    path = tmp_path / "model.safetensors"
    save_model(path, config, weights_of(config), {"seed": 7})
    model, provenance = load_model(path)
    assert provenance == {"seed": 7}
    assert model.config == config
    assert not model.training
    assert (model.lm_head.weight is model.wte.weight) == config.tie_weights
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        assert torch.equal(parameter, weights_of(config)[name])
    reference = GPT(config)
    reference.reset_parameters(0)
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(tokens), reference.eval()(tokens))


@pytest.mark.parametrize("description", [{}, {"config": {}}, {"config": 3}, {"config": {"n_layer": 1, "depth": 2}}])
def test_a_file_without_a_model_config_is_refused_by_name(tmp_path, description):
    path = tmp_path / "model.safetensors"
    save_tensors(path, weights_of(TOY), description | {"provenance": {}})
    assert_refused(path, "config")


@pytest.mark.parametrize(
    "change", [{"n_head": 0}, {"n_head": 3}, {"n_embd": -4}, {"n_layer": "1"}, {"dropout": 2.0}, {"vocab_size": None}], ids=str
)
def test_a_config_of_no_possible_model_is_refused_by_name(tmp_path, change):
    path = tmp_path / "model.safetensors"
    save_tensors(path, weights_of(TOY), {"config": dataclasses.asdict(TOY) | change, "provenance": {}})
    assert_refused(path, "no model has this shape")


def test_tensors_that_do_not_fit_the_config_are_refused_by_name(tmp_path):
    path, weights = tmp_path / "model.safetensors", weights_of(TOY)
    save_model(path, TOY, weights | {"wte.weight": torch.zeros(12, 4)}, {})
    assert_refused(path, "wte.weight has shape (12, 4), not (11, 4)")
    save_model(path, TOY, {name: tensor for name, tensor in weights.items() if name != "ln_f.bias"}, {})
    assert_refused(path, "ln_f.bias is missing")
    save_model(path, TOY, weights | {"extra": torch.zeros(1)}, {})
    assert_refused(path, "extra is unknown")
    save_model(path, UNTIED, weights, {})
    assert_refused(path, "lm_head.weight is missing")
    save_model(path, TOY, weights_of(UNTIED), {})
    assert_refused(path, "lm_head.weight is unknown")


def test_half_precision_weights_make_a_float32_model(tmp_path):
    halves = {name: tensor.bfloat16() for name, tensor in weights_of(TOY).items()}
    model = build_model(TOY, halves, tmp_path)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, halves[name].float())


def test_the_description_is_readable_in_the_file(tmp_path):
    save_model(tmp_path / "file", TOY, weights_of(TOY), {"commit": "abc"})
    data = (tmp_path / "file").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    description = json.loads(header["__metadata__"]["personacore"])
    assert description == {"config": dataclasses.asdict(TOY), "provenance": {"commit": "abc"}}
