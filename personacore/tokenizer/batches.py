"""The documents of a corpus file in batches, for a parallel pass in memory that does not grow with the file."""

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from personacore.corpus.documents import stream_documents

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
