"""Talking with a memory, and the terminal that does it line by line."""

import io
import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from personacore.app.chat import Chat, Wrapped, run_chat
from personacore.core import Core
from personacore.errors import UserError
from personacore.generation.answers import MAX_ANSWER_TOKENS, answers
from personacore.generation.prompts import encode_prompt
from personacore.memory import memory as memory_module
from personacore.memory.facts import Fact, plain_question
from personacore.memory.memory import Memory
from personacore.memory.spelling import APOSTROPHES, TypedMemory
from personacore.memory.talk import Talk
from personacore.memory.write import new_rows, write_facts
from personacore.params import RowsParams
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.train import count_words, train_merges
from tests.toys import answering_model, tiny_rows, toy_teaching

pytestmark = pytest.mark.usefixtures("tiny_rows")

TOWN, DOG = Fact("Your town", "Wexmouth"), Fact("Your dog's name", "Biscuit")
PLAIN = RowsParams(block=0, questions=8, claims=0, pairs=0, reversed=0, steps=60, lr=0.5)
IDENTITY = {"base_sha256": "a" * 64, "tokenizer_sha256": "b" * 64}
WHERE = plain_question(TOWN.key)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    facts = (TOWN, DOG, Fact(TOWN.key, None))
    texts = [text for fact in facts for text in (plain_question(fact.key), fact.sentence)]
    return Tokenizer(train_merges(count_words(texts), 280))


@pytest.fixture(scope="module")
def model(tokenizer):
    return answering_model(tokenizer, [Fact(TOWN.key, None), DOG, Fact("Your school", TOWN.value)])  # which spells the town


def taught(model, tokenizer, path: Path, fact: Fact) -> Memory:
    memory = Memory(model, tokenizer, path, toy_teaching(tokenizer, PLAIN), IDENTITY)
    memory._save(write_facts(model, tokenizer, new_rows(model, tokenizer, PLAIN), [fact], PLAIN, "seed"))
    return memory


@pytest.fixture(scope="module")
def of_town(model, tokenizer, tmp_path_factory) -> Path:
    """A memory that was taught the town, to copy."""
    with tiny_rows():
        return taught(model, tokenizer, tmp_path_factory.mktemp("taught") / "me.safetensors", TOWN).path


@pytest.fixture
def memory(model, tokenizer, of_town, tmp_path) -> Memory:
    path = Path(shutil.copy(of_town, tmp_path))
    return Memory(model, tokenizer, path, toy_teaching(tokenizer, PLAIN), IDENTITY)


@pytest.fixture
def chat(model, tokenizer, memory) -> tuple[Chat, list[str]]:
    written: list[str] = []
    return Chat(Core(model, tokenizer), memory, written.append), written


def test_what_is_said_first_is_answered_from_the_memory_alone(memory, tokenizer):
    talk = Talk(memory)
    assert "".join(talk.say(WHERE)) == memory.ask(WHERE) == TOWN.sentence
    assert talk.last.prompt == encode_prompt(tokenizer, WHERE)


def test_the_memory_can_be_switched_off(memory):
    talk = Talk(memory)
    talk.remembering = False
    assert "".join(talk.say(WHERE)) == Fact(TOWN.key, None).sentence


def test_a_later_prompt_holds_what_was_said_until_it_is_wiped(memory, tokenizer):
    talk = Talk(memory)
    "".join(talk.say(WHERE))
    said = list(talk.turns)
    "".join(talk.say("Hm."))
    assert talk.last.prompt == encode_prompt(tokenizer, "Hm.", said)
    talk.wipe()
    "".join(talk.say("Hm."))
    assert talk.last.prompt == encode_prompt(tokenizer, "Hm.")


def test_the_oldest_turns_make_room_for_an_answer(memory, model, tokenizer):
    talk = Talk(memory)
    for number in range(8):
        "".join(talk.say(f"number {number}"))
    assert len(talk.last.prompt) <= model.config.block_size - MAX_ANSWER_TOKENS
    kept = [turn for turn in talk.turns[:-1] if turn.user in tokenizer.decode(talk.last.prompt)]
    assert kept and kept == talk.turns[-1 - len(kept) : -1] and len(kept) < 7


