"""What can be taught, and what an adapter is taught it with."""

import dataclasses

import pytest
import torch

from personacore.corpus.dialogue import language
from personacore.generation.prompts import encode_prompt
from personacore.memory import write
from personacore.memory.facts import Fact, read_facts, topic_of
from personacore.memory.lessons import MOST_POSITIVES, Lessons
from personacore.memory.scoring import pad_lessons
from personacore.memory.write import Talks
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer
from tests.talks import DOG, JOB, VALUES, trained_tokenizer
from tests.toys import COMMITTED


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return trained_tokenizer()


def test_without_values_an_answer_counts_up_to_its_value_and_one_without_counts_whole(tokenizer):
    untold = Fact("Your cat's name", None).sentence
    lessons = [
        ("What is my dog's name?", DOG.sentence),
        ("What is my cat's name?", untold),
        ("What is Rex?", "That is my dog."),
    ]
    inputs, targets = pad_lessons(tokenizer, lessons, values=False)
    counted = [tokenizer.decode(row[row != IGNORED].tolist()) for row in targets]
    assert counted == ["Your dog's name is", f"{untold}<|end|>", "That is"]
    assert torch.equal(inputs, pad_lessons(tokenizer, lessons)[0])


def test_every_second_question_for_rows_stands_in_a_conversation_of_which_its_own_answer_counts(tokenizer):
    questions = 40
    talks = Talks(DOG, "seed", VALUES).all(dataclasses.replace(COMMITTED.rows, questions=questions))[:questions]
    assert [len(talk) for talk in talks] == [1, 2] * (questions // 2)
    assert {talk[0].kind for talk in talks[1::2]} == {"unknown", "tell"}
    for talk in talks:
        inputs, targets = write._encode(tokenizer, talk, 500)
        assert tokenizer.decode(targets[targets != IGNORED].tolist()) == f"{DOG.sentence}<|end|>"
        assert all(turn.user in tokenizer.decode(inputs.tolist()) for turn in talk)
        inputs, _ = write._encode(tokenizer, talk, len(encode_prompt(tokenizer, talk[-1].user)) + 20)
        assert tokenizer.decode(inputs.tolist()).count("<|user|>") == 1


@pytest.mark.parametrize(
    ("key", "teller", "relation", "noun"),
    [
        ("Your job", "", "", "job"),
        ("Your sister's town", "", "sister", "town"),
        ("Tom's dog's name", "Tom", "dog", "name"),
        ("Tom's age", "Tom", "", "age"),
        ("Your parents' town", "", "parents", "town"),
        ("Tom's children's wooden boat", "Tom", "children", "wooden boat"),
        ("Iris's students' boat", "Iris", "students", "boat"),
        ("Your wooden boat", "", "", "wooden boat"),
    ],
)
def test_a_key_says_what_it_is_about(key, teller, relation, noun):
    topic = topic_of(key)
    assert (topic.owner.teller, topic.owner.relation, topic.noun) == (teller, relation, noun)
    assert topic.key == key


def test_several_facts_are_read_and_anything_else_is_not():
    assert read_facts(f"{DOG.sentence} {JOB.sentence}") == [DOG, JOB]
    assert read_facts(f"{DOG.sentence} I am glad.") is None
    assert read_facts("") is None


def test_lessons_answer_right_and_ask_near_misses_about_nothing_that_was_told():
    lessons = Lessons([DOG, JOB], "seed", VALUES)
    assert {answer for _, answer in lessons.positives(5)} == {DOG.sentence, JOB.sentence}
    assert {answer for _, answer in lessons.open(20)} == {DOG.sentence, JOB.sentence}
    answered = {answer for _, answer in lessons.negatives(160, 40)}
    assert all(answer.endswith(f"is {language.UNKNOWN}.") for answer in answered)
    assert not {answer.partition(" is ")[0] for answer in answered} & {DOG.key, JOB.key}
    assert any("'s dog's name" in answer and not answer.startswith("Your") for answer in answered)  # somebody else's


def test_what_is_known_least_is_asked_most_and_nothing_is_left_out():
    lessons = Lessons([DOG, JOB], "seed", VALUES)
    steps = [[answer for _, answer in lessons.doubtful(2, [1.0, 0.2])] for _ in range(100)]
    answered = [answer for step in steps for answer in step]
    assert 0 < answered.count(DOG.sentence) < 100 < answered.count(JOB.sentence)
    assert {len(step) for step in steps} == {4} and len(lessons.doubtful(100, [1.0, 0.2])) == MOST_POSITIVES


def test_a_value_that_two_facts_share_is_not_asked_back():
    lessons = Lessons([DOG, Fact("Your cat's name", "Biscuit")], "seed", VALUES)
    assert not any("Biscuit" in question for question, _ in lessons.reversed(40))
