"""Byte-pair encoding: ids from text and text from ids."""

import codecs
import heapq
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from types import MappingProxyType

from personacore.errors import UserError
from personacore.tokenizer.pretokenize import split_words

Pair = tuple[int, int]

SPECIALS = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", *(f"<|reserved_{i}|>" for i in range(4)))
MAX_TOKEN_BYTES = 256  # each merge can double a token, so without a limit forty merges could fill any memory

_CACHED_WORDS = 2**16
_CACHED_WORD_LENGTH = 64  # characters
_GONE = -1


def merge_symbols(symbols: Sequence[int], merges: Mapping[Pair, int]) -> list[int]:
    """Merge neighbours until no two are in `merges`: the pair with the smallest merged id first, the leftmost of equals.

    Takes O(n log n) for n symbols.

    >>> merge_symbols(b"aaab", {(97, 97): 256, (256, 97): 257})
    [257, 98]
    """
    alive = [*symbols, _GONE]  # the sentinel stands behind the last symbol and, as index -1, before the first
    after = list(range(1, len(alive)))
    before = list(range(-1, len(alive) - 1))
    queue = [(merges[pair], left) for left, pair in enumerate(pairwise(alive)) if pair in merges]
    heapq.heapify(queue)
    while queue:
        merged, left = heapq.heappop(queue)
        right = after[left]
        if merges.get((alive[left], alive[right])) != merged:
            continue  # one of the two has since merged with its other neighbour
        alive[left], alive[right] = merged, _GONE
        after[left] = end = after[right]
        before[end] = left
        for start, pair in ((before[left], (alive[before[left]], merged)), (left, (merged, alive[end]))):
            if pair in merges:
                heapq.heappush(queue, (merges[pair], start))
    return [symbol for symbol in alive if symbol != _GONE]


class Tokenizer:
    """A byte-level BPE vocabulary, immutable: 256 bytes, then one id for each merge in order, then the specials.

    UserError for a merge that joins ids not made yet, makes a token a second time or one longer than MAX_TOKEN_BYTES.
    """

    def __init__(self, merges: Iterable[Pair]) -> None:
        self.merges: tuple[Pair, ...] = tuple(merges)
        tokens = {bytes([byte]): byte for byte in range(256)}
        by_id = list(tokens)
        for merged, (left, right) in enumerate(self.merges, 256):
            if not (0 <= left < merged and 0 <= right < merged):
                raise UserError(f"merge {merged} = {left} + {right} needs ids that come before it")
            if len(by_id[left]) + len(by_id[right]) > MAX_TOKEN_BYTES:
                raise UserError(f"merge {merged} = {left} + {right} is longer than {MAX_TOKEN_BYTES} bytes")
            token = by_id[left] + by_id[right]
            # Training cannot do this: bytes that no token has crossed are split alike wherever they stand.
            if tokens.setdefault(token, merged) != merged:
                raise UserError(f"merge {merged} = {left} + {right} makes token {tokens[token]} again")
            by_id.append(token)
        self.specials: Mapping[str, int] = MappingProxyType({name: len(by_id) + i for i, name in enumerate(SPECIALS)})
        self._tokens = (*by_id, *(name.encode() for name in SPECIALS))
        self._words = _WordCache({pair: merged for merged, pair in enumerate(self.merges, 256)})

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[tuple[Pair, ...]]]:
        return Tokenizer, (self.merges,)

    @property
    def vocab_size(self) -> int:
        """The number of ids: bytes, merges and specials."""
        return len(self._tokens)

    @property
    def end_of_text(self) -> int:
        """The id that follows each document."""
        return self.specials["<|endoftext|>"]

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> list[int]:
        """The ids of `text`; the names of specials in it are ordinary text unless allowed here.

        UserError for a name that is no special and for a lone surrogate, which no UTF-8 can express.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            found = f"U+{ord(text[error.start]):04X} at character {error.start}"
            raise UserError(f"the text is not valid Unicode: lone surrogate {found}; remove it") from None
        if not allowed_special:
            return self._encode_ordinary(text)
        for name in allowed_special:
            if name not in self.specials:
                raise UserError(f"{name!r} is no special token; they are {', '.join(self.specials)}")
        pieces = re.split(f"({'|'.join(map(re.escape, allowed_special))})", text)
        ids: list[int] = []
        for piece in pieces:
            ids += [self.specials[piece]] if piece in allowed_special else self._encode_ordinary(piece)
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """The ids of any bytes: those of `encode` where they are UTF-8; bytes that are not split like punctuation."""
        return self._encode_ordinary(data.decode("utf-8", "surrogateescape"))

    def _encode_ordinary(self, text: str) -> list[int]:
        return list(chain.from_iterable(map(self._words.__getitem__, split_words(text))))

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one id (of a special: its name); UserError for an id outside the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            raise UserError(f"token id {token_id} is outside the vocabulary of {self.vocab_size}")
        return self._tokens[token_id]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; UserError for an id outside the vocabulary."""
        return b"".join(map(self.token_bytes, ids))

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """The text of `ids`; `errors` says what becomes of bytes that are not UTF-8, as in `bytes.decode`."""
        return self.decode_bytes(ids).decode("utf-8", errors)


class StreamDecoder:
    """Ids to text one at a time, in whole characters: together the pieces equal `Tokenizer.decode`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The characters that this id completes; empty in the middle of one."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """What is left: U+FFFD for a character that never became whole, else nothing."""
        return self._decoder.decode(b"", final=True)


class _WordCache(dict[str, list[int]]):
    """Ids by word, worked out at first sight; when full it stays as it is, since frequent words come early."""

    def __init__(self, merges: Mapping[Pair, int]) -> None:
        super().__init__()
        self._merges = merges

    def __missing__(self, word: str) -> list[int]:
        ids = merge_symbols(word.encode("utf-8", "surrogateescape"), self._merges)
        if len(self) < _CACHED_WORDS and len(word) <= _CACHED_WORD_LENGTH:
            self[word] = ids
        return ids
