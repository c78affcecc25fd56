"""Memory rows: where they act, what they leave alone to the bit, and that facts never meet in them."""

import pytest
import torch

from personacore.generation.generate import generate
from personacore.generation.sampling import Sampling
from personacore.model.gpt import KeyValueCache
from personacore.model.rows import MemoryRows, hash_of
from tests.toys import TOY, assert_same_bits, logits_of, randomized, state_of, toy_model, toy_tokens

SIGN, END, STOP = 28, 29, 30
KEY, OTHER = (3, 4, 5), (3, 7)


def key_of(ids: tuple[int, ...]) -> tuple[int, int]:
    """Of a key that begins a later sentence with another token, 20 higher."""
    return hash_of(ids), hash_of((ids[0] + 20, *ids[1:]))


def toy_rows(*keys: tuple[int, ...], span: int = 2, block: int = 0) -> MemoryRows:
    spans = {key_of(key): span for key in keys}
    return randomized(
        MemoryRows(width=TOY.n_embd, block=block, sign=SIGN, end=END, stop=STOP, spans=spans), 3.0
    ).requires_grad_(False)


def places(rows: MemoryRows, *ids: int) -> list[int]:
    return rows.find(torch.tensor([ids]))[0][0].tolist()


def test_rows_act_behind_a_key_that_the_assistant_has_said_and_behind_each_token_that_follows():
    assert places(toy_rows(KEY), SIGN, *KEY, 9, 9, 9) == [3, 4]


@pytest.mark.parametrize("ids", [
    (*KEY, 9, 9),
    (1, *KEY, SIGN, 9, 9),
    (SIGN, 1, *KEY, 9),
    (SIGN, *KEY[:2], 9, 9),
    (SIGN, 1, END, *KEY, 9),
])  # fmt: skip
def test_rows_do_nothing_where_the_assistant_has_said_anything_else(ids):
    assert places(toy_rows(KEY), *ids) == []


def test_a_sentence_of_the_assistant_begins_behind_a_full_stop():
    later = (KEY[0] + 20, *KEY[1:])
    assert places(toy_rows(KEY), SIGN, 1, 2, STOP, *later, 9) == [6, 7]
    assert places(toy_rows(KEY, OTHER), SIGN, *OTHER, 9, STOP, *later, 9) == [2, 3, 7, 8]
    assert places(toy_rows(KEY), 1, STOP, *later, 9) == []


def test_rows_that_are_left_over_do_not_run_into_the_next_sentence():
    rows = toy_rows(KEY, OTHER, span=5)
    later = (KEY[0] + 20, *KEY[1:])
    assert places(rows, SIGN, *OTHER, 9, STOP, *later, 9, 9, 9, 9, 9) == [2, 3, 7, 8, 9, 10, 11]


def test_rows_cannot_go_on_from_a_cache_that_read_without_them():
    model = toy_model()
    cache = KeyValueCache(TOY, 1, model.wte.weight)
    model(torch.tensor([[1, SIGN]]), cache)
    with toy_rows(KEY).attached(model), pytest.raises(RuntimeError, match="cannot go on"):
        model(torch.tensor([[3]]), cache)


def test_what_a_conversation_has_said_of_a_key_stands_before_what_is_remembered():
    rows = toy_rows(KEY, OTHER)
    assert places(rows, SIGN, *KEY, 9, STOP, END, 1, SIGN, *KEY, 9) == [3, 4]
    later = (KEY[0] + 20, *KEY[1:])
    assert places(rows, SIGN, *KEY, 9, STOP, END, 1, SIGN, *OTHER, 9, STOP, *later, 9) == [3, 4, 10, 11]
    assert places(rows, SIGN, *KEY, 9, STOP, END, SIGN, *KEY, 9, STOP, OTHER[0], OTHER[1]) == [3, 4, 14]


def test_a_model_is_the_same_to_the_bit_where_no_key_is_said_and_after_detaching():
    model, tokens = toy_model(), toy_tokens()
    before, weights = model(tokens), state_of(model)
    rows = toy_rows(KEY, OTHER)
    assert torch.equal(logits_of(model, rows, tokens), before)
    said = torch.tensor([[1, 2, SIGN, *KEY, 9, END]])
    plain, taught = model(said), logits_of(model, rows, said)
    assert torch.equal(plain[:, :5], taught[:, :5]) and not torch.allclose(plain[:, 5], taught[:, 5])
    assert torch.equal(model(said), plain)
    assert_same_bits(state_of(model), weights)


def test_what_one_key_has_changes_nothing_of_another():
    model, said = toy_model(), torch.tensor([[SIGN, *OTHER, 9, END]])
    alone = toy_rows(OTHER)
    both = alone.with_rows({key_of(KEY): torch.ones(4, TOY.n_embd)})
    assert torch.equal(logits_of(model, both, said), logits_of(model, alone, said))
    without = both.with_rows({key_of(KEY): torch.empty(0, TOY.n_embd)})
    assert without.spans == alone.spans and torch.equal(without.vectors, alone.vectors)


def test_a_key_that_is_written_again_has_its_new_rows_only():
    rows = toy_rows(KEY, OTHER).with_rows({key_of(KEY): torch.full((3, TOY.n_embd), 2.0)})
    assert rows.spans == {key_of(KEY): 3, key_of(OTHER): 2}
    assert torch.equal(rows.of(key_of(KEY)), torch.full((3, TOY.n_embd), 2.0))
    assert torch.equal(rows.of(key_of(OTHER)), toy_rows(KEY, OTHER).of(key_of(OTHER)))


def test_generation_with_a_cache_finds_the_same_rows_as_reading_at_once():
    model, rows = toy_model(), toy_rows(KEY, OTHER)
    prompts = torch.tensor([[1, SIGN, 3, 4], [2, SIGN, 3, 7]])
    with rows.attached(model), torch.no_grad():
        steps = generate(model, prompts, max_new_tokens=6, sampling=Sampling(0.0), seed=0, stop=END, forbidden=[])
        written = torch.stack([torch.as_tensor(step) for step in steps], 1)
        ids = prompts
        for _ in range(written.size(1)):
            ids = torch.cat((ids, model(ids)[:, -1:].argmax(-1)), 1)
    for row, expected in zip(written.tolist(), ids[:, prompts.size(1) :].tolist(), strict=True):
        stop = expected.index(END) + 1 if END in expected else len(expected)
        assert row[:stop] == expected[:stop]


def test_rows_attach_once_and_only_to_a_model_of_their_shape():
    model, rows = toy_model(), toy_rows(KEY)
    with rows.attached(model), pytest.raises(RuntimeError, match="attached already"):
        rows.attach(model)
    with pytest.raises(ValueError, match="behind block 2 do not fit"):
        toy_rows(KEY, block=2).attach(model)


def test_a_hash_depends_on_order_and_on_where_tokens_end():
    assert len({hash_of(ids) for ids in ((1, 2), (2, 1), (1, 2, 0), (258,), (12,))}) == 5
