import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from personacore.errors import UserError
from personacore.generation.generate import generate
from personacore.generation.sampling import Sampling
from personacore.model.gpt import GPT, PROJECTIONS, GPTConfig, KeyValueCache
from personacore.model.lora import LoRA
from tests.toys import TOY, assert_same_bits, logits_of, state_of, taught, toy_model, toy_tokens

BASE, TOKENIZER = "ba5e" * 16, "70ce" * 16
HASHES = {"base_sha256": BASE, "tokenizer_sha256": TOKENIZER}


def learn(model: GPT, lora: LoRA, tokens: torch.Tensor, steps: int = 3, rate: float = 0.3) -> None:
    with lora.attached(model):
        for _ in range(steps):
            nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
            with torch.no_grad():
                for parameter in lora.parameters():
                    parameter.sub_(rate * parameter.grad)
                    parameter.grad = None


# What an adapter is


def test_parameters_are_named_after_the_projections_they_change():
    shapes = {name: tuple(parameter.shape) for name, parameter in LoRA(TOY, 3, 6.0).named_parameters()}
    assert len(shapes) == 2 * 2 * len(PROJECTIONS)
    assert shapes["blocks.0.attn.q_proj.a"] == (3, 8) and shapes["blocks.0.attn.q_proj.b"] == (8, 3)
    assert shapes["blocks.1.mlp.fc_in.a"] == (3, 8) and shapes["blocks.1.mlp.fc_in.b"] == (32, 3)
    assert shapes["blocks.1.mlp.fc_out.a"] == (3, 32) and shapes["blocks.1.mlp.fc_out.b"] == (8, 3)
    linears = {name for name, module in toy_model().named_modules() if isinstance(module, nn.Linear)} - {"lm_head"}
    assert {name.rpartition(".")[0] for name in shapes} == linears == set(LoRA(TOY, 3, 6.0).pairs())


def test_only_the_targets_get_parameters_and_their_order_does_not_matter():
    lora = LoRA(TOY, 2, 4.0, ["fc_out", "q_proj"], seed=5)
    assert lora.targets == ("q_proj", "fc_out")
    assert [name for name, _ in lora.named_parameters() if "blocks.1" in name] == [
        f"blocks.1.{name}" for name in ("attn.q_proj.a", "attn.q_proj.b", "mlp.fc_out.a", "mlp.fc_out.b")
    ]
    assert_same_bits(state_of(LoRA(TOY, 2, 4.0, ["q_proj", "fc_out"], seed=5)), state_of(lora))


def test_parameters_are_counted_for_all_people_together():
    single = 2 * (4 * 3 * (8 + 8) + 2 * 3 * (8 + 32))
    assert LoRA(TOY, 3, 6.0).parameter_count() == single
    assert LoRA(TOY, 3, 6.0, people=5).parameter_count() == 5 * single


def test_a_begins_normal_over_the_root_of_its_width_and_b_zero():
    lora = LoRA(GPTConfig(vocab_size=5, n_layer=2, n_head=2, n_embd=128, block_size=4), 16, 16.0)
    for name, pair in lora.pairs().items():
        width = 512 if name.endswith("fc_out") else 128
        assert pair.a.std().item() == pytest.approx(1 / math.sqrt(width), rel=0.06), name
        assert pair.b.abs().max() == 0, name


