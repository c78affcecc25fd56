"""What a loss cannot see in a model's stories: variety, repetition and copying."""

from collections.abc import Sequence

import numpy as np
import regex

_SENTENCE = regex.compile(r"[^.!?]+[.!?]+[\"']?")
_WORD = regex.compile(r"[\p{L}']+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so powers of it never vanish modulo 2^64


def distinct_words(texts: Sequence[str]) -> int:
    """How many different words, case folded, the texts use together.

    >>> distinct_words(["The dog saw the cat.", "A dog!"])
    5
    """
    return len({word.lower() for text in texts for word in _WORD.findall(text)})


def repeated_sentence_fraction(texts: Sequence[str]) -> float:
    """The share of sentences that stand earlier in their own text.

    >>> repeated_sentence_fraction(["It rained. It rained. She slept.", "It rained."])
    0.25
    """
    total = repeated = 0
    for text in texts:
        sentences = [sentence.strip() for sentence in _SENTENCE.findall(text)]
        total += len(sentences)
        repeated += len(sentences) - len(set(sentences))
    return repeated / total if total else 0.0


def copied_fraction(samples: Sequence[Sequence[int]], corpus: np.ndarray, n: int = 8, chunk: int = 1 << 22) -> float:
    """The share of the samples' n-grams of ids that stand in the corpus, an array of ids read in chunks.

    N-grams are compared by a 64-bit hash, so memory does not grow with the corpus.

    >>> copied_fraction([[1, 2, 3, 9]], np.array([0, 1, 2, 3, 4], dtype="<u2"), n=3)
    0.5
    """
    hashes = [_ngram_hashes(np.asarray(sample), n) for sample in samples if len(sample) >= n]
    if not hashes:
        return 0.0
    wanted = np.concatenate(hashes)
    distinct = np.unique(wanted)
    found = np.zeros(len(distinct), dtype=bool)
    for start in range(0, max(1, len(corpus) - n + 1), chunk):
        window = _ngram_hashes(np.asarray(corpus[start : start + chunk + n - 1]), n)
        found |= np.isin(distinct, window)
    return float(found[np.searchsorted(distinct, wanted)].mean())


def _ngram_hashes(ids: np.ndarray, n: int) -> np.ndarray:
    length = len(ids) - n + 1
    hashed = np.zeros(max(0, length), dtype=np.uint64)
    for place in range(n if length > 0 else 0):
        hashed = hashed * _MULTIPLIER + ids[place : place + length].astype(np.uint64) + np.uint64(1)
    return hashed
