"""The training loop: same seed and params, same curve, whenever it was interrupted and however many processes ran it.

With dropout the masks also depend on the process and the micro-batch; without it, neither changes more than rounding.
"""

import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from personacore.errors import UserError
from personacore.evaluation.loss import Loss
from personacore.model.gpt import GPT
from personacore.model.targets import IGNORED
from personacore.params import TrainParams
from personacore.training.batches import Rows
from personacore.training.checkpoint import Progress, copy_weights, load_state, save_state
from personacore.training.crew import Crew
from personacore.training.distributed import World
from personacore.training.loss import assemble_loss, linear_cross_entropy
from personacore.training.optimizer import build_optimizers
from personacore.training.schedule import cosine_with_warmup

if TYPE_CHECKING:
    from personacore.training.attention import ShownAttention

COLUMNS = ("step", "train_nats_per_token", "valid_nats_per_token", "lr_fraction")


@dataclass(frozen=True)
class Trained:
    """A finished run: the best weights, the curve by `COLUMNS`, and what it took.

    `seconds` were spent on the last `steps_here` steps, those that this process made itself.
    """

    weights: dict[str, Tensor]
    rows: list[list[float | None]]
    best_step: int
    best_loss: float
    tokens: int
    seconds: float
    steps_here: int


def train(
    model: GPT,
    params: TrainParams,
    batches: Rows,
    validate: Callable[[GPT], Loss],
    *,
    device: torch.device,
    precision: str,
    world: World = World(),  # noqa: B008 (frozen)
    state_file: Path | None = None,
    identity: str = "",
    extra_penalties: Sequence[Callable[[int], Tensor]] = (),
    shown: "ShownAttention | None" = None,
    log: Callable[[str], None] = lambda line: None,
    on_row: Callable[[list[list[float | None]]], None] = lambda rows: None,
) -> Trained:
    """Train `model` in place for `max_steps` and return the weights with the best validation loss.

    `validate` gives the loss of this process's share of the validation documents.
    A penalty is given the number of the step and returns what it adds to the loss; `shown` adds what a head is shown.

    With `state_file` the run continues from the state saved there under the same `identity`, bit for bit, and saves its own
    every `checkpoint_seconds`. `on_row` is given the whole curve each time a row is added.

    Raises:
        UserError: the loss is no longer finite, the disk is full, or the state file is damaged or another run's.
    """
    model.to(device).train()
    optimizers = build_optimizers(model, params, precision)
    best = copy_weights(model)
    progress = Progress()
    if state_file is not None and state_file.exists():
        progress = load_state(state_file, identity, model, optimizers, best)
        log(f"resuming from step {progress.step} of {params.max_steps}")
    on_row(progress.rows)

    share, micro = _split(params, world)
    parts = share // micro + bool(extra_penalties) if device.type == "cpu" and not model.config.dropout else 1
    crew = Crew(parts)
    tokens_per_step = params.batch_size * model.config.block_size
    first_step, started, saved = progress.step, time.monotonic(), time.monotonic()
    while True:
        last = progress.step == params.max_steps
        measures = last or progress.step % params.eval_interval == 0
        if (measures or progress.step % params.log_interval == 0) and not _has_row(progress):
            valid = _validate(model, validate, device, world) if measures else None
            if valid is not None and not math.isfinite(valid):
                raise _diverged("validation", valid, progress.step, state_file)
            if valid is not None and valid < progress.best_loss:
                progress.best_step, progress.best_loss = progress.step, valid
                best = copy_weights(model)
            _add_row(progress, params, valid)
            on_row(progress.rows)
            log(_log_line(progress, params, tokens_per_step, progress.step - first_step, time.monotonic() - started))
        if last:
            break
        loss = _gradient(model, params, batches, progress.step, device, precision, world, crew, extra_penalties, shown)
        if not math.isfinite(loss):
            raise _diverged("training", loss, progress.step, state_file)
        # Between gradient and update, because only now is the state known to give a finite loss.
        if state_file is not None and world.leads and time.monotonic() - saved >= params.checkpoint_seconds:
            save_state(state_file, identity, model, optimizers, best, progress)
            saved = time.monotonic()
        _update(optimizers, _lr_fraction(params, progress.step))
        progress.losses.append(loss)
        progress.step += 1
    seconds = time.monotonic() - started
    if state_file is not None and world.leads:
        save_state(state_file, identity, model, optimizers, best, progress)
    return Trained(
        best,
        progress.rows,
        progress.best_step,
        progress.best_loss,
        progress.step * tokens_per_step,
        seconds,
        progress.step - first_step,
    )


