"""float32 products by oneDNN are PyTorch's, values and gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from personacore.model.products import FEWEST, Linear, product


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def twins(inputs: int, outputs: int) -> tuple[Linear, nn.Linear]:
    """The layer and PyTorch's, with the same weights."""
    ours, theirs = Linear(inputs, outputs), nn.Linear(inputs, outputs)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@given(st.lists(st.integers(0, 9), min_size=1, max_size=2), st.integers(1, 40), st.integers(1, 40))
def test_values_and_gradients_are_those_of_a_plain_linear_layer(shape, inputs, outputs):
    ours, theirs = twins(inputs, outputs)
    x = torch.randn(*shape, inputs)
    found, wanted = [], []
    for layer, kept in ((ours, found), (theirs, wanted)):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        kept += [y.detach(), *torch.autograd.grad(y.square().sum(), (leaf, layer.weight, layer.bias))]
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_of_transposed_matrices_is_exact_to_rounding(transposed):
    x, weight = torch.randn(96, 64), torch.randn(80, 64)
    if transposed:
        x, weight = x.T.contiguous().T, weight.T.contiguous().T
    exact = x.double() @ weight.double().T
    assert (product(x, weight).double() - exact).abs().max() < 1e-4


def test_few_rows_and_autocast_are_pytorchs_to_the_bit():
    ours, theirs = twins(32, 48)
    x = torch.randn(FEWEST, 32)
    assert ours(x[1:]).equal(theirs(x[1:]))
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).equal(theirs(x))


def test_only_the_gradients_that_are_asked_for_are_computed():
    layer, x = twins(32, 48)[0].requires_grad_(False), torch.randn(FEWEST, 32, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None and layer.weight.grad is None and layer.bias.grad is None
