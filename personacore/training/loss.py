"""Cross-entropy of a linear output layer, without ever holding all the logits."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from personacore.model.products import product

CHUNK = 256  # tokens; at 4096 to 8192 ids a chunk of logits and its gradient stay in a CPU's last-level cache


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, scale: float) -> Tensor:  # noqa: ANN001
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_grad, weight_grad = torch.empty_like(hidden), torch.zeros_like(weight, dtype=torch.float32)
        matrix = weight.to(hidden.dtype)
        for start in range(0, len(hidden), CHUNK):
            rows, wanted = hidden[start : start + CHUNK], targets[start : start + CHUNK, None]
            scores = product(rows, matrix).log_softmax(dim=-1, dtype=torch.float32)  # (chunk, V)
            correct = scores.gather(1, wanted)
            loss -= correct.sum()
            # The gradient of the loss by the logits is softmax - onehot; taking it here saves a second pass.
            gradient = scores.exp_().scatter_add_(1, wanted, -torch.ones_like(correct)).to(hidden.dtype)
            hidden_grad[start : start + CHUNK] = product(gradient, matrix.T)
            weight_grad += product(gradient.T, rows.T)
        ctx.scale = scale
        ctx.save_for_backward(hidden_grad, weight_grad.to(weight.dtype))
        return loss * scale

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN001
        hidden_grad, weight_grad = ctx.saved_tensors
        factor = ctx.scale * grad_output
        return hidden_grad * factor, weight_grad * factor, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, scale: float) -> Tensor:
    """`scale` times the summed cross-entropy, in nats, of `hidden @ weightᵀ` against `targets`.

    hidden: (N, C) in any float type; weight: (V, C) in float32; targets: (N,). Equals
    `functional.cross_entropy(hidden @ weight.T, targets, reduction="sum") * scale`, in chunks of rows.
    """
    return _LinearCrossEntropy.apply(hidden, weight, targets, scale)


def assemble_loss(base: Tensor, extra_penalties: Iterable[Callable[[], Tensor]] = ()) -> Tensor:
    """The base loss plus every penalty, such as an EWC or KL term, in the order given."""
    for penalty in extra_penalties:
        base = base + penalty()
    return base
