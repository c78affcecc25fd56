import random
from types import SimpleNamespace

import pytest
import torch

from personacore.corpus.grammar import Grammar, Story
from personacore.corpus.markup import load_grammar, parse_plots, parse_words
from personacore.corpus.stories import draw_story
from personacore.evaluation.mentions import repeated_mentions
from personacore.tokenizer.bpe import Tokenizer

BYTES = Tokenizer([])
WORDS = "girl (she): Mia, Eva, Zoe\ntoy: ball, kite, doll\n"
PLOT = """== The toy
hero: girl
toy: toy

{hero} had {toy.a}. "{^toy}!" said {hero}. {^hero.he} threw the {toy}.

---
{hero} lost the {toy}.
"""


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    grammar = Grammar()
    parse_words(WORDS, grammar, "words.txt")
    parse_plots(PLOT, grammar, "plots.txt")
    return grammar


class Model:
    """A model that wants `next_of(ids, place)` after the id at each place, over bytes."""

    def __init__(self, next_of, block_size: int = 1000) -> None:
        self.next_of = next_of
        self.config = SimpleNamespace(block_size=block_size)
        self.wte = SimpleNamespace(weight=torch.zeros(1))

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        (ids,) = tokens.tolist()
        logits = torch.zeros(1, len(ids), BYTES.vocab_size)
        for place in range(len(ids)):
            logits[0, place, self.next_of(ids, place)] = 1
        return logits


def true_next(ids: list[int], place: int) -> int:
    return ids[place + 1] if place + 1 < len(ids) else 0


def stories(grammar: Grammar, count: int = 20) -> list[Story]:
    return [grammar.sample(random.Random(number)) for number in range(count)]


def test_mentions_are_where_the_words_of_a_role_stand(grammar):
    for story in stories(grammar):
        hero, toy = story.text.split()[0], story.mentions[-1]
        words = [story.text[mention.start : mention.end] for mention in story.mentions]
        thing = story.text[toy.start : toy.end]
        assert words == [hero, thing.capitalize(), hero, thing, hero, thing]
        assert [mention.again for mention in story.mentions] == [False, True, True, True, True, True]


def test_a_word_is_said_again_only_after_itself_and_not_after_its_pronoun():
    grammar = Grammar()
    parse_words(WORDS, grammar, "words.txt")
    parse_plots("== The girl\nhero: girl\n\nA {hero.girl} was {hero.his} own {hero}. {hero} ran.\n", grammar, "plots.txt")
    assert [mention.again for mention in grammar.sample(random.Random(0)).mentions] == [False, True]


def test_every_word_of_a_shipped_story_that_comes_again_is_of_its_role():
    plots = load_grammar().plots
    for number in range(50):
        story = draw_story(f"mentions/{number}")
        said: dict[str, str] = {}
        assert any(mention.again for mention in story.mentions)
        for mention in story.mentions:
            word = story.text[mention.start : mention.end]
            assert word in {row.columns[0] for row in plots[story.plot].roles[mention.role]}
            assert said.setdefault(mention.role, word) == word
            assert not mention.again or word in story.text[: mention.start]


def test_a_model_that_says_the_right_word_is_right_everywhere_and_is_asked_once_for_each(grammar):
    assert repeated_mentions(Model(true_next), BYTES, stories(grammar), grammar.plots) == {"hero": (40, 40), "toy": (60, 60)}


def test_a_model_is_wrong_where_it_prefers_another_word_of_the_list(grammar):
    def always_mia(ids: list[int], place: int) -> int:
        return ord("M")

    told = stories(grammar)
    # A word is met as " Mia" within a line and as "Mia" at its start, so only the latter begins with an M over bytes.
    starts = [story for story in told if story.text.startswith("Mia")]
    found = repeated_mentions(Model(always_mia), BYTES, starts, grammar.plots)
    assert found["hero"] == (2 * len(starts), 2 * len(starts)) and starts
    others = [story for story in told if not story.text.startswith("Mia")]
    assert repeated_mentions(Model(always_mia), BYTES, others, grammar.plots)["hero"] == (2 * len(others), len(others))


def test_a_word_that_is_no_rival_does_not_count_against_the_model(grammar):
    def outside(ids: list[int], place: int) -> int:
        return ord("#")

    found = repeated_mentions(Model(outside), BYTES, stories(grammar), grammar.plots)
    assert found.keys() == {"hero", "toy"} and {role: count for role, (count, _) in found.items()} == {"hero": 40, "toy": 60}


def test_only_what_lies_within_a_block_is_asked(grammar):
    (story,) = stories(grammar, 1)
    inside = [mention for mention in story.mentions if mention.again and mention.start <= 25]
    found = repeated_mentions(Model(true_next, block_size=27), BYTES, [story], grammar.plots)
    assert sum(count for count, _ in found.values()) == len(inside) > 0
