"""Elastic weight consolidation (Kirkpatrick et al., 2017, arXiv 1612.00796): learn on, and hold what earlier data needed."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from personacore.errors import UserError
from personacore.model.tensors import load_tensors, save_tensors

Example = TypeVar("Example")


def diagonal_fisher(
    model: nn.Module, loss: Callable[[nn.Module, Example], Tensor], examples: Iterable[Example]
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information: over the examples, the mean of the squared gradient of each one's own loss.

    `loss(model, example)` is a scalar: the example's negative log-likelihood in nats, summed rather than averaged over its
    tokens. With labels from the data this is the empirical Fisher, with labels drawn from the model the true one. The result
    has each trainable parameter by name, one that several modules share once, in its shape and in float32 or wider. The model
    is in evaluation mode meanwhile; modes and gradients are left as they were.

    Raises:
        UserError: there is no example, or a loss or an entry is not finite.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    fisher = {name: torch.zeros_like(parameter, dtype=_wide(parameter)) for name, parameter in parameters.items()}
    modes = {module: module.training for module in model.modules()}
    count = 0
    model.eval()
    try:
        # One example at a time: the square of a batch's mean gradient is smaller, about by the size of the batch.
        for example in examples:
            with torch.enable_grad():
                value = loss(model, example)
            if not value.isfinite():
                raise UserError(f"Fisher information: example {count} has loss {value.item()}")
            gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    fisher[name] += gradient.to(fisher[name].dtype).square()
            count += 1
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not count:
        raise UserError("Fisher information: there are no examples")
    for name, entries in fisher.items():
        entries /= count
        if not entries.isfinite().all():
            raise UserError(f"Fisher information of {name} is not finite")
    return fisher


class EWC:
    """The penalty strength/2 · Σᵢ Fᵢ (θᵢ - θᵢ*)² on a model's distance from an anchor, called without arguments.

    The scalar has a gradient and is one of `assemble_loss`'s penalties; for several earlier tasks give several. `fisher` is
    that of `diagonal_fisher`; the anchor θ* is, unless given, a copy of the parameters as they are now.

    Raises:
        UserError: the strength is negative, or Fisher information or anchor do not fit the model.
    """

    def __init__(
        self, model: nn.Module, fisher: Mapping[str, Tensor], strength: float, anchor: Mapping[str, Tensor] | None = None
    ) -> None:
        if not (strength >= 0 and math.isfinite(strength)):
            raise UserError(f"EWC strength {strength} is not a finite number of at least 0")
        parameters = dict(model.named_parameters())
        anchor = parameters if anchor is None else anchor
        _check_names(parameters, fisher, anchor)
        for name, entries in fisher.items():
            for kind, tensor in (("Fisher information", entries), ("anchor", anchor[name])):
                if tensor.shape != parameters[name].shape:
                    raise UserError(f"{kind} of {name} has shape {tuple(tensor.shape)}, not {tuple(parameters[name].shape)}")
                if not tensor.isfinite().all():
                    raise UserError(f"{kind} of {name} is not finite")
            if (entries < 0).any():
                raise UserError(f"Fisher information of {name} is negative")
        self.strength = strength
        self._model = model
        self._fisher = {name: entries.detach().clone() for name, entries in fisher.items()}
        self._anchor = {name: anchor[name].detach().to(_wide(anchor[name]), copy=True) for name in fisher}

    def __call__(self) -> Tensor:
        total = torch.zeros(())
        for name, parameter in self._model.named_parameters():  # looked up anew: moving a model may replace its parameters
            if name in self._fisher:
                for held in (self._fisher, self._anchor):  # follows the model to its device, once
                    held[name] = held[name].to(parameter.device)
                total = total.to(parameter.device) + (self._fisher[name] * (parameter - self._anchor[name]).square()).sum()
        return self.strength / 2 * total


def save_fisher(path: Path, fisher: Mapping[str, Tensor], provenance: Mapping[str, object]) -> None:
    """Write Fisher information with its provenance: the data and the weights that it is of."""
    save_tensors(path, fisher, {"fisher": dict(provenance)})


def load_fisher(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The Fisher information of a file, and its provenance.

    Raises:
        UserError: the file is missing, damaged, or of something else.
    """
    fisher, description = load_tensors(path)
    if not isinstance(description.get("fisher"), dict):
        raise UserError(f"{path} holds no Fisher information: delete it and rerun")
    return fisher, description["fisher"]


def _wide(tensor: Tensor) -> torch.dtype:
    """A type for squares and small differences, which half precision would lose."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _check_names(parameters: Mapping[str, nn.Parameter], fisher: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> None:
    for name in sorted(fisher.keys() - parameters.keys()):
        raise UserError(f"Fisher information of {name}: the model has no such parameter")
    for name in sorted(fisher.keys() - anchor.keys()):
        raise UserError(f"anchor of {name} is missing")
    for name, parameter in parameters.items():
        if parameter.requires_grad and name not in fisher:  # else it would be free to forget, and nobody told
            raise UserError(f"Fisher information of {name} is missing: give zeros to leave it free")
