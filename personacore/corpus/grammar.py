"""The story grammar: one syntax tree, read in two directions.

`sample` draws a story from the tree and adds up the information of every draw, so the corpus knows its own entropy.
`match` reads a piece of text against the same tree under one binding of roles to words, which is how `consistency`
knows whether a story keeps its people and things straight.

Word files hold lists, plot files hold plots:

    girl (she): Lily, Mia                 a list; the pronoun in brackets belongs to its words
    child = girl + boy                    a union of lists
    fear: the dark : a lamp, thunder : a hug      rows with columns, read as {fear} and {fear.1}
    ending:                               a list of phrases, one a line, which may hold markup
    - {hero} smiled.

    == The lost toy                       a plot
    hero: child                           a role, drawn from a list at its first mention
    spot = bed : soft | tree : tall       a role with rows of its own
                                          (blank line)
    {hero} lost {hero.his} {toy}.         a beat: one of these lines is told
    One day, {hero.his} {toy} was gone.
                                          (blank line: the next beat; `---` also starts a paragraph)

Markup in a line: `{role}`, `{role.a}` (with article), `{role.1}` (a column), `{role.he}` `.him` `.his` `.himself`
`.girl` (agreeing with the role), `<list>` (a fresh draw), `[this|that|]` (a choice), and `^` after the opening bracket
for a capital letter.
"""

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import regex

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


@dataclass(frozen=True)
class Story:
    """A story, the plot it was drawn from, and the information of its draws in bits."""

    text: str
    plot: str
    bits: float


class GrammarError(ValueError):
    """A word or plot file that cannot be read; the message names the file and line."""


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


_TOKEN = regex.compile(r"([{<])(\^?)([a-z_]+)(?:\.([a-z]+|\d+))?[}>]|([\[\]|])")


def parse_line(line: str) -> Sequence:
    """The syntax tree of one line of markup.

    >>> parse_line("A [big|<size>] {toy}")[1].options[0]
    ('big',)
    """
    stack: list[list[list[Node]]] = [[[]]]
    position = 0
    for token in _TOKEN.finditer(line):
        if token.start() > position:
            stack[-1][-1].append(line[position : token.start()])
        position = token.end()
        match token.group(5):
            case "[":
                stack.append([[]])
            case "|" if len(stack) > 1:
                stack[-1].append([])
            case "]" if len(stack) > 1:
                options = tuple(tuple(option) for option in stack.pop())
                stack[-1][-1].append(Choice(options))
            case None:
                bracket, caret, source, form = token.group(1, 2, 3, 4)
                stack[-1][-1].append(Slot(source, form or "", bool(caret), bracket == "<"))
            case stray:
                raise GrammarError(f"{stray!r} without its bracket in: {line}")
    if len(stack) > 1:
        raise GrammarError(f"'[' is never closed in: {line}")
    rest = line[position:]
    nodes = tuple(stack[0][0] + ([rest] if rest else []))
    if any(regex.search(r"[{}<>]", node) for node in walk(nodes) if isinstance(node, str)):
        raise GrammarError(f"unreadable markup in: {line}")
    return nodes


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
                teller.parts.append("\n" if number in chosen.breaks else " ")
            teller.tell((beat,))
        return Story("".join(teller.parts), chosen.name, teller.bits)

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
        self.bits = 0.0

    def draw(self, count: int) -> int:
        """A uniform number below `count`; its information is added to `bits`."""
        self.bits += math.log2(count)
        return int(self.rng.random() * count)

    def tell(self, nodes: Sequence) -> None:
        for node in nodes:
            if isinstance(node, str):
                self.parts.append(node)
            elif isinstance(node, Choice):
                self.tell(node.options[self.draw(len(node.options))])
            elif node.fresh and node.source in self.grammar.phrases:
                options = self.grammar.phrases[node.source].options
                chosen = options[self.draw(len(options))]
                self.tell(_capital(chosen) if node.capital else chosen)
            elif node.fresh:
                rows = self.grammar.lists[node.source]
                self.parts.append(_write(rows[self.draw(len(rows))], node))
            else:
                if node.source not in self.bound:
                    taken = self.bound.values()
                    rows = [row for row in self.roles[node.source] if row not in taken]
                    self.bound[node.source] = rows[self.draw(len(rows))]
                self.parts.append(_write(self.bound[node.source], node))


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


