"""Model folders: `model.safetensors` with the model's shape and origin inside."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from personacore.errors import UserError
from personacore.model.gpt import GPT, GPTConfig
from personacore.model.tensors import load_tensors, save_tensors


def save_model(path: Path, config: GPTConfig, weights: Mapping[str, Tensor], provenance: Mapping[str, object]) -> None:
    """Write weights, as `GPT.named_parameters` names them, with the config and the provenance."""
    save_tensors(path, weights, {"config": dataclasses.asdict(config), "provenance": dict(provenance)})


def load_model(path: Path) -> tuple[GPT, dict[str, object]]:
    """The model of a file, in evaluation mode and float32, and its provenance.

    Raises:
        UserError: the file is missing, damaged, or its tensors do not fit its config.
    """
    weights, description = load_tensors(path)
    try:
        config, provenance = GPTConfig(**description["config"]), description["provenance"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} holds no model config ({error}): rebuild it with `dvc repro`") from None
    return build_model(config, weights, path), provenance


def build_model(config: GPTConfig, weights: Mapping[str, Tensor], path: Path) -> GPT:
    """A model of this shape with these weights; `path` is named in errors.

    Raises:
        UserError: a tensor is missing, unknown, or of another shape.
    """
    try:
        if config.n_embd % config.n_head:
            raise ValueError(f"n_head {config.n_head} does not divide n_embd {config.n_embd}")
        with torch.device("meta"):
            model = GPT(config)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"{path}: no model has this shape ({error}): rebuild it with `dvc repro`") from None
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for name in sorted(expected.keys() ^ weights.keys()):
        raise UserError(f"{path}: tensor {name} is {'missing' if name in expected else 'unknown'}: rebuild it with `dvc repro`")
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise UserError(f"{path}: tensor {name} has shape {tuple(weights[name].shape)}, not {shape}: rebuild it")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=False, assign=True)
    if config.tie_weights:
        model.lm_head.weight = model.wte.weight
    return model.requires_grad_(True).eval()
