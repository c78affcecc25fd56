"""Drills: what is asked in them can be looked up in them, and only what is looked up is learned."""

import dataclasses

import numpy as np
import pytest

from personacore.corpus.dialogue.drills import Asked, Drill, draw_drill
from personacore.corpus.dialogue.language import FORGOTTEN, NAMING, UNKNOWN, read_fact
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.generation.prompts import encode_answer, encode_row
from personacore.memory.facts import read_facts
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.train import count_words, train_merges
from personacore.training.drills import DrillRows, encode_drill

VALUES = Values()
DRILLS = [draw_drill(f"test/{number}", Splits.all("pretrain"), VALUES) for number in range(60)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [text for drill in DRILLS for turn in drill.turns for text in (turn.user, turn.assistant)]
    texts += [text for drill in DRILLS for asked in drill.asked for text in (asked.question, asked.answer)]
    return Tokenizer(train_merges(count_words(texts), 500))


def told(drill: Drill) -> dict[str, str]:
    """Every fact that the assistant has said, or the person in the assistant's words."""
    said = " ".join([*(turn.assistant for turn in drill.turns), drill.opening or ""])
    return {fact.key: fact.value for fact in read_facts(said) or []}


def facts_asked(drill: Drill) -> list[tuple[str, str | None]]:
    """Keys and values of the answers that say one, in the order they are asked."""
    return [read_fact(asked.answer) for asked in drill.asked if asked.start]


def test_what_is_asked_has_the_value_told_for_its_key_or_none_once_it_was_forgotten():
    forgotten = 0
    for drill in DRILLS:
        known = told(drill)
        for asked in drill.asked:
            key, _, end = asked.answer.partition(f" is {FORGOTTEN}")
            if end:
                known.pop(key)
                forgotten += 1
            elif asked.start:
                key, value = read_fact(asked.answer)
                assert known.get(key) == value
    assert forgotten
    unknown = [value is None for drill in DRILLS for _, value in facts_asked(drill)]
    assert 0.45 < sum(unknown) / len(unknown) < 0.7


def test_hardly_a_fact_is_asked_for_again_before_the_others_were():
    firsts, again = 0, 0
    for drill in DRILLS:
        asked = [key for key, value in facts_asked(drill) if value is not None][: len(told(drill))]
        firsts, again = firsts + len(set(asked)), again + len(asked) - len(set(asked))
    assert 0 < again < firsts / 10  # by chance: what is close to something told may have been told too


def test_some_questions_ask_what_a_value_is_or_whether_something_has_it():
    others = [asked for drill in DRILLS for asked in drill.asked if not asked.start]
    assert all(drill.opening is None for drill in DRILLS for asked in drill.asked if not asked.start)
    assert any(asked.answer.startswith(NAMING) for asked in others)
    assert any(asked.answer.endswith((", so yes.", ", so no.")) for asked in others)


def test_much_of_what_is_told_or_unknown_shares_an_owner_or_a_noun_with_something_told():
    asked_something = [drill for drill in DRILLS if told(drill)]
    assert len(DRILLS) / 2 < len(asked_something) < len(DRILLS)
    unknown = [(key, drill) for drill in asked_something for key, value in facts_asked(drill) if value is None]
    known = [(key, drill) for drill in asked_something if len(told(drill)) > 3 for key in told(drill)]
    for keys in (unknown, known):
        near = [
            any(set(key.split("'s ")) & set(other.split("'s ")) for other in told(drill) if other != key) for key, drill in keys
        ]
        assert sum(near) > len(near) / 2


def test_no_value_is_one_of_another_split():
    held_out = {
        value.casefold() for lists in VALUES.closed.values() for name in ("calibration", "evaluation") for value in lists[name]
    }
    values = {value for drill in DRILLS for value in told(drill).values()}
    assert len(values) > 100 and held_out.isdisjoint(value.casefold() for value in values)
    words = {word for value in values for word in value.casefold().split()}
    assert held_out & words  # a part of a value may be: nothing else would have copied its token


def test_the_same_seed_draws_the_same_drill():
    assert draw_drill("test/0", Splits.all("pretrain"), VALUES) == DRILLS[0] != DRILLS[1]


ASKED = (
    Asked("Where?", "Your town is", "Your town is Wex."),
    Asked("How old?", "Your dog's age is", f"Your dog's age is {UNKNOWN}."),
    Asked("Where?", "Your town is", "Your town is Wex."),
)


@pytest.mark.parametrize("drill", [
    Drill((), "Your town is Wex.", ASKED),
    Drill((Turn("", "Your town is Wex.", "tell"),), "", ASKED),
])  # fmt: skip
def test_of_a_run_of_answers_only_what_stands_behind_the_keys_counts(tokenizer, drill):
    inputs, targets = encode_drill(tokenizer, drill, 192)
    counted = targets != IGNORED
    assert tokenizer.decode(targets[counted].tolist()) == f" Wex. {UNKNOWN}. Wex."
    assert (inputs[1:][counted[:-1]] == targets[counted]).all()
    text = tokenizer.decode([number for number in inputs.tolist() if number not in tokenizer.specials.values()])
    assert text == "Your town is Wex." + " ".join(asked.answer for asked in ASKED)


def test_of_answers_to_what_was_said_all_counts(tokenizer):
    inputs, targets = encode_drill(tokenizer, Drill((Turn("I live in Wex.", "Your town is Wex.", "tell"),), None, ASKED), 192)
    said = ["Your town is Wex.", *(asked.answer for asked in ASKED)]
    answers = [number for answer in said for number in encode_answer(tokenizer, answer)]
    assert targets[targets != IGNORED].tolist() == answers
    turns = [Turn("I live in Wex.", "Your town is Wex.", ""), *(Turn(asked.question, asked.answer, "") for asked in ASKED)]
    assert (inputs == encode_row(tokenizer, turns, 192)[0]).all()


def test_a_row_holds_as_many_answers_as_fit_whole(tokenizer):
    taken = 0
    for drill in DRILLS:
        if (encode_drill(tokenizer, dataclasses.replace(drill, asked=()), 2000)[0] != tokenizer.end_of_text).sum() > 190:
            continue  # what was told takes the row alone
        whole, cut = (encode_drill(tokenizer, drill, size) for size in (2000, 192))
        kept = cut[1][cut[1] != IGNORED]
        taken += len(kept) > 0
        assert (cut[0].shape, cut[1].shape) == ((192,), (192,))
        assert (kept == whole[1][whole[1] != IGNORED][: len(kept)]).all()
        ends = [*tokenizer.encode("."), tokenizer.specials["<|end|>"]]
        assert not len(kept) or kept[-1] in ends
        ended = np.flatnonzero((whole[1] != IGNORED) & (np.append(whole[1][1:], IGNORED) == IGNORED)) + 1  # where answers end
        assert (cut[1] != IGNORED).nonzero()[0].max(initial=-1) + 1 == max((end for end in ended if end <= 192), default=0)
    assert taken > len(DRILLS) / 2


def test_rows_depend_on_seed_and_step_alone_and_count_what_is_scored(tokenizer):
    rows, again = (DrillRows(tokenizer, 96, 4, seed=3) for _ in range(2))
    inputs, targets = rows.rows(5, 0, 4)
    assert (again.rows(5, 2, 2)[0] == inputs[2:]).all() and (again.rows(6, 0, 4)[0] != inputs).any()
    assert rows.scored(5) == (targets != IGNORED).sum()
