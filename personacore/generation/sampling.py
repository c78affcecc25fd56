"""How the next token is chosen from its logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from personacore.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """Greedy when `temperature` is 0, else a draw from the logits over it, cut to the `top_k` and `top_p` likeliest."""

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0 or self.temperature == float("inf"):
            raise UserError(f"temperature: {self.temperature} is not 0 (greedy) or more")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k: {self.top_k} is below 1")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p: {self.top_p} is not above 0 and up to 1")


def sample(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """The next id of each row: logits (B, V), of which -inf can never be drawn, to ids (B,)."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.double()
    logits = (logits - logits.max(dim=-1, keepdim=True).values) / sampling.temperature  # near 0 it overflows to -inf only
    if sampling.top_k is not None and sampling.top_k < logits.size(-1):
        smallest = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    probabilities = logits.softmax(dim=-1)
    if sampling.top_p < 1:
        probabilities = _nucleus(probabilities, sampling.top_p)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The likeliest ids of each row (B, V) that reach `top_p` together, one at least, and 0 for all others.

    An id of less than (1 - top_p) / V is never among them, since it and all less likely ones are too little together to reach
    from `top_p` to 1. The few others are all that is put in order.
    """
    likely = probabilities >= (1 - top_p) / (2 * probabilities.size(-1))  # by half, for what sums are rounded by
    rows, ids = likely.nonzero(as_tuple=True)
    places = likely.cumsum(dim=-1)[rows, ids] - 1
    few = probabilities.new_zeros(len(probabilities), int(places.max()) + 1)
    few[rows, places] = probabilities[rows, ids]
    ordered, order = few.sort(dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(dim=-1) - ordered >= top_p  # the likeliest id always stays
    few = few.masked_fill(outside.scatter(-1, order, outside), 0.0)
    return torch.zeros_like(probabilities).index_put((rows, ids), few[rows, places])
