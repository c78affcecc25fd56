import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from personacore.errors import UserError
from personacore.memory.ewc import EWC, diagonal_fisher, load_fisher, save_fisher
from personacore.model.gpt import GPT, GPTConfig
from personacore.model.tensors import save_tensors
from personacore.training.loss import assemble_loss, linear_cross_entropy

TOY = GPTConfig(vocab_size=11, n_layer=1, n_head=2, n_embd=4, block_size=6, dropout=0.5)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cross_entropy(model, example):
    features, label = example
    return functional.cross_entropy(model(features), label)


def squared_error(model, example):
    features, target = example
    return 0.5 * (model(features) - target).square().sum()


def story_loss(model, row):
    return linear_cross_entropy(model.hidden(row[None, :-1])[0], model.lm_head.weight, row[1:], 1.0)


def toy_gpt(tie: bool = True) -> GPT:
    model = GPT(GPTConfig(**vars(TOY) | {"tie_weights": tie}))
    model.reset_parameters(0)
    return model


def rows() -> list[torch.Tensor]:
    return list(torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(2)))


def linear(outputs: int, features: int) -> nn.Linear:
    layer = nn.Linear(features, outputs)
    layer.load_state_dict({"weight": random(outputs, features, seed=7), "bias": random(outputs, seed=8)})
    return layer


def train(model, inputs, targets, penalties=()) -> nn.Linear:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        assemble_loss(functional.mse_loss(model(inputs), targets), penalties).backward()
        optimizer.step()
    return model


def test_of_a_softmax_regression_it_is_the_mean_of_squared_residual_times_squared_feature():
    model, features, labels = linear(4, 3), random(20, 3), torch.arange(20) % 4
    fisher = diagonal_fisher(model, cross_entropy, zip(features, labels, strict=True))
    residuals = (model(features).softmax(dim=1) - functional.one_hot(labels, 4)).detach()
    expected = (residuals[:, :, None] ** 2 * features[:, None, :] ** 2).mean(dim=0)
    torch.testing.assert_close(fisher["weight"], expected)
    torch.testing.assert_close(fisher["bias"], (residuals**2).mean(dim=0))


def test_of_a_gaussian_linear_model_it_is_the_mean_of_squared_residual_times_squared_feature():
    model, features, targets = linear(1, 3), random(20, 3), random(20, 1, seed=1)
    fisher = diagonal_fisher(model, squared_error, zip(features, targets, strict=True))
    residuals = (model(features) - targets).detach()
    torch.testing.assert_close(fisher["weight"], (residuals**2 * features**2).mean(dim=0, keepdim=True))
    torch.testing.assert_close(fisher["bias"], (residuals**2).mean(dim=0))


def test_with_labels_drawn_from_the_model_it_tends_to_the_true_fisher_information():
    model, features = nn.Linear(2, 1, bias=False), torch.tensor([1.0, -0.5])
    model.load_state_dict({"weight": torch.tensor([[0.9, 0.3]])})
    chance = model(features).sigmoid().detach()
    labels = torch.bernoulli(chance.expand(3000, 1), generator=torch.Generator().manual_seed(0))
    loss = lambda model, label: functional.binary_cross_entropy_with_logits(model(features), label)  # noqa: E731
    fisher = diagonal_fisher(model, loss, labels)
    torch.testing.assert_close(fisher["weight"][0], chance * (1 - chance) * features**2, rtol=0.05, atol=0)


def test_examples_whose_gradients_cancel_still_count():
    model, loss = nn.Linear(1, 1, bias=False), lambda model, example: model(example).sum()
    pair = torch.tensor([[2.0], [-2.0]])
    assert torch.autograd.grad(loss(model, pair) / 2, model.weight)[0].item() == 0
    assert diagonal_fisher(model, loss, pair)["weight"].item() == 4


@pytest.mark.parametrize("tie", [True, False])
def test_of_a_gpt_it_has_every_parameter_once_and_a_shared_one_with_both_its_uses(tie):
    model = toy_gpt(tie)
    fisher = diagonal_fisher(model, story_loss, rows())
    expected = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    model.eval()
    for row in rows():
        model.zero_grad()
        functional.cross_entropy(model(row[None, :-1])[0], row[1:], reduction="sum").backward()
        for name, parameter in model.named_parameters():
            expected[name] += parameter.grad**2 / 3
    assert ("lm_head.weight" in fisher) is not tie
    torch.testing.assert_close(fisher, expected, rtol=1e-4, atol=1e-6)


