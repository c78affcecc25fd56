import dataclasses
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.speed.pairs import threads
from personacore.core import Core
from personacore.errors import UserError
from personacore.generation.compiled import CompiledGPT, rounded
from personacore.generation.generate import generate
from personacore.generation.kernels import Linear, gelu, multiply
from personacore.generation.packed import HAS_ONEDNN, PackedLinear
from personacore.generation.sampling import Sampling
from personacore.model.gpt import GPT, KeyValueCache
from personacore.model.lora import LoRA
from personacore.tokenizer.bpe import Tokenizer
from tests.toys import TOY, randomized, toy_model

GREEDY, WARM = Sampling(0.0), Sampling(0.8, top_p=0.95)
SHAPES = {
    "tied": TOY,
    "untied": dataclasses.replace(TOY, tie_weights=False),
    "no position": dataclasses.replace(TOY, position="none"),
    "one block of one head": dataclasses.replace(TOY, n_layer=1, n_head=1),
}


def logits(model: GPT | CompiledGPT, tokens: list[int], first: int) -> torch.Tensor:
    """Behind each place from `first` on, read one by one after those before."""
    cache = KeyValueCache(model.config, 1, model.wte.weight)
    parts = [tokens[:first], *([token] for token in tokens[first:])]
    with torch.no_grad():
        return torch.cat([model.next_logits(torch.tensor([part]), cache) for part in parts])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("first", [1, 5])
