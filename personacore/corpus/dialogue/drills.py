"""Drills: facts, and behind them a run of answers that have to be looked up among these facts.

A conversation looks something up three or four times in a row of tokens, a drill up to a dozen times, two fifths of them for
what was not told but is close to it. Looking up is what a small model learns last. In some drills nothing was told: what is
learned from them is to read questions.
"""

import random
from dataclasses import dataclass

from personacore.corpus.dialogue.conversation import Conversation, Draw
from personacore.corpus.dialogue.language import say_facts
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values

FEWEST, MOST = 2, 7  # facts told in the assistant's words
ASKED = 16  # answers; a row of tokens takes as many as fit
KNOWN = 0.5  # share of them that were told for certain
ALIKE_TOLD, ALIKE_ASKED = 0.6, 0.9  # share that has the owner or the noun of one before, among facts and among what is asked
COMPOUND = 0.4  # share of values that are two words, of stories or of lists


@dataclass(frozen=True)
class Asked:
    """A key with the value to be found, None where it was not told; `question` asks for it."""

    question: str
    key: str
    value: str | None


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
    draw = Draw(random.Random(seed), splits, values, compound=COMPOUND)
    rng, talk = draw.rng, Conversation(draw)
    style = rng.randrange(8)
    if style < 2:
        for _ in range(rng.randint(FEWEST, MOST)):
            topic = talk.like([known for known, _ in talk.known.values()], ALIKE_TOLD)
            talk.known.setdefault(topic.key, (topic, draw.value(topic)))
    elif style < 7:
        for _ in range(rng.randint(1, 3)):
            talk.tell()
    told = [topic for topic, _ in talk.known.values()]
    topics = [rng.choice(told) if told and rng.random() < KNOWN else talk.like(told, ALIKE_ASKED) for _ in range(ASKED)]
    asked = tuple(Asked(draw.question(topic), topic.key, talk.value_of(topic)) for topic in topics)
    said = say_facts([(key, value) for key, (_, value) in talk.known.items()])
    match style:
        case 0:
            return Drill((), said, asked)
        case 1:
            return Drill((Turn("", said, "tell"),), "", asked)
        case 2 | 3:
            return Drill(tuple(talk.turns), "", asked)
    return Drill(tuple(talk.turns), None, asked)