def test_a_frozen_parameter_has_none_and_an_unused_one_zeros():
    model = nn.ModuleDict({"used": linear(2, 3), "unused": linear(2, 3)})
    model["used"].bias.requires_grad_(False)
    fisher = diagonal_fisher(model, lambda model, features: model["used"](features).logsumexp(0), random(4, 3))
    assert fisher.keys() == {"used.weight", "unused.weight", "unused.bias"}
    assert fisher["used.weight"].abs().sum() > 0
    assert fisher["unused.weight"].shape == (2, 3) and not fisher["unused.weight"].any()


def test_gradients_modes_and_weights_are_left_as_they_were():
    model = toy_gpt().train()
    model.ln_f.eval()
    modes = {module: module.training for module in model.modules()}
    model.wte.weight.grad = torch.ones_like(model.wte.weight)
    before = copy.deepcopy(model.state_dict())
    seen = []

    def loss(model, row):
        seen.append({module.training for module in model.modules()})
        return story_loss(model, row)

    with torch.no_grad():  # as around any evaluation
        diagonal_fisher(model, loss, rows())
    with pytest.raises(UserError):
        diagonal_fisher(model, lambda model, row: story_loss(model, row) * torch.nan, rows())
    assert seen == [{False}] * 3
    assert {module: module.training for module in model.modules()} == modes
    assert torch.equal(model.wte.weight.grad, torch.ones_like(model.wte.weight))
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name != "wte.weight")
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_half_precision_squares_do_not_vanish():
    model = nn.Linear(1, 1, bias=False).half()
    fisher = diagonal_fisher(model, lambda model, features: model(features).sum(), [torch.tensor([1e-4]).half()])
    assert fisher["weight"].item() == pytest.approx(1e-8, rel=0.01)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_is_refused_with_its_example(bad):
    examples = [torch.tensor([1.0]), torch.tensor([bad])]
    with pytest.raises(UserError, match="example 1 has loss"):
        diagonal_fisher(nn.Linear(1, 1), lambda model, features: model(features).square().sum(), examples)


def test_a_square_that_overflows_is_refused_with_its_parameter():
    with pytest.raises(UserError, match="of weight is not finite"):
        diagonal_fisher(nn.Linear(1, 1), lambda model, features: model(features).sum(), torch.tensor([[1e30]]))


def test_no_examples_are_refused():
    with pytest.raises(UserError, match="no examples"):
        diagonal_fisher(nn.Linear(1, 1), cross_entropy, [])


def test_the_penalty_and_its_gradient_are_those_of_the_formula():
    model, anchor = linear(2, 3), {"weight": random(2, 3, seed=1), "bias": random(2, seed=2)}
    fisher = {"weight": random(2, 3, seed=3).square(), "bias": random(2, seed=4).square()}
    penalty = EWC(model, fisher, 5.0, anchor)()
    penalty.backward()
    assert penalty.shape == ()
    distance = {name: parameter.detach() - anchor[name] for name, parameter in model.named_parameters()}
    assert penalty.item() == pytest.approx(sum((2.5 * fisher[name] * distance[name] ** 2).sum().item() for name in fisher))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 5.0 * fisher[name] * distance[name])


def test_the_anchor_is_where_the_model_stood_and_stays_there():
    model = linear(1, 1)
    ewc = EWC(model, {"weight": torch.ones(1, 1), "bias": torch.zeros(1)}, 2.0)
    assert ewc().item() == 0
    with torch.no_grad():
        model.weight += 3
        model.bias += 100  # zeros leave it free
    assert ewc().item() == pytest.approx(9)


def test_without_strength_there_is_no_penalty_and_no_gradient():
    model = linear(2, 3)
    ewc = EWC(model, {name: torch.ones_like(parameter) for name, parameter in model.named_parameters()}, 0.0)
    with torch.no_grad():
        model.weight += 1
    ewc().backward()
    assert ewc().item() == 0
    assert not model.weight.grad.any() and not model.bias.grad.any()


