"""`map` over processes, with results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    initializer: Callable[..., None] | None = None,
    initargs: tuple = (),
) -> Iterator[Result]:
    """`map(function, items)` over processes (by default one per core), results in the order of `items`.

    Two items per worker are read ahead, not more; a single worker is this process.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        if initializer:
            initializer(*initargs)
        yield from map(function, items)
        return
    # Spawned, not forked: the same on every platform, and safe beside the threads of tqdm and torch.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer, initargs) as pool:
        yield from in_order(pool, workers, function, items)


def in_order(pool: Executor, workers: int, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(function, items)` in a pool, two items per worker being read ahead."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > 2 * workers:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
