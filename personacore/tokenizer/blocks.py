"""A corpus file in blocks of bytes for compiled code, and when that is worth while."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import TypeVar

from tqdm import tqdm

from personacore.corpus.documents import MAX_DOCUMENT_BYTES, SEPARATOR, stream_documents
from personacore.processes import in_order

Worker = TypeVar("Worker")
Result = TypeVar("Result")

BLOCK_BYTES = 2**20
COMPILED_BYTES = 2**23  # less text than this is done before the first use of a function is compiled


class Uncommon(Exception):
    """The file holds what the compiled path leaves to the plain one: something wrong, or a huge document."""


def compiled_words() -> ModuleType | None:
    """The module of that name, or None without numba or without a folder where it can keep what it compiles."""
    try:
        from personacore.tokenizer import compiled_words
    except (ImportError, RuntimeError):
        return None
    return compiled_words


def compiled_merges() -> ModuleType | None:
    """The module of that name, or None as above."""
    try:
        from personacore.tokenizer import compiled_merges
    except (ImportError, RuntimeError):
        return None
    return compiled_merges


def is_large(path: Path) -> bool:
    """Whether the file is worth compiling for."""
    return path.is_file() and path.stat().st_size >= COMPILED_BYTES


def map_blocks(path: Path, label: str, work: Callable[[Worker, bytes], Result], workers: list[Worker]) -> Iterator[Result]:
    """`work(worker, block)` over the blocks of a file in order, in as many threads as there are workers; one is this thread.

    Memory does not grow with the file. Uncommon, after everything that is wrong with the file had its chance to be said.
    """
    try:
        yield from _map(work, document_blocks(path, label), workers)
    except (UnicodeDecodeError, OSError, Uncommon):
        for _ in stream_documents(path):
            pass
        raise Uncommon from None


def document_blocks(path: Path, label: str) -> Iterator[bytes]:
    """A corpus file in blocks of whole documents, of BLOCK_BYTES or little more; shows progress on a terminal."""
    separator, pending = SEPARATOR.encode(), b""
    size = path.stat().st_size
    with path.open("rb") as file, tqdm(desc=f"{label} {path.name}", total=size, unit="B", unit_scale=True, disable=None) as bar:
        while chunk := file.read(max(BLOCK_BYTES, len(pending))):
            pending += chunk
            end = pending.rfind(separator) + len(separator)
            if end >= len(separator):
                yield pending[:end]
                bar.update(end)
                pending = pending[end:]
            elif len(pending) > MAX_DOCUMENT_BYTES // 2:  # so that no document above the limit is ever whole here
                raise Uncommon
    yield pending


def _map(work: Callable[[Worker, bytes], Result], blocks: Iterator[bytes], workers: list[Worker]) -> Iterator[Result]:
    if len(workers) == 1:
        yield from (work(workers[0], block) for block in blocks)
        return
    free: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def run(block: bytes) -> Result:
        worker = free.get()
        try:
            return work(worker, block)
        finally:
            free.put(worker)

    with ThreadPoolExecutor(len(workers)) as pool:
        yield from in_order(pool, len(workers), run, blocks)
