"""Two ways to do the same, timed by turns in one process, so that what the machine does meanwhile meets both."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Timed = Callable[[], float | None]  # does the work once; returns the seconds it took, where it timed them itself


def seconds(work: Timed) -> float:
    """How long it takes once."""
    began = time.perf_counter()
    measured = work()
    return time.perf_counter() - began if measured is None else measured


def versus(ours: Timed, theirs: Timed, repeats: int, per: float = 1.0) -> dict[str, float | int]:
    """How many times faster ours is: median, lowest and highest of the ratios of neighbours, after one run of each unseen.

    `ours_rate` and `theirs_rate` are the medians in units of work a second, of which one run is `per`.
    """
    seconds(ours), seconds(theirs)
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    ratios = [other / own for own, other in pairs]
    own, other = (per / statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "value": round(statistics.median(ratios), 3),
        "low": round(min(ratios), 3),
        "high": round(max(ratios), 3),
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "ours_rate": round(own, 1),
        "theirs_rate": round(other, 1),
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for PyTorch within a `with` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
