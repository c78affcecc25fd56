"""The markup of word and plot files, and the grammar that ships with the package.

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

from functools import lru_cache
from importlib import resources

import regex

from personacore.corpus.grammar import Choice, Grammar, Node, Plot, Row, Sequence, Slot, walk


class GrammarError(ValueError):
    """A word or plot file that cannot be read; the message names the file and line."""


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
