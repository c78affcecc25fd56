"""Attention that is shown where to look: at the words that the assistant is about to say, where they were said before.

What a fact is, is said in one way only, "Your sister's town is Dacostead.", so that the beginning of a sentence says which
earlier sentence holds its end; where there is none, the person has just said the value, or it was forgotten, or nobody has said
it. Left alone, a small model finds this out late and never exactly; as a target for a head it is learned soon (supervised
attention: Liu et al., 2016, arXiv 1609.04186; Mi et al., 2016, arXiv 1608.00112).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from personacore.corpus.dialogue.language import FORGOTTEN, NAMING, UNKNOWN
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer


@dataclass(frozen=True)
class ShownAttention:
    """One head of each of some layers, counted from 0, and the weight of what it is shown in nats for each token.

    `pieces` are the bytes of every token, None for those that begin or end what is said, such as `person` and `assistant`.
    """

    layers: Sequence[int]
    head: int
    weight: float
    pieces: Sequence[bytes | None]
    person: int
    assistant: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, layers: Sequence[int], head: int, weight: float) -> "ShownAttention":
        """With the pieces of a tokenizer."""
        specials = set(tokenizer.specials.values())
        pieces = (None if number in specials else tokenizer.token_bytes(number) for number in range(tokenizer.vocab_size))
        signs = (tokenizer.specials[name] for name in ("<|user|>", "<|assistant|>"))
        return cls(layers, head, weight, list(pieces), *signs)

    def loss(self, inputs: Tensor, targets: Tensor, looked: Mapping[int, tuple[Tensor, Tensor]]) -> Tensor:
        """The weighted cross-entropy, summed, of where the heads look.

        ids (B, T); `looked` has the queries and keys, (B, nh, T, hs), of each layer by its number.
        """
        total = torch.zeros((), device=next(iter(looked.values()))[0].device)
        texts = enumerate(zip(inputs.tolist(), targets.tolist(), strict=True))
        found = [(row, *pair) for row, text in texts for pair in self.sources(*text)]
        if not found:
            return total
        rows, places, sources = torch.tensor(found, device=total.device).T
        later = torch.arange(inputs.size(1), device=total.device) > places[:, None]
        for layer in self.layers:
            query, key = (part[:, self.head].float() for part in looked[layer])  # (B, T, hs)
            scores = (query @ key.mT / query.size(-1) ** 0.5)[rows, places]  # (N, T)
            total = total + functional.cross_entropy(scores.masked_fill(later, -torch.inf), sources, reduction="sum")
        return self.weight * total

    def sources(self, inputs: Sequence[int], targets: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Places behind "... is" in what the assistant says, each with the place of the token to say, or 0 if there is none.

        That place is behind the same beginning of a sentence, if it went on so the last time; or else where the person has just
        said what the sentence has said of its end, the last time; or else where it was said to be forgotten, since that is why
        it is unknown. Once a value is said to be unknown, nothing is to be found. Only targets that count are taken.
        """
        ended: dict[bytes, int] = {}  # where a sentence had been said so far
        forgotten: set[bytes] = set()  # beginnings of sentences that ended so the last time
        said, speaks, asked, words = b"", False, 0, inputs[:0]
        value: list[int] = []
        for place, (token, target) in enumerate(zip(inputs, targets, strict=True)):
            piece = self.pieces[token]
            if piece is None:
                said, speaks = b"", token == self.assistant
                asked = place if token == self.person else asked
                words = inputs[asked:place] if speaks else words
                continue
            telling = _about_to_tell(said)
            said = said + piece if said else piece.lstrip()
            if said.endswith(b"."):
                begun = said.partition(b" is ")[0] + b" is"
                forgotten.discard(begun)
                if said == begun + _FORGOTTEN:
                    forgotten.add(begun)
                said = b""
            if speaks and target != IGNORED and _about_to_tell(said):
                value = [*value, token] if telling else []
                before = ended.get(said, -1) + 1
                if inputs[before] == target:
                    yield place, before
                else:
                    yield place, _end_of([*value, target], words, asked) or (before if said in forgotten else 0)
            ended[said] = place


def _end_of(run: Sequence[int], words: Sequence[int], start: int) -> int:
    """The place at which the last such run ends among words that begin at `start`, or 0.

    >>> _end_of([3, 4], [9, 3, 4, 7], start=20), _end_of([3, 4], [9, 3], start=20)
    (22, 0)
    """
    for end in range(len(words), len(run) - 1, -1):
        if list(words[end - len(run) : end]) == list(run):
            return start + end - 1
    return 0


_NAMING, _UNKNOWN, _FORGOTTEN = NAMING.encode(), f" is {UNKNOWN.split()[0]}".encode(), f" {FORGOTTEN}.".encode()


def _about_to_tell(said: bytes) -> bool:
    """Whether a sentence is behind its "is", or in the middle of what follows that.

    >>> [_about_to_tell(said) for said in (b"Your town", b"Your town is", b"Your town is Ast", b"Your town is unknown")]
    [False, True, True, False]
    """
    return (said.endswith(b" is") or b" is " in said) and _UNKNOWN not in said and not said.startswith(_NAMING)
