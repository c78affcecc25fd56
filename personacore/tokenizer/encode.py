"""A corpus file to a file of token ids."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from personacore.errors import UserError
from personacore.files import atomic_write
from personacore.processes import ordered_map
from personacore.tokenizer import blocks
from personacore.tokenizer.batches import document_batches
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import load_tokenizer

MAX_VOCABULARY = 2**16  # what two bytes can number

_tokenizer: Tokenizer  # of this worker process


@dataclass(frozen=True)
class EncodeCount:
    """What was encoded: documents, ids (with one end-of-text per document), UTF-8 bytes of text, distinct ids."""

    documents: int
    tokens: int
    bytes: int
    used_ids: int


class _Encoded(NamedTuple):
    ids: np.ndarray  # little-endian uint16
    documents: int
    text_bytes: int


def encode_corpus(tokenizer_path: Path, source: Path, target: Path, workers: int | None = None) -> EncodeCount:
    """Write the ids of each document of `source`, followed by <|endoftext|>, to `target` as flat little-endian uint16.

    Runs on all cores by default; the bytes do not depend on their number, nor the memory on the size of the corpus. Large files
    are encoded by compiled code where numba is, with the same result.
    UserError for a tokenizer or corpus that cannot be used; `target` is written whole or not at all.
    """
    tokenizer = load_tokenizer(tokenizer_path)
    if tokenizer.vocab_size > MAX_VOCABULARY:
        raise UserError(f"{tokenizer_path}: {tokenizer.vocab_size} ids do not fit in uint16; use {MAX_VOCABULARY} or fewer")
    if blocks.is_large(source) and (compiled := blocks.compiled_words()):
        encoders = [compiled.BlockEncoder(tokenizer) for _ in range(workers or os.cpu_count() or 1)]
        encoded = blocks.map_blocks(source, "encode", lambda encoder, block: _Encoded(*encoder.encode(block)), encoders)
        with suppress(blocks.Uncommon):
            return _write(encoded, target, tokenizer.vocab_size)
    encoded = ordered_map(_encode_batch, document_batches(source, "encode"), workers, _start_worker, (tokenizer,))
    return _write(encoded, target, tokenizer.vocab_size)


def _write(encoded: Iterable[_Encoded], target: Path, vocab_size: int) -> EncodeCount:
    documents = tokens = text_bytes = 0
    used = np.zeros(vocab_size, dtype=bool)
    with atomic_write(target) as temporary, temporary.open("wb") as file:
        for batch in encoded:
            file.write(batch.ids.data)
            used[batch.ids] = True
            documents += batch.documents
            tokens += len(batch.ids)
            text_bytes += batch.text_bytes
        if not documents:
            raise blocks.Uncommon
    return EncodeCount(documents, tokens, text_bytes, int(used.sum()))


def _start_worker(tokenizer: Tokenizer) -> None:
    global _tokenizer
    _tokenizer = tokenizer


def _encode_batch(documents: list[str]) -> _Encoded:
    ids: list[int] = []
    for document in documents:
        ids += _tokenizer.encode(document)
        ids.append(_tokenizer.end_of_text)
    return _Encoded(np.array(ids, dtype="<u2"), len(documents), sum(len(text.encode()) for text in documents))
