"""Made-up people whom memories are measured with: what they tell, and what they are asked."""

import itertools
import random
from collections.abc import Callable, Collection, Sequence
from functools import partial
from importlib import resources
from typing import Any

import yaml

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.conversation import Conversation, Draw
from personacore.corpus.dialogue.language import say_fact
from personacore.corpus.dialogue.splits import SPLITS, Split, Splits
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.errors import UserError
from personacore.memory.facts import Fact, Lesson, holds, topic_of

TRIES = 100  # draws before a list counts as used up
UPDATED = 2  # of each person's facts, corrected or forgotten


def draw_people(count: int, facts: int, split: Split, seed: str, values: Values) -> list[list[Fact]]:
    """So many people with so many facts about themselves each, no two of one person with the same value."""
    draw = Draw(random.Random(seed), Splits.all(split), values)
    people = []
    for _ in range(count):
        told: dict[str, str] = {}
        while len(told) < facts:
            topic = draw.topic(teller="")
            if any(holds(topic.key, known) for known in told.values()):  # every question for it would say a value
                continue
            value = draw.value(topic)
            words = {word for key in (*told, topic.key) for word in key.casefold().replace("'s", "").replace("'", "").split()}
            if topic.key not in told and value not in told.values() and words.isdisjoint(value.casefold().split()):
                told[topic.key] = value
        people.append([Fact(key, value) for key, value in told.items()])
    return people


def draw_sessions(count: int, split: Split, seed: str, values: Values) -> list[Fact]:
    """One fact for each of so many sessions of one person, all of them slots of the grammar.

    Raises:
        UserError: there are not so many.
    """
    rng, slots = random.Random(seed), language.slots()[split]
    if count > len(slots):
        raise UserError(f"memory.sessions: {count} is more than the {len(slots)} things that can be told")
    sampled = rng.sample(slots, count)
    keys = [language.key_of(language.owner_of("", relation), name) for relation, name in sampled]
    kinds = [language.attributes()[name].value for _, name in sampled]
    free = partial(_free_value, split=split, keys=" ".join(keys), taken=frozenset(), rng=rng, values=values)
    # Values may recur: some types have fewer than there are slots for them.
    return [Fact(key, free(kind)) for key, kind in zip(keys, kinds, strict=True)]


def correct_facts(people: Sequence[Sequence[Fact]], split: Split, seed: str, values: Values) -> list[list[Fact]]:
    """The same people after each has corrected the first `UPDATED` facts."""
    rng = random.Random(seed)
    return [[*_with_new_values(facts[:UPDATED], facts, split, rng, values), *facts[UPDATED:]] for facts in people]


def handwritten_people(facts: int, split: Split, seed: str, values: Values) -> list[list[Fact]]:
    """People who between them tell what the hand-written questions are about, so many facts each."""
    rng = random.Random(seed)
    keys = [Fact(key, None) for key in handwritten()]
    groups = [keys[place : place + facts] for place in range(0, len(keys) - facts + 1, facts)]
    return [_with_new_values(group, (), split, rng, values) for group in groups]


def _with_new_values(
    facts: Sequence[Fact], known: Sequence[Fact], split: Split, rng: random.Random, values: Values
) -> list[Fact]:
    """The facts with values of their type that are no other fact's and no word of any key."""
    taken, found = {str(fact.value) for fact in known}, []
    keys = " ".join(fact.key for fact in (*facts, *known))
    for fact in facts:
        kind = topic_of(fact.key).value or rng.choice(values.kinds)
        value = _free_value(kind, split, keys, taken, rng, values)
        taken.add(value)
        found.append(Fact(fact.key, value))
    return found


def _free_value(kind: str, split: Split, keys: str, taken: Collection[str], rng: random.Random, values: Values) -> str:
    """A value of the split that is not taken; of another split where this one has no more, as of four seasons it may not."""
    for source in (split, *SPLITS):
        for _ in range(TRIES):
            value = values.draw(kind, source, rng)
            if value not in taken and not holds(keys, value):
                return value
    raise UserError(f"memory.facts: there are too few values of type {kind} for so many facts of one person; lower it")


