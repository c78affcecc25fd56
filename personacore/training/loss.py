"""Cross-entropy of a linear output layer, without ever holding all the logits."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

CHUNK = 1024  # tokens; at 4096 to 8192 ids a chunk of logits stays in a CPU's last-level cache


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, scale: float) -> Tensor:  # noqa: ANN001
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_grad, weight_grad = torch.empty_like(hidden), torch.zeros_like(weight, dtype=torch.float32)
        matrix = weight.to(hidden.dtype)
        for start in range(0, len(hidden), CHUNK):
            rows, wanted = hidden[start : start + CHUNK], targets[start : start + CHUNK, None]
            logits = (rows @ matrix.T).float()  # (chunk, V)
            normalizer = logits.logsumexp(dim=-1, keepdim=True)
            loss += (normalizer - logits.gather(1, wanted)).sum()
            # The gradient of the loss by the logits is softmax - onehot; taking it here saves a second pass.
            gradient = logits.sub_(normalizer).exp_().scatter_add_(1, wanted, -torch.ones_like(normalizer)).mul_(scale)
            gradient = gradient.to(hidden.dtype)
            hidden_grad[start : start + CHUNK] = gradient @ matrix
            weight_grad += gradient.T @ rows
        ctx.save_for_backward(hidden_grad, weight_grad.to(weight.dtype))
        return loss * scale

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN001
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grad_output, weight_grad * grad_output, None, None


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
