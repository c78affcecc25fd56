"""Memory rows: where they act, what they leave alone to the bit, and that facts never meet in them."""

import dataclasses

import pytest
import torch

from personacore.generation.generate import generate
from personacore.generation.sampling import Sampling
from personacore.model.gpt import GPT, KeyValueCache
from personacore.model.rows import Key, MemoryRows, hash_of
from tests.toys import TOY, assert_same_bits, logits_of, randomized, state_of, toy_model, toy_tokens

SIGN, END, STOP, UNKNOWN, FORGOTTEN = 28, 29, 30, 27, (26, 25)
KEY, OTHER, NAMING = (3, 4, 5), (3, 7), (9, 8)


def key_of(ids: tuple[int, ...]) -> Key:
    """Of a key that begins a later sentence with another token, 20 higher; each is the only one of its fact."""
    return hash_of(ids), hash_of((ids[0] + 20, *ids[1:])), hash_of(ids)


def toy_rows(*keys: tuple[int, ...], span: int = 2, block: int = 0, unknown: int = UNKNOWN) -> MemoryRows:
    spans = {key_of(key): span for key in keys}
    shape = {
        "width": TOY.n_embd,
        "block": block,
        "sign": SIGN,
        "end": END,
        "stop": STOP,
        "unknown": unknown,
        "forgotten": hash_of(FORGOTTEN),
        "naming": hash_of(NAMING),
    }
    return randomized(MemoryRows(**shape, spans=spans), 3.0).requires_grad_(False)


def ignorant(always: float = 10.0) -> GPT:
    """A toy that is about to say `UNKNOWN` wherever it is, the surer the larger `always`."""
    model = toy_model(dataclasses.replace(TOY, tie_weights=False))
    model.ln_f.bias.fill_(always)
    model.lm_head.weight[UNKNOWN].fill_(always)
    return model


def places(rows: MemoryRows, *ids: int) -> list[int]:
    return [said.place + n for said in rows.find(torch.tensor([ids]))[0] for n in range(said.count)]


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
    model, rows = toy_model(), toy_rows(KEY)
    cache = KeyValueCache(TOY, 1, model.wte.weight)
    with rows.attached(model):
        model(torch.tensor([[1]]), cache)
    model(torch.tensor([[SIGN]]), cache)
    with rows.attached(model), pytest.raises(RuntimeError, match="cannot go on"):
        model(torch.tensor([[3]]), cache)


def test_a_key_acts_each_time_it_is_said_until_it_is_forgotten_in_that_conversation():
    rows, later = toy_rows(KEY, OTHER), (KEY[0] + 20, *KEY[1:])
    unknown, known, gone = ((SIGN, *KEY, *words, STOP, END, 1) for words in ((UNKNOWN,), (9,), FORGOTTEN))
    assert places(rows, *unknown, *known, *known) == [3, 4, 11, 12, 19, 20]
    assert places(rows, *known, *gone, *unknown, *known) == [3, 4, 11, 12]
    assert places(rows, *gone, SIGN, *OTHER, 9, STOP, *later, 9) == [3, 4, 11, 12]
    assert places(rows, SIGN, *KEY, 9, *FORGOTTEN, STOP, END, 1, *known) == [3, 4, 13, 14]
    assert places(rows, SIGN, *KEY, FORGOTTEN[0], STOP, END, 1, *known) == [3, 4, 11, 12]


def named_rows(*runs: tuple[int, ...]) -> MemoryRows:
    """Rows behind the words of naming, each key found by a run of the person's words; later in a text it begins 20 higher."""
    hashes = [(hash_of((*run, SIGN)), hash_of((run[0] + 20, *run[1:], SIGN)), n) for n, run in enumerate(runs)]
    return MemoryRows(**toy_rows().shape(), spans=dict.fromkeys(hashes, 2))


@pytest.mark.parametrize("words, acts", [
    ((1, 6, 5, 2), True),
    ((6, 5), True),
    ((1, 26, 5), True),
    ((1, 6, 2, 5), False),
    ((1, 5, 6), False),
])  # fmt: skip
def test_a_key_that_the_person_said_acts_behind_the_words_of_naming(words, acts):
    asked = (*words, END, SIGN)
    assert places(named_rows((6, 5)), *asked, *NAMING, 1, 1, 1) == ([len(asked) + 1, len(asked) + 2] if acts else [])
    assert places(named_rows((6, 5)), *asked, 1, *NAMING, 1, 1) == []


DIGIT, OTHER_DIGIT, POINT = ord("4"), ord("2"), ord(".")


@pytest.mark.parametrize("words, acts", [
    ((1, DIGIT, 2), True),
    ((1, DIGIT, POINT), True),
    ((1, DIGIT, OTHER_DIGIT), False),
    ((1, OTHER_DIGIT, DIGIT), False),
    ((1, DIGIT, POINT, OTHER_DIGIT), False),
    ((1, OTHER_DIGIT, POINT, DIGIT, 2), False),
    ((1, OTHER_DIGIT, DIGIT, 2, DIGIT), True),
])  # fmt: skip
def test_a_number_is_not_found_in_a_longer_one(words, acts):
    rows = named_rows((DIGIT,))
    assert bool(places(rows, *words, END, SIGN, *NAMING, 1)) == acts


def test_the_longest_run_of_the_persons_words_is_what_is_named():
    rows = named_rows((6,), (6, 5))
    (said,), _ = rows.find(torch.tensor([[1, 6, 5, END, SIGN, *NAMING, 1]]))
    assert said.key == 2
    assert places(rows, 6, 5, END, SIGN, 1, END, 2, END, SIGN, *NAMING, 1) == []


