"""The words of UTF-8 text found, counted and encoded in loops that numba compiles.

What `pretokenize.split_words`, `train.count_words` and `bpe.merge_symbols` do with text, with the same results.
Everything that calls one another stands in this file, since numba compiles again only what a change of its own file touches.
"""

import re
import sys
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import regex
from numba import njit

from personacore.corpus.documents import SEPARATOR
from personacore.tokenizer.bpe import Tokenizer

OPTIONS = {"cache": True, "nogil": True}
# A call counts who holds each array that it is given, which takes longer than to find a word: short functions are put in place,
# and the loops over words call none with an array that they can do without.
INLINE = {**OPTIONS, "forceinline": True}
FREE, LONG = np.uint64(0), np.uint64(1 << 63)
LETTER, NUMBER, SPACE, OTHER = range(4)
MAX_WORD_BYTES = 256  # up to which passes are faster; text without spaces is one word, however long
ENCODED_WORDS = 2**17  # so many are remembered with their ids; frequent words come early
ENCODED_BYTES = 2**21  # of these words; no word has more ids than bytes

_SEPARATOR = np.frombuffer(SEPARATOR.encode(), np.uint8)


class Words(NamedTuple):
    """Words as bytes, numbered from 1: an open-addressing hash table of what each has as its value.

    Word n is text[ends[n - 1]:ends[n]]. A slot holds the number of a word and its mark, or 0 and 0.
    """

    slots: np.ndarray  # int32 (a power of two,)
    marks: np.ndarray  # uint64 (the same,)
    ends: np.ndarray  # int64 (words + 1,)
    text: np.ndarray  # uint8 (bytes,)
    values: np.ndarray  # int64 (words + 1,)
    size: np.ndarray  # int64 (1,): words held


def _empty(words: int, text_bytes: int) -> Words:
    slots = np.zeros(1 << (2 * words - 1).bit_length(), np.int32)
    marks, text = np.zeros(len(slots), np.uint64), np.zeros(text_bytes, np.uint8)
    return Words(slots, marks, np.zeros(words + 1, np.int64), text, np.zeros(words + 1, np.int64), np.zeros(1, np.int64))


class WordCounter:
    """How often each word occurs in blocks of whole documents."""

    def __init__(self, words: int = 2**16, text_bytes: int = 2**20) -> None:
        self._words, self._kinds = _empty(words, text_bytes), kinds()

    def count(self, block: bytes) -> None:
        """Count the words of a block's documents; UnicodeDecodeError where it is not UTF-8."""
        data, place = _documents(block), np.zeros(2, np.int64)
        while not _count(data, _SEPARATOR, self._kinds, self._words, place):
            self._grow(2 * len(self._words.ends), 2 * len(self._words.text) + len(data))

    def add(self, other: "WordCounter") -> None:
        """Add the counts of another."""
        mine, its = self._words, other._words
        self._grow(int(mine.size[0] + its.size[0]), int(mine.ends[mine.size[0]] + its.ends[its.size[0]]))
        _add_counts(self._words, its)

    def counts(self) -> Counter[bytes]:
        """The counts by word, in the order in which the words were met."""
        words = int(self._words.size[0])
        ends, text = self._words.ends[: words + 1].tolist(), self._words.text.tobytes()
        names = [text[start:end] for start, end in pairwise(ends)]
        return Counter(dict(zip(names, self._words.values[1 : words + 1].tolist(), strict=True)))

    def _grow(self, words: int, text_bytes: int) -> None:
        before, self._words = self._words, _empty(words, text_bytes)
        _add_counts(self._words, before)


