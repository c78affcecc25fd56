import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from personacore.model.gpt import GPT, PROJECTIONS, GPTConfig
from personacore.params import load_params
from personacore.training.optimizer import Muon, build_optimizers, orthogonalize

TRAIN = load_params(Path(__file__).parent.parent / "params.yaml").train
CONFIG = GPTConfig(vocab_size=16, n_layer=2, n_head=2, n_embd=8, block_size=4)
MODELS = [(tie, position) for tie in (True, False) for position in ("learned", "none")]


def named_groups(optimizer: str, tie: bool = True, position: str = "learned"):
    """For each group of each optimizer: whose it is, its decay, and the names of its parameters."""
    model = GPT(dataclasses.replace(CONFIG, tie_weights=tie, position=position))
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizers = build_optimizers(model, dataclasses.replace(TRAIN, optimizer=optimizer, weight_decay=0.1))
    groups = [
        (type(built).__name__, group["weight_decay"], [names[parameter] for parameter in group["params"]])
        for built in optimizers
        for group in built.param_groups
    ]
    return groups, set(names.values())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(("tie", "position"), MODELS)
def test_every_parameter_is_in_exactly_one_group(optimizer, tie, position):
    groups, names = named_groups(optimizer, tie, position)
    held = [name for _, _, group in groups for name in group]
    assert sorted(held) == sorted(names)
    assert ("lm_head.weight" in names) is not tie


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(("tie", "position"), MODELS)
def test_matrices_and_token_embeddings_decay_and_nothing_else(optimizer, tie, position):
    groups, names = named_groups(optimizer, tie, position)
    decayed = {name for _, decay, group in groups for name in group if decay == 0.1}
    spared = {name for _, decay, group in groups for name in group if decay == 0.0}
    matrices = {name for name in names if name.endswith(".weight") and name.split(".")[-2] in PROJECTIONS}
    assert decayed == names & (matrices | {"wte.weight", "lm_head.weight"})
    assert all(name.endswith(".bias") or ".ln_" in f".{name}" or name == "wpe.weight" for name in spared)


def test_muon_has_the_projections_of_the_blocks_and_adamw_the_rest():
    groups, names = named_groups("muon", tie=False)
    muon = {name for kind, _, group in groups for name in group if kind == "Muon"}
    assert muon == {name for name in names if name.endswith(".weight") and name.split(".")[-2] in PROJECTIONS}
    assert {kind for kind, _, _ in named_groups("adamw")[0]} == {"AdamW"}


@settings(max_examples=25)
@given(st.integers(2, 40), st.integers(2, 40), st.floats(1e-6, 1e6), st.integers(0, 2**32))
def test_orthogonalize_keeps_the_singular_vectors_and_brings_the_values_near_one(rows, columns, scale, seed):
    torch.manual_seed(seed)
    rank = min(rows, columns)
    left, right = torch.linalg.qr(torch.randn(rows, rank))[0], torch.linalg.qr(torch.randn(columns, rank))[0]
    values = torch.linspace(1, 0.1, rank)
    update = orthogonalize(((left * values * scale) @ right.T)[None])[0]
    inner = left.T @ update @ right  # diagonal, if the singular vectors are still the same
    assert update.shape == (rows, columns)
    assert (inner.diagonal() > 0.6).all() and (inner.diagonal() < 1.3).all()
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-3
    assert (update - left @ inner @ right.T).abs().max() < 1e-3


def test_orthogonalizing_a_stack_is_orthogonalizing_each_matrix():
    stack = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalize(stack), torch.cat([orthogonalize(matrix[None]) for matrix in stack]))
    torch.testing.assert_close(orthogonalize(stack.mT), orthogonalize(stack).mT)


def test_a_matrix_of_zeros_stays_zero():
    assert orthogonalize(torch.zeros(1, 4, 6)).abs().max() == 0


@pytest.mark.parametrize("shape", [(12, 3), (3, 12)])
def test_a_muon_step_moves_along_the_orthogonal_factor_of_its_nesterov_momentum(shape):
    generator = torch.Generator().manual_seed(1)
    parameter = nn.Parameter(torch.randn(shape, generator=generator))
    before, muon = parameter.detach().clone(), Muon([parameter], lr=0.1, momentum=0.95, weight_decay=0.0)
    momentum, expected = torch.zeros(shape), before.clone()
    for _ in range(3):
        parameter.grad = torch.randn(shape, generator=generator)
        momentum = 0.95 * momentum + 0.05 * parameter.grad
        update = orthogonalize((0.05 * parameter.grad + 0.95 * momentum)[None])[0]
        expected -= 0.1 * max(1, shape[0] / shape[1]) ** 0.5 * update
        muon.step()
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-5)


def test_muon_decays_weights_apart_from_the_gradient():
    parameter = nn.Parameter(torch.ones(4, 4))
    parameter.grad = torch.zeros(4, 4)
    Muon([parameter], lr=0.1, momentum=0.95, weight_decay=0.5).step()
    torch.testing.assert_close(parameter.detach(), torch.full((4, 4), 0.95))


@pytest.mark.parametrize("shape", [(48, 32), (32, 48)])
def test_a_muon_step_in_bf16_stays_near_that_in_float32_and_keeps_its_state_in_float32(shape):
    weight, gradient = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2))
    moved = []
    for dtype in (torch.float32, torch.bfloat16):
        parameter = nn.Parameter(weight.clone())
        parameter.grad = gradient.clone()
        muon = Muon([parameter], lr=0.1, momentum=0.95, weight_decay=0.0, dtype=dtype)
        muon.step()
        moved.append(parameter.detach() - weight)
        assert parameter.dtype == muon.state[parameter]["momentum"].dtype == torch.float32
    assert (moved[1] - moved[0]).norm() < 0.05 * moved[0].norm()
