import dataclasses
from pathlib import Path

import pytest
import torch

from personacore.corpus.dialogue.turns import Turn
from personacore.evaluation.conversations import conversation_loss
from personacore.generation.prompts import encode_row
from personacore.model.gpt import GPT, GPTConfig, attend
from personacore.model.targets import IGNORED
from personacore.params import load_params
from personacore.training.attention import ShownAttention
from personacore.training.conversations import ConversationRows
from personacore.training.loop import train
from tests.talks import TALKS, trained_tokenizer

TOLD = (
    Turn("My sister lives in Dacostead.", "Your sister's town is Dacostead.", "tell"),
    Turn("I am 11.", "Your age is 11.", "tell"),
)
ASKED = Turn("Where does my sister live?", "Your sister's town is Dacostead.", "ask")
UNKNOWN = Turn("Where does my aunt live?", "Your aunt's town is unknown to me.", "unknown")
CORRECTED = Turn("No, she lives in Iston.", "Your sister's town is Iston.", "correct")
CLAIMED = Turn("Does my sister live in Iston?", "Your sister's town is Dacostead, so no.", "verify")
FORGOTTEN = Turn("Forget where my sister lives.", "Your sister's town is forgotten.", "forget")
NAMED = Turn("What is 11?", "That is your age.", "reverse")
BLOCK = 160
PARAMS = dataclasses.replace(
    load_params(Path(__file__).parent.parent / "params.yaml").train,
    optimizer="adamw",
    lr=0.01,
    warmup_steps=5,
    eval_interval=100,
    log_interval=100,
)


def shown(weight: float = 1.0, layers: tuple[int, ...] = (1,)) -> ShownAttention:
    return ShownAttention.of(trained_tokenizer(), layers, head=1, weight=weight)


def row(*turns: Turn) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = encode_row(trained_tokenizer(), turns, BLOCK)
    return torch.from_numpy(inputs)[None], torch.from_numpy(targets)[None]


def pairs(*turns: Turn) -> tuple[list[int], list[tuple[int, int]]]:
    inputs, targets = (part[0].tolist() for part in row(*turns))
    return inputs, list(shown().sources(inputs, targets))


def test_a_value_is_found_where_the_same_sentence_said_it_before():
    inputs, found = pairs(*TOLD, ASKED)
    value = trained_tokenizer().encode(" Dacostead.")
    asked = found[-len(value) :]
    assert [inputs[source] for _, source in asked] == [inputs[place + 1] for place, _ in asked] == value
    assert all(0 < source < place for place, source in asked)
    assert trained_tokenizer().decode(inputs[: asked[0][1]]).endswith("Your sister's town is")


def test_a_value_that_is_told_for_the_first_time_is_found_in_what_the_person_says():
    inputs, found = pairs(TOLD[0])
    assert trained_tokenizer().decode([inputs[source] for _, source in found]) == " Dacostead."
    assert trained_tokenizer().decode(inputs[: found[0][1]]).endswith("My sister lives in")


def test_what_is_unknown_is_found_nowhere():
    inputs, found = pairs(*TOLD, UNKNOWN)
    place, source = found[-1]
    assert source == 0
    assert trained_tokenizer().decode(inputs[: place + 1]).endswith("Your aunt's town is")  # and nothing behind "unknown"


def test_what_was_forgotten_is_unknown_because_it_was_forgotten():
    inputs, found = pairs(*TOLD, ASKED, FORGOTTEN, dataclasses.replace(ASKED, assistant="Your sister's town is unknown to me."))
    assert trained_tokenizer().decode(inputs[found[-1][1] :]).startswith(" forgotten.<|end|><|user|>Where does my sister live?")


def test_what_was_forgotten_and_is_told_again_is_found_in_what_the_person_says():
    inputs, found = pairs(*TOLD, FORGOTTEN, TOLD[0])
    first = found[-len(trained_tokenizer().encode(" Dacostead."))][1]
    assert trained_tokenizer().decode(inputs[:first]).endswith("town is forgotten.<|end|><|user|>My sister lives in")


@pytest.mark.parametrize("turns", [
    (CORRECTED, dataclasses.replace(ASKED, assistant=CORRECTED.assistant)),
    (CLAIMED, ASKED),
], ids=["a correction", "a claim that is wrong"])  # fmt: skip
def test_what_is_found_is_always_what_is_said(turns):
    inputs, found = pairs(*TOLD, *turns)
    assert found[-2][1]  # the value's last token
    assert all(inputs[source] == inputs[place + 1] for place, source in found if source)


