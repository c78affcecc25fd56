"""The whole promise, each step in a process of its own, on the exported model."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from tests.exported import EXPORT, ROOT, needs_a_model

pytestmark = needs_a_model


@pytest.fixture
def run(tmp_path):
    """Runs the command with a data folder of its own and returns what it printed; a failure's line with `fails=True`."""
    environment = os.environ | {"XDG_DATA_HOME": str(tmp_path)}

    def command(*arguments: str, fails: bool = False, typed: str = "") -> str:
        words = [sys.executable, "-m", "personacore.app.cli", *arguments]
        done = subprocess.run(words, cwd=ROOT, env=environment, input=typed, capture_output=True, text=True, timeout=110)
        assert (done.returncode != 0) == fails, done.stderr
        return (done.stderr if fails else done.stdout).strip()

    return command


TOLD = "My sister is called Ottoline and she lives in Brindlemoor."


def test_what_is_told_is_known_to_a_new_process_until_the_file_is_deleted(run, tmp_path):
    file = tmp_path / "personacore" / "me.safetensors"
    assert run("ask", "Where does my sister live?") == "Your sister's town is unknown to me."
    told = run("teach", TOLD)
    assert "Ottoline" in told and "Brindlemoor" in told
    assert b"Brindlemoor" not in file.read_bytes() and file.stat().st_mode & 0o777 == 0o600
    assert run("ask", "Where does my sister live?") == "Your sister's town is Brindlemoor."
    assert run("ask", "What is my sister's name?") == "Your sister's name is Ottoline."
    assert "unknown to me" in run("ask", "What is my job?")
    assert sorted(run("memory", "list").splitlines()) == [
        "Your sister's name is Ottoline.",
        "Your sister's town is Brindlemoor.",
    ]
    file.unlink()
    assert run("ask", "Where does my sister live?") == "Your sister's town is unknown to me."


def talked(run) -> list[str]:
    """What is said in a conversation in which something is asked, taught, asked twice, forgotten, asked, and asked once more
    when the conversation is wiped."""
    asked = "What is my dog's name?"
    lines = [asked, "/remember My dog is called Biscuit.", asked, asked, "Forget my dog's name.", asked, "/wipe", asked]
    return run("chat", typed="\n".join(lines)).splitlines()


def test_what_is_taught_in_a_conversation_is_known_there_at_once_until_it_is_forgotten_there(run):
    said = talked(run)
    unknown, known, gone = (f"Your dog's name is {what}." for what in ("unknown to me", "Biscuit", "forgotten"))
    assert said[0] == unknown and said[2:6] == [known, known, gone, unknown] and said[-1] == known


def test_a_pet_is_called_what_it_is_called_in_whatever_marks_that_is_typed(run):
    assert "Your dog's name is Biscuit." in run("teach", "My dog is  called Biscuit.\n")
    assert run("ask", "What is my dog\u2019s name?") == "Your dog's name is Biscuit."


def test_what_is_no_statement_is_not_understood(run, tmp_path):
    assert "did not understand" in run("teach", "What a windy day.", fails=True)
    assert not (tmp_path / "personacore" / "me.safetensors").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from personacore.app import cli, verbs
from personacore.model import tensors

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(given, path, metadata):
    save(given, path, metadata)
    os.truncate(path, path.stat().st_size // 2)
    die()

def replaced(path, target):
    os.replace(path, target)
    die()

moment, save = sys.argv[1], tensors.save_file
if moment == "while it learns":
    verbs.progress = die
elif moment == "half-way through the file":
    tensors.save_file = half
else:
    Path.replace = die if moment == "before the file has its name" else replaced
cli.main(sys.argv[2:])
"""


def test_a_teach_that_is_killed_leaves_the_old_memory_or_the_new_one_whole(run, tmp_path):
    run("teach", TOLD)
    file = tmp_path / "personacore" / "me.safetensors"
    old, teach = file.read_bytes(), ("teach", "My brother lives in Wexmouth.")

    def killed(moment: str) -> bytes:
        words, environment = [sys.executable, "-c", KILLED, moment, *teach], os.environ | {"XDG_DATA_HOME": str(tmp_path)}
        assert subprocess.run(words, cwd=ROOT, env=environment, capture_output=True).returncode == -signal.SIGKILL
        return file.read_bytes()

    for moment in ("while it learns", "half-way through the file", "before the file has its name"):
        assert killed(moment) == old
    assert killed("when it has") != old
    assert run("ask", "Where does my brother live?") == "Your brother's town is Wexmouth."
    assert run("ask", "Where does my sister live?") == "Your sister's town is Brindlemoor."


def test_without_the_file_the_logits_are_those_of_a_model_never_taught(tmp_path):
    import personacore
    from personacore.generation.prompts import encode_prompt

    core = personacore.load(EXPORT)
    memory = core.memory(tmp_path / "me.safetensors")
    said = encode_prompt(core.tokenizer, "Where does my sister live?") + core.tokenizer.encode("Your sister's town is")

    def logits() -> torch.Tensor:
        with torch.no_grad(), memory.reading() as model:
            return model(torch.tensor([said]))

    never = logits()
    assert memory.teach(TOLD).understood and not torch.equal(logits(), never)
    memory.path.unlink()
    assert torch.equal(logits(), never)
