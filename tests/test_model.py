import dataclasses
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from personacore.export.huggingface import peer_config, peer_weights
from personacore.model.gpt import GPT, PROJECTIONS, GPTConfig, KeyValueCache, attend, attend_fused
from personacore.params import load_params
from tests.toys import randomized

ROOT = Path(__file__).resolve().parent.parent
TOY = GPTConfig(vocab_size=97, n_layer=2, n_head=2, n_embd=8, block_size=12)
VARIANTS = {
    "tied": TOY,
    "untied": dataclasses.replace(TOY, tie_weights=False),
    "no position": dataclasses.replace(TOY, position="none"),
}


def toy_model(config: GPTConfig = TOY, seed: int = 0) -> GPT:
    """A model whose every parameter is random and large enough to matter."""
    return randomized(GPT(config), seed=seed).eval().requires_grad_(False)


def toy_tokens(rows: int = 3, length: int = TOY.block_size, seed: int = 1) -> torch.Tensor:
    return torch.randint(TOY.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def peer_of(model: GPT) -> GPT2LMHeadModel:
    """The `transformers` GPT-2 with the same weights."""
    peer = GPT2LMHeadModel(GPT2Config(**peer_config(model, end_of_text=0)))
    missing, unexpected = peer.load_state_dict(peer_weights(model), strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}  # where it is tied
    return peer.eval().requires_grad_(False)


def test_macbook_has_exactly_13891584_parameters():
    shape = GPTConfig(vocab_size=8192, n_layer=6, n_head=6, n_embd=384, block_size=256)
    with torch.device("meta"):
        assert GPT(shape).parameter_count() == 13_891_584
        assert GPT(dataclasses.replace(shape, tie_weights=False)).parameter_count() == 13_891_584 + 8192 * 384
        assert GPT(dataclasses.replace(shape, position="none")).parameter_count() == 13_891_584 - 256 * 384


def test_params_give_a_model_every_part_of_its_shape():
    params = load_params(ROOT / "params.yaml")
    config = GPTConfig(vocab_size=params.tokenizer.vocab_size, **dataclasses.asdict(params.model))
    assert {field.name for field in dataclasses.fields(config)} == {"vocab_size", *dataclasses.asdict(params.model)}


@pytest.mark.parametrize("tie_weights", [True, False], ids=["tied", "untied"])
def test_logits_equal_those_of_transformers(tie_weights):
    model = toy_model(dataclasses.replace(TOY, tie_weights=tie_weights, n_layer=3, n_head=4))
    tokens = toy_tokens()
    expected = peer_of(model)(tokens).logits
    assert expected.std() > 0.1
    for written_out in (False, True):
        model.use_attention(written_out)
        torch.testing.assert_close(model(tokens), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (7, 7), (1, 9), (4, 9)])
def test_written_out_attention_equals_the_fused_kernel(queries, keys):
    generator = torch.Generator().manual_seed(2)
    query = torch.randn(2, 3, queries, 5, generator=generator)
    key, value = torch.randn(2, 2, 3, keys, 5, generator=generator)
    torch.testing.assert_close(attend(query, key, value), attend_fused(query, key, value), atol=1e-5, rtol=1e-5)


def test_the_gradients_of_both_attentions_agree():
    gradients = []
    for written_out in (False, True):
        model = toy_model().requires_grad_(True)
        model.use_attention(written_out)
        model(toy_tokens()).logsumexp(-1).sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)


def test_attention_weighs_the_visible_values_by_softmax():
    query, key = torch.tensor([[[[2.0], [3.0]]]]), torch.tensor([[[[1.0], [-1.0]]]])
    value = torch.tensor([[[[10.0], [20.0]]]])
    share = 1 / (1 + math.exp(-6))  # of the first value, from scores 3 and -3
    expected = torch.tensor([[[[10.0], [10 * share + 20 * (1 - share)]]]])
    torch.testing.assert_close(attend(query, key, value), expected)


