"""Who sees which part of the dialogue grammar: PRETRAIN the model, CALIBRATION whoever tunes, EVALUATION only the gates."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["pretrain", "calibration", "evaluation"]
SPLITS: tuple[Split, ...] = ("pretrain", "calibration", "evaluation")
HELD_OUT = 0.15  # share of each of the two splits that the model never sees


@dataclass(frozen=True)
class Splits:
    """Which split each part of a text comes from."""

    values: Split
    frames: Split
    nouns: Split
    slots: Split

    @classmethod
    def all(cls, split: Split) -> "Splits":
        """Everything from one split."""
        return cls(split, split, split, split)


def _place(kind: str, text: str) -> float:
    """A number from 0 to below 1 that depends on nothing but the text and what it is."""
    return int.from_bytes(hashlib.sha256(f"{kind}:{text}".encode()).digest()[:8], "big") / 2**64


def split_of(kind: str, text: str) -> Split:
    """The split of one of endlessly many texts, such as a name made of syllables.

    >>> split_of("name", "Ottoline") == split_of("name", "Ottoline")
    True
    """
    place = _place(kind, text)
    return "pretrain" if place < 1 - 2 * HELD_OUT else "calibration" if place < 1 - HELD_OUT else "evaluation"


def split_list(kind: str, texts: Sequence[str]) -> dict[Split, tuple[str, ...]]:
    """The texts of a closed list by split: shares as in `split_of`, but of each split at least one as far as they reach.

    Three texts are two PRETRAIN and one EVALUATION, since two are little to learn a list from already. A text behind "!"
    is so plain that it is always in PRETRAIN.

    >>> [len(part) for part in split_list("example", list("abcdefghij")).values()]
    [6, 2, 2]
    >>> split_list("example", ["!a", "b"])
    {'pretrain': ('a',), 'calibration': (), 'evaluation': ('b',)}
    """
    plain = {text[1:] for text in texts if text.startswith("!")}
    unique = list(dict.fromkeys(text.removeprefix("!") for text in texts))
    ranked = sorted((text for text in unique if text not in plain), key=lambda text: _place(kind, text))
    held = max(1, round(HELD_OUT * len(unique)))
    evaluation = ranked[:held] if len(unique) > 1 else []
    calibration = ranked[held : 2 * held] if len(unique) > 3 else []
    taken = {*evaluation, *calibration}
    return {
        "pretrain": tuple(text for text in unique if text not in taken),
        "calibration": tuple(text for text in unique if text in calibration),
        "evaluation": tuple(text for text in unique if text in evaluation),
    }
