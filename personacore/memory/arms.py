"""The base learns to converse, and something protects what it could do before: nothing, EWC, replay, or distillation."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from personacore.memory.ewc import EWC
from personacore.model.gpt import GPT
from personacore.params import ArmParams
from personacore.training.batches import Batches


def penalties(
    arm: ArmParams, model: GPT, base: GPT, fisher: dict[str, Tensor], stories: Batches
) -> list[Callable[[int], Tensor]]:
    """What an arm adds to the loss of a step, beside the rows of stories that it may replay."""
    found: list[Callable[[int], Tensor]] = []
    if arm.ewc_strength:
        held = EWC(model, fisher, arm.ewc_strength)
        found.append(lambda step: held())
    if arm.distill_weight:
        found.append(partial(_distill, model, base, stories, arm.distill_weight))
    return found


def _distill(model: GPT, base: GPT, stories: Batches, weight: float, step: int) -> Tensor:
    """The weighted KL divergence, in nats per token, of the model from the base on this step's stories."""
    inputs, _ = stories.rows(step, 0, stories.batch_size)
    inputs = inputs.to(base.wte.weight.device)
    with torch.no_grad():
        taught = base(inputs).log_softmax(-1)
    return weight * functional.kl_div(
        model(inputs).log_softmax(-1).flatten(0, 1), taught.flatten(0, 1), log_target=True, reduction="batchmean"
    )
