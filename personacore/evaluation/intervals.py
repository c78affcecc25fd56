"""How sure a share is that was measured on questions about few facts."""

from collections.abc import Mapping, Sequence

import numpy as np

RESAMPLES = 2000


def share_with_interval(hits: Mapping[str, Sequence[bool]]) -> dict[str, float | int]:
    """The share of hits, its 95 % interval, and its counts; `hits` holds the outcomes of each fact.

    The interval is a percentile bootstrap over facts, not questions: what is asked of one fact goes right or wrong together.
    Where all or none are right, every resample is the same; the exact interval of so many facts (Clopper and Pearson, 1934) is
    taken there.

    >>> share_with_interval({"a": [True, True], "b": [True, False]})["value"]
    0.75
    """
    right = np.array([sum(outcomes) for outcomes in hits.values()])
    asked = np.array([len(outcomes) for outcomes in hits.values()])
    drawn = np.random.default_rng(0).integers(len(right), size=(RESAMPLES, len(right)))
    shares = right[drawn].sum(1) / asked[drawn].sum(1)
    low, high = np.quantile(shares, (0.025, 0.975))
    if low == high == 1:
        low = 0.025 ** (1 / len(right))
    elif low == high == 0:
        high = 1 - 0.025 ** (1 / len(right))
    return {
        "value": float(right.sum() / asked.sum()),
        "low": float(low),
        "high": float(high),
        "hits": int(right.sum()),
        "asked": int(asked.sum()),
        "facts": len(right),
    }


def mean_with_interval(values: Sequence[float]) -> dict[str, float | int]:
    """The mean over facts and its 95 % interval, a percentile bootstrap over them.

    >>> mean_with_interval([-1.0, 0.0, 1.0])["value"]
    0.0
    """
    each = np.array(values)
    drawn = np.random.default_rng(0).integers(len(each), size=(RESAMPLES, len(each)))
    low, high = np.quantile(each[drawn].mean(1), (0.025, 0.975))
    return {"value": float(each.mean()), "low": float(low), "high": float(high), "facts": len(each)}