def parse_rows(text: str, pronoun: str = "it", separator: str = ",") -> tuple[Row, ...]:
    """Rows from `a, b : second column, c`.

    >>> [row.columns for row in parse_rows("bed : soft, tree : tall")]
    [('bed', 'soft'), ('tree', 'tall')]
    """
    entries = [entry.strip() for entry in text.split(separator) if entry.strip()]
    return tuple(Row(tuple(column.strip() for column in entry.split(" : ")), pronoun) for entry in entries)


_HEADER = regex.compile(r"([a-z_]+)(?: \((he|she|it)\))?:\s*(.*)")
_UNION = regex.compile(r"([a-z_]+) = ([a-z_+ ]+)")


def parse_words(text: str, grammar: Grammar, name: str) -> None:
    """Add the lists, unions and phrases of one word file to the grammar."""
    entries: dict[str, tuple[str, list[str]]] = {}
    unions: dict[str, list[str]] = {}
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if header := _HEADER.fullmatch(line):
            current = header.group(1)
            if current in entries or current in grammar.lists or current in grammar.phrases:
                raise GrammarError(f"{name}:{number}: list {current!r} is defined twice")
            entries[current] = (header.group(2) or "it", [header.group(3)] if header.group(3) else [])
        elif union := _UNION.fullmatch(line):
            unions[union.group(1)] = [part.strip() for part in union.group(2).split("+")]
        elif current and line.startswith(("- ", " ")):
            entries[current][1].append(line.strip() if line.startswith(" ") else line)
        else:
            raise GrammarError(f"{name}:{number}: neither a list, a union nor an entry: {line}")
    for key, (pronoun, lines) in entries.items():
        if lines and lines[0].startswith("- "):
            grammar.phrases[key] = Choice(tuple(parse_line(line.removeprefix("- ").strip()) for line in lines))
        else:
            grammar.lists[key] = parse_rows(" ".join(lines), pronoun)
    grammar.unions |= unions
    for key, parts in list(grammar.unions.items()):  # a union may stand before what it joins, in another file too
        if all(part in grammar.lists for part in parts):
            grammar.lists[key] = tuple(row for part in grammar.unions.pop(key) for row in grammar.lists[part])


_ROLE = regex.compile(r"([a-z_]+)(?:: ([a-z_]+)| = (.+))")


def parse_plots(text: str, grammar: Grammar, name: str) -> None:
    """Add the plots of one plot file to the grammar; every list it names must be there already."""
    for chunk in regex.split(r"^== ", text, flags=regex.MULTILINE)[1:]:
        title, _, body = chunk.partition("\n")
        header, *blocks = regex.split(r"\n\s*\n", body.strip("\n"))
        roles: dict[str, tuple[Row, ...]] = {}
        for line in header.splitlines():
            role = _ROLE.fullmatch(line.strip())
            if not role or (role.group(2) and role.group(2) not in grammar.lists):
                raise GrammarError(f"{name}: {title}: unreadable role or unknown list: {line}")
            roles[role.group(1)] = grammar.lists[role.group(2)] if role.group(2) else parse_rows(role.group(3), separator="|")
        beats: list[Choice] = []
        breaks: set[int] = set()
        for block in blocks:
            lines = [line.strip() for line in block.splitlines() if line.strip()]
            if lines[0] == "---":
                breaks.add(len(beats))
                lines = lines[1:]
            if lines:
                beats.append(Choice(tuple(parse_line(line) for line in lines)))
        if title.strip() in grammar.plots:
            raise GrammarError(f"{name}: plot {title.strip()!r} is told twice")
        grammar.plots[title.strip()] = Plot(title.strip(), roles, tuple(beats), frozenset(breaks))