class BlockEncoder:
    """A tokenizer of at most 65,536 ids for blocks of whole documents; for one thread at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        pairs = np.array(tokenizer.merges, np.int64).reshape(-1, 2)
        self._merges = np.full((1 << (4 * len(pairs)).bit_length(), 2), -1, np.int64)  # key and merged id by slot
        _number_pairs(self._merges, pairs)
        self._end_of_text, self._kinds = tokenizer.end_of_text, kinds()
        self._words, self._ids = _empty(ENCODED_WORDS, ENCODED_BYTES), np.zeros(ENCODED_BYTES, np.uint16)

    def encode(self, block: bytes) -> tuple[np.ndarray, int, int]:
        """The ids of each document, followed by <|endoftext|>, how many documents, and the bytes of their texts.

        UnicodeDecodeError where the block is not UTF-8.
        """
        data = _documents(block)
        out = np.empty(len(data) + 1, np.uint16)  # no more ids than bytes, a separator being longer than its id
        ids, documents, text_bytes = _encode(
            data, _SEPARATOR, self._kinds, self._words, self._ids, self._merges, self._end_of_text, out
        )
        return out[:ids].astype("<u2", copy=False), documents, text_bytes


@cache
def kinds() -> np.ndarray:
    """The kind of each code point (0x110000,), as the `regex` module has it."""
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    found = np.full(len(characters), OTHER, np.uint8)
    for kind, pattern in ((LETTER, r"\p{L}+"), (NUMBER, r"\p{N}+"), (SPACE, r"\s+")):
        for run in regex.finditer(pattern, characters):
            found[run.start() : run.end()] = kind
    return found


def split_bytes(text: bytes) -> list[bytes]:
    """The words of a text in UTF-8, as `split_words` has them."""
    data, ends = np.frombuffer(text, np.uint8), [0]
    while ends[-1] < len(text):
        ends.append(_word_end(data, kinds(), ends[-1], len(text)))
    return [text[start:end] for start, end in pairwise(ends)]


def _documents(block: bytes) -> np.ndarray:
    """The bytes of a block, with LF line ends as `normalize` makes them."""
    if not block.isascii():
        block.decode("utf-8")
    if b"\r\n" in block:
        block = re.sub(b"\r+\n", b"\n", block)
    return np.frombuffer(block, np.uint8)


@njit(**INLINE)
def _kind(data, kinds, place):  # noqa: ANN001, ANN202
    """The kind of the character at a place, and how many bytes it takes."""
    first = np.int64(data[place])
    if first < 0x80:
        return kinds[first], 1
    second = np.int64(data[place + 1] & 0x3F)
    if first < 0xE0:
        return kinds[(first & 0x1F) << 6 | second], 2
    third = np.int64(data[place + 2] & 0x3F)
    if first < 0xF0:
        return kinds[(first & 0x0F) << 12 | second << 6 | third], 3
    return kinds[(first & 0x07) << 18 | second << 12 | third << 6 | np.int64(data[place + 3] & 0x3F)], 4


@njit(**INLINE)
def _word_end(data, kinds, start, end):  # noqa: ANN001, ANN202
    """Where the word that begins at `start` ends, in a text that ends at `end`: the alternatives of PATTERN in their order."""
    if data[start] == 39 and start + 1 < end:  # an apostrophe
        first = data[start + 1]
        if first == 115 or first == 116 or first == 109 or first == 100:  # s t m d
            return start + 2
        if start + 2 < end:
            second = data[start + 2]
            if ((first == 114 or first == 118) and second == 101) or (first == 108 and second == 108):  # re ve ll
                return start + 3
    kind, width = _kind(data, kinds, start)
    if data[start] == 32 and start + 1 < end:
        behind, its_width = _kind(data, kinds, start + 1)
        if behind in (LETTER, OTHER):  # the space belongs to them
            kind, width = behind, 1 + its_width
    place, last = start + width, start
    while kind != NUMBER and place < end:
        behind, width = _kind(data, kinds, place)
        if behind != kind:
            break
        last = place
        place += width
    if kind == SPACE and place < end and last > start:
        return last  # the last white space goes with what follows
    return place


@njit(**OPTIONS)
def _document(data, separator, kinds, position):  # noqa: ANN001, ANN202
    """The text of the document at `position` as `normalize` strips it (start, end), empty where it is blank, and the next."""
    end = position
    while end < len(data):
        if data[end] == separator[0] and end + len(separator) <= len(data):
            same = 1
            while same < len(separator) and data[end + same] == separator[same]:
                same += 1
            if same == len(separator):
                break
        end += 1
    behind = min(end + len(separator), len(data))
    start = position
    while start < end:
        if data[start] == 10 or data[start] == 13:
            start += 1
        elif end - start >= 3 and data[start] == 0xEF and data[start + 1] == 0xBB and data[start + 2] == 0xBF:
            start += 3
        else:
            break
    while start < end:
        if data[end - 1] == 10 or data[end - 1] == 13:
            end -= 1
        elif end - start >= 3 and data[end - 3] == 0xEF and data[end - 2] == 0xBB and data[end - 1] == 0xBF:
            end -= 3
        else:
            break
    place = start
    while place < end:
        kind, width = _kind(data, kinds, place)
        if kind != SPACE and not 28 <= data[place] <= 31:  # Python calls these four separators white space, `regex` does not
            return start, end, behind
        place += width
    return start, start, behind


@njit(**INLINE)
def _mark(data, start, end):  # noqa: ANN001, ANN202
    """A word of up to 7 bytes itself, behind a one; a hash of a longer one (FNV-1a), with the highest bit set."""
    if end - start < 8:
        mark = np.uint64(1)
        for place in range(start, end):
            mark = mark << np.uint64(8) | np.uint64(data[place])
        return mark
    mark = np.uint64(14695981039346656037)
    for place in range(start, end):
        mark = (mark ^ np.uint64(data[place])) * np.uint64(1099511628211)
    return mark | LONG


@njit(**INLINE)
def _first(mark, slots):  # noqa: ANN001, ANN202
    """Where the search for a mark begins among so many slots; it goes on to the next while a slot holds another word."""
    return np.int64(mark * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)) & (slots - 1)


@njit(**OPTIONS)
def _is(words, slot, data, start, end):  # noqa: ANN001, ANN202
    """Whether the long word in a slot, whose mark is the same, is this one."""
    word = words.slots[slot]
    first, place = words.ends[word - 1], start
    if words.ends[word] - first != end - start:
        return False
    while place < end and words.text[first + place - start] == data[place]:
        place += 1
    return place == end


@njit(**OPTIONS)
def _add(words, slot, mark, data, start, end):  # noqa: ANN001, ANN202
    """The number of the word that is put into this free slot, or 0 where there is no room for one."""
    word = words.size[0] + 1
    first = words.ends[word - 1]
    if word == len(words.ends) or first + end - start > len(words.text):
        return 0
    words.slots[slot], words.marks[slot], words.ends[word], words.size[0] = word, mark, first + end - start, word
    for place in range(start, end):
        words.text[first + place - start] = data[place]
    return word


@njit(**OPTIONS)
def _count(data, separator, kinds, words, place):  # noqa: ANN001, ANN202
    """Count words from `place` on: where the next begins, and how far its document goes. False when there is no more room."""
    slots, marks, values = words.slots, words.marks, words.values
    start, end = place
    behind = end
    while True:
        while start < end:
            stop = _word_end(data, kinds, start, end)
            mark = _mark(data, start, stop)
            slot = _first(mark, len(slots))
            while marks[slot] != FREE and (marks[slot] != mark or (mark >= LONG and not _is(words, slot, data, start, stop))):
                slot = (slot + 1) & (len(slots) - 1)
            word = slots[slot]
            if word == 0:
                word = _add(words, slot, mark, data, start, stop)
                if word == 0:
                    place[0], place[1] = start, end
                    return False
            values[word] += 1
            start = stop
        if behind >= len(data):
            return True
        start, end, behind = _document(data, separator, kinds, behind)


@njit(**OPTIONS)
def _add_counts(words, others):  # noqa: ANN001, ANN202
    slots, marks, values = words.slots, words.marks, words.values
    for other in range(1, others.size[0] + 1):
        start, end = others.ends[other - 1], others.ends[other]
        mark = _mark(others.text, start, end)
        slot = _first(mark, len(slots))
        while marks[slot] != FREE and (marks[slot] != mark or (mark >= LONG and not _is(words, slot, others.text, start, end))):
            slot = (slot + 1) & (len(slots) - 1)
        word = slots[slot]
        if word == 0:
            word = _add(words, slot, mark, others.text, start, end)
        values[word] += others.values[other]


@njit(**INLINE)
def _pair_slot(merges, left, right):  # noqa: ANN001, ANN202
    """The slot of a pair in the table of merges, or the free one where it belongs."""
    key = np.int64(left) << 16 | np.int64(right)
    slot = (key * 0x9E3779B1 >> 16) & (len(merges) - 1)
    while merges[slot, 0] != key and merges[slot, 0] != -1:
        slot = (slot + 1) & (len(merges) - 1)
    return slot


@njit(**OPTIONS)
def _number_pairs(merges, pairs):  # noqa: ANN001, ANN202
    for number in range(len(pairs)):
        slot = _pair_slot(merges, pairs[number, 0], pairs[number, 1])
        merges[slot, 0] = pairs[number, 0] << 16 | pairs[number, 1]
        merges[slot, 1] = 256 + number


@njit(**OPTIONS)
def _merge(merges, ids, start, end):  # noqa: ANN001, ANN202
    """`merge_symbols` of ids[start:end] in place; returns the new end.

    What merges first does so everywhere before anything that it makes can: n ids take as many passes as they use merges.
    """
    while True:
        lowest = 1 << 16
        for place in range(start, end - 1):
            merged = merges[_pair_slot(merges, ids[place], ids[place + 1]), 1]
            if 0 <= merged < lowest:
                lowest, left, right = merged, ids[place], ids[place + 1]
        if lowest == 1 << 16:
            return end
        put = place = start
        while place < end:
            if place + 1 < end and ids[place] == left and ids[place + 1] == right:
                ids[put] = lowest
                place += 2
            else:
                ids[put] = ids[place]
                place += 1
            put += 1
        end = put


class Waiting(NamedTuple):
    """Pairs by the id that each merges to, in the order in which they were met: a linked list for every id."""

    first: np.ndarray  # int32 (ids,): the first entry of each id, or -1
    last: np.ndarray  # int32 (ids,)
    lefts: np.ndarray  # int32 (entries,): where the pair begins
    behind: np.ndarray  # int32 (entries,): the entry of the same id behind this one, or -1
    size: np.ndarray  # int64 (1,): entries held


@njit(**INLINE)
def _wait(waiting, merges, symbols, left, right):  # noqa: ANN001, ANN202
    """Add the pair of two symbols, given by their places, if it is one that merges."""
    merged = merges[_pair_slot(merges, symbols[left], symbols[right]), 1]
    if merged < 0:
        return
    entry = waiting.size[0]
    waiting.size[0] = entry + 1
    waiting.lefts[entry], waiting.behind[entry] = left, -1
    if waiting.first[merged] < 0:
        waiting.first[merged] = entry
    else:
        waiting.behind[waiting.last[merged]] = entry
    waiting.last[merged] = entry


@njit(**OPTIONS)
def _merge_long(merges, ids, start, end):  # noqa: ANN001, ANN202
    """`_merge` in time that grows with the number of ids alone, and not with the merges that they use.

    What an id is part of has a greater one: each takes its turn once. Pairs of one id overlap only where both halves are the
    same, and those are met from left to right.
    """
    length, most = end - start, 1 << 16  # ids
    symbols, after, before = ids[start:end].astype(np.int32), np.arange(1, length + 1), np.arange(-1, length)
    first, last = np.full(most, -1, np.int32), np.empty(most, np.int32)
    entries = 3 * length  # a pair for each id, and two for each merge
    waiting = Waiting(first, last, np.empty(entries, np.int32), np.empty(entries, np.int32), np.zeros(1, np.int64))
    for left in range(length - 1):
        _wait(waiting, merges, symbols, left, left + 1)
    for merged in range(256, most):
        entry = first[merged]
        while entry >= 0:
            left, entry = waiting.lefts[entry], waiting.behind[entry]
            right = after[left]
            if symbols[left] < 0 or right == length:
                continue
            if merges[_pair_slot(merges, symbols[left], symbols[right]), 1] != merged:
                continue  # one of the two has since merged with its other neighbour
            symbols[left], symbols[right] = merged, -1
            after[left] = after[right]
            before[after[left]] = left
            if before[left] >= 0:
                _wait(waiting, merges, symbols, before[left], left)
            if after[left] < length:
                _wait(waiting, merges, symbols, left, after[left])
    place = 0
    while place < length:
        ids[start] = symbols[place]
        start += 1
        place = after[place]
    return start


@njit(**OPTIONS)
def _encode(data, separator, kinds, words, ids, merges, end_of_text, out):  # noqa: ANN001, ANN202
    """Fill `out` with ids; how many, of how many documents, with how many bytes. A word's value is where its ids end."""
    slots, marks, values = words.slots, words.marks, words.values
    written = documents = text_bytes = behind = 0
    while behind < len(data):
        start, end, behind = _document(data, separator, kinds, behind)
        if start == end:
            continue
        documents += 1
        text_bytes += end - start
        while start < end:
            stop = _word_end(data, kinds, start, end)
            mark = _mark(data, start, stop)
            slot = _first(mark, len(slots))
            while marks[slot] != FREE and (marks[slot] != mark or (mark >= LONG and not _is(words, slot, data, start, stop))):
                slot = (slot + 1) & (len(slots) - 1)
            word = slots[slot]
            if word != 0:
                for place in range(values[word - 1], values[word]):
                    out[written] = ids[place]
                    written += 1
            else:
                for place in range(start, stop):
                    out[written + place - start] = data[place]
                if stop - start <= MAX_WORD_BYTES:
                    merged = _merge(merges, out, written, written + stop - start)
                else:
                    merged = _merge_long(merges, out, written, written + stop - start)
                word = _add(words, slot, mark, data, start, stop)
                if word != 0:
                    first = values[word - 1]
                    values[word] = first + merged - written
                    for place in range(written, merged):
                        ids[first + place - written] = out[place]
                written = merged
            start = stop
        out[written] = end_of_text
        written += 1
    return written, documents, text_bytes
