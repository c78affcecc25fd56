"""float32 products on a CPU by oneDNN, which uses AVX-512 on every processor that has it.

PyTorch leaves them to MKL, which does so on Intel's alone: on an AMD EPYC it reaches half as much.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

FEWEST = 24  # rows from which on oneDNN is faster; a single one takes 15 µs instead of 3
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x weightᵀ + bias` without a gradient of its own: x (..., in), weight (out, in), both of one type."""
    suited = x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0  # oneDNN refuses empty sums
    if suited and HAS_ONEDNN:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return functional.linear(x, weight, bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # noqa: ANN001
        x, weight = ctx.saved_tensors
        by_x, by_weight, by_bias = ctx.needs_input_grad
        outputs = gradient.flatten(0, -2)
        return (
            product(gradient, weight.T) if by_x else None,
            product(outputs.T, x.flatten(0, -2).T) if by_weight else None,
            outputs.sum(0) if by_bias else None,
        )


class Linear(nn.Linear):
    """`nn.Linear` by these products, but for few rows, which are slower by them, and under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., out) for x (..., in)."""
        if x.device.type == "cpu" and x.numel() >= FEWEST * self.in_features and not torch.is_autocast_enabled("cpu"):
            return _Product.apply(x, self.weight, self.bias)
        return super().forward(x)