def check(grammar: Grammar) -> list[str]:
    """What is wrong with the grammar, a line each: unknown names and forms, equal options, lists that are or run empty."""
    problems = [f"list {key}: joins unknown lists among {', '.join(parts)}" for key, parts in grammar.unions.items()]
    for key, rows in grammar.lists.items():
        words = [row.columns[0] for row in rows]
        repeated = sorted({word for word in words if words.count(word) > 1})
        if repeated or not rows:
            problems.append(f"list {key}: {'repeated: ' + ', '.join(repeated) if repeated else 'empty'}")
    trees = [(f"phrase {key}", choice, None) for key, choice in grammar.phrases.items()]
    trees += [
        (f"plot {plot.name}, beat {n}", beat, plot) for plot in grammar.plots.values() for n, beat in enumerate(plot.beats)
    ]
    for where, tree, plot in trees:
        for node in walk((tree,)):
            if isinstance(node, Choice) and len(set(node.options)) < len(node.options):
                problems.append(f"{where}: two equal options: {node.options}")
            if isinstance(node, Slot) and node.fresh:
                problems += _check_fresh(where, node, grammar)
            if isinstance(node, Slot) and not node.fresh and plot:
                problems += _check_role(where, node, plot)
    for plot in grammar.plots.values():
        for role, rows in plot.roles.items():
            rivals = sum(not set(rows).isdisjoint(theirs) for other, theirs in plot.roles.items() if other != role)
            if len(rows) <= rivals:
                problems.append(f"plot {plot.name}: {{{role}}} may find all its words taken by other roles")
        for phrase in _phrases_of(grammar, plot.beats):
            for node in walk((grammar.phrases[phrase],)):
                if isinstance(node, Slot) and not node.fresh:
                    problems += _check_role(f"plot {plot.name}, phrase {phrase}", node, plot)
    return problems


def _check_fresh(where: str, slot: Slot, grammar: Grammar) -> list[str]:
    if slot.source in grammar.phrases:
        return [f"{where}: <{slot.source}.{slot.form}> is a list of phrases, which have no forms"] if slot.form else []
    if slot.source not in grammar.lists:
        return [f"{where}: unknown list <{slot.source}>"]
    return _check_form(f"{where}: <{slot.source}.{slot.form}>", slot, grammar.lists[slot.source])


def _check_role(where: str, slot: Slot, plot: Plot) -> list[str]:
    if slot.source not in plot.roles:
        return [f"{where}: unknown role {{{slot.source}}}"]
    return _check_form(f"{where}: {{{slot.source}.{slot.form}}}", slot, plot.roles[slot.source])


def _check_form(where: str, slot: Slot, rows: tuple[Row, ...]) -> list[str]:
    try:
        for row in rows:
            row.form(slot.form)
    except (KeyError, IndexError):
        return [f"{where} has no such form"]
    return []


def _phrases_of(grammar: Grammar, nodes: Iterable[Node]) -> set[str]:
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        for node in walk((pending.pop(),)):
            if isinstance(node, Slot) and node.fresh and node.source in grammar.phrases and node.source not in found:
                found.add(node.source)
                pending.append(grammar.phrases[node.source])
    return found


def walk(nodes: Iterable[Node]) -> Iterator[Node]:
    """Every node of the trees, parents first."""
    for node in nodes:
        yield node
        if isinstance(node, Choice):
            for option in node.options:
                yield from walk(option)


@lru_cache(maxsize=1)
def load_grammar() -> Grammar:
    """The story grammar that ships with the package."""
    grammar = Grammar()
    root = resources.files("personacore.corpus") / "pocket"
    for folder, parse in (("words", parse_words), ("plots", parse_plots)):
        for file in sorted((root / folder).iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".txt"):
                parse(file.read_text(encoding="utf-8"), grammar, file.name)
    return grammar
