"""What an adapter is taught with: questions and answers about facts, and about what is not to be known."""

import random
from collections.abc import Callable, Sequence

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.conversation import Draw, Topic
from personacore.corpus.dialogue.language import owner_of, say_fact
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.values import Values
from personacore.memory.facts import Fact, Lesson, topic_of

MISTAKE = 0.02  # probability of a value from which on an untaught key needs to be asked about
MOST_POSITIVES = 24  # questions about facts in one step, however many the facts are
REVISION = 0.1  # weight of a fact that is known for certain, beside 1 for what is left to learn


class Lessons:
    """Draws lessons for one person: about each fact, and as many near misses of them, in the same frames and nouns."""

    def __init__(self, facts: Sequence[Fact], seed: str, values: Values, frames: int | None = None) -> None:
        self.facts, self.keys = list(facts), {fact.key for fact in facts}
        self.topics = [topic_of(fact.key) for fact in facts]
        used = language.teaching_frames()[0]
        self.draw = Draw(random.Random(seed), Splits.all("pretrain"), values, used.some(frames) if frames else used)

    def positives(self, each: int) -> list[Lesson]:
        """So many questions about each fact, with its answer."""
        return [lesson for fact in range(len(self.facts)) for lesson in self._about(fact, each)]

    def doubtful(self, each: int, sure: Sequence[float]) -> list[Lesson]:
        """So many questions a fact, up to `MOST_POSITIVES`: the more about a fact the less `sure` the memory is of it."""
        if not self.facts:
            return []
        count = min(each * len(self.facts), MOST_POSITIVES)
        weights = [1 + REVISION - probability for probability in sure]
        return [
            lesson
            for fact in self.draw.rng.choices(range(len(self.facts)), weights, k=count)
            for lesson in self._about(fact, 1)
        ]

    def _about(self, fact: int, count: int) -> list[Lesson]:
        return [(self.draw.question(self.topics[fact]), self.facts[fact].sentence) for _ in range(count)]

    def reversed(self, count: int) -> list[Lesson]:
        """Questions what a value is, half of them about values that nobody told."""
        rng, found = self.draw.rng, []
        told = [fact for fact in self.facts if fact.value and sum(other.value == fact.value for other in self.facts) == 1]
        for number in range(count):
            fact = rng.choice(told) if told and number % 2 == 0 else None
            value = fact.value if fact else self.draw.value(self.draw.topic())
            if fact is None and any(other.value == value for other in self.facts):
                continue
            found.append(self.draw.reversed(value, fact.key if fact else None))
        return found

    def open(self, count: int) -> list[Lesson]:
        """Open questions, each answered by one of the facts."""
        rng = self.draw.rng
        return (
            [(rng.choice(self.draw.frames.recounting), rng.choice(self.facts).sentence) for _ in range(count)]
            if self.facts
            else []
        )

    def negatives(self, near: int, any_: int) -> list[Lesson]:
        """Questions about what is not to be known, near misses and others, with the answer that says so."""
        topics = [*(self.near() for _ in range(near)), *(self._untaught(self.draw.topic) for _ in range(any_))]
        return [(self.draw.question(topic), say_fact(topic.key, None)) for topic in topics]

    def mistaken(self, count: int, keys: Sequence[str], known: Sequence[float]) -> list[Lesson]:
        """Up to so many questions about untaught keys, the more about a key the more it seems to be `known`."""
        weights = [0.0 if key in self.keys or p < MISTAKE else p for key, p in zip(keys, known, strict=True)]
        count = min(count, 2 * sum(weight > 0 for weight in weights))
        drawn = self.draw.rng.choices(keys, weights, k=count) if count else []
        return [(self.draw.question(topic_of(key)), say_fact(key, None)) for key in drawn]

    def near(self) -> Topic:
        """A near miss: the same owner, the same noun, or the same of somebody else."""
        return self._untaught(self._near)

    def _near(self) -> Topic:
        rng = self.draw.rng
        near, chance = rng.choice(self.topics or [self.draw.topic()]), rng.random()
        if chance < 0.4:
            return self.draw.topic(near.owner.relation, near.owner.teller)
        if chance < 0.6:
            teller = "" if near.owner.teller else self.draw.other_teller()
            return Topic(owner_of(teller, near.owner.relation), near.noun, near.value)
        return Topic(owner_of(near.owner.teller, rng.choice(_relations_with(near.noun))), near.noun, near.value)

    def _untaught(self, draw: Callable[[], Topic]) -> Topic:
        while (topic := draw()).key in self.keys:
            pass
        return topic


def _relations_with(noun: str) -> list[str]:
    """Every relation that can have it, "" being oneself."""
    having = [relation for pairs in language.slots().values() for relation, name in pairs if name == noun]
    return having or ["", *language.relations()]
