"""Made-up conversations: facts are told, asked for, corrected and forgotten, and what was never told is not known."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.data import read_data
from personacore.corpus.dialogue.language import Owner, key_of, owner_of, say_fact, say_facts, sentence
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import NUMBERS, Values
from personacore.corpus.markup import load_grammar

RANDOM_FRAME = 0.35  # share of questions whose frame is random words around the noun phrase or value
TOLD_AMONG_WORDS = 0.4  # how much rarer that is for statements
OWN_QUESTION = 0.25  # share of questions of an attribute's own, such as "Where do I live?"
FREE_NOUN = 0.15  # share of facts about something that is no attribute, such as "my wooden ladder"
FREE_CLAUSE = 0.4  # share of such that PRETRAIN asks for by a clause, so that "what ..." is not taken for a value
ANY_VALUE = 0.25  # share of PRETRAIN values that are of no type, so that copying does not depend on what is copied
OTHER_TELLER = 0.1  # share of owners that belong to somebody else
NAME_BESIDE_NAME = 0.3  # share of what has the noun of a named owner's thing and is another named owner's, not the person's
RETOLD = 0.08  # share of told topics that were told before, with another value: the last one counts, also without "Actually"
LIKE_VALUE = 0.3  # share of values that begin with the same digit or letter as one told before: only the rest tells them apart
LIKE_TRIES = 20
LIKE_BEFORE = 0.5  # share of told topics that share owner or noun with one before: only both together tell such apart
AGAIN = 0.3  # share of questions for the unknown that ask for what was forgotten, or was unknown before, where something was


@dataclass(frozen=True)
class Topic:
    """What a fact is about: an owner with an attribute, or with a free noun of a value type."""

    owner: Owner
    noun: str
    value: str

    @property
    def key(self) -> str:
        return key_of(self.owner, self.noun)


@dataclass
class Draw:
    """Everything a conversation draws from: splits of the grammar, one source of chance."""

    rng: random.Random
    splits: Splits
    values: Values = field(default_factory=Values)
    frames: language.Frames | None = None
    random_frame: float = RANDOM_FRAME
    own_question: float = OWN_QUESTION
    other_tellers: float = OTHER_TELLER
    name_beside_name: float = NAME_BESIDE_NAME
    compound: float = 0.0  # share of values, but for numbers, that are two words, of stories or of lists

    def __post_init__(self) -> None:
        self.frames = self.frames or language.frames()[self.splits.frames]
        self.words, self.any_words = _plain_words(), _any_words()

    def topic(self, relation: str | None = None, teller: str | None = None) -> Topic:
        """Something to tell or ask, of a relation and a teller where they are given."""
        rng = self.rng
        if teller is None:
            teller = self.other_teller() if rng.random() < self.other_tellers else ""
        if rng.random() < FREE_NOUN:
            noun = " ".join(rng.sample(self.words, rng.choice((1, 2, 2))))
            kind = rng.choice(self.values.kinds)
            if relation is None:
                relation = rng.choice(("", "", "", rng.choice(list(language.relations()))))
            return Topic(owner_of(teller, relation), noun, kind)
        pairs = [pair for pair in language.slots()[self.splits.slots] if relation is None or pair[0] == relation]
        if relation is None and rng.random() < 0.3:  # oneself, more often than one relation among many
            pairs = [pair for pair in pairs if not pair[0]] or pairs
        if not pairs:
            pairs = list(language.slots()[self.splits.slots])
        chosen, name = rng.choice(pairs)
        return Topic(owner_of(teller, chosen), name, language.attributes()[name].value)

    def tells(self, relation: str, name: str) -> bool:
        """Whether an attribute of a relation is one of this split's slots."""
        return bool(relation) and (relation, name) in language.slots()[self.splits.slots]

    def other_teller(self) -> str:
        """The name of somebody else."""
        return self.values.draw("person", self.splits.values, self.rng)

    def value(self, topic: Topic) -> str:
        """A value for it: two words of any kind, one of its type or, in PRETRAIN, by turns one of no type."""
        if self.compound and topic.value not in NUMBERS and self.rng.random() < self.compound:
            return self.values.compound(self.any_words, self.rng)
        if self.splits.values == "pretrain" and self.rng.random() < ANY_VALUE:
            return self.values.anything(self.any_words, self.rng)
        return self.values.draw(topic.value, self.splits.values, self.rng)

    def noun_phrase(self, topic: Topic, nominal: bool = False) -> str:
        """One of the noun phrases for it."""
        attribute = language.attributes().get(topic.noun)
        if attribute is None or topic.owner.kind not in attribute.of:
            clauses = not nominal and self.splits.nouns == "pretrain" and self.rng.random() < FREE_CLAUSE
            return self.rng.choice((language.free_clauses if clauses else language.free_noun_phrases)(topic.noun, topic.owner))
        options = language.noun_phrases(attribute, topic.owner, self.splits.nouns)
        if nominal:
            options = [option for option in options if language.is_nominal(option)]
        return self.rng.choice(options or language.free_noun_phrases(topic.noun, topic.owner))

    def question(self, topic: Topic) -> str:
        """A question for it."""
        rng = self.rng
        attribute = language.attributes().get(topic.noun)
        if attribute is not None and topic.owner.kind in attribute.of and rng.random() < self.own_question:
            asks = [ask for ask in attribute.asks[self.splits.nouns] if language.fits(ask, topic.owner)]
            if asks:
                return self.opened(rng.choice(asks), lambda ask: language.fill(ask, topic.owner))
        phrase = self.noun_phrase(topic)
        if rng.random() < self.random_frame:
            return self.among_words(phrase)
        frames = self.frames.any + (self.frames.nominal * 2 if language.is_nominal(phrase) else ())
        return self.opened(rng.choice(frames), lambda frame: frame.replace("{np}", phrase))

    def statement(self, topic: Topic, value: str, owner: Owner | None = None) -> str:
        """A clause that says it, without capital letter and full stop, of the owner in other words where given."""
        owner = owner or topic.owner
        attribute = language.attributes().get(topic.noun)
        says = attribute.says[self.splits.nouns] if attribute is not None and topic.owner.kind in attribute.of else ()
        says = [say for say in says if language.fits(say, owner) and ("{N}" not in say or owner is topic.owner)]
        return language.fill(self.rng.choice(says or ["{P} " + topic.noun + " is {V}"]), owner, value)

    def among_words(self, text: str) -> str:
        """A question of random words around a text, from which it can only be told by what it is."""
        before, behind = (self.rng.sample(self.words, self.rng.randint(0, most)) for most in (4, 3))
        return sentence(" ".join([*before, text, *behind])) + self.rng.choice("???.")

    def reversed(self, value: str, key: str | None) -> tuple[str, str]:
        """A question what a value is, and the answer: its key, or that it is unknown."""
        if self.rng.random() < self.random_frame:
            question = self.among_words(value)
        else:
            question = self.opened(self.rng.choice(self.frames.reversing), lambda frame: frame.replace("{v}", value))
        return question, language.say_name(key)

    def verifying(self, topic: Topic, claimed: str, value: str | None) -> tuple[str, str]:
        """A question whether it is the claimed value, and the answer, whose reason stands before its verdict."""
        question = sentence(self.rng.choice(self.frames.verifying).replace("{s}", self.statement(topic, claimed)))
        verdict = "" if value is None else f", so {'yes' if claimed == value else 'no'}"
        return question, say_fact(topic.key, value)[:-1] + verdict + "."

    def combining(self, pair: Sequence[tuple[Topic, str | None]]) -> tuple[str, str]:
        """A question for two things at once, and the answer."""
        phrases = [self.noun_phrase(topic, nominal=True) for topic, _ in pair]
        question = self.rng.choice(self.frames.combining).replace("{np}", phrases[0]).replace("{np2}", phrases[1])
        return sentence(question), say_facts([(topic.key, value) for topic, value in pair])

    def tell(self, frames: tuple[str, ...], clause: str) -> str:
        """The clause in one of the frames, or behind random words, from which it can only be told by what it is."""
        if self.rng.random() < self.random_frame * TOLD_AMONG_WORDS:
            words = " ".join(self.rng.sample(self.words, self.rng.randint(1, 4)))
            return sentence(words) + self.rng.choice((" ", ", ", ": ")) + clause + "."
        return self.opened(self.rng.choice(frames), lambda frame: frame.replace("{s}", clause))

    def opened(self, frame: str, fill: Callable[[str], str]) -> str:
        """The filled frame behind an opener: after one like "Hey, " it begins small, but not "I" or what it is filled with."""
        opener, text = self.rng.choice(language.openers()), fill(frame.lstrip("~@"))  # who it may speak of is decided by now
        if not opener.endswith(", "):
            return opener + sentence(text)
        return opener + (text if frame.startswith(("I ", "I'", "{")) else text[0].lower() + text[1:])


