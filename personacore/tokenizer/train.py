"""Learning merges from counted words."""

import heapq
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from personacore.errors import UserError
from personacore.processes import ordered_map
from personacore.tokenizer import blocks
from personacore.tokenizer.batches import document_batches
from personacore.tokenizer.bpe import MAX_TOKEN_BYTES, SPECIALS, Pair
from personacore.tokenizer.pretokenize import split_words

if TYPE_CHECKING:
    from personacore.tokenizer.compiled_words import WordCounter

MIN_PAIR_COUNT = 2  # a pair that was seen once is no pattern

# Bytes are numbered in the order of the characters that GPT-2's bytes_to_unicode shows them as: those of Latin-1 that
# can be printed, then all others. With it "the smaller ids" are the same pair as in `tokenizers`, and the merges equal.
_BYTE_ORDER = sorted(range(256), key=lambda byte: (not (33 <= byte <= 126 or (byte >= 161 and byte != 173)), byte))
_BYTE_PLACE = {byte: place for place, byte in enumerate(_BYTE_ORDER)}


def count_words(documents: Iterable[str]) -> Counter[bytes]:
    """How often each word of the pre-tokenized documents occurs, as UTF-8.

    >>> count_words(["a cat, a cat"])
    Counter({b' cat': 2, b'a': 1, b',': 1, b' a': 1})
    """
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(split_words(document))
    return Counter({word.encode("utf-8"): count for word, count in counts.items()})


def count_file(path: Path, workers: int | None = None) -> Counter[bytes]:
    """`count_words` over the documents of a corpus file, by default on all cores; compiled where it is large and numba is."""
    if blocks.is_large(path) and (compiled := blocks.compiled_words()):
        try:
            return _count_blocks(path, [compiled.WordCounter() for _ in range(workers or os.cpu_count() or 1)])
        except blocks.Uncommon:
            pass
    total: Counter[bytes] = Counter()
    for counts in ordered_map(count_words, document_batches(path, "count words"), workers):
        total.update(counts)
    return total


def _count_blocks(path: Path, counters: "list[WordCounter]") -> Counter[bytes]:
    for _ in blocks.map_blocks(path, "count words", lambda counter, block: counter.count(block), counters):
        pass
    first, *others = counters
    for other in others:
        first.add(other)
    counts = first.counts()
    if not counts:
        raise blocks.Uncommon
    return counts


def replace_pair(symbols: Sequence[int], pair: Pair, merged: int) -> tuple[list[int], list[Pair], list[Pair]]:
    """`symbols` with `pair` merged from left to right, and the neighbouring pairs that this took away and that it made.

    >>> replace_pair([7, 1, 2, 8], (1, 2), 9)
    ([7, 9, 8], [(7, 1), (2, 8)], [(7, 9), (9, 8)])
    """
    left, right = pair
    replaced: list[int] = []
    lost: list[Pair] = []
    gained: list[Pair] = []
    position = 0
    while position < len(symbols):
        symbol = symbols[position]
        position += 1
        if symbol == left and position < len(symbols) and symbols[position] == right:
            position += 1
            if replaced:
                lost.append((replaced[-1], left))
                gained.append((replaced[-1], merged))
            if position < len(symbols):
                lost.append((right, symbols[position]))
                gained.append((merged, symbols[position]))
            symbol = merged
        replaced.append(symbol)
    return replaced, lost, gained


def train_merges(counts: Mapping[bytes, int], vocab_size: int) -> list[Pair]:
    """The merges of a tokenizer of `vocab_size` ids, learned from words and how often they occur.

    Each merge joins the most frequent pair; of equally frequent ones, the one with the smaller ids. UserError with the
    largest size the words support, if pairs that occur MIN_PAIR_COUNT times run out before.
    """
    merge_count = vocab_size - 256 - len(SPECIALS)
    if merge_count < 0:
        raise UserError(f"tokenizer.vocab_size: {vocab_size} leaves no room for 256 bytes and {len(SPECIALS)} specials")
    text_bytes = sum(len(word) * count for word, count in counts.items())
    if text_bytes >= blocks.COMPILED_BYTES and (compiled := blocks.compiled_merges()):
        places = [_BYTE_PLACE[byte] for byte in range(256)]
        merges = compiled.learn_merges(counts, places, merge_count, MIN_PAIR_COUNT, MAX_TOKEN_BYTES)
    else:
        merges = _learn_merges(counts, merge_count)
    if len(merges) < merge_count:
        raise UserError(
            f"tokenizer.vocab_size: {vocab_size} is more than this corpus supports; "
            f"set {256 + len(merges) + len(SPECIALS)} or less, or bring more text"
        )
    return [(_to_id(left), _to_id(right)) for left, right in merges]


def _learn_merges(counts: Mapping[bytes, int], merge_count: int) -> list[Pair]:
    """At most `merge_count` merges, of places in _BYTE_ORDER and of earlier merges, as `compiled_merges` learns them too."""
    words = [[_BYTE_PLACE[byte] for byte in word] for word in counts]
    occurrences = list(counts.values())
    pair_counts: Counter[Pair] = Counter()
    containing: defaultdict[Pair, set[int]] = defaultdict(set)  # words by pair; may name some that have lost it since
    for number, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += occurrences[number]
            containing[pair].add(number)
    queue = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(queue)
    lengths = [1] * 256
    merges: list[Pair] = []
    while queue and len(merges) < merge_count:
        negative_count, pair = heapq.heappop(queue)
        length = lengths[pair[0]] + lengths[pair[1]]
        if pair_counts[pair] < MIN_PAIR_COUNT or length > MAX_TOKEN_BYTES:
            continue
        if pair_counts[pair] < -negative_count:  # other merges took some of it away since it was queued
            heapq.heappush(queue, (-pair_counts[pair], pair))
            continue
        merged = len(lengths)
        lengths.append(length)
        merges.append(pair)
        made: set[Pair] = set()
        for number in containing.pop(pair):
            words[number], lost, gained = replace_pair(words[number], pair, merged)
            for old in lost:
                pair_counts[old] -= occurrences[number]
            for new in gained:
                pair_counts[new] += occurrences[number]
                containing[new].add(number)
            made.update(gained)
        for new in made:
            heapq.heappush(queue, (-pair_counts[new], new))
    return merges


def _to_id(place: int) -> int:
    return _BYTE_ORDER[place] if place < 256 else place