class Questions:
    """Asks one person, tier by tier; every question comes with the right answer.

    taught: frames that memories are taught with. h1: PRETRAIN frames that no teaching uses. h2: EVALUATION frames.
    nouns: EVALUATION noun phrases in taught frames. All frames are those of the grammar, none of random words.
    """

    def __init__(self, facts: Sequence[Fact], seed: str, split: Split, values: Values) -> None:
        self.facts, self.values = list(facts), values
        used, held = language.teaching_frames()
        seen = Splits(split, "pretrain", "pretrain", split)
        plain = {"random_frame": 0.0, "own_question": 0.0}
        rng = random.Random(seed)
        self.tiers = {
            "taught": Draw(rng, seen, values, used, **plain),
            "h1": Draw(rng, seen, values, held, **plain),
            "h2": Draw(rng, Splits(split, split, "pretrain", split), values, **plain),
            "nouns": Draw(rng, Splits(split, "pretrain", split, split), values, used, **plain),
        }
        self.talk = Draw(random.Random(f"{seed}/talk"), Splits(split, split, "pretrain", "pretrain"), values)

    def tier(self, name: str, count: int) -> list[Lesson]:
        """So many questions about each fact in the frames of a tier."""
        draw = self.tiers[name]
        return [(self._ask(draw, fact), fact.sentence) for fact in self.facts for _ in range(count)]

    def about(self, fact: Fact, count: int) -> list[Lesson]:
        """So many questions about one fact in EVALUATION frames."""
        return [(self._ask(self.tiers["h2"], fact), fact.sentence) for _ in range(count)]

    def _ask(self, draw: Draw, fact: Fact) -> str:
        """A question for a fact that holds no value of any, as a frame may do by chance.

        Raises:
            UserError: it seems that every question does.
        """
        for _ in range(TRIES):
            question = draw.question(topic_of(fact.key))
            if not any(holds(question, str(known.value)) for known in self.facts):
                return question
        raise UserError(f"every question for {fact.key} holds a value that was told: change `seed`")

    def elsewhere(self, turns: int) -> list[Turn]:
        """So many turns of a conversation about something else: told, or asked for and not known."""
        talk = Conversation(self.talk)
        while len(talk.turns) < turns:
            talk.rng.choice((talk.tell, talk.ask_unknown))()
            said = " ".join(turn.user for turn in talk.turns)
            if any(fact.key in turn.assistant for turn in talk.turns for fact in self.facts) or any(
                holds(said, str(fact.value)) for fact in self.facts
            ):
                talk = Conversation(self.talk)
        return talk.turns

    def reversed(self) -> list[Lesson]:
        """What each value is, in EVALUATION frames."""
        return [self.tiers["h2"].reversed(str(fact.value), fact.key) for fact in self.facts]

    def reversed_untold(self) -> list[Lesson]:
        """What as many values are that were not told, each of the type of one that was."""
        draw = self.tiers["h2"]
        others = (self._another(topic_of(fact.key).value or draw.rng.choice(self.values.kinds)) for fact in self.facts)
        return [draw.reversed(value, None) for value in others]

    def verified(self) -> list[Lesson]:
        """Whether each value is what it is, and whether it is another of its type, in EVALUATION frames."""
        draw, found = self.tiers["h2"], []
        for fact in self.facts:
            topic, value = topic_of(fact.key), str(fact.value)
            kind = topic.value or draw.rng.choice(self.values.kinds)
            found += [draw.verifying(topic, claimed, value) for claimed in (value, self._another(kind))]
        return found

    def _another(self, kind: str) -> str:
        """A value of a type that was not told."""
        told = {str(fact.value) for fact in self.facts}
        return _free_value(kind, "pretrain", "", told, self.tiers["h2"].rng, self.values)

    def combined(self) -> list[Lesson]:
        """Each fact and the next in one question, in EVALUATION frames."""
        draw, pairs = self.tiers["h2"], zip(self.facts, [*self.facts[1:], *self.facts[:1]], strict=True)
        return [draw.combining([(topic_of(fact.key), fact.value) for fact in pair]) for pair in pairs]

    def untold(self, kind: str, count: int) -> list[Lesson]:
        """Questions in EVALUATION frames about what was not told.

        known_slot: of a slot the model has met in conversations; unseen_slot: of one it has not; other_person: the same of
        somebody else as was told of oneself.
        """
        draw, keys, found = self.tiers["h2"], {fact.key for fact in self.facts}, []
        known = Draw(draw.rng, Splits(draw.splits.values, draw.splits.frames, "pretrain", "pretrain"), draw.values)
        while len(found) < count:
            if kind == "other_person":
                fact = draw.rng.choice(self.facts)
                topic = topic_of(fact.key.replace("Your ", f"{draw.other_teller()}'s ", 1))
            else:
                topic = (known if kind == "known_slot" else draw).topic(teller="")
            if topic.key not in keys and not any(holds(topic.key, str(fact.value)) for fact in self.facts):
                found.append((draw.question(topic), say_fact(topic.key, None)))
        return found


def in_context(
    count: int,
    seed: str,
    values: Values,
    fits: Callable[[Sequence[Turn]], bool] = bool,
    splits: Splits = Splits("evaluation", "evaluation", "pretrain", "evaluation"),  # noqa: B008 (frozen)
) -> list[list[Turn]]:
    """Conversations of one to three turns of telling and a question for what was told, or by turns was not.

    One that does not fit is left out: a model can only be asked for what stands before it.
    """
    found: list[list[Turn]] = []
    numbers = itertools.count()
    while len(found) < count:
        draw = Draw(random.Random(f"{seed}/{next(numbers)}"), splits, values, random_frame=0.0, own_question=0.0)
        talk = Conversation(draw)
        for _ in range(draw.rng.choice((1, 2, 3))):
            talk.tell()
        (talk.ask if len(found) % 2 else talk.ask_unknown)()
        if fits(talk.turns):
            found.append(talk.turns)
    return found


def handwritten() -> dict[str, tuple[str, ...]]:
    """Questions that somebody wrote by hand, by key."""
    return {key: tuple(questions) for key, questions in _read("handwritten.yaml").items()}


def statements() -> dict[str, dict[str, str]]:
    """What somebody might type, written by hand, with the value of each key in it; with none where nothing is to be learned."""
    return _read("statements.yaml")


def _read(name: str) -> dict[str, Any]:
    text = resources.files(__package__).joinpath("questions", name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=yaml.BaseLoader)
