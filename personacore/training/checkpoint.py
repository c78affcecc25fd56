"""The state of a training run in a file: weights, optimizers, the best weights so far, and the curve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from personacore.errors import UserError
from personacore.model.gpt import GPT
from personacore.model.tensors import load_tensors, save_tensors


@dataclass
class Progress:
    """Where a run stands: steps done, its curve, and the best validation loss so far."""

    step: int = 0
    rows: list[list[float | None]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of the steps since the last curve row
    best_step: int = 0
    best_loss: float = math.inf


def copy_weights(model: GPT) -> dict[str, Tensor]:
    """The model's weights, shared storage once."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def save_state(
    path: Path,
    identity: str,
    model: GPT,
    optimizers: Sequence[torch.optim.Optimizer],
    best: dict[str, Tensor],
    progress: Progress,
) -> None:
    """Save all that a run needs to go on, atomically; `identity` says which run it is."""
    tensors = {f"model.{name}": tensor for name, tensor in model.named_parameters()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{key}": tensor for key, tensor in state.items()}
    described: dict[str, Any] = {**vars(progress), "identity": identity}
    described["best_loss"] = None if math.isinf(progress.best_loss) else progress.best_loss
    save_tensors(path, tensors, described)


def load_state(
    path: Path, identity: str, model: GPT, optimizers: Sequence[torch.optim.Optimizer], best: dict[str, Tensor]
) -> Progress:
    """Put the saved state of the run `identity` into model, optimizers and best weights; returns where it stood.

    Raises:
        UserError: the file is damaged or another run's.
    """
    tensors, described = load_tensors(path)
    if described.pop("identity", None) != identity:
        raise UserError(f"{path} is the state of another run: delete it and rerun")
    try:
        for name, parameter in model.named_parameters():
            parameter.data.copy_(tensors[f"model.{name}"])
            best[name].copy_(tensors[f"best.{name}"])
        for number, optimizer in enumerate(optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                kind, *place = name.split(".")
                if kind == "optimizer" and int(place[0]) == number:
                    state.setdefault(int(place[1]), {})[place[2]] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        progress = Progress(**described)
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{path} does not fit this run ({error}): delete it and rerun") from None
    progress.best_loss = math.inf if progress.best_loss is None else progress.best_loss
    return progress
