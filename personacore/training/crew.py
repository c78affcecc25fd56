"""The parts of a training step at once: a core does more with a part of its own than with half of every small operation."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor


class Crew:
    """Threads that share out the parts of each step, up to one per core; a single part is left to all cores together.

    What a part computes, it computes on one core, so that results do not depend on how many cores there are.
    """

    def __init__(self, parts: int) -> None:
        self.parts, self.cores = parts, torch.get_num_threads()
        workers = min(parts, self.cores)
        self._pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) if workers > 1 else None

    @contextmanager
    def at_work(self, parameters: Iterable[Tensor]) -> Iterator[Callable[[Callable, Iterable], Iterable]]:
        """A `map` whose calls run at once; inside the `with` block PyTorch has one thread per part.

        `parameters` are those that the calls differentiate by.
        """
        if self.parts == 1:
            yield map
            return
        # A parameter's first use in a graph makes its gradient accumulator: that takes the parameter's lock, then the
        # interpreter's. A thread that holds the interpreter's and asks for the parameter's would wait forever (PyTorch 2.13).
        # A view made here, and held, keeps the accumulator alive, so that no thread has to make it.
        views = [parameter.view_as(parameter) for parameter in parameters]
        torch.set_num_threads(1)  # of this thread and, in the library of matrix products, of all
        try:
            yield map if self._pool is None else self._pool.map
        finally:
            torch.set_num_threads(self.cores)
            del views
