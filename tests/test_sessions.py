"""Facts written into a memory, the memory read out, and sessions that have nothing else to go by."""

import dataclasses

import pytest
import torch

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.language import say_name
from personacore.corpus.dialogue.values import Values
from personacore.errors import UserError
from personacore.generation.prompts import encode_prompt
from personacore.memory import sessions
from personacore.memory.facts import Fact, holds, plain_question
from personacore.memory.inventory import listed
from personacore.memory.people import Questions, draw_sessions
from personacore.memory.probe import grammar_keys
from personacore.memory.recall import Asker, Outcomes
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.memory.write import Talks, erase, how_sure, new_rows, write_facts
from personacore.model.gpt import GPT
from personacore.params import RowsParams
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.train import count_words, train_merges
from tests.toys import answering_model

pytestmark = pytest.mark.usefixtures("tiny_rows")

DOG = Fact("Your dog's name", "Biscuit")
LOST = Fact("Your job", language.FORGOTTEN)
TOWN = Fact("Your town", "Wexmouth")
UNTOLD = ["Your dog's age", "Your cat's name", "Your town", "Your age", "Your ladder"]
# Plain questions are all that the tiny model reads.
PLAIN = RowsParams(block=0, questions=8, claims=0, pairs=0, reversed=0, steps=60, lr=0.5)
KEYS = [DOG.key, LOST.key, *UNTOLD]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    said = [language.say_fact(key, None) for key in KEYS] + [fact.sentence for fact in (DOG, LOST, TOWN)]
    text = " ".join([*map(plain_question, KEYS), *said])
    return Tokenizer(train_merges(count_words([text]), 300))


@pytest.fixture(scope="module")
def model(tokenizer) -> GPT:
    """A tiny model that answers plain questions about seven keys, and one that spells the town."""
    spells = Fact("Your school", TOWN.value)
    return answering_model(tokenizer, [DOG, LOST, spells, *(Fact(key, None) for key in UNTOLD)])


def probabilities(model: GPT, tokenizer: Tokenizer, facts: list[Fact]) -> torch.Tensor:
    lessons = [(plain_question(fact.key), fact.sentence) for fact in facts]
    return answer_log_probabilities(model, *pad_lessons(tokenizer, lessons)).exp()


def test_a_written_fact_becomes_likely_and_nothing_else_does(model, tokenizer):
    plain, steps = probabilities(model, tokenizer, [TOWN, DOG]), []
    new = new_rows(model, tokenizer, PLAIN)
    rows = write_facts(model, tokenizer, new, [TOWN], PLAIN, "seed", lambda step, p: steps.append((step, p)))
    with rows.attached(model):
        written = probabilities(model, tokenizer, [TOWN, DOG])
    assert written[0] > 100 * plain[0] and torch.equal(written[1], plain[1])
    assert [step for step, _ in steps] == list(range(1, PLAIN.steps + 1)) and steps[-1][1] > steps[0][1]
    asked = [Talks(fact, "seed/exam", Values()).plain(2) for fact in (TOWN, DOG)]
    with torch.no_grad(), rows.attached(model):
        each = [answer_log_probabilities(model, *pad_lessons(tokenizer, lessons)).exp().tolist() for lessons in asked]
    assert how_sure(model, tokenizer, rows, [TOWN, DOG], "seed") == pytest.approx([min(two) for two in each], rel=1e-4)
    assert all(min(two) < max(two) for two in each)
    assert torch.equal(probabilities(model, tokenizer, [TOWN, DOG]), plain)


def test_a_fact_that_the_model_answers_without_its_memory_is_not_overruled(model, tokenizer):
    """What it answers by itself comes from the conversation; the tiny model has one answer in its weights instead."""
    other = Fact(DOG.key, "Wexmouth")
    rows = write_facts(model, tokenizer, new_rows(model, tokenizer, PLAIN), [other], PLAIN, "seed")
    plain = probabilities(model, tokenizer, [DOG, other])
    with rows.attached(model):
        assert torch.equal(probabilities(model, tokenizer, [DOG, other]), plain)


@pytest.mark.parametrize("question, named", [
    ("What is Wexmouth?", True),
    ("Wexmouth, what is that?", True),
    ("What is Wex?", False),
])  # fmt: skip
def test_a_written_value_is_found_where_the_person_says_it(model, tokenizer, question, named):
    params = dataclasses.replace(PLAIN, reversed=2, steps=1)
    rows = write_facts(model, tokenizer, new_rows(model, tokenizer, params), [TOWN], params, "seed")
    found, _ = rows.find(torch.tensor([encode_prompt(tokenizer, question) + tokenizer.encode(say_name(TOWN.key))]))
    assert len(found) == named
    if named:
        assert found[0].count == len(tokenizer.encode(say_name(TOWN.key))) - len(tokenizer.encode(language.NAMING))