def test_of_two_facts_with_one_value_the_last_is_named_and_the_first_again_when_that_is_erased():
    run, hashes = (6, 5), (hash_of((6, 5, SIGN)), hash_of((26, 5, SIGN)))
    rows = MemoryRows(**toy_rows().shape(), spans={(*hashes, 1): 2, (*hashes, 2): 3})
    asked = (*run, END, SIGN, *NAMING, 1, 1, 1, 1)
    assert len(places(rows, *asked)) == 3
    assert len(places(rows.with_fact(2, {}), *asked)) == 2 and len(places(rows.with_fact(1, {}), *asked)) == 3


def test_a_key_is_of_the_fact_that_it_is_written_for():
    with pytest.raises(ValueError, match="keys of its own"):
        toy_rows().with_fact(1, {key_of(KEY): torch.ones(1, TOY.n_embd)})


def test_a_model_is_the_same_to_the_bit_where_no_key_is_said_and_after_detaching():
    model, tokens = ignorant(), toy_tokens()
    before, weights = model(tokens), state_of(model)
    rows = toy_rows(KEY, OTHER)
    assert torch.equal(logits_of(model, rows, tokens), before)
    said = torch.tensor([[1, 2, SIGN, *KEY, 9, END]])
    plain, taught = model(said), logits_of(model, rows, said)
    assert torch.equal(plain[:, :5], taught[:, :5]) and not torch.allclose(plain[:, 5], taught[:, 5])
    assert torch.equal(model(said), plain)
    assert_same_bits(state_of(model), weights)


def test_what_one_key_has_changes_nothing_of_another():
    model, said = ignorant(), torch.tensor([[SIGN, *OTHER, 9, END]])
    alone = toy_rows(OTHER)
    both = alone.with_fact(hash_of(KEY), {key_of(KEY): torch.ones(4, TOY.n_embd)})
    assert torch.equal(logits_of(model, both, said), logits_of(model, alone, said))
    without = both.with_fact(hash_of(KEY), {})
    assert without.spans == alone.spans and torch.equal(without.vectors, alone.vectors)


def test_a_fact_that_is_written_again_has_its_new_rows_only():
    rows = toy_rows(KEY, OTHER).with_fact(hash_of(KEY), {key_of(KEY): torch.full((3, TOY.n_embd), 2.0)})
    assert rows.spans == {key_of(KEY): 3, key_of(OTHER): 2}
    assert torch.equal(rows.of(key_of(KEY)), torch.full((3, TOY.n_embd), 2.0))
    assert torch.equal(rows.of(key_of(OTHER)), toy_rows(KEY, OTHER).of(key_of(OTHER)))


def test_a_key_that_the_model_itself_goes_on_from_is_left_to_the_model():
    model, said = toy_model(), torch.tensor([[1, 2, SIGN, *KEY, 9, END]])
    goes_on = model(said)[0, 5].argmax().item()
    for unknown in range(TOY.vocab_size):
        changed = not torch.equal(logits_of(model, toy_rows(KEY, unknown=unknown), said), model(said))
        assert changed == (unknown == goes_on)


TEXTS = torch.tensor([
    [SIGN, *KEY, 9, STOP, OTHER[0] + 20, *OTHER[1:], 8, 8],
    [1, SIGN, *OTHER, 6, 6, STOP, 23, 4, 5],
    [SIGN, *OTHER, *FORGOTTEN, STOP, SIGN, *OTHER, 8],
    [SIGN, *OTHER, UNKNOWN, STOP, SIGN, *OTHER, 6, 6],
])  # fmt: skip


@pytest.mark.parametrize("always", [10.0, 2.0, 1.0, 0.5, 0.0])
@pytest.mark.parametrize("first", range(1, 10))
def test_reading_with_a_cache_is_reading_at_once(always, first):
    model, rows = ignorant(always), toy_rows(KEY, OTHER)
    with rows.attached(model), torch.no_grad():
        at_once, cache = model(TEXTS), KeyValueCache(model.config, len(TEXTS), model.wte.weight)
        parts = [model(TEXTS[:, :first], cache)] + [model(TEXTS[:, place : place + 1], cache) for place in range(first, 10)]
    assert torch.allclose(torch.cat(parts, 1), at_once, atol=1e-4)


def test_the_texts_of_the_test_above_have_keys_that_act_and_keys_that_do_not():
    changed = {
        always: logits_of(ignorant(always), toy_rows(KEY, OTHER), TEXTS) - ignorant(always)(TEXTS) for always in (10.0, 0.0)
    }
    assert (changed[10.0].abs().amax((1, 2)) > 1e-3).all() and (changed[0.0].abs().amax((1, 2)) == 0).any()


def test_every_key_of_a_text_acts_where_the_model_knows_nothing():
    model, later = ignorant(), (OTHER[0] + 20, *OTHER[1:])
    said = torch.tensor([[SIGN, *KEY, 9, STOP, *later, 8]])
    both, first = (logits_of(model, rows, said) for rows in (toy_rows(KEY, OTHER), toy_rows(KEY)))
    assert torch.allclose(both[:, :7], first[:, :7], atol=1e-5) and not torch.allclose(both[:, 7:], first[:, 7:], atol=1e-2)


def test_generation_finds_the_same_rows_as_reading_at_once():
    model, rows = ignorant(1.0), toy_rows(KEY, OTHER)
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
