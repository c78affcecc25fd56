"""AdamW with decay groups, and Muon for the matrices inside the blocks."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from personacore.params import TrainParams


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal: every singular value of a matrix's update becomes about 1 (Jordan et al., 2024).

    Updates are scaled by √max(1, rows / columns), so that one learning rate serves every shape. They are made orthogonal in
    `dtype`, for which bfloat16 is exact enough; momentum and parameters stay as they are.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients; weight decay is decoupled as in AdamW."""
        for group in self.param_groups:
            for parameters in _by_shape(group["params"]):
                updates = []
                for parameter in parameters:
                    state = self.state[parameter]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(parameter)
                    momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                    updates.append(parameter.grad.lerp(momentum, group["momentum"]))
                rows, columns = parameters[0].shape
                step_size = group["lr"] * max(1.0, rows / columns) ** 0.5
                orthogonal = orthogonalize(torch.stack(updates).to(self.dtype))
                for parameter, update in zip(parameters, orthogonal, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-step_size)


def _by_shape(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Matrices of one shape together, so that each iteration is one batched product."""
    groups: dict[torch.Size, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.shape, []).append(parameter)
    return list(groups.values())


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """For each matrix of (N, rows, columns), one with its singular vectors and singular values of about 1.

    The quintic Newton-Schulz iteration of Muon trades exactness for speed: after 5 steps the singular values that were not
    vanishingly small lie between about 0.7 and 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrices if matrices.size(-2) <= matrices.size(-1) else matrices.mT
    wide = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if matrices.size(-2) <= matrices.size(-1) else wide.mT


def build_optimizers(model: nn.Module, train: TrainParams, precision: str = "fp32") -> list[torch.optim.Optimizer]:
    """The optimizers of a run, which between them hold every parameter once.

    Matrices and the token embedding decay; biases, norms and position vectors do not. With `optimizer: muon` the
    matrices of the blocks are Muon's and AdamW keeps the rest.
    """
    named = dict(model.named_parameters())
    matrices = {name for name, parameter in named.items() if parameter.ndim == 2 and name.startswith("blocks.")}
    muon = matrices if train.optimizer == "muon" else set()
    decayed = {name for name, parameter in named.items() if parameter.ndim >= 2 and name != "wpe.weight"} - muon
    groups = [
        {"params": [named[name] for name in named if name in decayed], "weight_decay": train.weight_decay},
        {"params": [named[name] for name in named if name not in decayed | muon], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([g for g in groups if g["params"]], lr=train.lr, betas=(train.beta1, train.beta2), fused=True)
    ]
    if muon:
        inner = [named[name] for name in named if name in muon]
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        optimizers.append(Muon(inner, lr=train.muon_lr, momentum=0.95, weight_decay=train.weight_decay, dtype=dtype))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers
