import dataclasses
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personacore.core import Core
from personacore.errors import UserError
from personacore.generation.generate import generate, rows_until_stop
from personacore.generation.sampling import Sampling, sample
from personacore.model.gpt import GPT, GPTConfig
from personacore.tokenizer.bpe import StreamDecoder, Tokenizer

TOY = GPTConfig(vocab_size=264, n_layer=2, n_head=2, n_embd=16, block_size=10)
BYTES = Tokenizer([])  # 256 bytes and the specials, so that every character of several bytes is several tokens
GREEDY, WARM = Sampling(0.0), Sampling(0.8, top_p=0.95)
UNREADABLE = [number for number in range(264) if not 32 <= number < 127]  # all but printable ASCII


def toy_model(config: GPTConfig = TOY, seed: int = 0) -> GPT:
    """A model with a will of its own: random weights that are large enough for clear preferences."""
    model = GPT(config)
    model.reset_parameters(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(15)
    return model.eval().requires_grad_(False)


def parrot(text: str, end: bool = False) -> GPT:
    """A model that repeats `text` for ever, or once when `end`: its byte follows each byte, all of them different."""
    symbols = [*text.encode(), BYTES.end_of_text] if end else [*text.encode()]
    assert len(set(symbols)) == len(symbols)
    model = GPT(dataclasses.replace(TOY, n_layer=1, n_embd=264, tie_weights=False, position="none")).eval()
    with torch.no_grad():
        for parameter in model.blocks.parameters():
            parameter.zero_()
        model.wte.weight.copy_(torch.eye(264))
        model.lm_head.weight.zero_()
        for symbol, following in zip(symbols, [*symbols[1:], symbols[0]], strict=True):
            model.lm_head.weight[following, symbol] = 1.0
        if not end:
            model.lm_head.weight[symbols[0], BYTES.end_of_text] = 1.0
    return model.requires_grad_(False)


def ids(model: GPT, prompts: list[list[int]], count: int, sampling: Sampling = GREEDY, **options) -> list[list[int]]:
    steps = generate(model, torch.tensor(prompts), max_new_tokens=count, sampling=sampling, **{"seed": 1} | options)
    return torch.stack(list(steps), dim=1).tolist()


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
@pytest.mark.parametrize("length", [1, 2, 9, 10, 11, 12, 20, 35])
@pytest.mark.parametrize("config", [TOY, dataclasses.replace(TOY, position="none", block_size=7)], ids=["learned", "none"])
def test_text_with_a_cache_equals_text_without_for_prompts_of_any_length(config, length, sampling):
    model = toy_model(config)
    prompts = torch.randint(256, (2, length), generator=torch.Generator().manual_seed(length)).tolist()
    cached = ids(model, prompts, 40, sampling)
    assert cached == ids(model, prompts, 40, sampling, use_cache=False)
    assert len(cached[0]) == 40


@pytest.mark.parametrize("length", [1, 9, 10, 11, 23])
def test_greedy_ids_are_the_likeliest_after_a_window_that_slides_by_half_blocks(length):
    model = toy_model()
    text = list(range(60, 60 + length))
    window, expected = list(text), []
    for _ in range(30):
        if len(window) > TOY.block_size:
            window = window[-TOY.block_size // 2 :]
        expected.append(int(model(torch.tensor([window]))[0, -1].argmax()))
        window.append(expected[-1])
    assert ids(model, [text], 30) == [expected]


@pytest.mark.parametrize("block_size", [2, 3])
def test_the_smallest_blocks_can_be_outgrown(block_size):
    model = toy_model(dataclasses.replace(TOY, block_size=block_size))
    assert ids(model, [[5] * 9], 12) == ids(model, [[5] * 9], 12, use_cache=False)


def test_greedy_text_of_a_toy_checkpoint_stays_as_it_is():
    model = toy_model(dataclasses.replace(TOY, block_size=32), seed=9)  # no two best logits closer than 0.02
    prompt = [BYTES.end_of_text, *BYTES.encode("Once upon a time")]
    (written,) = ids(model, [prompt], 40, forbidden=UNREADABLE)
    assert BYTES.decode(written) == '=V=uu"FF88FF____________F_FFF_F___))))))'


def test_equal_seeds_give_equal_text_and_others_do_not():
    model = toy_model()
    state = torch.get_rng_state()
    first, again, other = (ids(model, [[1]], 30, WARM, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), state)


def test_a_greedy_text_does_not_depend_on_the_seed():
    assert ids(toy_model(), [[1]], 30, seed=3) == ids(toy_model(), [[1]], 30, seed=4)


def test_the_rows_of_a_batch_are_written_side_by_side():
    model = toy_model()
    prompts = [[1, 2], [3, 4], [5, 6]]
    assert ids(model, prompts, 25) == [ids(model, [prompt], 25)[0] for prompt in prompts]
    assert len({tuple(row) for row in ids(model, [[1]] * 8, 25, WARM)}) == 8


def test_a_text_ends_at_stop():
    (row,) = ids(parrot("abc", end=True), [BYTES.encode("a")], 50, stop=BYTES.end_of_text)
    assert row == [*b"bc", BYTES.end_of_text]


def test_a_row_that_has_stopped_repeats_stop_until_the_last_one_has():
    steps = generate(
        parrot("abc", end=True), torch.tensor([[97], [99]]), max_new_tokens=50, sampling=GREEDY, seed=0, stop=BYTES.end_of_text
    )
    rows = [step.tolist() for step in steps]
    assert rows == [[98, 256], [99, 256], [256, 256]]
    assert rows_until_stop(map(torch.tensor, rows), BYTES.end_of_text) == [[98, 99], []]


def test_without_a_stop_a_text_goes_on_to_its_longest():
    (row,) = ids(parrot("abc", end=True), [BYTES.encode("a")], 9)
    assert len(row) == 9


def test_a_model_is_left_in_the_mode_it_was_in():
    model = toy_model(dataclasses.replace(TOY, dropout=0.5)).train()
    assert ids(model, [[1]], 5) == ids(model, [[1]], 5)
    assert model.training
    for _ in islice(generate(model, torch.tensor([[1]]), max_new_tokens=5, sampling=GREEDY, seed=0), 2):
        pass
    assert model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: 0 is below 1"),
        ({"seed": -1}, "seed: -1 is not"),
        ({"seed": 2**63}, "seed: 9223372036854775808 is not"),
        ({"prompts": torch.empty(1, 0, dtype=torch.long)}, "the prompt is empty"),
    ],
    ids=str,
)
def test_impossible_requests_are_refused(options, message):
    defaults = {"prompts": torch.tensor([[1]]), "max_new_tokens": 5, "sampling": GREEDY, "seed": 0}
    with pytest.raises(UserError, match=message):
        next(generate(toy_model(), **defaults | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature: -0.1"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"temperature": float("inf")}, "temperature: inf"),
        ({"top_k": 0}, "top_k: 0"),
        ({"top_p": 0.0}, "top_p: 0.0"),
        ({"top_p": 1.5}, "top_p: 1.5"),
        ({"top_p": float("nan")}, "top_p: nan"),
    ],
    ids=str,
)
def test_impossible_sampling_is_refused_by_name(options, message):
    with pytest.raises(UserError, match=message):
        Sampling(**options)


LOGITS = st.lists(st.floats(-20, 20, width=32) | st.just(-float("inf")), min_size=2, max_size=12).filter(
    lambda row: max(row) > -float("inf")
)


@given(LOGITS, st.floats(0.05, 5), st.none() | st.integers(1, 14), st.floats(0.01, 1), st.integers(0, 2**32))
@settings(max_examples=200)
def test_draws_never_leave_the_top_k_the_top_p_or_the_possible(row, temperature, top_k, top_p, seed):
    drawn = sample(torch.tensor([row]).repeat(64, 1), Sampling(temperature, top_k, top_p), torch.Generator().manual_seed(seed))
    row = (torch.tensor(row).double() - max(row)).div(temperature).tolist()  # what differs by less than rounding is alike
    kept = sorted((value for value in row if value > -float("inf")), reverse=True)[:top_k]
    allowed = {place for place, value in enumerate(row) if value >= kept[-1]}
    weights = torch.tensor(row, dtype=torch.float64)
    weights = torch.where(weights >= kept[-1], weights.exp(), 0.0)
    shares = weights / weights.sum()
    likelier = torch.tensor([shares[shares > share].sum() for share in shares])
    allowed &= set((likelier < top_p + 1e-6).nonzero().flatten().tolist())
    assert set(drawn.tolist()) <= allowed


def test_draws_follow_the_softmax_over_the_temperature():
    logits, count = torch.tensor([2.0, 1.0, 0.0, -1.0]), 40_000
    for temperature in (0.5, 1.0, 2.0):
        drawn = sample(logits.repeat(count, 1), Sampling(temperature), torch.Generator().manual_seed(0))
        found = torch.bincount(drawn, minlength=4) / count
        torch.testing.assert_close(found, (logits / temperature).softmax(0), atol=0.01, rtol=0)


