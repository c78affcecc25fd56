"""Memory rows: vectors that a model adds to its residual stream where it has just said certain words itself.

As in Engram (Cheng et al., 2026) and "User as Engram" (arXiv 2606.19172), rows are found by the hash of an n-gram; here the
n-gram is what the assistant has said of its sentence, since an answer writes out what is asked for before its value. Whatever
does not say those words is computed by the base alone, to the bit, and rows of different facts never meet.
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


SHAPE = ("width", "block", "sign", "end", "stop")
Key = tuple[int, int]  # the hashes of a run of tokens at the beginning of an answer, and in a later sentence


class MemoryRows(nn.Module):
    """Consecutive rows (N, C) for each key: one behind the key, and one behind each token that follows it.

    `spans` says how many rows each key has, `block` behind which block they are added. A sentence of the assistant begins
    behind `sign` or `stop`, and the assistant's turn ends with `end`, all ids of tokens. A key acts once in a conversation:
    what was said in it stands before what is remembered.
    Raises:
        ValueError: numbers that no rows have.
    """

    def __init__(self, *, width: int, block: int, sign: int, end: int, stop: int, spans: Mapping[Key, int]) -> None:
        super().__init__()
        if not all(isinstance(number, int) for number in (width, block, sign, end, stop)) or width < 1 or block < 0:
            raise ValueError(f"width {width}, block {block} or a token's id ({sign}, {end}, {stop}) is impossible")
        if any(span < 1 for span in spans.values()):
            raise ValueError("every key has one row or more")
        self.width, self.block, self.sign, self.end, self.stop = width, block, sign, end, stop
        self.spans = dict(spans)
        self.register_buffer("keys", torch.tensor(list(self.spans), dtype=torch.int64).view(-1, 2))
        self.register_buffer("lengths", torch.tensor(list(self.spans.values()), dtype=torch.int64))
        self.vectors = nn.Parameter(torch.zeros(sum(self.spans.values()), width))
        lasts = list(itertools.accumulate(self.spans.values()))
        self._places = {key: (last - span, last) for (key, span), last in zip(self.spans.items(), lasts, strict=True)}
        self._place_of = {number: place for key, place in self._places.items() for number in key}
        self._readers: WeakKeyDictionary[KeyValueCache, list[_Reader]] = WeakKeyDictionary()
        self._found = torch.empty(2, 0, dtype=torch.long)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def shape(self) -> dict[str, int]:
        """What rows must have in common to act on one model."""
        return {name: getattr(self, name) for name in SHAPE}

    def of(self, key: Key) -> Tensor:
        """The rows (span, C) of a key."""
        return self.vectors[slice(*self._places[key])]

    @torch.no_grad()
    def with_rows(self, written: Mapping[Key, Tensor]) -> "MemoryRows":
        """A copy in which these keys have these rows (span, C) instead of those they had, or none where they are empty."""
        parts = {key: self.of(key) for key in self.spans} | dict(written)
        parts = {key: part for key, part in parts.items() if len(part)}
        rows = MemoryRows(**self.shape(), spans={key: len(part) for key, part in parts.items()})
        rows.vectors = nn.Parameter(torch.cat([torch.empty(0, self.width), *(part.detach() for part in parts.values())]))
        return rows

    def find(self, ids: Tensor, before: Sequence["_Reader"] | None = None) -> tuple[Tensor, list["_Reader"]]:
        """Where rows act in ids (B, T), as places in the flat batch and in the rows (2, K), and what was read by then."""
        found, after = [], []
        for number, row in enumerate(ids.tolist()):
            reader = before[number] if before else _Reader()
            for place, token in enumerate(row):
                reader = self._read(reader, token)
                if reader.row < reader.last:
                    found.append((number * len(row) + place, reader.row))
            after.append(reader)
        return torch.tensor(found, dtype=torch.long).view(-1, 2).T, after

    def _read(self, reader: "_Reader", token: int) -> "_Reader":
        if token == self.end:
            return _Reader(heard=reader.heard)
        if token == self.sign or (token == self.stop and reader.sentence is not None):
            return _Reader((), heard=reader.heard)
        if reader.sentence is None:
            return reader
        if reader.last:
            return dataclasses.replace(reader, row=reader.row + 1)
        sentence = (*reader.sentence, token)
        first, last = self._place_of.get(hash_of(sentence), (0, 0))
        said = bool(last) and first in reader.heard
        return _Reader(sentence, last if said else first, last, reader.heard | {first} if last else reader.heard)

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
            if cache is not None and cache.length and cache not in self._readers:
                raise RuntimeError("rows cannot go on from what a cache has read without them")
            said = self._readers[cache] if cache is not None and cache.length else None
            self._found, said = self.find(ids.pop(), said)
            if cache is not None:
                self._readers[cache] = said

        def add(_: nn.Module, __: object, output: Tensor) -> Tensor | None:
            return self.added(output, self._found) if self._found.numel() else None

        self._hooks = [
            model.wte.register_forward_pre_hook(lambda _, inputs: ids.append(inputs[0])),
            model.blocks[0].register_forward_pre_hook(look_up),
            model.blocks[self.block].register_forward_hook(add),
        ]

    def added(self, x: Tensor, found: Tensor) -> Tensor:
        """The residual stream (B, T, C) with the rows at the places that `find` gives."""
        return x.flatten(0, 1).index_add(0, found[0], self.vectors[found[1]]).view_as(x)

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


@dataclass(frozen=True)
class _Reader:
    """What was read of a conversation: the assistant's sentence so far, None where it does not speak; the row that acts, up to
    the last one of its key; and the keys that were said."""

    sentence: tuple[int, ...] | None = None
    row: int = 0
    last: int = 0
    heard: frozenset[int] = frozenset()
