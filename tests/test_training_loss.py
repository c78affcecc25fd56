import pytest
import torch
from torch.nn import functional

from personacore.training import loss
from personacore.training.loss import assemble_loss, linear_cross_entropy


def problem(rows=50, width=12, vocabulary=37, dtype=torch.float32):
    """Hidden states, a weight and targets."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(rows, width, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator).requires_grad_()
    return hidden, weight, torch.randint(vocabulary, (rows,), generator=generator)


def reference(hidden, weight, targets, scale):
    """The same loss and its gradients, by PyTorch and with all the logits."""
    value = functional.cross_entropy(hidden @ weight.T, targets, reduction="sum") * scale
    return value.detach(), *torch.autograd.grad(value, (hidden, weight))


@pytest.mark.parametrize("chunk", [1, 7, 50, 1024])
def test_loss_and_gradients_are_those_of_cross_entropy_whatever_the_chunk(monkeypatch, chunk):
    monkeypatch.setattr(loss, "CHUNK", chunk)
    hidden, weight, targets = problem()
    value = linear_cross_entropy(hidden, weight, targets, scale=1 / 50)
    value.backward()
    for found, wanted in zip((value, hidden.grad, weight.grad), reference(hidden, weight, targets, 1 / 50), strict=True):
        torch.testing.assert_close(found.detach(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [7, 1024])
def test_in_bf16_loss_and_gradients_stay_within_its_precision(monkeypatch, chunk):
    monkeypatch.setattr(loss, "CHUNK", chunk)
    hidden, weight, targets = problem(dtype=torch.bfloat16)
    value = linear_cross_entropy(hidden, weight, targets, scale=1 / 50)
    value.backward()
    assert (value.dtype, hidden.grad.dtype, weight.grad.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    exact = reference(hidden.detach().float().requires_grad_(), weight, targets, 1 / 50)
    for found, wanted in zip((value.detach(), hidden.grad.float(), weight.grad), exact, strict=True):
        assert (found - wanted).norm() <= 0.02 * wanted.norm()


def test_the_gradient_follows_what_is_done_with_the_loss():
    hidden, weight, targets = problem()
    (3 * linear_cross_entropy(hidden, weight, targets, scale=1.0)).backward()
    _, hidden_grad, weight_grad = reference(hidden, weight, targets, 3.0)
    torch.testing.assert_close(hidden.grad, hidden_grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weight.grad, weight_grad, rtol=1e-5, atol=1e-5)


def test_a_tied_weight_collects_the_gradients_of_both_its_uses():
    _, weight, targets = problem()
    tokens = torch.arange(len(targets)) % len(weight)
    linear_cross_entropy(functional.embedding(tokens, weight), weight, targets, scale=1.0).backward()
    twin = weight.detach().clone().requires_grad_()
    functional.cross_entropy(functional.embedding(tokens, twin) @ twin.T, targets, reduction="sum").backward()
    torch.testing.assert_close(weight.grad, twin.grad, rtol=1e-5, atol=1e-5)


def test_huge_logits_do_not_overflow():
    hidden, weight, targets = problem()
    value = linear_cross_entropy((hidden * 1e6), weight, targets, scale=1.0)
    value.backward()
    assert value.isfinite() and hidden.grad.isfinite().all() and weight.grad.isfinite().all()


def test_without_penalties_the_loss_is_the_base():
    base = torch.tensor(2.5)
    assert assemble_loss(base) is base


def test_penalties_add_their_values_and_their_gradients():
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    anchor = torch.tensor([0.5, 0.5])
    pull = lambda: 0.5 * (weight - anchor).square().sum()  # noqa: E731
    total = assemble_loss(weight.sum(), [pull, lambda: 3 * weight[0]])
    total.backward()
    assert total.item() == pytest.approx(-1 + 0.5 * (0.25 + 6.25) + 3)
    assert weight.grad.tolist() == pytest.approx([1 + 0.5 + 3, 1 - 2.5])
