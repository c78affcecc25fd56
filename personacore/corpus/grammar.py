"""The story grammar: one syntax tree, read in two directions.

`sample` draws a story from the tree and adds up the information of every draw, so the corpus knows its own entropy.
`match` reads a piece of text against the same tree under one binding of roles to words, which is how `consistency`
knows whether a story keeps its people and things straight. `markup` reads the tree from text files.
"""

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

PRONOUNS = {
    "he": {"he": "he", "him": "him", "his": "his", "himself": "himself", "girl": "boy"},
    "she": {"he": "she", "him": "her", "his": "her", "himself": "herself", "girl": "girl"},
    "it": {"he": "it", "him": "it", "his": "its", "himself": "itself", "girl": "thing"},
}


class Row(NamedTuple):
    """One entry of a list: its columns, and the pronoun it agrees with."""

    columns: tuple[str, ...]
    pronoun: str = "it"

    def form(self, name: str) -> str:
        """The row written as `name`: "" (the word), "a" (with article), a column number, or a pronoun form."""
        if name == "":
            return self.columns[0]
        if name == "a":
            return with_article(self.columns[0])
        if name.isdigit():
            return self.columns[int(name)]
        return PRONOUNS[self.pronoun][name]


@dataclass(frozen=True)
class Slot:
    """A mention of a role, or (`fresh`) a word drawn for this place alone."""

    source: str
    form: str
    capital: bool
    fresh: bool


@dataclass(frozen=True)
class Choice:
    """One of several sequences, equally likely."""

    options: tuple["Sequence", ...]


Node = str | Slot | Choice
Sequence = tuple[Node, ...]


@dataclass(frozen=True)
class Plot:
    """A plot: the list each role is drawn from, and beats, each a choice of lines; `breaks` start a paragraph."""

    name: str
    roles: dict[str, tuple[Row, ...]]
    beats: tuple[Choice, ...]
    breaks: frozenset[int]


class Mention(NamedTuple):
    """Where a role's word stands in a story, in characters, and whether the word was said before."""

    role: str
    start: int
    end: int
    again: bool


@dataclass(frozen=True)
class Story:
    """A story, the plot it was drawn from, the information of its draws in bits, and the words of its roles in order."""

    text: str
    plot: str
    bits: float
    mentions: tuple[Mention, ...]


def with_article(phrase: str) -> str:
    """The phrase after its indefinite article.

    >>> with_article("apple"), with_article("red kite"), with_article("unicorn")
    ('an apple', 'a red kite', 'a unicorn')
    """
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("uni", "use", "one"))
    return ("an " if vowel or phrase.startswith(("hour", "honest")) else "a ") + phrase


def capitalize(text: str) -> str:
    """The text with its first letter in upper case, the rest untouched."""
    return text[:1].upper() + text[1:]


