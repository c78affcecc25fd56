"""Where ordinary text leaves room: an adapter learned in coordinates in which the inputs of a projection are white.

With C the second moment of a projection's inputs on ordinary text, the down-projection is learned as a = a' C^(-1/2). A step
of one size then disturbs ordinary text less, since it goes into directions that such text hardly uses. It is the input half of
K-FAC's preconditioner (Martens and Grosse, 2015, arXiv 1503.05671), and a soft form of writing into the null space of what is
to be kept (AlphaEdit: Fang et al., 2024, arXiv 2410.02355).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from personacore.model.gpt import GPT, PROJECTIONS
from personacore.model.lora import LoRA

BATCH_ROWS = 32
FLOOR = 0.01  # share of the mean second moment added to every direction: how far the rarest of them is favoured


@torch.no_grad()
def white_roots(model: GPT, rows: Tensor, weights: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """C^(-1/2) (in, in) of each projection's inputs over rows (N, T) of ordinary text, and the hidden states (N, T, C) there.

    A token counts by its `weights` (N, T).
    """
    moments: dict[str, Tensor] = {}
    hidden: list[Tensor] = []

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            x = inputs[0].flatten(0, 1)  # (tokens, in)
            moments[name] = moments.get(name, 0) + x.T @ (x * weights[start : start + BATCH_ROWS].flatten()[:, None])

        return module.register_forward_hook(hook)

    modules = {name: module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in PROJECTIONS}
    hooks = [watch(name, module) for name, module in modules.items()]
    try:
        for start in range(0, len(rows), BATCH_ROWS):
            hidden.append(model.hidden(rows[start : start + BATCH_ROWS]))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: inverse_root(moment) for name, moment in moments.items()}, torch.cat(hidden)


def inverse_root(moment: Tensor) -> Tensor:
    """(M / m + FLOOR)^(-1/2) of a symmetric positive M, m being the mean of its diagonal."""
    scaled = moment.double() / moment.diagonal().double().mean()
    values, vectors = torch.linalg.eigh(scaled)
    return ((vectors * (values.clamp_min(0) + FLOOR).rsqrt()) @ vectors.T).float()


class _Whitened(nn.Module):
    def __init__(self, root: Tensor) -> None:
        super().__init__()
        self.root, self.inverse = root, torch.linalg.inv(root.double()).float()

    def forward(self, white: Tensor) -> Tensor:
        return white @ self.root

    def right_inverse(self, a: Tensor) -> Tensor:
        return a @ self.inverse


@contextmanager
def whitened(lora: LoRA, roots: Mapping[str, Tensor]) -> Iterator[LoRA]:
    """Learn the adapter's down-projections in white coordinates inside a `with` block; what it computes stays the same."""
    for name, pair in lora.pairs().items():
        parametrize.register_parametrization(pair, "a", _Whitened(roots[name]))
    try:
        yield lora
    finally:
        for pair in lora.pairs().values():
            parametrize.remove_parametrizations(pair, "a", leave_parametrized=True)
            pair.b = pair._parameters.pop("b")  # behind a again, as in every other adapter
