"""What can be taught: facts as keys and values, and what a key is about."""

import re
from dataclasses import dataclass

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.conversation import Topic
from personacore.corpus.dialogue.language import read_fact, say_fact

Lesson = tuple[str, str]  # a question and its answer

_OWNED = re.compile(r"(.+?)(?:'s|(?<=s)') (.+)")  # "dog's name", "parents' town"


@dataclass(frozen=True)
class Fact:
    """A key such as "Your dog's name", and its value; None for something that is not to be known."""

    key: str
    value: str | None

    @property
    def sentence(self) -> str:
        """How the assistant says it."""
        return say_fact(self.key, self.value)


def topic_of(key: str) -> Topic:
    """What a key is about.

    >>> topic_of("Your dog's name").owner.subject, topic_of("Tom's wooden boat").noun, topic_of("Your parents' town").noun
    ('my dog', 'wooden boat', 'town')
    """
    teller, rest = ("", key.removeprefix("Your ")) if key.startswith("Your ") else key.split("'s ", 1)
    owned = _OWNED.fullmatch(rest)
    relation, noun = owned.groups() if owned else ("", rest)
    attribute = language.attributes().get(noun)
    return Topic(language.owner_of(teller, relation), noun, attribute.value if attribute else "")


def read_facts(answer: str) -> list[Fact] | None:
    """The facts that an answer of the assistant says, or None where any of its sentences says something else.

    >>> read_facts("Your dog's name is Biscuit. Your dog's age is 4.")
    [Fact(key="Your dog's name", value='Biscuit'), Fact(key="Your dog's age", value='4')]
    """
    sentences = [part.strip() for part in answer.replace(". ", ".\n").split("\n") if part]
    read = [read_fact(part) for part in sentences]
    return None if not read or None in read else [Fact(*pair) for pair in read if pair is not None]


def plain_question(key: str) -> str:
    """The plainest question for a key, as the person asks it.

    >>> plain_question("Your dog's name")
    "What is my dog's name?"
    """
    return f"What is {'my ' + key.removeprefix('Your ') if key.startswith('Your ') else key}?"


def holds(text: str, value: str) -> bool:
    """Whether the value stands in a text, word by word.

    >>> holds("Is the tea ready?", "tea"), holds("Is the team ready?", "tea")
    (True, False)
    """
    words = "".join(letter if letter.isalnum() else " " for letter in f" {text.casefold()} ")
    plain = "".join(letter if letter.isalnum() else " " for letter in value.casefold())
    return f" {' '.join(plain.split())} " in f" {' '.join(words.split())} "