@dataclass
class Grammar:
    """Lists of rows, phrases that hold markup, and plots."""

    lists: dict[str, tuple[Row, ...]] = field(default_factory=dict)
    phrases: dict[str, Choice] = field(default_factory=dict)
    plots: dict[str, Plot] = field(default_factory=dict)
    unions: dict[str, list[str]] = field(default_factory=dict)  # those that still wait for a list they join

    def sample(self, rng: random.Random, plot: str | None = None) -> Story:
        """One story, drawn with `rng`, of the named plot or of any."""
        teller = _Teller(self, rng)
        names = list(self.plots)
        chosen = self.plots[plot or names[teller.draw(len(names))]]
        teller.roles = chosen.roles
        for number, beat in enumerate(chosen.beats):
            if teller.parts:
                teller.write("\n" if number in chosen.breaks else " ")
            teller.tell((beat,))
        return Story("".join(teller.parts), chosen.name, teller.bits, tuple(teller.mentions))

    def match(
        self, nodes: Sequence, plot: Plot, text: str, start: int, bound: dict[str, Row] | None
    ) -> Iterator[tuple[int, dict[str, Row] | None]]:
        """Every way to read `nodes` in `text` from `start`: (end, roles bound by then).

        With `bound=None` a mention agrees with any word of its list: the form is checked, who or what it is, is not.
        """
        if not nodes:
            yield start, bound
            return
        head, rest = nodes[0], nodes[1:]
        for end, after in self._match_node(head, plot, text, start, bound):
            yield from self.match(rest, plot, text, end, after)

    def _match_node(
        self, node: Node, plot: Plot, text: str, start: int, bound: dict[str, Row] | None
    ) -> Iterator[tuple[int, dict[str, Row] | None]]:
        if isinstance(node, str):
            if text.startswith(node, start):
                yield start + len(node), bound
        elif isinstance(node, Choice):
            for option in node.options:
                yield from self.match(option, plot, text, start, bound)
        elif node.fresh and node.source in self.phrases:
            for option in self.phrases[node.source].options:
                yield from self.match(_capital(option) if node.capital else option, plot, text, start, bound)
        elif not node.fresh and bound is not None and node.source in bound:
            # A word bound in one plot may be none that this plot could bind.
            if bound[node.source] in plot.roles[node.source]:
                written = _write(bound[node.source], node)
                if text.startswith(written, start):
                    yield start + len(written), bound
        elif node.fresh or bound is None:
            rows = self.lists[node.source] if node.fresh else plot.roles[node.source]
            for written in dict.fromkeys(_write(row, node) for row in rows):  # whose word it is makes no difference
                if text.startswith(written, start):
                    yield start + len(written), bound
        else:
            for row in plot.roles[node.source]:
                written = _write(row, node)
                if text.startswith(written, start) and row not in bound.values():
                    yield start + len(written), {**bound, node.source: row}


class _Teller:
    """The state of one story while it is being drawn."""

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        self.grammar, self.rng = grammar, rng
        self.roles: dict[str, tuple[Row, ...]] = {}
        self.bound: dict[str, Row] = {}
        self.parts: list[str] = []
        self.mentions: list[Mention] = []
        self.said: set[str] = set()
        self.length = 0
        self.bits = 0.0

    def write(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)

    def draw(self, count: int) -> int:
        """A uniform number below `count`; its information is added to `bits`."""
        self.bits += math.log2(count)
        return int(self.rng.random() * count)

    def tell(self, nodes: Sequence) -> None:
        for node in nodes:
            if isinstance(node, str):
                self.write(node)
            elif isinstance(node, Choice):
                self.tell(node.options[self.draw(len(node.options))])
            elif node.fresh and node.source in self.grammar.phrases:
                options = self.grammar.phrases[node.source].options
                chosen = options[self.draw(len(options))]
                self.tell(_capital(chosen) if node.capital else chosen)
            elif node.fresh:
                rows = self.grammar.lists[node.source]
                self.write(_write(rows[self.draw(len(rows))], node))
            else:
                if node.source not in self.bound:
                    taken = self.bound.values()
                    rows = [row for row in self.roles[node.source] if row not in taken]
                    self.bound[node.source] = rows[self.draw(len(rows))]
                start = self.length
                self.write(_write(self.bound[node.source], node))
                if node.form == "":
                    self.mentions.append(Mention(node.source, start, self.length, node.source in self.said))
                if node.form in ("", "a"):  # a pronoun or another column says nothing of the word
                    self.said.add(node.source)


def _write(row: Row, slot: Slot) -> str:
    written = row.form(slot.form)
    return capitalize(written) if slot.capital else written


def _capital(nodes: Sequence) -> Sequence:
    """The phrase with a capital first letter."""
    head, *rest = nodes
    if isinstance(head, str):
        return (capitalize(head), *rest)
    if isinstance(head, Slot):
        return (Slot(head.source, head.form, True, head.fresh), *rest)
    return (Choice(tuple(_capital(option) for option in head.options)), *rest)


def walk(nodes: Iterable[Node]) -> Iterator[Node]:
    """Every node of the trees, parents first."""
    for node in nodes:
        yield node
        if isinstance(node, Choice):
            for option in node.options:
                yield from walk(option)
