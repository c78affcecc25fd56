"""Values that facts have: closed lists of words, and names, numbers and dates without end."""

import random
from collections.abc import Callable, Mapping, Sequence

from personacore.corpus.dialogue.data import read_data
from personacore.corpus.dialogue.splits import Split, split_list, split_of

TRIES = 10_000
NUMBERS = ("age", "number", "size", "code", "price", "phone", "time")  # the types that are written in digits
VOWELS, CONSONANTS = "aeiouy", "bcdfghjklmnpqrstvwxz"


class Values:
    """Draws values of every type, each from the split it is asked for."""

    def __init__(self) -> None:
        raw: Mapping[str, str] = read_data("values")
        words = {
            name: [word.strip() for word in (text.split("|") if "|" in text else text.split())] for name, text in raw.items()
        }
        self._parts = {name: words.pop(name) for name in list(words) if name.rpartition("_")[2] in ("start", "middle", "end")}
        self._months = words.pop("month")
        self.closed = {name: split_list(f"value {name}", listed) for name, listed in words.items()}
        held_out = (text for parts in self.closed.values() for split in ("calibration", "evaluation") for text in parts[split])
        self._held_out = {text.casefold() for text in held_out}
        listed = (text for parts in self.closed.values() for texts in parts.values() for text in texts)
        self._listed_words = sorted({word for text in listed for word in text.split()})
        self._open: dict[str, Callable[[random.Random], str]] = {
            "person": self._person,
            "town": lambda rng: self._stem(rng) + rng.choice(self._parts["town_end"]),
            "street": lambda rng: f"{self._person(rng)} {rng.choice(self._parts['street_end'])}",
            "school": lambda rng: f"{self._person(rng)} {rng.choice(self._parts['school_end'])}",
            "title": lambda rng: (
                f"The {rng.choice(self._parts['title_middle']).title()} {rng.choice(self._parts['title_end']).title()}"
            ),
            "date": lambda rng: f"{rng.choice(self._months)} {rng.randint(1, 28)}",
            "age": lambda rng: str(rng.randint(1, 99)),
            "number": lambda rng: str(rng.randint(1, 999)),
            "size": lambda rng: str(rng.randint(20, 52)),
            "code": lambda rng: "".join(rng.choices("0123456789", k=rng.choice((4, 4, 5, 6)))),
            "price": lambda rng: str(rng.randint(5, 9999)),
            "phone": lambda rng: f"{rng.randint(100, 999)} {rng.randint(0, 9999):04}",
            "time": lambda rng: f"{rng.randint(1, 12)}:{rng.randint(0, 59):02}",
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of all types."""
        return (*self.closed, *self._open)

    def draw(self, kind: str, split: Split, rng: random.Random) -> str:
        """A value of this type and split."""
        if kind in self.closed:
            return rng.choice(self.closed[kind][split])
        for _ in range(TRIES):
            value = self._open[kind](rng)
            if split_of(f"value {kind}", value) == split:
                return value
        raise RuntimeError(f"no value of type {kind} in split {split}")

    def anything(self, words: Sequence[str], rng: random.Random) -> str:
        """A PRETRAIN value of no type: one or two of the words, of halves of them or of mere letters, small or with capitals.

        Whoever has copied such values does not depend on having met a value before.
        """
        while True:
            parts = [_part(words, rng) for _ in range(rng.choice((1, 1, 2)))]
            value = " ".join(parts)
            named = (split_of(f"value {kind}", value.title()) for kind in ("person", "town"))
            if self._held_out.isdisjoint((value, *parts)) and set(named) == {"pretrain"}:
                return value.title() if rng.random() < 0.5 else value

    def compound(self, words: Sequence[str], rng: random.Random) -> str:
        """Two words, each one of these or of the closed lists, small or with capitals, together on no list of another split.

        One of the two may be: a model copies no token that it has never copied.
        """
        while True:
            first, second = (rng.choice(rng.choice((words, self._listed_words))) for _ in range(2))
            value = f"{first} {second}"
            if first != second and value.casefold() not in self._held_out:
                break
        return value.title() if rng.random() < 0.5 else value

    def _stem(self, rng: random.Random) -> str:
        return rng.choice(self._parts["name_start"]) + rng.choice(("", rng.choice(self._parts["name_middle"])))

    def _person(self, rng: random.Random) -> str:
        middles = "".join(rng.choices(self._parts["name_middle"], k=rng.choice((0, 0, 1, 1, 1, 2))))
        return rng.choice(self._parts["name_start"]) + middles + rng.choice(self._parts["name_end"])


def _part(words: Sequence[str], rng: random.Random) -> str:
    """A word, the beginning of one with the end of another, or letters; together they hold nearly every token."""
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(words)
    if kind < 0.7:
        first, second = rng.choices(words, k=2)
        return first[: rng.randint(1, 5)] + second[-rng.randint(1, 5) :]
    return _letters(rng)


def _letters(rng: random.Random) -> str:
    """Letters that can be pronounced and mean nothing."""
    start = rng.randrange(2)
    return "".join(rng.choice(VOWELS if (place + start) % 2 else CONSONANTS) for place in range(rng.randint(2, 8)))
