"""Rows and an adapter that act together."""

import pytest
import torch

from personacore.generation.generate import generate
from personacore.generation.sampling import Sampling
from personacore.model.consolidated import Consolidated, rows_of, with_rows
from personacore.model.rows import MemoryRows, hash_of
from tests.toys import TOY, logits_of, randomized, taught, toy_model, toy_rows, toy_tokens

USER, SIGN, END, STOP = 5, 1, 2, 3
SAID = (6, 7)  # the words behind which a row acts
ASKED = [0, USER, SIGN, *SAID]


@pytest.fixture
def both() -> tuple[Consolidated, torch.Tensor]:
    """A memory whose rows act behind what was said, since with the adapter the model would say `unknown` there."""
    lora = taught(invocation=USER)
    plain = logits_of(toy_model(), lora, torch.tensor([ASKED]))[0]
    shape = {"width": TOY.n_embd, "block": 0, "sign": SIGN, "end": END, "stop": STOP, "forgotten": 7, "naming": 8}
    key = (hash_of(SAID), 40, hash_of(SAID))
    rows = MemoryRows(**shape, unknown=int(plain[-1].argmax()), spans={key: 3})
    return Consolidated(randomized(rows, 3.0), lora), plain


@torch.no_grad()
def test_both_change_what_the_model_computes_and_nothing_afterwards(both):
    memory, with_adapter = both
    model, asked = toy_model(), torch.tensor([ASKED])
    before = model(asked)
    with memory.attached(model):
        found = model(asked)[0]
    assert torch.equal(found[:-1], with_adapter[:-1]) and not torch.allclose(found[-1], with_adapter[-1], atol=0.1)
    assert not torch.allclose(found[:-1], before[0, :-1], atol=0.1) and torch.equal(model(asked), before)


@torch.no_grad()
def test_with_a_cache_the_same_is_written_as_without(both):
    memory, _ = both
    model = toy_model()
    with memory.attached(model):
        steps = generate(model, torch.tensor([ASKED]), max_new_tokens=6, sampling=Sampling(0.0), seed=0)
        written = [int(step) for step in steps]
        whole = model(torch.tensor([[*ASKED, *written]]))[0].argmax(-1).tolist()
    assert whole[len(ASKED) - 1 : -1] == written


@torch.no_grad()
def test_a_story_is_the_models_to_the_bit(both):
    memory, _ = both
    model, story = toy_model(), toy_tokens().clamp_min(9)
    before = model(story)
    with memory.attached(model):
        assert torch.equal(model(story), before)


def test_new_rows_take_the_place_of_the_old_beside_the_same_adapter(both):
    memory, _ = both
    other = toy_rows()
    assert rows_of(with_rows(memory, other)) is other and with_rows(memory, other).lora is memory.lora
    assert with_rows(memory.rows, other) is other