def test_questions_about_the_written_fact_and_another_are_never_about_it_alone():
    params = dataclasses.replace(PLAIN, pairs=300)
    fact = Fact("Your town", "Wexmouth")
    pairs = Talks(fact, "seed", Values()).all(params)[params.questions :]
    assert len(pairs) == 300 and all(turn.assistant.count("Your town is ") == 1 for (turn,) in pairs)


def test_an_erased_fact_leaves_the_other_to_the_bit(model, tokenizer):
    new, age = new_rows(model, tokenizer, PLAIN), Fact("Your age", "4")
    both, alone = (write_facts(model, tokenizer, new, facts, PLAIN, "seed") for facts in ([TOWN, age], [age]))
    assert torch.equal(erase(both, tokenizer, TOWN.key).vectors, alone.vectors)


def test_a_listing_holds_what_was_written_and_nothing_else(model, tokenizer):
    """In the order it was told, and also what the grammar has no word for."""
    facts = [Fact(TOWN.key, DOG.value), Fact("Your ladder", DOG.value)]
    rows = write_facts(model, tokenizer, new_rows(model, tokenizer, PLAIN), facts, PLAIN, "seed")
    with rows.attached(model):
        assert listed(model, tokenizer, rows) == facts
        assert listed(model, tokenizer, new_rows(model, tokenizer, PLAIN)) == []
    without = erase(rows, tokenizer, TOWN.key)
    with without.attached(model):
        assert listed(model, tokenizer, without) == facts[1:]


def test_a_fact_whose_key_is_misspelled_is_not_listed(model, tokenizer):
    rows = write_facts(model, tokenizer, new_rows(model, tokenizer, PLAIN), [TOWN], PLAIN, "seed")
    (named,) = (key for key in rows.spans if key[0] != key[2])
    with torch.no_grad():
        rows.of(named).zero_()
    with rows.attached(model):
        assert listed(model, tokenizer, rows) == []


def test_the_grammar_has_a_thousand_keys_each_once():
    keys = grammar_keys()
    assert len(keys) == len(set(keys)) >= 1000 and {"Your town", "Your sister's town"} <= set(keys)


def test_each_session_adds_one_fact_to_what_the_last_one_left(model, tokenizer):
    facts, held = [TOWN, Fact("Your dog's age", "4")], []
    sessions.hold_sessions(model, tokenizer, facts, PLAIN, "seed", lambda *session: held.append(session))
    assert [told for told, _, _ in held] == [1, 2]
    assert [(session.listed, session.right, session.told_before) for _, _, session in held] == [(0, 0, 0), (1, 1, 1)]
    first, last = (rows for _, rows, _ in held)
    for key, length in first.spans.items():
        assert last.spans[key] == length and torch.equal(last.of(key), first.of(key))
    with last.attached(model):
        assert {fact.key: fact for fact in listed(model, tokenizer, last)} == {fact.key: fact for fact in facts}


def test_a_fact_that_is_lost_later_counts_against_backward_transfer(model, tokenizer, monkeypatch):
    facts = draw_sessions(20, "evaluation", "seed", Values())
    assert len({fact.key for fact in facts}) == 20
    asker, outcomes = Asker(model, tokenizer), Outcomes()

    def ask(lessons, held):  # everything is known at once, and the first fact no more after the tenth session
        return [[right if held < 10 or right != facts[0].sentence else "?"] for _, right in lessons]

    monkeypatch.setattr(asker, "ask", ask)
    questions = Questions(facts, "seed", "evaluation", Values())
    gates, rows = sessions.ask_sessions(asker, outcomes, facts, list(range(1, 21)), questions, {"backward_transfer": -0.01})
    assert gates["backward_transfer"]["value"] == -0.05 and not gates["backward_transfer"]["passed"]
    judged = outcomes.gates({})
    assert judged["sequential_100_accuracy"]["value"] == 0.95 and judged["first_fact"]["value"] == 0
    assert len(rows) == sum(range(2, 21, 2)) and (8, 1, 1.0) in rows and (10, 1, 0.0) in rows


def test_a_hundred_sessions_have_something_to_tell_whatever_the_seed():
    for seed in range(20):
        facts = draw_sessions(100, "evaluation", f"{seed}", Values())
        keys = " ".join(fact.key for fact in facts)
        assert not any(holds(keys, fact.value) for fact in facts)


def test_more_sessions_than_there_are_things_to_tell_are_refused_by_name():
    with pytest.raises(UserError, match=r"memory\.sessions: 10000 is more than"):
        draw_sessions(10_000, "evaluation", "seed", Values())
