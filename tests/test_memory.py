"""A memory in a file: what is taught, asked, corrected, slept on and forgotten, and what is said when that cannot be done."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import torch
from filelock import FileLock

from personacore.errors import UserError
from personacore.generation.prompts import encode_prompt
from personacore.memory import memory as memory_module
from personacore.memory import sleep as sleep_module
from personacore.memory.facts import Fact
from personacore.memory.memory import Memory
from personacore.memory.teach import new_adapter
from personacore.memory.teaching import Teaching
from personacore.memory.write import fact_hash, new_rows
from personacore.model.adapter import save_adapter
from personacore.model.consolidated import Consolidated
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer
from tests.talks import DOG, JOB
from tests.toys import COMMITTED, SHORT_SLEEP, answering_model, toy_teaching

IDENTITY = {"base_sha256": "a" * 64, "tokenizer_sha256": "b" * 64}
# What the model says is made up here, so that what is learned need not be sure.
ROWS = dataclasses.replace(COMMITTED.rows, steps=3)
SLEEP = dataclasses.replace(SHORT_SLEEP, max_steps=2, warmup_steps=1, check_interval=1)


def teaching(tokenizer: Tokenizer) -> Teaching:
    return dataclasses.replace(toy_teaching(tokenizer, ROWS), sleep=SLEEP)


@pytest.fixture
def memory(model, tokenizer, tmp_path) -> Memory:
    return Memory(model, tokenizer, tmp_path / "me.safetensors", teaching(tokenizer), IDENTITY)


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


@pytest.fixture(scope="module")
def reader(tokenizer) -> GPT:
    """Reads a statement of two facts, and another."""
    return answering_model(tokenizer, [], lessons=[BOTH, ("My job is cook.", "Your job is cook.")])


@pytest.mark.parametrize("reading, expected", [
    ("Your dog's name is Bisccuit. Your job is baker.", [DOG, JOB]),
    ("Your dog's name is Biscui. Your job is bakerr.", [DOG, JOB]),
    ("Your cat's age is Bisccuit. Your job is baker.", []),
    ("Your dog's name is unknown to me. Your job is bakerr.", []),
])  # fmt: skip
def test_a_misspelled_value_is_chosen_from_the_statement_if_the_rest_was_read(memory, reader, monkeypatch, reading, expected):
    memory.model = reader
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
    other = Memory(model, tokenizer, memory.path, teaching(tokenizer), IDENTITY)

    def meanwhile(step: int, sure: float) -> None:
        if not memory.count:
            memory.teach("My dog is called Biscuit.")

    with pytest.raises(UserError, match="changed by another program meanwhile"):
        other.teach("I am a baker.", meanwhile)
    assert Memory(model, tokenizer, memory.path, teaching(tokenizer), IDENTITY).count == 1
    assert other.teach("I am a baker.").understood and other.count == 2
    memory.save_as(memory.path.with_name("copy"))  # of what the file holds by now
    assert Memory(model, tokenizer, memory.path.with_name("copy"), teaching(tokenizer), IDENTITY).count == 2
    assert memory.ask("What is my job?") and memory.count == 2


def test_one_that_writes_waits_for_another_that_does(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    memory.path.parent.mkdir(exist_ok=True)
    lock = FileLock(memory.path.with_name(f".{memory.path.name}.lock"))
    with ThreadPoolExecutor() as pool, lock:  # the lock is given back first
        taught = pool.submit(memory.teach, "My dog is called Biscuit.")
        with pytest.raises(TimeoutError):
            taught.result(timeout=3)
        assert not memory.path.exists()
    assert taught.result().understood and memory.path.exists()


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
    again = Memory(memory.model, tokenizer, memory.path, teaching(tokenizer), IDENTITY)
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


def test_of_its_answers_those_that_are_the_whole_right_sentence_are_right(tokenizer, reader):
    rows = new_rows(reader, tokenizer, ROWS)
    wrong = (BOTH[0], JOB.sentence)
    for lessons, share in (([BOTH], 1.0), ([wrong], 0.0), ([BOTH, wrong, wrong, BOTH, wrong], 0.4)):
        assert sleep_module._right(reader, tokenizer, rows, lessons) == share


def test_while_it_sleeps_it_answers_as_before(memory, tokenizer, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    monkeypatch.setattr(sleep_module, "listed", lambda model, tokenizer, rows: [DOG])
    memory.teach("My dog is called Biscuit.")
    asked = torch.tensor([encode_prompt(tokenizer, "What is my dog's name?")])

    def logits() -> torch.Tensor:
        with torch.no_grad(), memory.reading() as model:
            return model(asked)

    before, found = logits(), []
    slept = memory.sleep(lambda step, sure: found.append(logits()))
    assert len(found) == SLEEP.max_steps and all(torch.equal(each, before) for each in found)
    with torch.no_grad(), slept.memory.attached(memory.model):
        after = memory.model(asked)
    assert slept.after >= slept.before and not torch.equal(after, before)


def test_it_can_be_asked_whenever_it_sleeps(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    memory.teach("My dog is called Biscuit.")

    def listed(model, tokenizer, rows):  # with the sleeper's rows attached
        assert rows._hooks and memory.ask("What is my dog's name?")
        return [DOG]

    monkeypatch.setattr(sleep_module, "listed", listed)
    monkeypatch.setattr(
        sleep_module, "answers", lambda model, tokenizer, prompts: [memory.ask("What is my dog's name?")] * len(prompts)
    )
    memory.sleep()
    assert memory.count == 1


def test_with_nothing_known_there_is_nothing_to_sleep_on_or_to_save(memory):
    with pytest.raises(UserError, match="nothing to go over in sleep"):
        memory.sleep()
    with pytest.raises(UserError, match="nothing was taught yet"):
        memory.save_as(memory.path)
    assert not memory.path.exists()


def test_what_is_taught_while_it_sleeps_is_not_lost(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence, "I am a baker.": JOB.sentence})
    monkeypatch.setattr(sleep_module, "listed", lambda model, tokenizer, rows: [DOG])
    memory.teach("My dog is called Biscuit.")
    with pytest.raises(UserError, match="taught or forgotten meanwhile"):
        memory.sleep(lambda step, sure: memory.teach("I am a baker.") if memory.count == 1 else None)
    assert memory.count == 2 and not memory.has_slept


def test_a_low_rank_adapter_is_no_memory_to_go_on_with(memory, model, tokenizer):
    lora = new_adapter(model, tokenizer, SHORT_SLEEP)
    save_adapter(memory.path, lora, {**memory.identity, "facts": 1})
    with pytest.raises(UserError, match="holds no rows for this model"):
        Memory(model, tokenizer, memory.path, teaching(tokenizer), IDENTITY)


def test_a_taught_memory_is_saved_for_its_owner_only_and_opens_again(memory, tokenizer, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    lesson = memory.teach("My dog is called Biscuit.")
    assert [learned.fact for learned in lesson.learned] == [DOG] and lesson.understood
    assert memory.path.stat().st_mode & 0o777 == 0o600
    assert b"Biscuit" not in memory.path.read_bytes()
    again = Memory(memory.model, tokenizer, memory.path, teaching(tokenizer), IDENTITY)
    assert again.count == 1
    assert again.taught == memory.taught and abs(datetime.now(UTC) - datetime.fromisoformat(*again.taught)) < timedelta(hours=1)
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
    assert {file.name for file in memory.path.parent.iterdir()} == {memory.path.name, f".{memory.path.name}.lock"}


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
