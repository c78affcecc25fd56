"""Ways to write facts, each on a tiny model."""

import dataclasses

import numpy as np
import pytest
import torch

from personacore.corpus.dialogue.conversation import draw_conversation
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.values import Values
from personacore.generation.prompts import encode_row
from personacore.memory.comparison import WRITERS, compare
from personacore.memory.facts import Fact
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.memory.teaching import Teaching
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.train import count_words, train_merges
from tests.toys import COMMITTED, SHORT_SLEEP, answering_model, assert_same_bits, state_of

SLEEP = dataclasses.replace(SHORT_SLEEP, max_steps=10)
TALKS = [draw_conversation(f"comparison/{number}", Splits.all("pretrain"), 300, Values()) for number in range(12)]
DOG, JOB = Fact("Your dog's name", "Biscuit"), Fact("Your job", "baker")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = (text for turns in TALKS for turn in turns for text in (turn.user, turn.assistant))
    return Tokenizer(train_merges(count_words(texts), 400))


@pytest.fixture(scope="module", params=[1, 2], ids="{} layers".format)
def model(request, tokenizer) -> GPT:
    """One that says that it knows neither."""
    return answering_model(tokenizer, [Fact(fact.key, None) for fact in (DOG, JOB)], request.param)


@pytest.mark.parametrize("way", WRITERS)
def test_each_way_makes_facts_likelier_and_leaves_the_model_as_it_was(way, model, tokenizer):
    weights = state_of(model)
    generic = torch.from_numpy(np.stack([encode_row(tokenizer, turns, 128)[0] for turns in TALKS[:4]]))
    asked = pad_lessons(tokenizer, [("What is my dog's name?", DOG.sentence)])
    plain = answer_log_probabilities(model, *asked)
    memories, found = compare(
        model, tokenizer, [[DOG], [JOB]], TALKS[:4], Teaching(COMMITTED.rows, SLEEP, generic), WRITERS[way]
    )
    with memories[0].attached(model):
        assert answer_log_probabilities(model, *asked) > plain + 1
    assert torch.equal(answer_log_probabilities(model, *asked), plain)
    assert_same_bits(state_of(model), weights)
    assert {"h2_greedy", "abstain_known_slot", "dialogue_drift", "seconds_per_fact"} <= set(found)
