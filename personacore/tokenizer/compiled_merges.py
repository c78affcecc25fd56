"""Merges learned in loops that numba compiles: what `train.train_merges` does, with the same result.

Words stand one behind another as chains of symbols. Every pair has its count and its places in order, and waits in one heap
with the count it had when it was put there: counts only fall, so the first whose count still holds is the most frequent one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit

OPTIONS = {"cache": True, "nogil": True}
# Columns of `pairs` (P, 5), one row for each pair in the order in which they were met. Few arrays keep the compilation short.
KEY, COUNT, QUEUED, FIRST, LAST = range(5)  # left << 32 | right; now, and in the heap; two numbers of rows of `places`
PAIRS, WAITING, PLACES = range(3)  # what `size` counts


def learn_merges(
    counts: Mapping[bytes, int], symbol_of: Sequence[int], merge_count: int, min_count: int, max_bytes: int
) -> list[tuple[int, int]]:
    """At most `merge_count` pairs of symbols: each time the most frequent one, of equally frequent ones the smallest.

    A byte is the symbol that `symbol_of` has for it, of 0 to 255; a merge makes the next one, and is learned only where its
    pair occurs `min_count` times and has no more than `max_bytes`.
    """
    text, sizes = np.frombuffer(b"".join(counts), np.uint8), np.fromiter(map(len, counts), np.int64, len(counts))
    places = np.arange(len(text)) + np.repeat(np.arange(1, len(counts) + 1), sizes)
    width = len(text) + len(counts) + 1
    symbols, weights = np.full(width, -1), np.zeros(width, np.int64)  # -1 stands between words
    symbols[places] = np.array(symbol_of)[text]
    weights[places] = np.repeat(np.fromiter(counts.values(), np.int64, len(counts)), sizes)
    merges = np.zeros((merge_count, 2), np.int64)
    learned = _learn(
        symbols,
        weights,
        np.arange(width) - 1,
        np.arange(width) + 1,
        np.zeros((3 * len(text) + 1, 2), np.int64),  # a merge of two symbols makes two places or fewer
        np.full(1 << 13, -1),
        np.zeros((1 << 12, 5), np.int64),
        np.ones(256 + merge_count, np.int64),
        merges,
        min_count,
        max_bytes,
    )
    return [(left, right) for left, right in merges[:learned].tolist()]


@njit(**OPTIONS)
def _slot(slots, pairs, key):  # noqa: ANN001, ANN202
    """The slot (number of a pair, or -1) that holds a key, or the free one where it belongs."""
    slot = (key * 0x9E3779B1 >> 20 ^ key) & (len(slots) - 1)
    while slots[slot] != -1 and pairs[slots[slot], KEY] != key:
        slot = (slot + 1) & (len(slots) - 1)
    return slot


@njit(**OPTIONS)
def _gain(slots, pairs, size, places, left, right, count, place):  # noqa: ANN001, ANN202
    """A pair occurs at one more place, behind all of its others; `places` (N, 2) chains them, and 0 ends a chain."""
    key = left << 32 | right
    slot = _slot(slots, pairs, key)
    size[PLACES] += 1
    places[size[PLACES], 0] = place
    number = slots[slot]
    if number == -1:
        number = slots[slot] = size[PAIRS]
        size[PAIRS] += 1
        pairs[number, KEY], pairs[number, COUNT], pairs[number, FIRST] = key, 0, size[PLACES]
    else:
        places[pairs[number, LAST], 1] = size[PLACES]
    pairs[number, LAST] = size[PLACES]
    pairs[number, COUNT] += count


@njit(**OPTIONS)
def _before(pairs, one, other):  # noqa: ANN001, ANN202
    """Whether a pair is to be merged before another."""
    if pairs[one, QUEUED] != pairs[other, QUEUED]:
        return pairs[one, QUEUED] > pairs[other, QUEUED]
    return pairs[one, KEY] < pairs[other, KEY]


@njit(**OPTIONS)
def _push(heap, pairs, size, number):  # noqa: ANN001, ANN202
    place = size[WAITING]
    size[WAITING] += 1
    pairs[number, QUEUED] = pairs[number, COUNT]
    while place > 0 and _before(pairs, number, heap[(place - 1) // 2]):
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = number


@njit(**OPTIONS)
def _pop(heap, pairs, size):  # noqa: ANN001, ANN202
    first = heap[0]
    size[WAITING] -= 1
    moved, place = heap[size[WAITING]], 0
    while 2 * place + 1 < size[WAITING]:
        child = 2 * place + 1
        if child + 1 < size[WAITING] and _before(pairs, heap[child + 1], heap[child]):
            child += 1
        if not _before(pairs, heap[child], moved):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = moved
    return first


@njit(**OPTIONS)
def _larger(pairs, size):  # noqa: ANN001, ANN202
    """The slots and rows of the same pairs, with twice the room."""
    slots, larger = np.empty(4 * len(pairs), np.int64), np.empty((2 * len(pairs), 5), np.int64)
    for slot in range(len(slots)):  # assigning to slices would take seconds to compile
        slots[slot] = -1
    for number in range(size[PAIRS]):
        for column in range(5):
            larger[number, column] = pairs[number, column]
        slots[_slot(slots, larger, larger[number, KEY])] = number
    return slots, larger


@njit(**OPTIONS)
def _learn(symbols, weights, before, after, places, slots, pairs, lengths, merges, min_count, max_bytes):  # noqa: ANN001, ANN202
    """Fill `merges` with pairs of symbols and return how many there are."""
    size = np.zeros(3, np.int64)
    for place in range(1, len(symbols)):
        if symbols[place - 1] != -1 and symbols[place] != -1:
            if size[PAIRS] == len(pairs):
                slots, pairs = _larger(pairs, size)
            _gain(slots, pairs, size, places, symbols[place - 1], symbols[place], weights[place], place - 1)
    heap = np.empty(len(pairs), np.int64)
    for number in range(size[PAIRS]):
        _push(heap, pairs, size, number)
    learned = 0
    while learned < len(merges) and size[WAITING] > 0:
        number = _pop(heap, pairs, size)
        left, right = pairs[number, KEY] >> 32, pairs[number, KEY] & 0xFFFFFFFF
        if pairs[number, COUNT] < min_count or lengths[left] + lengths[right] > max_bytes:
            continue
        if pairs[number, COUNT] < pairs[number, QUEUED]:  # other merges took some of it away since
            _push(heap, pairs, size, number)
            continue
        merged, met = 256 + learned, size[PAIRS]
        lengths[merged] = lengths[left] + lengths[right]
        merges[learned, 0], merges[learned, 1] = left, right
        learned += 1
        entry = pairs[number, FIRST]
        while entry != 0:
            place = places[entry, 0]
            entry = places[entry, 1]
            taken = after[place]
            if symbols[place] != left or symbols[taken] != right:
                continue  # one of the two has since merged with its other neighbour
            start, end, count = before[place], after[taken], weights[place]
            symbols[place], symbols[taken], after[place], before[end] = merged, -1, end, place
            if size[PAIRS] + 2 > len(pairs):
                slots, pairs = _larger(pairs, size)
            if symbols[start] != -1:
                pairs[slots[_slot(slots, pairs, symbols[start] << 32 | left)], COUNT] -= count
                _gain(slots, pairs, size, places, symbols[start], merged, count, start)
            if symbols[end] != -1:
                pairs[slots[_slot(slots, pairs, right << 32 | symbols[end])], COUNT] -= count
                _gain(slots, pairs, size, places, merged, symbols[end], count, place)
        if len(heap) < len(pairs):
            waiting, heap = heap, np.empty(len(pairs), np.int64)
            for place in range(size[WAITING]):
                heap[place] = waiting[place]
        for new in range(met, size[PAIRS]):
            _push(heap, pairs, size, new)
    return learned