@pytest.mark.parametrize("written_out", [False, True], ids=["fused", "written out"])
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_later_tokens_do_not_change_earlier_logits(config, written_out):
    model = toy_model(config)
    model.use_attention(written_out)
    tokens = toy_tokens(1)
    before = model(tokens)
    for place in range(1, tokens.size(1)):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % config.vocab_size
        after = model(changed)
        torch.testing.assert_close(after[:, :place], before[:, :place], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(after[:, place:], before[:, place:], atol=1e-3)


@pytest.mark.parametrize("written_out", [False, True], ids=["fused", "written out"])
@pytest.mark.parametrize("pieces", [[1] * 12, [12], [5, 7], [3, 1, 1, 4, 2, 1]], ids=str)
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_logits_with_a_cache_equal_those_without(config, pieces, written_out):
    model = toy_model(config)
    model.use_attention(written_out)
    tokens = toy_tokens()
    cache = KeyValueCache(config, len(tokens), model.wte.weight)
    cached = torch.cat([model(piece, cache) for piece in tokens.split(pieces, dim=1)], dim=1)
    torch.testing.assert_close(cached, model(tokens), atol=1e-5, rtol=1e-5)


def test_rows_do_not_see_each_other():
    model, tokens = toy_model(), toy_tokens(4)
    alone = torch.cat([model(row[None]) for row in tokens])
    torch.testing.assert_close(model(tokens), alone, atol=1e-5, rtol=1e-5)


def test_learned_positions_tell_an_order_that_no_position_cannot():
    tokens = torch.tensor([[5, 6, 7], [6, 5, 7]])
    ordered = toy_model(dataclasses.replace(TOY, n_layer=1))(tokens)[:, -1]
    unordered = toy_model(dataclasses.replace(TOY, n_layer=1, position="none"))(tokens)[:, -1]
    assert not torch.allclose(ordered[0], ordered[1], atol=1e-3)
    torch.testing.assert_close(unordered[0], unordered[1], atol=1e-5, rtol=1e-5)


def test_more_tokens_than_a_block_are_refused():
    model = toy_model()
    with pytest.raises(ValueError, match="13 positions are more than block_size 12"):
        model(toy_tokens(1, 13))
    cache = KeyValueCache(TOY, 1, model.wte.weight)
    model(toy_tokens(1, 12), cache)
    with pytest.raises(ValueError, match="13 positions"):
        model(toy_tokens(1, 1), cache)


@cache
def initialised() -> GPT:
    model = GPT(GPTConfig(vocab_size=500, n_layer=8, n_head=4, n_embd=128, block_size=64))
    model.reset_parameters(3)
    return model


def test_weights_begin_as_those_of_gpt2():
    for name, parameter in initialised().named_parameters():
        layer, kind = name.split(".")[-2:]
        if layer.startswith("ln_"):
            assert parameter.unique().tolist() == [1.0 if kind == "weight" else 0.0], name
        elif kind == "bias":
            assert parameter.unique().tolist() == [0.0], name
        else:
            deviation = 0.02 / math.sqrt(2 * 8) if layer in ("c_proj", "fc_out") else 0.02
            assert parameter.std().item() == pytest.approx(deviation, rel=0.04), name
            assert abs(parameter.mean().item()) < 5 * deviation / math.sqrt(parameter.numel()), name


def test_the_token_embedding_alone_begins_with_the_deviation_asked_for():
    model, plain = GPT(initialised().config), dict(initialised().named_parameters())
    model.reset_parameters(3, embedding_std=0.1)
    for name, parameter in model.named_parameters():
        ratio = 5 if name == "wte.weight" else 1
        torch.testing.assert_close(parameter, ratio * plain[name], msg=name)


def test_a_fresh_model_finds_every_token_about_equally_likely():
    logits = initialised()(torch.arange(64)[None])
    losses = nn.functional.cross_entropy(logits[0, :-1], torch.arange(1, 64))
    assert losses.item() == pytest.approx(math.log(500), abs=0.1)


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    models = []
    for seed in (1, 1, 2):
        model = GPT(TOY)
        torch.set_rng_state(state)
        model.reset_parameters(seed)
        assert torch.equal(torch.get_rng_state(), state)
        models.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_tied_weights_share_storage_and_untied_ones_do_not():
    tied, untied = toy_model(), toy_model(VARIANTS["untied"])
    assert tied.lm_head.weight is tied.wte.weight
    assert untied.lm_head.weight.data_ptr() != untied.wte.weight.data_ptr()
    assert untied.parameter_count() - tied.parameter_count() == TOY.vocab_size * TOY.n_embd


def test_a_tied_embedding_learns_from_both_its_uses():
    model = toy_model().requires_grad_(True)
    model(torch.tensor([[3]]))[0, 0, 5].backward()
    assert model.wte.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [3, 5]


def test_every_block_names_its_six_projections():
    names = set(toy_model().state_dict())
    for number in range(TOY.n_layer):
        for projection in PROJECTIONS:
            half = "mlp" if projection.startswith("fc_") else "attn"
            assert f"blocks.{number}.{half}.{projection}.weight" in names
    modules = [name.rpartition(".")[2] for name, module in toy_model().named_modules() if isinstance(module, nn.Linear)]
    assert sorted(modules) == sorted([*PROJECTIONS * TOY.n_layer, "lm_head"])


def test_dropout_acts_while_training_only():
    model = toy_model(dataclasses.replace(TOY, dropout=0.5))
    tokens = toy_tokens()
    assert torch.equal(model(tokens), model(tokens))
    torch.testing.assert_close(model(tokens), toy_model()(tokens))
    for written_out in (False, True):
        model.train().use_attention(written_out)
        assert not torch.allclose(model(tokens), model(tokens), atol=1e-3)
