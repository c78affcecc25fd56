"""Memory rows: vectors that a model adds to its residual stream where it has just said certain words itself.

As in Engram (Cheng et al., 2026) and "User as Engram" (arXiv 2606.19172), rows are found by the hash of an n-gram. Here that is
what the assistant has said of its sentence, since an answer writes out what is asked for before its value; or, where it has
said the words with which it names things, something that the person has just said. Whatever does not say such words is
computed by the base alone, to the bit, and rows of different facts never meet.

A memory speaks only where the model itself is about to say that it does not know: what a conversation has told goes first, and
what was forgotten in it stays forgotten there.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from personacore.model.gpt import GPT, KeyValueCache


def hash_of(ids: Sequence[int]) -> int:
    """A signed 64-bit number for a run of token ids.

    >>> hash_of([3, 4]) == hash_of((3, 4)) != hash_of([4, 3])
    True
    """
    data = b"".join(number.to_bytes(4, "little") for number in ids)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


SHAPE = ("width", "block", "sign", "end", "stop", "unknown", "forgotten", "naming")
NONE = (0, 0)
LONGEST = 24  # tokens of a person's words that are looked up
DIGITS, JOINTS = range(ord("0"), ord("9") + 1), (ord("."), ord(":"))  # bytes, which are tokens of their own
Key = tuple[int, int, int]  # hashes of a run of tokens at the beginning of a text, and later in it; the hash of its fact


class MemoryRows(nn.Module):
    """Consecutive rows (N, C) for each key: one behind the key, and one behind each token that follows it.

    `spans` says how many rows each key has, `block` behind which block they are added. A sentence of the assistant begins
    behind `sign` or `stop`, its turn ends with `end`, and `unknown` is what it says behind a key that it knows nothing of, all
    ids of tokens. `forgotten` is the hash of what it says behind a key when it is told to forget, `naming` that of the words
    behind which a key is looked up that the person said, whose hashes are those of its tokens and `sign`. A key acts where the
    model would say `unknown`, but no more in a conversation once it was forgotten there.
    Raises:
        ValueError: numbers that no rows have.
    """

    def __init__(
        self,
        *,
        width: int,
        block: int,
        sign: int,
        end: int,
        stop: int,
        unknown: int,
        forgotten: int,
        naming: int,
        spans: Mapping[Key, int],
    ) -> None:
        super().__init__()
        tokens = (sign, end, stop, unknown)
        if not all(isinstance(n, int) for n in (width, block, forgotten, naming, *tokens)) or width < 1 or block < 0:
            raise ValueError(f"width {width}, block {block} or a token's id {tokens} is impossible")
        if any(span < 1 for span in spans.values()):
            raise ValueError("every key has one row or more")
        self.width, self.block, self.forgotten, self.naming = width, block, forgotten, naming
        self.sign, self.end, self.stop, self.unknown = tokens
        self.spans = dict(spans)
        self.register_buffer("keys", torch.tensor(list(self.spans), dtype=torch.int64).view(-1, 3))
        self.register_buffer("lengths", torch.tensor(list(self.spans.values()), dtype=torch.int64))
        self.vectors = nn.Parameter(torch.zeros(sum(self.spans.values()), width))
        lasts = list(itertools.accumulate(self.spans.values()))
        self._places = {key: (last - span, last) for (key, span), last in zip(self.spans.items(), lasts, strict=True)}
        self._place_of = {number: place for key, place in self._places.items() for number in key[:2]}
        self._readers: WeakKeyDictionary[KeyValueCache, tuple[int, list[_Reader]]] = WeakKeyDictionary()  # by length
        self._reading: tuple[list[_Said], list[_Reader]] = ([], [])
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def shape(self) -> dict[str, int]:
        """What rows must have in common to act on one model."""
        return {name: getattr(self, name) for name in SHAPE}

    def of(self, key: Key) -> Tensor:
        """The rows (span, C) of a key."""
        return self.vectors[slice(*self._places[key])]

    @property
    def facts(self) -> set[int]:
        """The hashes of the facts that are in the rows."""
        return {fact for *_, fact in self.spans}

    @torch.no_grad()
    def with_fact(self, fact: int, written: Mapping[Key, Tensor]) -> "MemoryRows":
        """A copy in which a fact has these rows (span, C) by their keys instead of those it had, or none at all.

        Raises:
            ValueError: a key is another fact's.
        """
        if any(key[2] != fact for key in written):
            raise ValueError("the rows of a fact are found by keys of its own")
        parts = {key: self.of(key) for key in self.spans if key[2] != fact} | dict(written)
        rows = MemoryRows(**self.shape(), spans={key: len(part) for key, part in parts.items()})
        rows.vectors = nn.Parameter(torch.cat([torch.empty(0, self.width), *(part.detach() for part in parts.values())]))
        return rows

    def find(self, ids: Tensor, before: Sequence["_Reader"] | None = None) -> tuple[list["_Said"], list["_Reader"]]:
        """The keys whose rows could act in ids (B, T), each text's in their order, and what was read of each text by then."""
        found, after = [], []
        for text, row in enumerate(ids.tolist()):
            reader = before[text] if before else _Reader()
            for place, token in enumerate(row, text * len(row)):
                reader = self._read(reader, token)
                if reader.row == reader.last:
                    continue
                if found and reader.behind and (found[-1].text, found[-1].key) == (text, reader.key):
                    found[-1].count += 1
                else:
                    found.append(_Said(text, reader.key, place, reader.row))
            after.append(reader)
        return found, after

    def _read(self, reader: "_Reader", token: int) -> "_Reader":
        if reader.sentence is None:  # the person speaks, or something that is no conversation
            if token == self.sign:
                return dataclasses.replace(reader, sentence=())
            return reader if token == self.end else dataclasses.replace(reader, words=(*reader.words, token))
        if token == self.end:
            return _Reader(gone=reader.gone)
        if token in (self.sign, self.stop):
            forgotten = reader.last and hash_of(reader.behind) == self.forgotten
            return _Reader(words=reader.words, sentence=(), gone=reader.gone | {reader.key} if forgotten else reader.gone)
        if reader.last:
            return dataclasses.replace(reader, row=min(reader.row + 1, reader.last), behind=(*reader.behind, token))
        sentence = (*reader.sentence, token)
        number = hash_of(sentence)
        first, last = self._named(reader.words) if number == self.naming else self._place_of.get(number, NONE)
        if not last:
            return dataclasses.replace(reader, sentence=sentence)
        return _Reader(reader.words, sentence, last if first in reader.gone else first, last, first, (), reader.gone)

    def _named(self, words: tuple[int, ...]) -> tuple[int, int]:
        """The rows of the longest run of words that has some and is no part of a longer number, as 4 is in 1942 and 4:30."""
        for length in range(min(LONGEST, len(words)), 0, -1):
            for start in range(len(words) - length + 1):
                run = words[start : start + length]
                place = self._place_of.get(hash_of((*run, self.sign)))
                if place is not None and not (
                    _goes_on(run, words[start + length :]) or _goes_on(run[::-1], words[:start][::-1])
                ):
                    return place
        return NONE

    def attach(self, model: GPT) -> None:
        """Change what `model` computes until `detach`.

        Raises:
            RuntimeError: attached already.
            ValueError: the model has another width or too few blocks.
        """
        if self._hooks:
            raise RuntimeError("the rows are attached already: detach them first")
        if self.width != model.config.n_embd or self.block >= model.config.n_layer:
            raise ValueError(f"rows of width {self.width} behind block {self.block} do not fit this model")
        ids: list[Tensor] = []

        def look_up(_: nn.Module, inputs: tuple[Tensor, KeyValueCache | None]) -> None:
            cache = inputs[1] if len(inputs) > 1 else None
            length, before = self._readers.get(cache, (0, None)) if cache is not None and cache.length else (0, None)
            if cache is not None and cache.length != length:
                raise RuntimeError("rows cannot go on from what a cache has read without them")
            self._reading = self.find(ids.pop(), before)

        def add(_: nn.Module, inputs: tuple[Tensor, KeyValueCache | None], output: Tensor) -> Tensor | None:
            cache = inputs[1] if len(inputs) > 1 else None
            found, readers = self._reading
            acting = self._acting(model, output, found, cache)
            if cache is not None:
                latest = {said.text: said for said in found}
                silent = {text for text, said in latest.items() if said not in acting}
                after = [
                    dataclasses.replace(reader, row=reader.last) if text in silent else reader
                    for text, reader in enumerate(readers)
                ]
                self._readers[cache] = cache.length + output.size(1), after
            return self.added(output, acting) if acting else None

        self._hooks = [
            model.wte.register_forward_pre_hook(lambda _, inputs: ids.append(inputs[0])),
            model.blocks[0].register_forward_pre_hook(look_up),
            model.blocks[self.block].register_forward_hook(add),
        ]

    @torch.no_grad()
    def _acting(self, model: GPT, x: Tensor, found: Sequence["_Said"], cache: KeyValueCache | None) -> list["_Said"]:
        """The found keys behind which the model would say `unknown`, and those that were so in an earlier part of the text.

        An answer depends on the one before it, so that a text's keys are decided one after the other. The blocks above read
        once more for each; what that leaves in a cache is written over by the last reading.
        """
        acting = [said for said in found if said.row > said.key]
        undecided = [said for said in found if said.row == said.key]
        while undecided:
            first = list({said.text: said for said in reversed(undecided)}.values())
            hidden = self.added(x, acting)
            for block in model.blocks[self.block + 1 :]:
                hidden = block(hidden, cache)
            behind = hidden.flatten(0, 1)[[said.place for said in first]]
            answers = model.lm_head(model.ln_f(behind)).argmax(-1).tolist()
            acting += [said for said, answer in zip(first, answers, strict=True) if answer == self.unknown]
            undecided = [said for said in undecided if said not in first]
        return acting

    def added(self, x: Tensor, acting: Sequence["_Said"]) -> Tensor:
        """The residual stream (B, T, C) with the rows of these keys."""
        places = [said.place + n for said in acting for n in range(said.count)]
        rows = [said.row + n for said in acting for n in range(said.count)]
        return x.flatten(0, 1).index_add(0, torch.tensor(places, dtype=torch.long), self.vectors[rows]).view_as(x)

    def detach(self) -> None:
        """Leave the model as `attach` found it."""
        while self._hooks:
            self._hooks.pop().remove()

    @contextmanager
    def attached(self, model: GPT) -> Iterator["MemoryRows"]:
        """Attach for the length of a `with` block."""
        self.attach(model)
        try:
            yield self
        finally:
            self.detach()


def _goes_on(run: Sequence[int], after: Sequence[int]) -> bool:
    """Whether the number that a run of tokens ends with goes on behind it."""
    if run[-1] not in DIGITS or not after:
        return False
    return after[0] in DIGITS or (after[0] in JOINTS and len(after) > 1 and after[1] in DIGITS)


@dataclass(frozen=True)
class _Reader:
    """What was read of a conversation: the words of the person's turn; the assistant's sentence so far, None where it does not
    speak; the row that acts, up to the last one of its key; that key, by its first row, and what stands behind it; and the keys
    that were forgotten."""

    words: tuple[int, ...] = ()
    sentence: tuple[int, ...] | None = None
    row: int = 0
    last: int = 0
    key: int = 0
    behind: tuple[int, ...] = ()
    gone: frozenset[int] = frozenset()


@dataclass
class _Said:
    """A key that was said: in which text, which key by its first row, where in the flat batch its rows begin to act, with
    which of them, and how many."""

    text: int
    key: int
    place: int
    row: int
    count: int = 1