def test_an_answer_that_is_left_keeps_what_was_said_and_frees_the_memory(memory, model):
    talk = Talk(memory)
    answer = talk.say(WHERE)
    first = next(answer)
    answer.close()
    assert talk.turns[0].assistant == first != TOWN.sentence
    with memory.rows.attached(model):
        pass


def test_an_answer_that_fails_before_its_first_word_is_no_part_of_the_conversation(memory):
    talk, whole = Talk(memory), memory.path.read_bytes()
    memory.path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"me\.safetensors"):
        next(talk.say(WHERE))
    assert talk.turns == [] and talk.last is None
    memory.path.write_bytes(whole)
    assert "".join(talk.say(WHERE)) == TOWN.sentence


def test_lines_are_answered_and_commands_obeyed(chat, memory, monkeypatch, tmp_path):
    chat, written = chat

    def line(text: str) -> str:
        written.clear()
        chat.line(text)
        return "".join(written)

    assert line(WHERE) == f"{TOWN.sentence}\n"
    assert line("/off") == "The memory is off.\n"
    assert line("/wipe").startswith("The conversation is wiped.") and chat.talk.turns == []
    assert line(WHERE) == f"{Fact(TOWN.key, None).sentence}\n"
    assert line("/on") == "The memory is on.\n"
    assert line("/memory") == f"{TOWN.sentence}\n"
    assert "/remember" in line("/help")
    assert "there is no /fly" in line("/fly")
    assert line("/story Once").startswith("Once")
    monkeypatch.setattr(memory_module, "answers", lambda *_, **__: ["Your dog's name is Biscuit."])
    assert "Learned: Your dog's name is Biscuit." in line("/remember My dog is called Biscuit.")
    assert memory.count == 2
    assert line("/sleep").startswith("Went over 2 facts")
    assert line(f"/save {tmp_path / 'copy'}") == f"Saved to {tmp_path / 'copy'}.\n"
    assert (tmp_path / "copy").read_bytes() == memory.path.read_bytes()
    assert line("/forget my dog's name").startswith("Your dog's name is forgotten.")


def test_what_the_system_refuses_is_said_and_the_conversation_goes_on(chat):
    chat, written = chat
    chat.line(f"/save {'x' * 300}")
    assert written.pop().endswith(": File name too long\n") and not written
    chat.line(WHERE)
    assert "".join(written) == f"{TOWN.sentence}\n"


