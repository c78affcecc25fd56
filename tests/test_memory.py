"""Memories on a tiny model: what teaching changes and leaves alone, and what a person is told when something cannot be done."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.conversation import draw_conversation
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.errors import UserError
from personacore.evaluation.conversations import conversation_loss
from personacore.evaluation.loss import IGNORED
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_answer, encode_prompt, encode_question, encode_row
from personacore.memory import memory as memory_module
from personacore.memory import sleep as sleep_module
from personacore.memory.converse import set_apart
from personacore.memory.facts import Fact, read_facts, topic_of
from personacore.memory.lessons import MOST_POSITIVES, Lessons
from personacore.memory.memory import Memory
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.memory.teach import new_adapter, teach_people
from personacore.memory.write import fact_hash
from personacore.model.adapter import save_adapter
from personacore.model.consolidated import Consolidated
from personacore.model.gpt import GPT, GPTConfig
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.train import count_words, train_merges
from personacore.training.conversations import ConversationRows
from personacore.training.drills import DrillRows
from tests.toys import SHORT_SLEEP, answering_model, toy_teaching

QUICK = dataclasses.replace(SHORT_SLEEP, generic_rows=4)
VALUES = Values()
TALKS = [draw_conversation(f"memory/{number}", Splits.all("pretrain"), 300, VALUES) for number in range(30)]
DOG = Fact("Your dog's name", "Biscuit")
JOB = Fact("Your job", "baker")
IDENTITY = {"base_sha256": "a" * 64, "tokenizer_sha256": "b" * 64}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(
        train_merges(count_words(text for turns in TALKS for turn in turns for text in (turn.user, turn.assistant)), 600)
    )


@pytest.fixture
def model(tokenizer) -> GPT:
    model = GPT(GPTConfig(tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=32, block_size=128))
    model.reset_parameters(1, embedding_std=0.1)
    return model.eval()


@pytest.fixture
def generic(tokenizer) -> torch.Tensor:
    return torch.from_numpy(np.stack([encode_row(tokenizer, turns, 128)[0] for turns in TALKS[:4]]))


@pytest.fixture
def memory(model, tokenizer, tmp_path) -> Memory:
    return Memory(model, tokenizer, tmp_path / "me.safetensors", toy_teaching(tokenizer), IDENTITY)


def probabilities(model: GPT, tokenizer: Tokenizer, facts: list[Fact]) -> torch.Tensor:
    lessons = [(f"What is {fact.key.replace('Your', 'my')}?", fact.sentence) for fact in facts]
    with torch.no_grad():
        return answer_log_probabilities(model, *pad_lessons(tokenizer, lessons)).exp()


# Conversations as tokens


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


# Facts and lessons


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


@pytest.mark.parametrize(
    ("key", "teller", "relation", "noun"),
    [
        ("Your job", "", "", "job"),
        ("Your sister's town", "", "sister", "town"),
        ("Tom's dog's name", "Tom", "dog", "name"),
        ("Tom's age", "Tom", "", "age"),
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


# Teaching


def test_teaching_makes_facts_likely_and_leaves_the_model_bit_for_bit(model, tokenizer, generic):
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    plain = probabilities(model, tokenizer, [DOG, JOB])
    lora, _ = teach_people(model, tokenizer, [[DOG, JOB]], generic, QUICK, seed=1)
    assert torch.equal(probabilities(model, tokenizer, [DOG, JOB]), plain)
    assert all(torch.equal(parameter, before[name]) and parameter.requires_grad for name, parameter in model.named_parameters())
    with lora.attached(model):
        assert (probabilities(model, tokenizer, [DOG, JOB]) > 100 * plain).all()


def test_a_person_taught_among_others_learns_as_alone(model, tokenizer, generic):
    options = dataclasses.replace(QUICK, generic_rows=0, max_steps=5, stop_probability=1.0)
    alone, _ = teach_people(model, tokenizer, [[DOG, JOB]], generic, options, seed=1)
    among, _ = teach_people(model, tokenizer, [[DOG, JOB], [Fact("Your age", "34"), DOG]], generic, options, seed=1)
    for name, one in alone.person(0).named_parameters():
        assert torch.allclose(one, dict(among.person(0).named_parameters())[name], atol=2e-4)


def test_conversations_change_less_when_they_are_held(model, tokenizer, generic):
    def change(weight: float) -> float:
        options = dataclasses.replace(QUICK, generic_rows=2, kl_weight=weight)
        lora, _ = teach_people(model, tokenizer, [[DOG]], generic, options, seed=1)
        with torch.no_grad():
            base = model(generic).log_softmax(-1)
            with lora.attached(model):
                return (base.exp() * (base - model(generic).log_softmax(-1))).sum(-1).mean().item()

    assert change(100.0) < 0.5 * change(0.0)


def test_teaching_stops_as_soon_as_it_is_sure(model, tokenizer, generic):
    seen = []
    options = dataclasses.replace(QUICK, stop_probability=0.0, stop_unknown=0.0)
    _, results = teach_people(model, tokenizer, [[DOG]], generic, options, seed=1, on_step=lambda step, sure: seen.append(step))
    assert seen == [10] and results[0].steps == 10


# A memory in a file


def said(monkeypatch, replies: dict[str, str]) -> list[list[int]]:
    """Make the model answer these questions so, everything else with small talk; the prompts it was given."""
    prompts: list[list[int]] = []

    def reply(model, tokenizer, given, **options):
        prompts.extend(given)
        texts = [tokenizer.decode(ids[2:-2]) for ids in given]
        return [replies.get(text, "I am glad.") for text in texts]

    monkeypatch.setattr(memory_module, "answers", reply)
    return prompts


def test_what_is_asked_is_all_that_is_in_the_prompt(memory, tokenizer, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    memory.teach("My dog is called Biscuit.")
    prompts = said(monkeypatch, {})
    memory.ask("What is my dog's name?")
    assert prompts == [encode_prompt(tokenizer, "What is my dog's name?")]


def test_a_value_must_stand_in_the_statement_word_by_word(memory, monkeypatch):
    said(monkeypatch, {"My age is 42.": "Your age is 4.", "My age is 4!": "Your age is 4."})
    assert memory.read("My age is 42.") == [] and memory.read("My age is 4!") == [Fact("Your age", "4")]


@pytest.mark.parametrize("statement, reading", [
    ("My shoe size is 7.5.", "Your shoe size is 7."),
    ("My car's price is 12.50 dollars.", "Your car's price is 12."),
    ("I wake up at 7:03.", "Your wake time is 7."),
    ("My mail is a@b.org.", "Your mail is b."),
    ("My shoe size is 7.5.", "Your shoe size is 7.5."),
])  # fmt: skip
def test_a_value_that_was_cut_off_is_not_learned(memory, monkeypatch, statement, reading):
    said(monkeypatch, {statement: reading})
    assert memory.read(statement) == []


BOTH = ("My dog is called Biscuit and I am a baker.", f"{DOG.sentence} {JOB.sentence}")


@pytest.mark.parametrize("reading, expected", [
    ("Your dog's name is Bisccuit. Your job is baker.", [DOG, JOB]),
    ("Your dog's name is Biscui. Your job is bakerr.", [DOG, JOB]),
    ("Your cat's age is Bisccuit. Your job is baker.", []),
    ("Your dog's name is unknown to me. Your job is bakerr.", []),
])  # fmt: skip
def test_a_misspelled_value_is_chosen_from_the_statement_if_the_rest_was_read(
    memory, tokenizer, monkeypatch, reading, expected
):
    memory.model = answering_model(tokenizer, [], lessons=[BOTH, ("My job is cook.", "Your job is cook.")])
    said(monkeypatch, {BOTH[0]: reading})
    assert memory.read(BOTH[0]) == expected


def test_what_the_model_says_with_a_space_before_it_is_the_same_key(memory, monkeypatch):
    said(
        monkeypatch, {"Tom's dog is Rex.": " Tom's dog's name is Rex.", "What is Tom's dog's name?": "Tom's dog's name is Rex."}
    )
    memory.teach("Tom's dog is Rex.")
    memory.forget("Tom's dog's name")
    assert memory.count == 0 and not memory.rows.spans


def test_a_question_that_would_push_the_conversation_out_of_the_block_is_refused(memory):
    with pytest.raises(UserError, match="longer than 64 tokens"):
        memory.ask("where " * 100)


def test_two_that_teach_one_file_at_once_do_not_undo_each_other(memory, model, tokenizer, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence, "I am a baker.": JOB.sentence})
    other = Memory(model, tokenizer, memory.path, toy_teaching(tokenizer), IDENTITY)

    def meanwhile(step: int, sure: float) -> None:
        if not memory.count:
            memory.teach("My dog is called Biscuit.")

    with pytest.raises(UserError, match="changed by another program meanwhile"):
        other.teach("I am a baker.", meanwhile)
    assert Memory(model, tokenizer, memory.path, toy_teaching(tokenizer), IDENTITY).count == 1
    assert other.teach("I am a baker.").understood and other.count == 2
    assert memory.ask("What is my job?") and memory.count == 2


def test_what_is_told_again_replaces_what_was_told_before(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence, "I am a baker.": JOB.sentence})
    memory.teach("My dog is called Biscuit.")
    memory.teach("I am a baker.")
    before = {key: memory.rows.of(key) for key in memory.rows.spans}
    said(monkeypatch, {"My dog is called Rex.": "Your dog's name is Rex."})
    memory.teach("My dog is called Rex.")
    after = {key: memory.rows.of(key) for key in memory.rows.spans}
    assert memory.count == 2 and len(before) == len(after) == 6
    same = [key for key in after if key in before and torch.equal(after[key], before[key])]
    job, dog = (sum(key[2] == fact_hash(memory.tokenizer, fact.key) for key in same) for fact in (JOB, DOG))
    assert (job, dog) == (3, 1)  # of the other fact all rows, of this one those by which its name is known


def judge(monkeypatch, good: Callable[[object], bool]) -> None:
    """Let all questions be answered rightly by what is good, and none by anything else."""
    monkeypatch.setattr(sleep_module, "_right", lambda model, tokenizer, adapter, lessons: float(good(adapter)))


def test_what_sleep_has_taught_outlives_a_new_fact_and_not_a_forgotten_one(memory, tokenizer, monkeypatch):
    says = {"My dog is called Biscuit.": DOG.sentence, "I am a baker.": JOB.sentence, "What is my job?": JOB.sentence}
    said(monkeypatch, says)
    monkeypatch.setattr(sleep_module, "listed", lambda model, tokenizer, rows: [DOG])
    judge(monkeypatch, lambda adapter: isinstance(adapter, Consolidated))
    memory.teach("My dog is called Biscuit.")
    slept = memory.sleep()
    assert memory.has_slept and slept.facts == (DOG,) and memory.count == 1 and slept.memory.rows is memory.rows
    assert b"Biscuit" not in memory.path.read_bytes()
    again = Memory(memory.model, tokenizer, memory.path, toy_teaching(tokenizer), IDENTITY)
    assert again.has_slept and torch.equal(again.rows.vectors, memory.rows.vectors)
    memory.teach("I am a baker.")
    assert memory.has_slept and memory.count == 2 and memory.adapter.lora is slept.memory.lora
    memory.forget("my job")
    assert not memory.has_slept and memory.count == 1


def test_sleep_that_makes_the_memory_less_sure_changes_nothing(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    monkeypatch.setattr(sleep_module, "listed", lambda model, tokenizer, rows: [DOG])
    judge(monkeypatch, lambda adapter: not isinstance(adapter, Consolidated))
    memory.teach("My dog is called Biscuit.")
    before = memory.path.read_bytes()
    assert memory.sleep().after == 0.0
    assert not memory.has_slept and memory.path.read_bytes() == before


def test_a_second_sleep_that_makes_it_worse_leaves_what_the_first_has_taught(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    monkeypatch.setattr(sleep_module, "listed", lambda model, tokenizer, rows: [DOG])
    memory.teach("My dog is called Biscuit.")
    verdicts = iter([False, True, True, False])  # of each sleep, before and after
    judge(monkeypatch, lambda adapter: next(verdicts))
    memory.sleep()
    before = memory.path.read_bytes()
    slept = memory.sleep()
    assert (slept.before, slept.after) == (1.0, 0.0) and memory.has_slept and memory.path.read_bytes() == before


def test_it_answers_while_it_sleeps(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    memory.teach("My dog is called Biscuit.")

    def listed(model, tokenizer, rows):  # with the sleeper's rows attached
        assert rows.attached and memory.ask("What is my dog's name?")
        return [DOG]

    monkeypatch.setattr(sleep_module, "listed", listed)
    monkeypatch.setattr(
        sleep_module, "answers", lambda model, tokenizer, prompts: [memory.ask("What is my dog's name?")] * len(prompts)
    )
    memory.sleep()
    assert memory.count == 1


def test_with_nothing_known_there_is_nothing_to_sleep_on(memory):
    with pytest.raises(UserError, match="nothing to go over in sleep"):
        memory.sleep()
    assert not memory.path.exists()


def test_what_is_taught_while_it_sleeps_is_not_lost(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence, "I am a baker.": JOB.sentence})
    monkeypatch.setattr(sleep_module, "listed", lambda model, tokenizer, rows: [DOG])
    memory.teach("My dog is called Biscuit.")
    with pytest.raises(UserError, match="taught or forgotten meanwhile"):
        memory.sleep(lambda step, sure: memory.teach("I am a baker.") if memory.count == 1 else None)
    assert memory.count == 2 and not memory.has_slept


def test_a_low_rank_adapter_is_no_memory_to_go_on_with(memory, model, tokenizer):
    lora = new_adapter(model, tokenizer, QUICK)
    save_adapter(memory.path, lora, {**memory.identity, "facts": 1})
    with pytest.raises(UserError, match="holds no rows for this model"):
        Memory(model, tokenizer, memory.path, toy_teaching(tokenizer), IDENTITY)


def test_a_taught_memory_is_saved_for_its_owner_only_and_opens_again(memory, tokenizer, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    lesson = memory.teach("My dog is called Biscuit.")
    assert [learned.fact for learned in lesson.learned] == [DOG] and lesson.understood
    assert memory.path.stat().st_mode & 0o777 == 0o600
    assert b"Biscuit" not in memory.path.read_bytes()
    again = Memory(memory.model, tokenizer, memory.path, toy_teaching(tokenizer), IDENTITY)
    assert again.count == 1
    assert again.rows.spans == memory.rows.spans and torch.equal(again.rows.vectors, memory.rows.vectors)


@pytest.mark.parametrize("reply", ["I am glad.", "Your dog's name is Rex.", "Your dog's name is unknown to me."])
def test_a_statement_that_is_not_read_or_read_wrongly_teaches_nothing(memory, monkeypatch, reply):
    said(monkeypatch, {"My dog is called Biscuit.": reply})
    assert not memory.teach("My dog is called Biscuit.").understood
    assert not memory.path.exists()


def test_a_teach_that_dies_half_way_leaves_the_old_memory_whole(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence, "I am a baker.": JOB.sentence})
    memory.teach("My dog is called Biscuit.")
    before = memory.path.read_bytes()

    def die(step: int, sure: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory.teach("I am a baker.", die)
    assert memory.path.read_bytes() == before
    assert not [file for file in memory.path.parent.iterdir() if file != memory.path]


def test_to_forget_something_unknown_or_unclear_is_said_in_one_line(memory, monkeypatch):
    said(monkeypatch, {"What is my cat's name?": "Your cat's name is unknown to me."})
    with pytest.raises(UserError, match="Your cat's name is not known"):
        memory.forget("my cat's name")
    with pytest.raises(UserError, match="I did not understand what to forget: hm"):
        memory.forget("hm")
    with pytest.raises(UserError, match="nothing to read"):
        memory.teach("  ")


def test_forgetting_the_only_fact_leaves_nothing_of_it(memory, model, tokenizer, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence, "What is my dog's name?": DOG.sentence})
    memory.teach("My dog is called Biscuit.")
    assert memory.forget("my dog's name") == Fact(DOG.key, None)
    assert memory.count == 0 and not memory.rows.spans and not len(memory.rows.vectors)
