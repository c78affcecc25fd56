"""Does a story keep its people and things straight? The grammar knows, because it can read as well as tell.

A story is read sentence by sentence under one binding of roles to words. A sentence that the grammar could tell, but only
of somebody or something else, is a contradiction: a changed name, a wrong pronoun, another toy. A sentence the grammar
could not tell at all is judged by its words: the names of the grammar in it must have been met before, and a pronoun must
agree with somebody in it or the sentence before, or else in the last one that named anybody. A text of which the grammar
could tell less than half the sentences, such as an empty one, is not consistent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import regex

from personacore.corpus.grammar import Choice, Grammar, Node, Plot, Row, Sequence, Slot
from personacore.corpus.markup import load_grammar

_SENTENCE_END = regex.compile(r"(?<=[.!?][\"']?)(?<!\bMrs?\.)[ \n]")
_FINISHED = regex.compile(r"[.!?][\"']?$")
_PEOPLE_WORDS = {"he": "he", "him": "he", "his": "he", "himself": "he", "she": "she", "her": "she", "herself": "she"}


@dataclass(frozen=True)
class Sentence:
    """A sentence of a plot, and the roles that are met by the time it begins."""

    plot: Plot
    nodes: Sequence
    met: frozenset[str]


@dataclass(frozen=True)
class Verdict:
    """Whether a story is consistent and, if not, where it contradicts; how many sentences were read and how many guessed."""

    consistent: bool
    read: int
    guessed: int
    contradiction: str = ""


State = tuple[str, frozenset[tuple[str, Row]]]  # the plot of the last sentence, and who is bound to what


class Reader:
    """The sentences of a grammar, indexed for reading."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.sentences = {name: list(_sentences(grammar, plot)) for name, plot in grammar.plots.items()}
        people = {row.columns[0]: row.pronoun for rows in grammar.lists.values() for row in rows if row.pronoun != "it"}
        self.names = {word: pronoun for word, pronoun in people.items() if word[0].isupper()}
        self.persons = people
        self._name = regex.compile(r"\b(?:\L<names>)\b", names=list(self.names))
        self._person = regex.compile(r"\b(?:\L<persons>)\b", persons=list(people))

    def judge(self, text: str) -> Verdict:
        """Read a whole story."""
        states: set[State] = {("", frozenset())}
        positions: dict[int, set[State]] = {0: states}
        read = guessed = 0
        met_names: set[str] = set()
        before = ""
        last_people: set[str] = set()
        while positions:
            start = min(positions)
            states = positions.pop(start)
            if start >= len(text):
                break
            after = self._read(text, start, states)
            sentence = text[start : self._end(text, start)]
            if after:
                read += 1
                for end, found in after.items():
                    positions.setdefault(self._skip(text, end), set()).update(found)
            elif not positions:
                unfinished = not _FINISHED.search(sentence)  # the text is cut off in it
                if not unfinished and (
                    self._tells_of_another(text, start) or not self._plausible(sentence, before, last_people, met_names)
                ):
                    return Verdict(False, read, guessed, sentence)
                guessed += 1
                positions[self._skip(text, start + len(sentence))] = states
            met_names.update(self._name.findall(sentence))
            before = sentence
            last_people = self._people(sentence) or last_people
        understood = read >= max(1, guessed)
        return Verdict(understood, read, guessed, "" if understood else text)

    def _read(self, text: str, start: int, states: set[State]) -> dict[int, set[State]]:
        """Where the sentences of the grammar that agree with a state end: its own plot's first, else any plot's."""
        for elsewhere in (False, True):
            found: dict[int, set[State]] = {}
            for plot_name, pairs in states:
                bound = dict(pairs)
                for name, sentences in self.sentences.items():
                    if (name == plot_name) == elsewhere:
                        continue
                    for sentence in sentences:
                        for end, after in self._match(sentence, text, start, bound):
                            found.setdefault(end, set()).add((name, frozenset(after.items())))
            if found:
                return found
        return {}

    def _match(
        self, sentence: Sentence, text: str, start: int, bound: Mapping[str, Row]
    ) -> Iterator[tuple[int, Mapping[str, Row]]]:
        if any(role not in bound for role in sentence.met):
            return
        for end, after in self.grammar.match(sentence.nodes, sentence.plot, text, start, dict(bound)):
            if end == len(text) or text[end] in " \n":
                yield end, after or {}

    def _tells_of_another(self, text: str, start: int) -> bool:
        """Whether the grammar could tell this sentence, only not of these people and things."""
        return any(
            end == len(text) or text[end] in " \n"
            for sentences in self.sentences.values()
            for sentence in sentences
            for end, _ in self.grammar.match(sentence.nodes, sentence.plot, text, start, None)
        )

    def _people(self, text: str) -> set[str]:
        """The pronouns of the people named in a text."""
        return {self.persons[word] for word in self._person.findall(text)}

    def _plausible(self, sentence: str, before: str, last_people: set[str], met_names: set[str]) -> bool:
        """Whether the words of a sentence of the model's own fit what came before."""
        if any(name not in met_names for name in self._name.findall(sentence)):
            return False
        near = self._people(sentence) | self._people(before) or last_people
        wanted = {_PEOPLE_WORDS[word] for word in regex.findall(r"[a-z]+", sentence.lower()) if word in _PEOPLE_WORDS}
        return not near or wanted <= near

    @staticmethod
    def _end(text: str, start: int) -> int:
        found = _SENTENCE_END.search(text, start)
        return found.start() if found else len(text)

    @staticmethod
    def _skip(text: str, end: int) -> int:
        while end < len(text) and text[end] in " \n":
            end += 1
        return end