def test_a_compiled_step_computes_what_the_plain_one_does(shape, first):
    model, tokens = toy_model(SHAPES[shape]), [7, 3, 30, 0, 12, 12, 5, 21, 9, 1, 2, 28]
    torch.testing.assert_close(logits(CompiledGPT(model), tokens, first), logits(model, tokens, first), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
def test_it_writes_the_same_text_beyond_a_block_too(shape, sampling):
    model, prompt = toy_model(SHAPES[shape]), torch.tensor([[4, 8, 15]])
    options = {"max_new_tokens": 40, "sampling": sampling, "seed": 3}
    plain, compiled = ([int(token) for token in generate(each, prompt, **options)] for each in (model, CompiledGPT(model)))
    assert compiled == plain


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_close(shape):
    model, tokens = toy_model(SHAPES[shape]), [7, 3, 30, 0, 12, 12, 5, 21, 9, 1, 2, 28]
    exact = logits(model, tokens, 1)
    assert (logits(CompiledGPT(model, int8=True), tokens, 1) - exact).abs().max() < 0.05 * exact.std()


@given(
    arrays(np.float32, (5, 24), elements=st.floats(-8, 8, width=32)),
    arrays(np.float32, 24, elements=st.floats(-99, 99, width=32)),
)
def test_an_int8_product_is_off_by_no_more_than_its_rounding(weight, x):
    linear = Linear(*rounded(weight[None]), np.zeros((1, 5), np.float32))
    found = np.empty(5, np.float32)
    multiply(linear, 0, x, found, 1)
    steps = np.abs(weight).max(1) / 127  # of each row; activations are rounded to 32767 steps on either side
    bound = np.abs(x).sum() * steps / 2 + np.abs(x).max() / 32767 / 2 * 127 * 24 * steps
    assert (np.abs(found - weight.astype(float) @ x.astype(float)) <= bound * 1.01 + 1e-4).all()


def test_gelu_is_that_of_torch():
    x = np.linspace(-12, 12, 2001, dtype=np.float32)
    expected = torch.nn.functional.gelu(torch.from_numpy(x.copy()), approximate="tanh").numpy()
    gelu(x)
    np.testing.assert_allclose(x, expected, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
def test_it_writes_several_texts_at_once(shape, sampling):
    model, prompts = toy_model(SHAPES[shape]), torch.tensor([[4, 8, 15], [16, 23, 4], [2, 2, 2]])
    options = {"max_new_tokens": 40, "sampling": sampling, "seed": 3}
    plain, compiled = (torch.stack(list(generate(each, prompts, **options))) for each in (model, CompiledGPT(model)))
    assert torch.equal(compiled, plain)


@pytest.mark.parametrize("then_gelu", [False, True])
@pytest.mark.parametrize("onednn", [False, HAS_ONEDNN])
def test_packed_products_are_those_of_torch(monkeypatch, then_gelu, onednn):
    monkeypatch.setattr("personacore.generation.packed.HAS_ONEDNN", onednn)
    x, weight, bias = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in ((3, 40), (24, 40), (24,)))
    expected = torch.nn.functional.linear(x, weight, bias)
    expected = torch.nn.functional.gelu(expected, approximate="tanh") if then_gelu else expected
    torch.testing.assert_close(PackedLinear(weight, bias, then_gelu)(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("int8", [False, True])
def test_threads_share_the_work_and_change_nothing(int8):
    model, found = CompiledGPT(toy_model(), int8), []
    for count in (1, 2, 3):
        with threads(count):
            found.append(logits(model, [7, 3, 30, 0, 12, 12, 5, 21, 9, 1, 2, 28], 1))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_pytorch_has_as_many_threads_afterwards_as_before(count):
    """OpenMP's number of threads is one for both, where numba uses it."""
    with threads(count):
        logits(CompiledGPT(toy_model()), [1, 2, 3, 4], 2)
        assert torch.get_num_threads() == count


def test_what_it_cannot_read_is_refused():
    model = CompiledGPT(toy_model())
    with pytest.raises(ValueError, match="one row"):
        CompiledGPT(toy_model(), int8=True).next_logits(
            torch.ones(2, 1, dtype=torch.long), KeyValueCache(TOY, 2, model.wte.weight)
        )
    with pytest.raises(ValueError, match="with a cache"):
        model.next_logits(torch.ones(1, 1, dtype=torch.long), None)
    with pytest.raises(ValueError, match="block_size"):
        model.next_logits(torch.ones(1, 13, dtype=torch.long), KeyValueCache(TOY, 1, model.wte.weight))


def test_a_long_row_adds_up_exactly():
    weight, x = np.full((1, 1, 4096), 127.0, np.float32), np.full(4096, 3.0, np.float32)
    found = np.empty(1, np.float32)
    multiply(Linear(*rounded(weight), np.zeros((1, 1), np.float32)), 0, x, found, 1)
    assert found[0] == pytest.approx(4096 * 127 * 3, rel=1e-6)


def test_an_adapter_that_is_attached_meanwhile_does_not_act():
    model, prompt = toy_model(), torch.tensor([[4, 8, 15]])
    compiled, options = CompiledGPT(model), {"max_new_tokens": 20, "sampling": GREEDY, "seed": 0}
    plain = [int(token) for token in generate(model, prompt, **options)]
    with randomized(LoRA(TOY, 2, 4.0)).attached(model):
        assert [int(token) for token in generate(model, prompt, **options)] != plain
        assert [int(token) for token in generate(compiled, prompt, **options)] == plain


def test_a_loaded_model_writes_by_it_as_it_does_without(monkeypatch):
    steps = []
    step = CompiledGPT.next_logits
    monkeypatch.setattr(CompiledGPT, "next_logits", lambda model, *given: steps.append(model.int8) or step(model, *given))
    core = Core(toy_model(dataclasses.replace(TOY, vocab_size=264)), Tokenizer([]))
    text = core.complete("Once", seed=1)
    assert steps == [] and text
    assert core.compiled().complete("Once", seed=1) == text and set(steps) == {False}
    assert core.compiled(int8=True).complete("Once", seed=1) and set(steps) == {False, True}


def test_without_numba_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "personacore.generation.compiled")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(UserError, match=r"pip install '.\[fast\]'"):
        Core(toy_model(), Tokenizer([])).compiled()