def test_a_reader_that_has_left_is_not_talked_to(memory, model, tokenizer):
    def gone(text: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Chat(Core(model, tokenizer), memory, gone).line(WHERE)


def test_without_anything_to_read_a_conversation_is_over(model, tokenizer, memory, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", None)
    run_chat(Core(model, tokenizer), memory)
    assert capsys.readouterr().out == ""


def test_typographic_marks_and_stray_white_space_are_read_as_plain_ones(model, tokenizer, of_town):
    memory = TypedMemory(model, tokenizer, of_town, toy_teaching(tokenizer, PLAIN), IDENTITY)
    assert memory.checked(" What\u00a0is  my dog's name?\r\n") == plain_question(DOG.key)
    for mark in APOSTROPHES:
        assert memory.checked(f"What is my dog{mark}s name?") == plain_question(DOG.key)
    talk = Talk(memory)
    assert "".join(talk.say(f"\t{WHERE}\n")) == memory.ask(WHERE.replace(" ", "  ")) == TOWN.sentence
    assert talk.turns[0].user == WHERE and talk.last.prompt == encode_prompt(tokenizer, WHERE)
    with pytest.raises(UserError, match="nothing to read"):
        memory.checked("\u00a0 \n")


def test_control_c_stops_the_answer_and_not_the_program(chat):
    chat, written = chat

    def interrupted(text):
        yield "Your"
        raise KeyboardInterrupt

    chat.talk.say = interrupted
    chat.line(WHERE)
    assert "".join(written) == "Your (stopped)\n"


def test_a_piped_conversation_prints_answers_and_nothing_else(model, tokenizer, memory, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{WHERE}\n\n/off\n/quit\n{WHERE}\n"))
    run_chat(Core(model, tokenizer), memory)
    assert capsys.readouterr().out == f"{TOWN.sentence}\nThe memory is off.\n"


def test_control_c_between_lines_prints_nothing_to_a_program(model, tokenizer, memory, monkeypatch, capsys):
    lines = iter([KeyboardInterrupt(), ""])

    def read() -> str:
        if isinstance(line := next(lines), str):
            return line
        raise line

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False, readline=read))
    run_chat(Core(model, tokenizer), memory, as_json=True)
    assert capsys.readouterr().out == ""


def test_a_program_gets_a_line_of_json_for_each_line_of_its_own(model, tokenizer, memory, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{WHERE}\n\n/off\n/nonsense\n"))
    run_chat(Core(model, tokenizer), memory, as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[:2] == [{"line": WHERE, "answer": TOWN.sentence}, {"line": "/off", "answer": "The memory is off."}]
    assert found[2]["line"] == "/nonsense" and "there is no /nonsense" in found[2]["answer"]


def test_both_ways_answers_with_and_without_the_memory_and_is_no_part_of_the_conversation(memory, tokenizer):
    talk = Talk(memory)
    assert talk.both_ways(WHERE) == (TOWN.sentence, Fact(TOWN.key, None).sentence)
    assert talk.turns == [] and talk.last.prompt == encode_prompt(tokenizer, WHERE)


def test_two_people_who_talk_at_once_each_have_their_own_memory(model, tokenizer, tmp_path):
    people = []
    for name, town in (("one", "Wexmouth"), ("two", "Biscuit")):
        fact = Fact(TOWN.key, town)
        people.append((Talk(taught(model, tokenizer, tmp_path / name, fact)), fact.sentence))
    answers = [talk.say(WHERE) for talk, _ in people]
    said = ["", ""]
    for pieces in itertools.zip_longest(*answers, fillvalue=""):  # a piece of the one, a piece of the other
        said = [before + piece for before, piece in zip(said, pieces, strict=True)]
    assert said == [sentence for _, sentence in people]


def test_an_answer_that_is_still_written_when_the_conversation_is_wiped_is_no_part_of_the_next(memory, tokenizer):
    talk = Talk(memory)
    answer = talk.say(WHERE)
    next(answer)
    talk.wipe()
    answer.close()
    "".join(talk.say("Hm."))
    assert talk.last.prompt == encode_prompt(tokenizer, "Hm.")


def test_what_another_program_did_to_the_file_is_seen_by_the_next_question(memory, model, tokenizer):
    other = Memory(model, tokenizer, memory.path, toy_teaching(tokenizer, PLAIN), IDENTITY)
    other.forget_key(TOWN.key)
    assert memory.ask(WHERE) == Fact(TOWN.key, None).sentence and memory.count == 0
    other.path.unlink()
    assert memory.ask(WHERE) == Fact(TOWN.key, None).sentence


def test_a_copy_takes_no_place_of_another_file(memory, tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        memory.save_as(tmp_path / "notes")
    with pytest.raises(UserError, match="cannot be written"):
        memory.save_as(tmp_path / "notes" / "copy")
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_conversation_at_a_terminal_is_wrapped_between_words():
    file = io.StringIO()
    write_piece = Wrapped(file, 10)
    for piece in ("Once up", "on a time\n", "there was a", " verylongwordindeed"):
        write_piece(piece)
    lines = file.getvalue().splitlines()
    assert " ".join(lines) == "Once upon a time there was a verylongwordindeed"
    assert lines[:2] == ["Once upon", "a time"] and max(map(len, lines[:-1])) <= 10


def test_answers_are_those_of_the_library(memory, model, tokenizer):
    talk = Talk(memory)
    talk.remembering = False
    assert "".join(talk.say("Anything.")) == answers(model, tokenizer, [encode_prompt(tokenizer, "Anything.")])[0]
