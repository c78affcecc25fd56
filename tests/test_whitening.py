"""White coordinates: what an adapter computes does not depend on them, what it learns does."""

import pytest
import torch

from personacore.memory.whitening import FLOOR, inverse_root, white_roots, whitened
from personacore.model.lora import LoRA
from tests.toys import TOY, assert_same_bits, logits_of, state_of, taught, toy_model, toy_tokens


@pytest.fixture(scope="module")
def model():
    return toy_model()


@pytest.fixture(scope="module")
def roots(model):
    tokens = toy_tokens(rows=40)
    return white_roots(model, tokens, torch.ones_like(tokens))[0]


def test_an_inverse_root_whitens():
    x = torch.randn(5000, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2.0, 1.0, 1.0, 0.5, 0.2])
    moment = x.T @ x / len(x)
    root = inverse_root(moment)
    scaled = moment / moment.diagonal().mean() + FLOOR * torch.eye(6)
    assert torch.allclose(root @ scaled @ root, torch.eye(6), atol=1e-4)


def test_every_projection_has_a_root_of_its_own_inputs(model, roots):
    x = model.blocks[0].ln_1(model.wte(toy_tokens(rows=40)) + model.wpe.weight[: TOY.block_size]).flatten(0, 1)
    assert torch.allclose(roots["blocks.0.attn.q_proj"], inverse_root(x.T @ x), atol=1e-4)
    assert set(roots) == set(LoRA(TOY, 2, 1.0).pairs())


def test_the_hidden_states_come_along(model):
    tokens = toy_tokens(rows=40)
    hidden = white_roots(model, tokens, torch.ones_like(tokens))[1]
    assert torch.allclose(hidden, model.hidden(tokens), atol=1e-5)


def test_tokens_of_no_weight_do_not_count(model):
    tokens = toy_tokens(rows=40)
    weights = torch.ones_like(tokens)
    weights[:20] = 0
    some, half = white_roots(model, tokens, weights)[0], white_roots(model, tokens[20:], weights[20:])[0]
    assert all(torch.allclose(some[name], half[name], atol=1e-3) for name in some)


def test_an_adapter_computes_the_same_in_white_coordinates_and_after(model, roots):
    lora, tokens = taught(), toy_tokens()
    before = logits_of(model, lora, tokens)
    with whitened(lora, roots):
        assert torch.allclose(logits_of(model, lora, tokens), before, atol=1e-3)
    assert torch.allclose(logits_of(model, lora, tokens), before, atol=1e-3)
    assert list(state_of(lora)) == list(state_of(taught()))


def test_a_step_in_white_coordinates_moves_what_ordinary_text_uses_least(model, roots):
    lora = taught()
    name = "blocks.1.mlp.fc_in"
    with whitened(lora, roots):
        pair = lora.pairs()[name]
        with torch.no_grad():
            pair.parametrizations.a.original.add_(torch.ones(lora.rank, TOY.n_embd))
    moved = lora.pairs()[name].a - taught().pairs()[name].a
    assert torch.allclose(moved, (torch.ones(lora.rank, TOY.n_embd) @ roots[name]), atol=1e-3)


def test_the_model_is_left_as_it_was(model):
    before = state_of(model)
    white_roots(model, toy_tokens(), torch.ones(4, TOY.block_size))
    assert_same_bits(state_of(model), before)
    assert not any(module._forward_hooks for module in model.modules())