def _sentences(grammar: Grammar, plot: Plot) -> Iterator[Sentence]:
    """The sentences of a plot's lines, each with the roles certainly met before it."""
    met: set[str] = set()
    for beat in plot.beats:
        after: list[set[str]] = []
        for line in beat.options:
            certain = set(met)
            for nodes in _split(_flatten(grammar, line)):
                yield Sentence(plot, nodes, frozenset(certain))
                certain |= _certain(grammar, nodes)
            after.append(certain)
        met = set.intersection(*after)


def _flatten(grammar: Grammar, line: Sequence) -> Sequence:
    """The line with its phrases opened into choices, so that the sentences inside them can be told apart."""
    nodes: list[Node] = []
    for node in line:
        if isinstance(node, Slot) and node.fresh and node.source in grammar.phrases and not node.capital:
            nodes.append(Choice(tuple(_flatten(grammar, option) for option in grammar.phrases[node.source].options)))
        else:
            nodes.append(node)
    return tuple(nodes)


def _split(line: Sequence) -> Iterator[Sequence]:
    """The sentences of a line. A choice that ends sentences inside it stays whole with its neighbours."""
    current: list[Node] = []
    for node in line:
        if not isinstance(node, str):
            current.append(node)
            continue
        *ended, rest = _SENTENCE_END.split(node)
        for part in ended:
            yield (*current, part) if part else tuple(current)
            current = []
        if rest:
            current.append(rest)
    if current:
        yield tuple(current)


def _certain(grammar: Grammar, nodes: Sequence) -> set[str]:
    """The roles that every telling of `nodes` mentions."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, Choice):
            found |= set.intersection(*(_certain(grammar, option) for option in node.options))
        elif isinstance(node, Slot) and node.fresh and node.source in grammar.phrases:
            found |= _certain(grammar, (grammar.phrases[node.source],))
        elif isinstance(node, Slot) and not node.fresh:
            found.add(node.source)
    return found


@lru_cache(maxsize=1)
def story_reader() -> Reader:
    """A reader of the grammar that ships with the package."""
    return Reader(load_grammar())


def judge_story(text: str) -> Verdict:
    """What the shipped grammar finds of a story."""
    return story_reader().judge(text)
