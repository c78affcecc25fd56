"""Conversations as tokens: what counts, what is answered, and where their words start from."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.joint import Mixed
from personacore.corpus.dialogue.turns import Turn
from personacore.evaluation.conversations import conversation_loss
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_answer, encode_prompt, encode_question, encode_row
from personacore.memory.converse import set_apart
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.model.targets import IGNORED
from personacore.training.conversations import ConversationRows
from personacore.training.drills import DrillRows
from tests.talks import TALKS


def test_a_row_holds_whole_turns_and_only_answers_count(tokenizer):
    turns = [Turn("Hello!", "Hi.", "small talk"), Turn("x " * 200, "Too long.", "small talk")]
    inputs, targets = encode_row(tokenizer, turns, 64)
    question, answer = encode_question(tokenizer, "Hello!"), encode_answer(tokenizer, "Hi.")
    assert inputs[: 1 + len(question) + len(answer)].tolist() == [tokenizer.end_of_text, *question, *answer]
    assert targets[targets != IGNORED].tolist() == answer
    assert (inputs[1 + len(question) + len(answer) :] == tokenizer.end_of_text).all()


def test_names_of_specials_that_somebody_types_are_ordinary_text(tokenizer):
    ids = encode_prompt(tokenizer, "<|end|><|assistant|>")
    assert [number for number in ids if number in tokenizer.specials.values()] == [
        tokenizer.specials[name] for name in ("<|endoftext|>", "<|user|>", "<|end|>", "<|assistant|>")
    ]


def test_the_rows_of_a_step_depend_on_seed_and_step_alone_and_count_what_they_score(tokenizer):
    first, again = (ConversationRows(TALKS, tokenizer, 128, 4, seed=3) for _ in range(2))
    for step in (9, 2, 9):
        assert all(torch.equal(a, b) for a, b in zip(first.rows(step, 0, 4), again.rows(step, 0, 4), strict=True))
    inputs, targets = first.rows(2, 0, 4)
    assert first.scored(2) == int((targets != IGNORED).sum()) > 0
    assert torch.equal(first.rows(2, 1, 2)[0], inputs[1:3])
    other = ConversationRows(TALKS, tokenizer, 128, 4, seed=4).rows(2, 0, 4)[0]
    assert not torch.equal(other, inputs)


def test_the_rows_beside_conversations_stand_behind_them_and_count_as_well(tokenizer):
    drills = DrillRows(tokenizer, 128, 2, seed=5)
    alone, both = (ConversationRows(TALKS, tokenizer, 128, 3, seed=3, beside=beside) for beside in ((), (drills,)))
    assert (alone.batch_size, both.batch_size) == (3, 5)
    for step in (4, 0):
        expected = zip(alone.rows(step, 0, 3), drills.rows(step, 0, 2), strict=True)
        assert all(torch.equal(part, torch.cat(each)) for part, each in zip(both.rows(step, 0, 5), expected, strict=True))
        assert both.scored(step) == alone.scored(step) + drills.scored(step)


class Numbers:
    """A row a step that says its kind and its number, of which the number counts."""

    def __init__(self, kind: int) -> None:
        self.kind, self.seed, self.batch_size = kind, 0, 1

    def rows(self, step, first, count):
        row = torch.tensor([[self.kind, step + first]])
        return row, torch.tensor([[IGNORED, step + first]])


@given(st.integers(1, 30), st.integers(0, 60), st.integers(0, 60), st.integers(2, 9))
def test_rows_that_are_mixed_are_met_once_each_as_often_as_wanted_and_evenly(steps, talks, drills, batch_size):
    batch_size += -(-(talks + drills) // steps)
    wanted = {"stories": steps * batch_size - talks - drills, "conversations": talks, "drills": drills}
    mixed = Mixed({kind: Numbers(number) for number, kind in enumerate(wanted)}, wanted, steps, seed=0)
    assert mixed.batch_size == batch_size and mixed.before(steps) == wanted
    met = [mixed.rows(step, 0, batch_size)[0] for step in range(steps)]
    for number, (kind, rows) in enumerate(wanted.items()):
        each = [step[step[:, 0] == number, 1] for step in met]
        assert torch.cat(each).tolist() == list(range(rows)), kind
        assert all(abs(len(found) - rows / steps) < 2 for found in each), kind
    assert [mixed.scored(step) for step in range(steps)] == [batch_size] * steps
    assert torch.equal(mixed.rows(0, 1, batch_size - 1)[0], met[0][1:])


def test_the_loss_of_conversations_is_that_of_their_answers(model, tokenizer):
    turns = [Turn("Hello!", "Hi.", "small talk")]
    loss = conversation_loss(model, tokenizer, [turns])
    lessons = pad_lessons(tokenizer, [("Hello!", "Hi.")])
    assert loss.nats == pytest.approx(-answer_log_probabilities(model, *lessons).item(), rel=1e-5)
    assert (loss.tokens, loss.bytes) == (len(encode_answer(tokenizer, "Hi.")), 3)


def test_questions_answered_together_are_answered_as_alone(model, tokenizer):
    prompts = [encode_prompt(tokenizer, turn.user) for turns in TALKS[:5] for turn in turns]
    together = answers(model, tokenizer, prompts, max_new_tokens=8)
    assert together == [answers(model, tokenizer, [prompt], max_new_tokens=8)[0] for prompt in prompts]


def test_vectors_that_pretraining_made_alike_differ_again_and_others_stay(model):
    unused = np.array([3, 4, 5])
    with torch.no_grad():
        model.wte.weight[3:6] = 1 + 0.01 * torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    before = model.wte.weight.detach().clone()
    set_apart(model, unused)
    after = model.wte.weight.detach()
    spread = lambda rows: (rows - rows.mean(0)).norm() / rows.norm()  # noqa: E731
    assert spread(after[3:6]) > 3 * spread(before[3:6])
    assert torch.equal(after[6:], before[6:]) and torch.equal(after[:3], before[:3])
    set_apart(model, np.array([], dtype=int))
    assert torch.equal(model.wte.weight, after)
