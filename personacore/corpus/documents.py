"""Corpus files: UTF-8 text with a separator after each document, read and written as streams."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from personacore.errors import UserError
from personacore.files import atomic_write

SEPARATOR = "<|endoftext|>"
MAX_DOCUMENT_BYTES = 64 * 2**20
CHUNK_BYTES = 2**18


class DocumentCount(NamedTuple):
    """How many documents a file holds, and the UTF-8 bytes of their texts without separators."""

    documents: int
    bytes: int


def normalize(text: str) -> str:
    r"""A document as it is stored: LF line ends, and no line break or byte order mark at either end.

    Normalizing twice changes nothing, so a written corpus reads back as it was counted.

    >>> normalize("\ufeff\r\nOnce upon a time\r\nthere was a cat.\r\n")
    'Once upon a time\nthere was a cat.'
    """
    return re.sub("\r+\n", "\n", text).strip("\r\n\ufeff")


def stream_documents(path: Path) -> Iterator[str]:
    """The normalized text of each document of `path` that is not blank, in order, in memory bounded by the largest document.

    Raises UserError, as soon as it is met, for an unreadable file, a byte that is not UTF-8, a document of more than
    MAX_DOCUMENT_BYTES, and at the end for a file without any document.
    """
    empty = True
    for start, data in _split(path):
        if len(data) > MAX_DOCUMENT_BYTES:
            raise UserError(
                f"{path}: the document at byte {start} is larger than the limit of {MAX_DOCUMENT_BYTES:,} bytes; "
                f"{SEPARATOR} is probably missing between documents"
            )
        try:
            text = normalize(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: byte {start + error.start} is not UTF-8; save the file as UTF-8") from None
        if text and not text.isspace():
            empty = False
            yield text
    if empty:
        raise UserError(f"{path}: holds no documents; it needs UTF-8 text with {SEPARATOR} between documents")


def write_documents(path: Path, documents: Iterable[str]) -> DocumentCount:
    """Write documents that are in normal form as `text\\n<|endoftext|>\\n` each; `path` is written whole or not at all."""
    count = size = 0
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        for document in documents:
            data = document.encode("utf-8")
            file.write(data + f"\n{SEPARATOR}\n".encode())
            count += 1
            size += len(data)
    return DocumentCount(count, size)


def _split(path: Path) -> Iterator[tuple[int, bytes]]:
    """The bytes between separators, each with its offset in the file; what follows an oversized piece is not read."""
    separator = SEPARATOR.encode()
    start = 0
    pending = b""
    try:
        with path.open("rb") as file:
            # Reading as much again as is pending keeps the search linear in the length of a long document.
            while len(pending) <= MAX_DOCUMENT_BYTES and (chunk := file.read(max(CHUNK_BYTES, len(pending)))):
                *complete, pending = (pending + chunk).split(separator)
                for data in complete:
                    yield start, data
                    start += len(data) + len(separator)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; a corpus is a readable text file") from None
    yield start, pending
