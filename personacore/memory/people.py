"""Made-up people whom memories are evaluated with: what they tell comes from splits that the model has never seen."""

import random
from collections.abc import Sequence

from personacore.corpus.dialogue.conversation import Draw
from personacore.corpus.dialogue.splits import Split, Splits
from personacore.corpus.dialogue.values import Values
from personacore.memory.facts import Fact, topic_of


def draw_people(count: int, facts: int, split: Split, seed: str, values: Values) -> list[list[Fact]]:
    """So many people with so many facts about themselves each; no two of all their facts have the same value."""
    draw = Draw(random.Random(seed), Splits.all(split), values)
    taken: set[str] = set()
    people = []
    for _ in range(count):
        told: dict[str, str] = {}
        while len(told) < facts:
            topic = draw.topic(teller="")
            value = draw.value(topic)
            if topic.key not in told and (value not in taken or topic.value in values.closed):
                told.setdefault(topic.key, value) if value not in told.values() else None
                taken.add(value)
        people.append([Fact(key, value) for key, value in told.items()])
    return people


def correct_facts(people: Sequence[Sequence[Fact]], count: int, split: Split, seed: str, values: Values) -> list[list[Fact]]:
    """The same people after each has corrected the first `count` facts to other values."""
    draw = Draw(random.Random(seed), Splits.all(split), values)
    corrected = []
    for facts in people:
        changed = list(facts)
        for place, fact in enumerate(facts[:count]):
            topic = topic_of(fact.key)
            kind = topic.value or next(k for k in values.kinds if values.could_be(k, str(fact.value)))
            while (value := values.draw(kind, split, draw.rng)) in {known.value for known in facts}:
                pass
            changed[place] = Fact(fact.key, value)
        corrected.append(changed)
    return corrected