def test_a_shared_weight_is_held_once():
    model = toy_gpt()
    ewc = EWC(model, {name: torch.ones_like(parameter) for name, parameter in model.named_parameters()}, 2.0)
    with torch.no_grad():
        model.wte.weight += 1
    assert ewc().item() == pytest.approx(model.wte.weight.numel())


def test_the_penalty_follows_parameters_that_are_replaced():
    model = linear(1, 1)
    ewc = EWC(model, {"weight": torch.ones(1, 1), "bias": torch.ones(1)}, 2.0)
    model.weight = nn.Parameter(model.weight.detach() + 2)
    ewc().backward()
    assert model.weight.grad.item() == pytest.approx(4)


def test_a_second_task_is_learned_and_the_first_kept():
    # The first task sees features 0 to 3 alone, the second sees each twice: the weights of the copies suffice to learn it.
    features, free = random(2, 12, 4), torch.zeros(12, 4)
    inputs = [torch.cat([features[0], free], dim=1), torch.cat([features[1], features[1]], dim=1)]
    targets = [inputs[0] @ random(8, 1, seed=1) + 0.1 * random(12, 1, seed=2), inputs[1] @ random(8, 1, seed=3)]
    loss = lambda model, task: functional.mse_loss(model(inputs[task]), targets[task]).item()  # noqa: E731
    model = train(linear(1, 8), inputs[0], targets[0])
    plain, held = copy.deepcopy(model), copy.deepcopy(model)
    ewc = EWC(held, diagonal_fisher(held, squared_error, zip(inputs[0], targets[0], strict=True)), 1000.0)
    train(plain, inputs[1], targets[1])
    train(held, inputs[1], targets[1], [ewc])
    assert loss(model, 0) < 0.01 and loss(model, 1) > 1
    assert loss(plain, 1) < 0.001 and loss(plain, 0) > 50 * loss(model, 0)
    assert loss(held, 1) < 0.001 and loss(held, 0) < 1.01 * loss(model, 0)


def test_fisher_information_comes_back_from_its_file(tmp_path):
    fisher = diagonal_fisher(toy_gpt(), story_loss, rows())
    save_fisher(tmp_path / "fisher.safetensors", fisher, {"weights_sha256": "abc", "examples": 3})
    found, provenance = load_fisher(tmp_path / "fisher.safetensors")
    assert provenance == {"weights_sha256": "abc", "examples": 3}
    torch.testing.assert_close(found, fisher, rtol=0, atol=0)
    EWC(toy_gpt(), found, 1.0)


def test_a_file_of_something_else_is_refused_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"weight": torch.ones(1)}, {"config": {}})
    with pytest.raises(UserError, match=r"model\.safetensors holds no Fisher information"):
        load_fisher(path)


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_a_strength_that_is_no_weight_is_refused(strength):
    with pytest.raises(UserError, match="EWC strength"):
        EWC(linear(1, 2), {"weight": torch.ones(1, 2), "bias": torch.ones(1)}, strength)


@pytest.mark.parametrize(
    ("fisher", "anchor", "words"),
    [
        ({"extra": torch.ones(1)}, {}, "of extra: the model has no such parameter"),
        ({"bias": None}, {}, "of bias is missing: give zeros"),
        ({"weight": torch.ones(2, 1)}, {}, r"Fisher information of weight has shape \(2, 1\), not \(1, 2\)"),
        ({"weight": torch.tensor([[1.0, -1.0]])}, {}, "Fisher information of weight is negative"),
        ({"weight": torch.tensor([[1.0, torch.nan]])}, {}, "Fisher information of weight is not finite"),
        ({}, {"weight": None}, "anchor of weight is missing"),
        ({}, {"bias": torch.ones(2)}, r"anchor of bias has shape \(2,\), not \(1,\)"),
        ({}, {"bias": torch.tensor([torch.inf])}, "anchor of bias is not finite"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_the_name_of_the_parameter(fisher, anchor, words):
    ones = {"weight": torch.ones(1, 2), "bias": torch.ones(1)}
    changed = [{name: tensor for name, tensor in (ones | change).items() if tensor is not None} for change in (fisher, anchor)]
    with pytest.raises(UserError, match=words):
        EWC(linear(1, 2), changed[0], 1.0, changed[1])