def by_sorting_all(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    probabilities = logits.double().softmax(-1)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return probabilities.masked_fill(outside.scatter(-1, order, outside), 0.0)


@given(st.integers(0, 2**32), st.integers(1, 200), st.floats(0, 9), st.floats(0.01, 0.999999))
@settings(max_examples=100)
def test_top_p_draws_what_putting_all_ids_in_order_would(seed, size, spread, top_p):
    rows = torch.randn(4, size, generator=torch.Generator().manual_seed(seed)).mul(spread).round(decimals=1)  # with equals
    drawn, expected = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    for _ in range(5):
        slow = torch.multinomial(by_sorting_all(rows, top_p), 1, generator=expected).squeeze(-1)
        assert torch.equal(sample(rows, Sampling(1.0, top_p=top_p), drawn), slow)


def test_top_p_keeps_the_fewest_ids_that_reach_it():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().repeat(2000, 1)
    for top_p, kept in ((0.01, {0}), (0.49, {0}), (0.51, {0, 1}), (0.79, {0, 1}), (0.81, {0, 1, 2}), (1.0, {0, 1, 2, 3})):
        drawn = sample(logits, Sampling(1.0, top_p=top_p), torch.Generator().manual_seed(0))
        assert set(drawn.tolist()) == kept


def test_top_p_is_measured_within_the_top_k():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().repeat(2000, 1)
    drawn = sample(logits, Sampling(1.0, top_k=2, top_p=0.55), torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {0}  # 0.4 of the 0.7 that are left


def test_a_temperature_near_zero_is_all_but_greedy():
    logits = torch.tensor([[1.0, 3.0, 2.0, -torch.inf]])
    for temperature in (1e-3, 1e-30, 1e-300):
        assert sample(logits, Sampling(temperature), torch.Generator()).tolist() == [1]


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(5.0), Sampling(1.0, top_k=2), Sampling(1.0, top_p=0.3)], ids=str)
def test_forbidden_ids_are_never_drawn(sampling):
    model, prompts = toy_model(), [[1]] * 16
    favourites = {number for row in ids(model, prompts, 20, sampling) for number in row}
    written = {number for row in ids(model, prompts, 20, sampling, forbidden=sorted(favourites)) for number in row}
    assert not written & favourites


def test_special_ids_but_the_end_are_never_written():
    model = toy_model()
    with torch.no_grad():
        model.wte.weight[257:] *= 50  # tied, so that these ids are always the likeliest or the unlikeliest
    written = "".join(Core(model, BYTES).complete("a", temperature=2.0, top_p=1.0, seed=seed) for seed in range(5))
    assert "<|" not in written


MULTI_BYTE = "é😀漢"


def test_pieces_are_whole_characters_and_together_the_whole_text():
    core = Core(parrot(MULTI_BYTE), BYTES)
    pieces = list(core.stream("", max_new_tokens=18, temperature=0))
    assert pieces == list(MULTI_BYTE * 2)
    assert core.complete("é😀", max_new_tokens=3, temperature=0) == "漢"


def test_a_character_that_is_cut_by_the_end_is_one_replacement_character():
    core = Core(parrot(MULTI_BYTE), BYTES)
    for count in range(1, 19):
        text = (MULTI_BYTE * 2).encode()[:count].decode("utf-8", "replace")
        pieces = list(core.stream("", max_new_tokens=count, temperature=0))
        assert "".join(pieces) == text
        assert all("\ufffd" not in piece for piece in pieces[:-1])


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_random_bytes_together_are_the_decoded_text(seed):
    core = Core(toy_model(), BYTES)
    options = {"max_new_tokens": 60, "temperature": 1.5, "top_p": 1.0, "seed": seed}
    forbidden = [number for name, number in BYTES.specials.items() if name != "<|endoftext|>"]
    (row,) = rows_until_stop(
        generate(
            core.model,
            torch.tensor([[BYTES.end_of_text, *BYTES.encode("aé")]]),
            max_new_tokens=60,
            sampling=Sampling(1.5),
            seed=seed,
            stop=BYTES.end_of_text,
            forbidden=forbidden,
        ),
        BYTES.end_of_text,
    )
    assert core.complete("aé", **options) == BYTES.decode(row) == "".join(core.stream("aé", **options))


@given(st.text(max_size=30))
@settings(max_examples=100)
def test_any_text_streams_through_in_whole_characters(text):
    decoder = StreamDecoder(BYTES)
    pieces = [decoder.push(token) for token in BYTES.encode(text)]
    assert "".join(pieces) == text
    assert all(len(piece) <= 1 for piece in pieces)
    assert decoder.finish() == ""


def test_a_prompt_is_plain_text_even_where_it_names_a_special():
    core = Core(toy_model(), BYTES)
    assert core.complete("<|endoftext|>", temperature=0, max_new_tokens=20) != core.complete(
        "", temperature=0, max_new_tokens=20
    )


def test_the_end_of_the_text_is_not_part_of_it():
    assert Core(parrot("abc", end=True), BYTES).complete("a", temperature=0) == "bc"


def test_a_prompt_of_any_length_is_continued():
    core = Core(parrot("abc"), BYTES)
    for length in (0, 1, 9, 10, 11, 300):
        assert core.complete("c" * length, max_new_tokens=7, temperature=0) == "abcabca"