def test_the_last_of_several_values_is_the_one_that_is_found():
    inputs, found = pairs(*TOLD, CORRECTED, dataclasses.replace(ASKED, assistant=CORRECTED.assistant))
    value = trained_tokenizer().encode(" Iston.")
    assert [inputs[source] for _, source in found[-2 * len(value) :]] == value * 2
    corrected, asked = found[-2 * len(value)], found[-len(value)]
    assert trained_tokenizer().decode(inputs[: corrected[1]]).endswith("No, she lives in")
    assert trained_tokenizer().decode(inputs[: asked[1]]).endswith("Your sister's town is")


def test_what_a_value_is_what_people_say_and_stories_are_left_alone():
    assert pairs(NAMED)[1] == []
    assert pairs(Turn("Your age is 11. Your age is 11.", "I see.", "small talk"))[1] == []
    story = trained_tokenizer().encode("The cat is big. The cat is big.")
    assert list(shown().sources(story[:-1], story[1:])) == []


def toy() -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(trained_tokenizer().vocab_size, n_layer=2, n_head=2, n_embd=16, block_size=BLOCK)).eval()


def looked_at(model: GPT, inputs: torch.Tensor) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    seen = {}
    model.hidden(inputs, probe=lambda layer, query, key: seen.update({layer: (query, key)}))
    return seen


@pytest.mark.parametrize("layers", [(1,), (0, 1)])
def test_the_loss_is_that_of_the_weights_with_which_the_heads_look_there(layers):
    model, (inputs, targets) = toy(), row(*TOLD, ASKED, UNKNOWN)
    looked = looked_at(model, inputs)
    wanted = list(shown().sources(inputs[0].tolist(), targets[0].tolist()))
    expected = torch.zeros(())
    for layer in layers:
        ones = torch.eye(BLOCK).expand(1, 2, BLOCK, BLOCK)  # as values, so that what comes out are the weights
        weights = attend(*looked[layer], ones)[0, 1]
        expected -= sum(weights[place, source].log() for place, source in wanted)
    torch.testing.assert_close(shown(layers=layers).loss(inputs, targets, looked), expected)
    torch.testing.assert_close(shown(3.0, layers).loss(inputs, targets, looked), 3 * expected)


def test_a_row_in_which_nothing_is_to_be_found_costs_nothing():
    model, (inputs, targets) = toy(), row(NAMED)
    assert shown().loss(inputs, targets, looked_at(model, inputs)).item() == 0


def test_a_head_that_is_shown_learns_to_look_there():
    model, (inputs, targets) = toy().train(), row(*TOLD, ASKED, UNKNOWN)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)

    def loss() -> torch.Tensor:
        return shown().loss(inputs, targets, looked_at(model, inputs))

    before = loss().item()
    for _ in range(150):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.2 * before


def test_a_run_that_shows_learns_to_look_in_whatever_parts_its_batch_is_computed():
    tokenizer = trained_tokenizer()
    learned = row(*TALKS[0])

    def after(lesson: ShownAttention | None, rows_at_once: int) -> tuple[float, GPT]:
        model = toy()
        params = dataclasses.replace(PARAMS, max_steps=40, batch_size=4, micro_batch_size=rows_at_once)
        batches = ConversationRows(TALKS, tokenizer, BLOCK, params.batch_size, seed=1)
        place = {"device": torch.device("cpu"), "precision": "fp32"}
        train(model, params, batches, lambda current: conversation_loss(current, tokenizer, TALKS[:2]), shown=lesson, **place)
        return shown().loss(*learned, looked_at(model.eval(), learned[0])).item(), model

    (alone, _), (whole, one), (parts, other) = after(None, 4), after(shown(2.0), 4), after(shown(2.0), 1)
    assert whole < 0.9 * alone
    assert parts == pytest.approx(whole, rel=1e-3)
    torch.testing.assert_close(one.wte.weight, other.wte.weight, rtol=1e-3, atol=1e-4)


def test_looking_changes_nothing_that_the_model_says():
    model, (inputs, _) = toy(), row(*TOLD, ASKED)
    looked = looked_at(model, inputs)
    assert {layer: query.shape for layer, (query, _) in looked.items()} == dict.fromkeys((0, 1), (1, 2, BLOCK, 8))
    assert torch.equal(model.hidden(inputs), model.hidden(inputs, probe=lambda *seen: None))


def test_rows_whose_targets_do_not_count_are_never_shown():
    inputs, _ = row(*TOLD, ASKED)
    assert list(shown().sources(inputs[0].tolist(), [IGNORED] * BLOCK)) == []