def _gradient(
    model: GPT,
    params: TrainParams,
    batches: Rows,
    step: int,
    device: torch.device,
    precision: str,
    world: World,
    crew: Crew,
    extra_penalties: Sequence[Callable[[int], Tensor]],
    shown: "ShownAttention | None",
) -> float:
    """The clipped gradient of a step's batch, in `.grad`; returns its mean loss in nats per token, NaN without a gradient.

    The loss that is returned holds penalties, but not what attention is shown.
    """
    share, micro = _split(params, world)
    scale = 1 / batches.scored(step)
    parameters = list(model.parameters())

    def micro_batch(first: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        inputs, targets = _until_last_scored(inputs, targets)
        if model.config.dropout:  # a function of the place in the run, so a resumed run draws the same masks
            torch.manual_seed(int(np.random.SeedSequence((batches.seed, step, first)).generate_state(1, np.uint64)[0]))
        looked: dict[int, tuple[Tensor, Tensor]] = {}  # queries and keys by layer
        probe = None if shown is None else lambda layer, query, key: looked.update({layer: (query, key)})
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            hidden = model.hidden(inputs.to(device), probe=probe).flatten(0, 1)
        hidden = hidden.bfloat16() if precision == "bf16" else hidden
        hidden, wanted = _scored(hidden, targets.flatten(), device)
        loss = linear_cross_entropy(hidden, model.lm_head.weight, wanted, scale)
        return loss, loss if shown is None else loss + scale * shown.loss(inputs, targets, looked)

    def penalized() -> tuple[Tensor, Tensor]:
        loss = assemble_loss(torch.zeros((), device=device), [partial(each, step) for each in extra_penalties]) / world.size
        return loss, loss

    def differentiate(part: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        reported, loss = part()
        return reported.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    firsts = range(world.rank * share, (world.rank + 1) * share, micro)
    parts = [penalized] if extra_penalties else []
    parts += [partial(micro_batch, first, *batches.rows(step, first, micro)) for first in firsts]
    total = torch.zeros((), device=device)
    with crew.at_work(parameters) as run_all:
        for loss, gradients in run_all(differentiate, parts):  # in this order, so that sums are always rounded alike
            total += loss
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad.add_(gradient)
        world.sum_gradients(model)
        mean_loss = world.sum_(total).item()
        norm = torch.nn.utils.clip_grad_norm_(parameters, params.grad_clip)
    return mean_loss if torch.isfinite(norm) else math.nan


def _split(params: TrainParams, world: World) -> tuple[int, int]:
    """Rows of a process, and of each of its micro-batches."""
    share, remainder = divmod(params.batch_size, world.size)
    micro = min(params.micro_batch_size, share)
    if remainder or share % micro:
        raise UserError(
            f"train.batch_size {params.batch_size} does not split into {world.size} processes of equal micro-batches"
        )
    return share, micro


def _until_last_scored(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rows without the columns behind every target that counts: nothing before them depends on these."""
    columns = (targets != IGNORED).any(0).nonzero()
    length = int(columns[-1]) + 1 if len(columns) else 1
    return inputs[:, :length], targets[:, :length]


def _scored(hidden: Tensor, targets: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The positions whose target counts; the output layer need not be computed for the others."""
    places = (targets != IGNORED).nonzero().squeeze(1)
    if len(places) == len(targets):
        return hidden, targets.to(device)
    return hidden[places.to(device)], targets[places].to(device)


def _update(optimizers: Sequence[torch.optim.Optimizer], lr_fraction: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * lr_fraction
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _lr_fraction(params: TrainParams, step: int) -> float:
    return cosine_with_warmup(
        step, max_steps=params.max_steps, warmup_steps=params.warmup_steps, min_fraction=params.min_lr_fraction
    )


def _diverged(kind: str, loss: float, step: int, state_file: Path | None) -> UserError:
    kept = f"; the last good state is kept in {state_file}" if state_file is not None and state_file.exists() else ""
    return UserError(
        f"training diverged: {kind} loss {loss} at step {step}{kept}. Lower train.lr and train.muon_lr, "
        "lengthen train.warmup_steps, or set train.precision to fp32"
    )


def _validate(model: GPT, validate: Callable[[GPT], Loss], device: torch.device, world: World) -> float:
    place = device if device.type == "cuda" else "cpu"  # where the processes exchange messages; MPS has no float64
    loss = validate(model)
    summed = world.sum_(torch.tensor([loss.nats, loss.tokens], dtype=torch.float64, device=place))
    return (summed[0] / summed[1]).item()


def _has_row(progress: Progress) -> bool:
    return bool(progress.rows) and progress.rows[-1][0] == progress.step


def _add_row(progress: Progress, params: TrainParams, valid: float | None) -> None:
    mean = sum(progress.losses) / len(progress.losses) if progress.losses else None
    progress.rows.append([progress.step, mean, valid, _lr_fraction(params, progress.step)])
    progress.losses.clear()


def _log_line(progress: Progress, params: TrainParams, tokens_per_step: int, steps: int, seconds: float) -> str:
    _, *losses, fraction = progress.rows[-1]
    loss, valid = ("      -" if value is None else f"{value:7.4f}" for value in losses)
    rate, eta = "-", "-"
    if steps:
        rate = f"{steps * tokens_per_step / seconds:.0f}"
        left = int((params.max_steps - progress.step) * seconds / steps)
        eta = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
    return (
        f"step {progress.step:6d}/{params.max_steps}  loss {loss}  valid {valid}  "
        f"lr {fraction:4.0%} of peak  {rate:>8} tok/s  eta {eta}"
    )


def write_curve(path: Path, rows: Sequence[Sequence[float | None]]) -> None:
    """Write a curve as CSV by `COLUMNS`; a value that was not measured at a step is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows)
