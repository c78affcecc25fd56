"""Reading a memory out, and sessions that have nothing else to go by."""

import pytest
import torch
from torch.nn import functional

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.values import Values
from personacore.evaluation.loss import IGNORED
from personacore.memory import sessions, write
from personacore.memory.facts import Fact, plain_question
from personacore.memory.inventory import grammar_keys, listed
from personacore.memory.people import Questions, draw_sessions
from personacore.memory.recall import Asker, Outcomes
from personacore.memory.scoring import pad_lessons
from personacore.memory.write import new_rows, write_facts
from personacore.model.gpt import GPT, GPTConfig
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.train import count_words, train_merges

DOG = Fact("Your dog's name", "Biscuit")
LOST = Fact("Your job", language.FORGOTTEN)
TOWN = Fact("Your town", "Wexmouth")
UNTOLD = ["Your dog's age", "Your cat's name", "Your town", "Your age"]
KEYS = [DOG.key, LOST.key, *UNTOLD]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    said = [language.say_fact(key, None) for key in KEYS] + [fact.sentence for fact in (DOG, LOST, TOWN)]
    text = " ".join([*map(plain_question, KEYS), *said])
    return Tokenizer(train_merges(count_words([text]), 300))


@pytest.fixture(scope="module")
def model(tokenizer) -> GPT:
    """A tiny model that answers plain questions about six keys: one known, one forgotten, four unknown."""
    model = GPT(GPTConfig(tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=32, block_size=128))
    model.reset_parameters(1, embedding_std=0.1)
    lessons = [(plain_question(fact.key), fact.sentence) for fact in (DOG, LOST, *(Fact(key, None) for key in UNTOLD))]
    inputs, targets = pad_lessons(tokenizer, lessons)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORED).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval().requires_grad_(False)


@pytest.fixture
def without_context(monkeypatch) -> None:
    """Leave lessons out that a model must read a conversation for, which the tiny one cannot."""
    monkeypatch.setattr(write, "CONFLICTS", 0)
    monkeypatch.setattr(write, "CLAIMS", 0)
    monkeypatch.setattr(write, "PAIRS", 0)
    monkeypatch.setattr(write, "STEPS", 200)


@pytest.mark.usefixtures("without_context")
def test_a_listing_holds_what_was_written_and_nothing_else(model, tokenizer):
    rows, _ = write_facts(model, tokenizer, new_rows(model, tokenizer), [TOWN], "seed")
    with rows.attached(model):
        assert listed(model, tokenizer, rows) == [TOWN]
        assert listed(model, tokenizer, new_rows(model, tokenizer)) == []


def test_the_grammar_has_a_thousand_keys_each_once():
    keys = grammar_keys()
    assert len(keys) == len(set(keys)) >= 1000 and {"Your town", "Your sister's town"} <= set(keys)


@pytest.mark.usefixtures("without_context")
def test_each_session_adds_one_fact_to_what_the_last_one_left(model, tokenizer):
    facts, held = [TOWN, Fact("Your dog's age", "4")], []
    sessions.hold_sessions(model, tokenizer, facts, "seed", lambda *session: held.append(session))
    assert [told for told, _, _ in held] == [1, 2]
    assert [(session.listed, session.right, session.told_before) for _, _, session in held] == [(0, 0, 0), (1, 1, 1)]
    first, last = (rows for _, rows, _ in held)
    for key, length in first.spans.items():
        assert last.spans[key] == length and torch.equal(last.of(key), first.of(key))
    with last.attached(model):
        assert {fact.key: fact for fact in listed(model, tokenizer, last)} == {fact.key: fact for fact in facts}


def test_a_fact_that_is_lost_later_counts_against_backward_transfer(model, tokenizer, monkeypatch):
    facts = draw_sessions(20, "evaluation", "seed", Values())
    assert len({fact.key for fact in facts}) == len({fact.value for fact in facts}) == 20
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
