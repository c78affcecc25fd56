"""Reading a memory out, and sessions that have nothing else to go by."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.values import Values
from personacore.evaluation.loss import IGNORED
from personacore.memory import sessions
from personacore.memory.facts import Fact, plain_question
from personacore.memory.inventory import grammar_keys, take_inventory
from personacore.memory.people import Questions, draw_sessions
from personacore.memory.recall import Asker, Outcomes
from personacore.memory.scoring import pad_lessons
from personacore.memory.teach import Taught
from personacore.model.gpt import GPT, GPTConfig
from personacore.model.lora import LoRA
from personacore.params import load_params
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.train import count_words, train_merges

PARAMS = load_params(Path(__file__).parent.parent / "params.yaml").memory.teach
DOG = Fact("Your dog's name", "Biscuit")
LOST = Fact("Your job", language.FORGOTTEN)
UNTOLD = ["Your dog's age", "Your cat's name", "Your town", "Your age"]
KEYS = [DOG.key, LOST.key, *UNTOLD]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    text = " ".join([plain_question(key) + " " + language.say_fact(key, None) for key in KEYS] + [DOG.sentence, LOST.sentence])
    return Tokenizer(train_merges(count_words([text]), 300))


@pytest.fixture(scope="module")
def model(tokenizer) -> GPT:
    """A tiny model that answers plain questions about six keys: one known, one forgotten, four unknown."""
    model = GPT(GPTConfig(tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=32, block_size=128))
    model.reset_parameters(1, embedding_std=0.1)
    lessons = [(plain_question(fact.key), fact.sentence) for fact in (DOG, LOST, *(Fact(key, None) for key in UNTOLD))]
    inputs, targets = pad_lessons(tokenizer, lessons)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORED).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval().requires_grad_(False)


def test_an_inventory_lists_what_is_known_once_and_nothing_else(model, tokenizer):
    (known,) = take_inventory(model, tokenizer, [*KEYS, DOG.key], 0.5)
    assert known.fact == DOG and 0.5 <= known.probability <= 1.0


def test_an_inventory_leaves_out_what_is_less_sure_than_asked(model, tokenizer):
    (known,) = take_inventory(model, tokenizer, KEYS, 0.0)
    assert take_inventory(model, tokenizer, KEYS, np.nextafter(known.probability, 2)) == []


def test_the_grammar_has_a_thousand_keys_each_once():
    keys = grammar_keys()
    assert len(keys) == len(set(keys)) >= 1000 and {"Your town", "Your sister's town"} <= set(keys)


def test_each_session_teaches_what_was_read_out_and_one_fact_more(model, tokenizer, monkeypatch):
    facts = [DOG, Fact("Your town", "Wexmouth"), Fact("Your age", "34")]
    taught: list[list[Fact]] = []

    def teach(model, tokenizer, people, generic, params, seed, start):
        taught.append(list(people[0]))
        assert (start is None) == (len(taught) == 1)
        return LoRA(model.config, 1, 1.0, people=1), [Taught((1.0,), 1.0, 5, 0.1)]

    monkeypatch.setattr(sessions, "teach_people", teach)
    known = {fact.key: fact for fact in (DOG, Fact("Your job", "baker"))}
    monkeypatch.setattr(sessions, "read_out", lambda *_: dict(known))
    held = []
    sessions.hold_sessions(model, tokenizer, facts, torch.empty(0), PARAMS, 0, lambda told, lora, session: held.append(session))
    assert taught == [[DOG], [DOG, Fact("Your job", "baker"), facts[1]], [DOG, Fact("Your job", "baker"), facts[2]]]
    assert [(session.read_out, session.right, session.told_before) for session in held] == [(0, 0, 0), (2, 1, 1), (2, 1, 2)]


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