def test_equal_seeds_give_equal_factors_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    one, same, other = (state_of(LoRA(TOY, 3, 6.0, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_bits(same, one)
    assert not torch.equal(other["blocks.0.attn.q_proj.a"], one["blocks.0.attn.q_proj.a"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 0}, "rank: 0"),
        ({"alpha": 0.0}, "alpha: 0.0"),
        ({"alpha": -1.0}, "alpha: -1.0"),
        ({"alpha": float("nan")}, "alpha: nan"),
        ({"alpha": float("inf")}, "alpha: inf"),
        ({"targets": []}, r"targets: \[\]"),
        ({"targets": ["q_proj", "lm_head"]}, "lm_head"),
        ({"targets": "q_proj"}, "targets: q_proj"),
        ({"people": 0}, "people: 0"),
    ],
    ids=str,
)
def test_a_setting_that_makes_no_adapter_is_refused_by_value(settings, words):
    with pytest.raises(UserError, match=words):
        LoRA(**({"config": TOY, "rank": 2, "alpha": 4.0} | settings))


# Attached, off, detached


@pytest.mark.parametrize("people", [None, 2])
def test_a_new_adapter_changes_nothing(people):
    model, tokens = toy_model(), toy_tokens()
    assert torch.equal(logits_of(model, LoRA(TOY, 3, 6.0, people=people), tokens), model(tokens))


def test_the_base_keeps_its_modules_parameters_and_names():
    model, lora = toy_model(), taught()
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    before, own = state_of(model), list(lora.state_dict())
    with lora.attached(model) as entered:
        assert entered is lora
        assert list(model.named_modules()) == list(modules.items())
        assert all(found is parameters[name] for name, found in model.named_parameters())
        assert len(list(model.named_parameters())) == len(parameters)
        assert_same_bits(state_of(model), before)
        assert list(lora.state_dict()) == own


def test_the_base_is_the_same_bits_with_a_taught_adapter_off_or_detached():
    model, tokens, lora = toy_model(), toy_tokens(), LoRA(TOY, 3, 6.0)
    weights, logits = state_of(model), model(tokens)
    learn(model, lora, tokens)
    assert torch.equal(model(tokens), logits)
    with lora.attached(model):
        assert (model(tokens) - logits).abs().max() > 0.01
        lora.enabled = False
        assert torch.equal(model(tokens), logits)
        lora.enabled = True
        assert not torch.equal(model(tokens), logits)
    assert torch.equal(model(tokens), logits)
    assert not any(module._forward_hooks for module in model.modules())
    assert_same_bits(state_of(model), weights)


def test_the_adapter_learns_and_the_frozen_base_gets_no_gradient():
    model, tokens, lora = toy_model(), toy_tokens(), LoRA(TOY, 3, 6.0)
    before = state_of(lora)
    learn(model, lora, tokens)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not torch.equal(tensor, before[name]) for name, tensor in lora.state_dict().items())


def test_an_adapter_with_an_invocation_leaves_what_stands_before_it_to_the_base_bit_for_bit():
    model, tokens, lora = toy_model(), toy_tokens(), taught(invocation=9)
    tokens[tokens == 9] = 8
    assert torch.equal(logits_of(model, lora, tokens), model(tokens))
    tokens[0, 2] = 9
    adapted, base = logits_of(model, lora, tokens), model(tokens)
    assert torch.equal(adapted[0, :2], base[0, :2])
    assert (adapted[0, 2:] != base[0, 2:]).any(-1).all()
    assert torch.equal(adapted[1:], base[1:])


def test_from_its_invocation_on_an_adapter_acts_as_one_that_acts_everywhere():
    model, tokens = toy_model(), toy_tokens()
    tokens[:, 0] = 9
    assert_close(logits_of(model, taught(invocation=9), tokens), logits_of(model, taught(), tokens))


def test_a_cache_remembers_that_the_invocation_was_read():
    model, lora = toy_model(), taught(invocation=9)
    tokens = toy_tokens()
    tokens[tokens == 9] = 8
    tokens[0, 1] = 9
    whole = logits_of(model, lora, tokens)
    with lora.attached(model), torch.no_grad():
        cache = KeyValueCache(TOY, len(tokens), model.wte.weight)
        pieces = [model(piece, cache) for piece in (tokens[:, :3], *tokens[:, 3:].split(1, dim=1))]
    assert_close(torch.cat(pieces, dim=1), whole)


