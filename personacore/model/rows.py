"""Memory rows: vectors that a model adds to its residual stream where it has just said certain words itself.

As in Engram (Cheng et al., 2026) and "User as Engram" (arXiv 2606.19172), rows are found by the hash of an n-gram; here the
n-gram is what the assistant has said of its sentence, since an answer writes out what is asked for before its value. Whatever
does not say those words is computed by the base alone, to the bit, and rows of different facts never meet.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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


class Rows(nn.Module):
    """Consecutive rows (N, C) for each key: one behind the key, and one behind each token that follows it.

    `spans` says how many rows each hashed key has, `block` behind which block they are added. A sentence of the assistant
    begins behind `sign` or `stop` and the assistant's turn ends with `end`, all ids of tokens.
    """

    def __init__(self, width: int, block: int, sign: int, end: int, stop: int, spans: Mapping[int, int]) -> None:
        super().__init__()
        self.width, self.block, self.sign, self.end, self.stop = width, block, sign, end, stop
        if not all(isinstance(number, int) for number in (width, block, sign, end, stop)) or width < 1 or block < 0:
            raise ValueError(f"width {width}, block {block} or a token's id ({sign}, {end}, {stop}) is impossible")
        if any(span < 1 for span in spans.values()):
            raise ValueError("every key has one row or more")
        self.spans = dict(spans)
        self.register_buffer("keys", torch.tensor(list(self.spans), dtype=torch.int64))
        self.register_buffer("lengths", torch.tensor(list(self.spans.values()), dtype=torch.int64))
        self.vectors = nn.Parameter(torch.zeros(sum(self.spans.values()), width))
        firsts = torch.tensor([0, *self.spans.values()]).cumsum(0).tolist()
        self._places = {key: (first, first + span) for (key, span), first in zip(self.spans.items(), firsts, strict=False)}
        self._read: WeakKeyDictionary[KeyValueCache, list[_Sentence]] = WeakKeyDictionary()
        self._found = torch.empty(2, 0, dtype=torch.long)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def of(self, key: int) -> Tensor:
        """The rows (span, C) of a key."""
        return self.vectors[slice(*self._places[key])]

    @torch.no_grad()
    def with_rows(self, written: Mapping[int, Tensor]) -> "Rows":
        """A copy in which these keys have these rows (span, C) instead of those they had, or none where they are empty."""
        parts = {key: self.of(key) for key in self.spans} | dict(written)
        parts = {key: part for key, part in parts.items() if len(part)}
        rows = Rows(self.width, self.block, self.sign, self.end, self.stop, {key: len(part) for key, part in parts.items()})
        rows.vectors = nn.Parameter(torch.cat([torch.empty(0, self.width), *(part.detach() for part in parts.values())]))
        return rows

    def find(self, ids: Tensor, before: Sequence["_Sentence"] | None = None) -> tuple[Tensor, list["_Sentence"]]:
        """Where rows act in ids (B, T), as places in the flat batch and in the rows (2, K), and the sentences at the end."""
        found, after = [], []
        for number, row in enumerate(ids.tolist()):
            sentence = before[number] if before else _Sentence()
            for place, token in enumerate(row):
                sentence = self._heard(sentence, token)
                if sentence.row < sentence.end:
                    found.append((number * len(row) + place, sentence.row))
            after.append(sentence)
        return torch.tensor(found, dtype=torch.long).view(-1, 2).T, after

    def _heard(self, sentence: "_Sentence", token: int) -> "_Sentence":
        if token == self.end:
            return _Sentence()
        if token == self.sign or (token == self.stop and sentence.said is not None):
            return _Sentence(())
        if sentence.said is None:
            return sentence
        if sentence.end:
            return _Sentence(sentence.said, sentence.row + 1, sentence.end)
        said = (*sentence.said, token)
        return _Sentence(said, *self._places.get(hash_of(said), (0, 0)))

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
            said = self._read[cache] if cache is not None and cache.length else None
            self._found, said = self.find(ids.pop(), said)
            if cache is not None:
                self._read[cache] = said

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
    def attached(self, model: GPT) -> Iterator["Rows"]:
        """Attach for the length of a `with` block."""
        self.attach(model)
        try:
            yield self
        finally:
            self.detach()


class _Sentence:
    """What the assistant has said of a sentence (None outside its turn), and the next row with the end of its rows."""

    __slots__ = ("end", "row", "said")

    def __init__(self, said: tuple[int, ...] | None = None, row: int = 0, end: int = 0) -> None:
        self.said, self.row, self.end = said, row, end
