"""A parallel pass over a corpus file in memory that does not grow with it."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from personacore.corpus.documents import stream_documents

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_CHARACTERS = 2**16


def document_batches(path: Path, label: str) -> Iterator[list[str]]:
    """The documents of a corpus file in order, in lists of BATCH_CHARACTERS or little more; shows progress on a terminal."""
    size = path.stat().st_size if path.exists() else 0  # stream_documents says what is wrong with a missing file
    with tqdm(desc=f"{label} {path.name}", total=size, unit="B", unit_scale=True, disable=None) as progress:
        batch: list[str] = []
        characters = 0
        for document in stream_documents(path):
            batch.append(document)
            characters += len(document)
            if characters >= BATCH_CHARACTERS:
                yield batch
                progress.update(sum(len(text.encode()) for text in batch))
                batch, characters = [], 0
        if batch:
            yield batch


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
