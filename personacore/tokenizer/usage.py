"""How a vocabulary is used by the text it was made for."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from personacore.tokenizer.bpe import Tokenizer


def tokens_per_word(tokenizer: Tokenizer, counts: Mapping[bytes, int]) -> dict[int, float]:
    """The share of running words that take 1, 2, … tokens, from words as bytes and how often they occur."""
    lengths: Counter[int] = Counter()
    for word, count in counts.items():
        lengths[len(tokenizer.encode_bytes(word))] += count
    return {length: lengths[length] / lengths.total() for length in sorted(lengths)}


def bytes_per_token(tokenizer: Tokenizer, documents: Iterable[str]) -> float:
    """UTF-8 bytes of the documents over the tokens they take, `<|endoftext|>` not counted."""
    total_bytes = total_tokens = 0
    for document in documents:
        total_bytes += len(document.encode())
        total_tokens += len(tokenizer.encode(document))
    return total_bytes / total_tokens


def rank_frequency(tokens: np.ndarray, vocab_size: int, points: int = 200) -> list[tuple[int, int]]:
    """(rank, count) of the ids in a token file, the most frequent first, thinned to ranks evenly spaced in logarithm."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(tokens), 1 << 24):
        counts += np.bincount(tokens[start : start + (1 << 24)], minlength=vocab_size)
    ordered = np.sort(counts[counts > 0])[::-1]
    ranks = np.unique(np.geomspace(1, len(ordered), min(points, len(ordered))).round().astype(int))
    return [(int(rank), int(ordered[rank - 1])) for rank in ranks]