def test_attaching_twice_is_an_error_and_detaching_twice_is_not():
    model, lora = toy_model(), taught()
    lora.attach(model)
    for again in (model, toy_model()):
        with pytest.raises(RuntimeError, match="attached already"):
            lora.attach(again)
    lora.detach()
    lora.detach()
    lora.attach(model)
    lora.detach()


def test_an_adapter_is_detached_when_the_block_fails():
    model, lora = toy_model(), taught()
    with pytest.raises(KeyError), lora.attached(model):
        raise KeyError
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("change", [{"n_layer": 3}, {"n_embd": 16}], ids=str)
def test_a_model_of_another_shape_is_refused_and_left_alone(change):
    model, lora = toy_model(dataclasses.replace(TOY, **change)), taught()
    for use in (lora.attach, lora.merge_into):
        with pytest.raises(ValueError, match="does not fit a model of"):
            use(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_adapters_attached_to_one_model_add_up():
    model, tokens, first, second = toy_model(), toy_tokens(), taught(1), taught(2, rank=2)
    with first.attached(model):
        both = logits_of(model, second, tokens)
    torch.testing.assert_close(both, logits_of(model, LoRA.concatenate([first, second]), tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("use_attention", [False, True], ids=["fused", "written out"])
def test_outputs_and_gradients_equal_those_of_peft(use_attention):
    peft = pytest.importorskip("peft")
    model, tokens, lora = toy_model(), toy_tokens(), taught()
    model.use_attention(use_attention)
    settings = peft.LoraConfig(r=3, lora_alpha=6, target_modules=list(PROJECTIONS), lora_dropout=0.0, bias="none")
    peer = peft.inject_adapter_in_model(settings, copy.deepcopy(model)).eval()
    modules = dict(peer.named_modules())
    factors = {}
    for name, pair in lora.pairs().items():
        factors[f"{name}.a"], factors[f"{name}.b"] = (
            getattr(modules[name], kind)["default"].weight for kind in ("lora_A", "lora_B")
        )
        for kind in "ab":
            factors[f"{name}.{kind}"].data.copy_(getattr(pair, kind))
    assert {id(factor) for factor in factors.values()} == {id(p) for p in peer.parameters() if p.requires_grad}
    weighing = torch.randn(31, generator=torch.Generator().manual_seed(3)) / tokens.numel()  # of the logits in the loss
    with lora.attached(model):
        logits = model(tokens)
        (logits * weighing).sum().backward()
    expected = peer(tokens)
    (expected * weighing).sum().backward()
    assert (expected - model(tokens)).std() > 0.1
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-6)
    for name, parameter in lora.named_parameters():
        assert factors[name].grad.abs().max() > 1e-4, name
        torch.testing.assert_close(parameter.grad, factors[name].grad, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("people", [None, 2])
def test_an_adapter_works_in_mixed_precision(people):
    model, tokens = toy_model(), toy_tokens()
    lora = taught() if people is None else LoRA.stack([taught(1), taught(2)])
    expected = logits_of(model, lora, tokens)
    with lora.attached(model), torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
        logits.float().logsumexp(-1).sum().backward()
    torch.testing.assert_close(logits.float(), expected, atol=0.1, rtol=0.1)
    assert all(parameter.grad.dtype == torch.float32 for parameter in lora.parameters())


# Several people


def test_every_person_begins_with_the_a_of_a_single_adapter():
    single, people = LoRA(TOY, 3, 6.0, seed=4), LoRA(TOY, 3, 6.0, people=3, seed=4)
    for p in range(3):
        assert_same_bits(state_of(people.person(p)), state_of(single))


def test_a_batch_over_people_equals_each_alone():
    model, tokens = toy_model(), toy_tokens(6)
    adapters = [taught(seed) for seed in range(3)]
    together = logits_of(model, LoRA.stack(adapters), tokens)
    alone = torch.cat([logits_of(model, lora, rows) for lora, rows in zip(adapters, tokens.split(2), strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert (together - model(tokens)).std() > 0.1


def test_learning_together_equals_learning_alone():
    model, tokens = toy_model(), toy_tokens(6)
    gradients, people = [], LoRA.stack([taught(seed) for seed in range(3)])
    with people.attached(model):
        model(tokens).logsumexp(-1).sum().backward()
    for p, rows in enumerate(tokens.split(2)):
        lora = people.person(p)
        with lora.attached(model):
            model(rows).logsumexp(-1).sum().backward()
        gradients.append({name: parameter.grad for name, parameter in lora.named_parameters()})
    for name, parameter in people.named_parameters():
        expected = torch.stack([each[name] for each in gradients])
        torch.testing.assert_close(parameter.grad, expected, atol=1e-3, rtol=1e-4, msg=name)


def test_what_one_person_says_never_reaches_another():
    model, tokens, people = toy_model(), toy_tokens(6), LoRA.stack([taught(seed) for seed in range(3)])
    with people.attached(model):
        model(tokens)[2:4].logsumexp(-1).sum().backward()
    for name, parameter in people.named_parameters():
        assert parameter.grad[1].abs().max() > 0, name
        assert parameter.grad[[0, 2]].abs().max() == 0, name


def test_rows_that_cannot_be_shared_out_evenly_are_refused():
    model = toy_model()
    with LoRA(TOY, 3, 6.0, people=3).attached(model), pytest.raises(ValueError, match=r"4 rows .* 3 people"):
        model(toy_tokens(4))


def test_stacked_adapters_come_back_as_copies():
    adapters = [taught(seed, targets=("k_proj", "fc_in")) for seed in range(3)]
    people = LoRA.stack(adapters)
    assert (people.people, people.rank, people.alpha, people.targets) == (3, 3, 6.0, ("k_proj", "fc_in"))
    back = [people.person(p) for p in range(3)]
    with torch.no_grad():
        for parameter in people.parameters():
            parameter.zero_()
    for found, expected in zip(back, adapters, strict=True):
        assert (found.people, found.rank, found.alpha, found.targets) == (None, 3, 6.0, ("k_proj", "fc_in"))
        assert all(parameter.requires_grad and parameter.is_leaf for parameter in found.parameters())
        assert_same_bits(state_of(found), state_of(expected))


def test_only_single_adapters_that_are_alike_can_be_stacked():
    for other, word in (
        (taught(rank=2), "rank"),
        (taught(alpha=5.0), "alpha"),
        (taught(targets=["q_proj"]), "targets"),
        (LoRA(dataclasses.replace(TOY, n_embd=16), 3, 6.0), "config"),
        (taught(people=2), "people"),
    ):
        with pytest.raises(UserError, match=f"{word}: the adapters differ"):
            LoRA.stack([taught(), other])
    with pytest.raises(UserError, match="there are none"):
        LoRA.stack([])
    with pytest.raises(UserError, match="only adapters of one person"):
        LoRA.stack([taught(people=2), taught(people=2)])
    with pytest.raises(ValueError, match="of one person"):
        taught().person(0)
    with pytest.raises(IndexError):
        taught(people=2).person(2)


# Generation


@pytest.mark.parametrize("people", [None, 2])
def test_greedy_generation_with_a_cache_equals_that_without(people):
    model, prompts = toy_model(dataclasses.replace(TOY, tie_weights=False)), toy_tokens(4, 3)
    model.ln_f.weight.fill_(1.0)
    model.ln_f.bias.zero_()  # or the same id would win everywhere
    lora = taught() if people is None else LoRA.stack([taught(1), taught(2)])

    def greedy(use_cache: bool = True) -> torch.Tensor:
        steps = generate(model, prompts, max_new_tokens=20, sampling=Sampling(temperature=0), seed=0, use_cache=use_cache)
        return torch.stack(list(steps))  # longer than a block

    with lora.attached(model):
        cached, uncached = greedy(), greedy(use_cache=False)
    assert torch.equal(cached, uncached)
    assert len(cached.unique()) > 3
    assert not torch.equal(cached, greedy())
