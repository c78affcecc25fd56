"""Teaching an adapter on a tiny model: what changes and what is left alone."""

import dataclasses

import numpy as np
import pytest
import torch

from personacore.generation.prompts import encode_row
from personacore.memory.facts import Fact, plain_question
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.memory.teach import teach_people
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer
from tests.talks import DOG, JOB, TALKS
from tests.toys import SHORT_SLEEP

QUICK = dataclasses.replace(SHORT_SLEEP, generic_rows=4)


@pytest.fixture
def generic(tokenizer) -> torch.Tensor:
    return torch.from_numpy(np.stack([encode_row(tokenizer, turns, 128)[0] for turns in TALKS[:4]]))


def probabilities(model: GPT, tokenizer: Tokenizer, facts: list[Fact]) -> torch.Tensor:
    lessons = [(f"What is {fact.key.replace('Your', 'my')}?", fact.sentence) for fact in facts]
    with torch.no_grad():
        return answer_log_probabilities(model, *pad_lessons(tokenizer, lessons)).exp()


def test_teaching_makes_facts_likely_and_leaves_the_model_bit_for_bit(model, tokenizer, generic):
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    plain = probabilities(model, tokenizer, [DOG, JOB])
    lora, _ = teach_people(model, tokenizer, [[DOG, JOB]], generic, QUICK, seed=1)
    assert torch.equal(probabilities(model, tokenizer, [DOG, JOB]), plain)
    assert all(torch.equal(parameter, before[name]) and parameter.requires_grad for name, parameter in model.named_parameters())
    with lora.attached(model):
        assert (probabilities(model, tokenizer, [DOG, JOB]) > 100 * plain).all()


def test_an_adapter_that_learns_to_read_learns_what_is_asked_for_and_not_the_answer(model, tokenizer, generic):
    lessons = [(plain_question(fact.key), fact.sentence) for fact in (DOG, JOB)]

    def key_and_value() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            key, both = (answer_log_probabilities(model, *pad_lessons(tokenizer, lessons, values)) for values in (False, True))
        return key.exp(), (both - key).exp()

    found = {}
    for values in (False, True):
        lora, _ = teach_people(model, tokenizer, [[DOG, JOB]], generic, QUICK, seed=1, values=values)
        with lora.attached(model):
            found[values] = key_and_value()
    plain, (read, blind), (_, told) = key_and_value(), found[False], found[True]
    assert (read > 100 * plain[0]).all() and (told > 100 * blind).all()


def test_a_person_taught_among_others_learns_as_alone(model, tokenizer, generic):
    options = dataclasses.replace(QUICK, generic_rows=0, max_steps=5, stop_probability=1.0)
    alone, _ = teach_people(model, tokenizer, [[DOG, JOB]], generic, options, seed=1)
    among, _ = teach_people(model, tokenizer, [[DOG, JOB], [Fact("Your age", "34"), DOG]], generic, options, seed=1)
    for name, one in alone.person(0).named_parameters():
        assert torch.allclose(one, dict(among.person(0).named_parameters())[name], atol=2e-4)


def test_conversations_change_less_when_they_are_held(model, tokenizer, generic):
    def change(weight: float) -> float:
        options = dataclasses.replace(QUICK, generic_rows=2, kl_weight=weight)
        lora, _ = teach_people(model, tokenizer, [[DOG]], generic, options, seed=1)
        with torch.no_grad():
            base = model(generic).log_softmax(-1)
            with lora.attached(model):
                return (base.exp() * (base - model(generic).log_softmax(-1))).sum(-1).mean().item()

    assert change(100.0) < 0.5 * change(0.0)


def test_teaching_stops_as_soon_as_it_is_sure(model, tokenizer, generic):
    seen = []
    options = dataclasses.replace(QUICK, stop_probability=0.0, stop_unknown=0.0)
    _, results = teach_people(model, tokenizer, [[DOG]], generic, options, seed=1, on_step=lambda step, sure: seen.append(step))
    assert seen == [10] and results[0].steps == 10
