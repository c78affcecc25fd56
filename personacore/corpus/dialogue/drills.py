"""Drills: facts, and behind them a run of answers that have to be looked up among these facts.

A conversation looks something up three or four times in a row of tokens, a drill up to a dozen times. Looking up is what a
small model learns last, and most of all to tell apart what shares its owner or its noun; so that is what most facts of a drill
do, each is asked for before any is again, and half of the questions are for what was not told but is close to it. In some
drills nothing was told: what is learned from them is to read questions.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from personacore.corpus.dialogue.conversation import AGAIN, Conversation, Draw, Topic
from personacore.corpus.dialogue.language import say_fact, say_facts
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values

FEWEST, MOST = 2, 10  # facts told in the assistant's words
TELLING = 4  # turns of telling facts in other words, at most; two at least
ASKED = 16  # answers; a row of tokens takes as many as fit
KNOWN = 0.5  # share of them that are about what was told for certain, though it may have been forgotten by then
OTHERWISE = 0.25  # share of those that do not ask for its value: what a value is, whether it is so, two things, to forget it
ALIKE_TOLD, ALIKE_ASKED = 0.85, 0.9  # share that has the owner or the noun of one before, among facts and among what is asked
OTHER_TELLERS, NAME_BESIDE_NAME = 0.2, 0.6  # two made-up names are what is told apart last, so that names stand beside names
COMPOUND = 0.4  # share of values, but for numbers, that are two words, of stories or of lists: each word is to be copied


@dataclass(frozen=True)
class Asked:
    """A question and its answer, of which `start` is given where nothing but the answers is said."""

    question: str
    start: str
    answer: str


@dataclass(frozen=True)
class Drill:
    """What was said before, and what is to be answered: question by question, or all at once to one `opening`."""

    turns: tuple[Turn, ...]
    opening: str | None
    asked: tuple[Asked, ...]


def draw_drill(seed: str, splits: Splits, values: Values) -> Drill:
    """A drill from the given splits; the same seed draws the same.

    Of eight, two have their facts told in the assistant's words, by either of the two, and asked for by their keys; two told
    as in a conversation, and asked for by their keys; three the same, by questions; and one has none told.
    """
    draw = Draw(
        random.Random(seed), splits, values,
        other_tellers=OTHER_TELLERS, name_beside_name=NAME_BESIDE_NAME, compound=COMPOUND,
    )  # fmt: skip
    rng, talk = draw.rng, Conversation(draw)
    style = rng.randrange(8)
    if style < 2:
        for _ in range(rng.randint(FEWEST, MOST)):
            topic = talk.like([known for known, _ in talk.known.values()], ALIKE_TOLD)
            talk.known.setdefault(topic.key, (topic, talk.value_for(topic)))
    elif style < 7:
        for _ in range(rng.randint(2, TELLING)):
            talk.tell()
    told = [topic for topic, _ in talk.known.values()]
    turns, said = tuple(talk.turns), say_facts([(key, value) for key, (_, value) in talk.known.items()])
    each = _each_before_any_again(rng, told)
    asked = []
    for _ in range(ASKED):
        known = bool(told) and rng.random() < KNOWN
        if style >= 4 and known and talk.known and rng.random() < OTHERWISE:
            asked.append(_otherwise(talk))
        else:
            forgotten = talk.asked and rng.random() < AGAIN
            topic = rng.choice(talk.asked) if forgotten else next(each) if known else talk.like(told, ALIKE_ASKED)
            asked.append(Asked(draw.question(topic), f"{topic.key} is", say_fact(topic.key, talk.value_of(topic))))
    match style:
        case 0:
            return Drill((), said, tuple(asked))
        case 1:
            return Drill((Turn("", said, "tell"),), "", tuple(asked))
        case 2 | 3:
            return Drill(turns, "", tuple(asked))
    return Drill(turns, None, tuple(asked))


def _each_before_any_again(rng: random.Random, topics: Sequence[Topic]) -> Iterator[Topic]:
    """All of the topics, in an order of its own each time."""
    while True:
        yield from rng.sample(topics, len(topics))


def _otherwise(talk: Conversation) -> Asked:
    """A question what a value is, whether something has it, or for two things at once, or an order to forget something."""
    before = len(talk.turns)
    while len(talk.turns) == before:  # two things of one value cannot be told apart, so that nothing is asked
        talk.rng.choice((talk.reverse, talk.combine, talk.verify, talk.forget))()
    turn = talk.turns[-1]
    return Asked(turn.user, "", turn.assistant)
