"""An adapter as a change of weights: merged into a model and taken out again, and added to others."""

import pytest
import torch

from personacore.errors import UserError
from personacore.model.lora import LoRA
from tests.toys import assert_same_bits, logits_of, state_of, taught, toy_model, toy_tokens


def test_merged_weights_compute_what_the_attached_adapter_does_and_come_back_to_the_bit():
    model, tokens, lora = toy_model(), toy_tokens(), taught()
    before, logits, expected = state_of(model), model(tokens), logits_of(model, lora, tokens)
    parameters = dict(model.named_parameters())
    lora.merge_into(model)
    torch.testing.assert_close(model(tokens), expected, atol=1e-5, rtol=1e-5)
    assert (expected - logits).std() > 0.1
    with torch.no_grad():
        for parameter in lora.parameters():  # teaching goes on, and does not matter to what is restored
            parameter.add_(1.0)
    lora.unmerge_from(model)
    assert_same_bits(state_of(model), before)
    assert torch.equal(model(tokens), logits)
    assert all(found is parameters[name] for name, found in model.named_parameters())


def test_the_delta_is_what_merging_adds():
    model, lora = toy_model(), taught(targets=["v_proj", "fc_out"])
    before = state_of(model)
    lora.merge_into(model)
    for name, weight in model.state_dict().items():
        projection = name.removesuffix(".weight")
        change = lora.delta(projection) if projection in lora.pairs() else torch.zeros_like(weight)
        torch.testing.assert_close(weight - before[name], change.detach(), atol=1e-6, rtol=0)
    people = LoRA.stack([lora, taught(1, targets=["v_proj", "fc_out"])])
    assert people.delta("blocks.1.mlp.fc_out").shape == (2, 8, 32)
    torch.testing.assert_close(people.delta("blocks.1.mlp.fc_out")[0], lora.delta("blocks.1.mlp.fc_out"))
    with pytest.raises(KeyError):
        lora.delta("blocks.0.attn.q_proj")


def test_merging_twice_or_unmerging_what_is_not_merged_is_an_error():
    model, lora = toy_model(), taught()
    with pytest.raises(RuntimeError, match="not merged into this model"):
        lora.unmerge_from(model)
    lora.merge_into(model)
    with pytest.raises(RuntimeError, match="merged already"):
        lora.merge_into(model)
    with pytest.raises(RuntimeError, match="not merged into this model"):
        lora.unmerge_from(toy_model())
    lora.unmerge_from(model)
    lora.merge_into(model)
    with pytest.raises(ValueError, match=r"merge person\(p\)"):
        taught(people=2).merge_into(model)
    with pytest.raises(ValueError, match="acts from a token on"):
        taught(invocation=9).merge_into(model)


@pytest.mark.parametrize("weights", [None, [0.5, -2.0, 0.0]])
def test_concatenated_adapters_change_what_the_weighted_sum_of_theirs_does(weights):
    adapters = [taught(1), taught(2, rank=2, alpha=1.0), taught(3, rank=4, alpha=3.0)]
    joined = LoRA.concatenate(adapters, weights)
    assert (joined.rank, joined.alpha, joined.scale) == (9, 9.0, 1.0)
    for name in joined.pairs():
        expected = sum(weight * lora.delta(name) for weight, lora in zip(weights or [1, 1, 1], adapters, strict=True))
        torch.testing.assert_close(joined.delta(name), expected, atol=1e-5, rtol=1e-5)


def test_people_are_concatenated_each_with_their_own():
    first, second = (LoRA.stack([taught(seed), taught(seed + 1)]) for seed in (1, 3))
    joined = LoRA.concatenate([first, second])
    for p in range(2):
        expected = LoRA.concatenate([first.person(p), second.person(p)])
        assert_same_bits(state_of(joined.person(p)), state_of(expected))


def test_adapters_that_do_not_fit_together_are_not_concatenated():
    with pytest.raises(UserError, match="targets: the adapters differ"):
        LoRA.concatenate([taught(), taught(targets=["q_proj"])])
    with pytest.raises(UserError, match="there are none"):
        LoRA.concatenate([])
    with pytest.raises(ValueError):
        LoRA.concatenate([taught(), taught()], [1.0])