@lru_cache
def _plain_words() -> list[str]:
    """Ordinary words for frames and nouns that mean nothing: what stories are about, one word each."""
    lists = load_grammar().lists
    names = ("toy", "belonging", "dish", "plant", "junk", "tool", "goods", "wear", "furniture", "instrument", "deco", "fruit")
    names += ("drink", "herb", "tree", "bird", "wild", "landmark", "hobby", "topic", "look", "view", "kind", "job", "number")
    words = {row.columns[0] for name in names if name in lists for row in lists[name]}
    return sorted(word for word in words if word.isalpha() and word.islower())


@lru_cache
def _any_words() -> list[str]:
    """Every word of the lists that stories are made of."""
    columns = (column for rows in load_grammar().lists.values() for row in rows for column in row.columns)
    return sorted({word for column in columns for word in column.lower().split() if word.isalpha()})


class Conversation:
    """A conversation being drawn, and what has been told in it so far."""

    def __init__(self, draw: Draw) -> None:
        self.draw, self.rng = draw, draw.rng
        self.known: dict[str, tuple[Topic, str]] = {}  # by key
        self.asked: list[Topic] = []
        self.turns: list[Turn] = []

    def run(self, length: int) -> list[Turn]:
        """Turns of about `length` characters altogether."""
        moves: list[tuple[float, Callable[[], None]]] = [
            (2.5, self.tell), (7.0, self.ask), (2.5, self.ask_unknown), (1.0, self.verify), (1.2, self.reverse),
            (1.0, self.combine), (0.7, self.correct), (0.6, self.forget), (0.6, self.small_talk), (1.0, self.repeat),
            (0.4, self.recount),
        ]  # fmt: skip
        weights, kinds = zip(*moves, strict=True)
        first = (*[self.tell] * 7, self.ask_unknown, self.small_talk, self.repeat)
        self.rng.choice(first)()
        while sum(len(turn.user) + len(turn.assistant) for turn in self.turns) < length:
            self.rng.choices(kinds, weights)[0]()
        return self.turns

    def value_of(self, topic: Topic) -> str | None:
        """The value told for its key, if any."""
        return self.known[topic.key][1] if topic.key in self.known else None

    def add(self, kind: str, user: str, assistant: str) -> None:
        self.turns.append(Turn(user, assistant, kind))

    def tell(self) -> None:
        """One to three facts in a turn."""
        draw, rng = self.draw, self.rng
        before = [topic for topic, _ in self.known.values()]
        topic = rng.choice(before) if before and rng.random() < RETOLD else self.like(before, LIKE_BEFORE)
        value = self.value_for(topic)
        told = [(topic, value)]
        clause = draw.statement(topic, value)
        more = rng.random()
        if more < 0.25:  # the same owner again, by a pronoun
            second = draw.topic(topic.owner.relation, topic.owner.teller)
            if second.key != topic.key and second.owner == topic.owner:
                told.append((second, self.value_for(second)))
                pronoun = language.pronoun_of(topic.owner, rng)
                clause += f" and {draw.statement(second, told[-1][1], pronoun)}"
        elif more < 0.4:  # a second and perhaps a third owner
            for _ in range(rng.choice((1, 1, 2))):
                other = self.like([topic], LIKE_BEFORE)
                if all(other.key != known.key for known, _ in told):
                    told.append((other, self.value_for(other)))
                    clause += f"{rng.choice((' and', ', and', ','))} {draw.statement(other, told[-1][1])}"
        elif more < 0.5 and topic.noun != "name" and draw.tells(topic.owner.relation, "name"):  # my sister Ottoline ...
            name_topic = Topic(topic.owner, "name", "person")
            name = draw.value(name_topic)
            named = topic.owner.called(*(f"{topic.owner.subject} {name}{ending}" for ending in ("", "'s", "")))
            told.insert(0, (name_topic, name))
            clause = draw.statement(topic, value, named)
        self.known.update({topic.key: (topic, value) for topic, value in told})
        self.add("tell", draw.tell(draw.frames.telling, clause), say_facts([(t.key, v) for t, v in told]))

    def value_for(self, topic: Topic) -> str:
        """A value for it, in some cases one that begins as another told before."""
        value = self.draw.value(topic)
        if self.known and self.rng.random() < LIKE_VALUE:
            starts = {known[0] for _, known in self.known.values()}
            for _ in range(LIKE_TRIES):
                if value[0] in starts:
                    break
                value = self.draw.value(topic)
        return value

    def like(self, before: Sequence[Topic], share: float) -> Topic:
        """A new topic that in this share of cases has the owner or the noun of one before, but not always both."""
        rng, draw = self.rng, self.draw
        topic = draw.topic()
        if not before or rng.random() >= share:
            return topic
        near = rng.choice(before)
        match rng.randrange(3):
            case 0:  # the same owner, another noun
                return draw.topic(near.owner.relation, near.owner.teller)
            case 1:  # the same noun, another teller
                teller = "" if near.owner.teller and rng.random() >= draw.name_beside_name else draw.other_teller()
                return Topic(owner_of(teller, near.owner.relation), near.noun, near.value)
            case _:  # the same noun, another relation of the same kind
                pool = [pair[0] for pair in language.slots()[draw.splits.slots] if pair[1] == near.noun]
                return Topic(owner_of(near.owner.teller, rng.choice(pool)), near.noun, near.value) if pool else topic

    def ask(self) -> None:
        """A fact that was told."""
        if not self.known:
            return self.rng.choice((self.tell, self.ask_unknown))()
        topic, value = self.rng.choice(list(self.known.values()))
        self.add("ask", self.draw.question(topic), say_fact(topic.key, value))

    def ask_unknown(self) -> None:
        """Something that was not told, often close to what was."""
        if self.asked and self.rng.random() < AGAIN:
            topic = self.rng.choice(self.asked)
        else:
            topic = self.like([*(topic for topic, _ in self.known.values()), *self.asked], 0.6)
        value = self.value_of(topic)
        if value is None:
            self.asked.append(topic)
        self.add("ask" if value else "unknown", self.draw.question(topic), say_fact(topic.key, value))

    def verify(self) -> None:
        """Yes or no about a fact that was told, or about one that was not."""
        draw, rng = self.draw, self.rng
        topic = rng.choice(list(self.known.values()))[0] if self.known and rng.random() < 0.8 else draw.topic()
        value = self.value_of(topic)
        claimed = value if value and rng.random() < 0.5 else draw.value(topic)
        self.add("verify", *draw.verifying(topic, claimed, value))

    def reverse(self) -> None:
        """What a value was."""
        draw, rng = self.draw, self.rng
        told = [value for _, value in self.known.values()]
        value = rng.choice(told) if told and rng.random() < 0.8 else draw.value(draw.topic())
        topics = [topic for topic, known in self.known.values() if known == value]
        if len(topics) > 1:  # two things have it, and which is meant nobody can tell
            return
        self.add("reverse", *draw.reversed(value, topics[0].key if topics else None))

    def combine(self) -> None:
        """Two keys in one question, of which one may be unknown."""
        draw, rng = self.draw, self.rng
        if len(self.known) < 2:
            return self.ask()
        first, second = (topic for topic, _ in rng.sample(list(self.known.values()), 2))
        if rng.random() < 0.2:
            second = draw.topic()
        self.add("combine", *draw.combining([(topic, self.value_of(topic)) for topic in (first, second)]))

    def correct(self) -> None:
        """Another value for something that was told."""
        if not self.known:
            return self.tell()
        topic, _ = self.rng.choice(list(self.known.values()))
        value = self.value_for(topic)
        self.known[topic.key] = topic, value
        clause = self.draw.statement(topic, value)
        self.add("correct", self.draw.tell(self.draw.frames.correcting, clause), say_fact(topic.key, value))

    def forget(self) -> None:
        """Something that was told is not known any more."""
        if not self.known:
            return self.small_talk()
        topic, _ = self.known.pop(self.rng.choice(list(self.known)))
        self.asked.append(topic)
        phrase = self.draw.noun_phrase(topic, nominal=self.rng.random() < 0.5)
        order = self.draw.opened(self.rng.choice(self.draw.frames.forgetting), lambda frame: frame.replace("{np}", phrase))
        self.add("forget", order, f"{topic.key} is {language.FORGOTTEN}.")

    def recount(self) -> None:
        """Anything that was told, or that nothing was."""
        question = self.rng.choice(self.draw.frames.recounting)
        if not self.known:
            return self.add("recount", question, language.NOTHING)
        topic, value = self.rng.choice(list(self.known.values()))
        self.add("recount", question, say_fact(topic.key, value))

    def repeat(self) -> None:
        """Words said after the person, whatever they are."""
        draw, rng = self.draw, self.rng
        words = [rng.choice(draw.words) if rng.random() < 0.5 else draw.value(draw.topic()) for _ in range(rng.randint(1, 4))]
        text = " ".join(words)
        self.add("repeat", rng.choice(draw.frames.repeating).replace("{v}", text), f"You say {text}.")

    def small_talk(self) -> None:
        """What is neither told nor asked."""
        says, answers = self.rng.choice(read_data("smalltalk"))
        self.add("small talk", self.rng.choice(says), self.rng.choice(answers))


def draw_conversation(seed: str, splits: Splits, length: int, values: Values | None = None) -> list[Turn]:
    """A conversation of about `length` characters from the given splits; the same seed draws the same."""
    return Conversation(Draw(random.Random(seed), splits, values or Values())).run(length)
