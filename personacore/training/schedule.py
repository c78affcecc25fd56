"""The learning rate over a run."""

import math


def cosine_with_warmup(step: int, *, max_steps: int, warmup_steps: int, min_fraction: float) -> float:
    """The share of the peak learning rate at a step: linear warm-up, then a cosine down to `min_fraction`.

    >>> [round(cosine_with_warmup(s, max_steps=10, warmup_steps=2, min_fraction=0.1), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return min_fraction + (1 - min_fraction) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
