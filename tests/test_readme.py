"""What the README says that a command prints, it prints, on the exported model."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from personacore.app.cli import build_parser
from tests.exported import ROOT, needs_a_model
from tools.console import BASELINE, BLOCK, commands, program, stages_of
from tools.console import reader as reader_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = BLOCK.findall(README)
BLOCKS = [block for block in CONSOLE if "personacore " in block]
EXPERIMENTS = [block for block in CONSOLE if block not in BLOCKS]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMPARED = ("valid_nats_per_token", "bits_per_byte", "nats_per_token", "perplexity")  # others may be equal by chance
SURE = re.compile(r"\d+(?=% sure)")
SHELL = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))


@needs_a_model
@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_command_prints_what_stands_below_it(block, tmp_path):
    run, near = program(tmp_path), 1
    for command, printed in commands(block):
        said, shown = run(command).strip(), printed.strip()
        assert SURE.sub("", said) == SURE.sub("", shown), command
        # Other processors round differently, and a fact is learned by gradient.
        assert list(map(int, SURE.findall(said))) == pytest.approx(list(map(int, SURE.findall(shown))), abs=near)
        near = 10 if command.endswith("sleep") else near  # of which 150 steps make more of rounding


def test_the_readme_shows_teaching_asking_and_a_story():
    shown = [command for block in BLOCKS for command, _ in commands(block)]
    assert {"teach", "ask", "forget", "complete"} <= {word for command in shown for word in command.split()}


@pytest.mark.parametrize("verb", re.findall(r"personacore ([a-z]+)", " ".join(re.findall(r"`([^`\n]*)`", README))))
def test_a_verb_that_is_named_exists(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args([verb, "--help"])
    assert caught.value.code == 0


@needs_a_model
@pytest.mark.parametrize("program", PYTHON, ids=range(len(PYTHON)))
def test_the_python_that_is_shown_tells_a_story_and_remembers_the_dog(program, tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    asked = """me.ask("What is my dog's name?")"""
    assert asked in program
    shown = program.replace(asked, f"print({asked})")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-c", shown]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("Your dog's name is Biscuit.") and len(done.stdout) > 200


@pytest.fixture(scope="module")
def reader_anywhere(tmp_path_factory) -> Callable[[str], str]:
    """Runs a command in a reader's clone, which holds the smoke profile's results up to `evaluate`, and returns its output."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository's history, not a zip of it")
    return reader_of(tmp_path_factory.mktemp("reader"))


@pytest.fixture
def reader(reader_anywhere) -> Callable[[str], str]:
    """The same, in a clone that is as it was."""
    reader_anywhere("git checkout -q . && git clean -fdq; dvc checkout -q --force || true")  # later stages have no results
    return reader_anywhere


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", EXPERIMENTS, ids=range(len(EXPERIMENTS)))
def test_an_experiment_runs_the_stages_and_changes_the_metrics_that_are_shown(block, reader):
    """In a clone with the smoke profile, whose model is made anew; numbers may differ in their last digits elsewhere."""
    assert BASELINE in SHELL
    experiment, difference = commands(block)
    stages = stages_of(reader(experiment[0])).splitlines()
    assert sorted(stages) == sorted(experiment[1].splitlines())  # DVC takes what is independent in any order
    shown, found = (
        {tuple(line.split()[:2]): [float(number) for number in line.split()[2:4]] for line in text.splitlines()[1:]}
        for text in (difference[1], reader(difference[0]))
    )
    assert {row: pair for row, pair in found.items() if row[1] == "parameters"} == {
        row: pair for row, pair in shown.items() if row[1] == "parameters"
    }
    for row in shown:
        if row[1] in COMPARED:
            assert found[row] == pytest.approx(shown[row], rel=1e-3), row
    ((back, printed),) = re.findall(r"`(git checkout [^`]*)`\sgoes back:\s`([^`]*)`", README)
    assert any(line.startswith(printed) for line in reader(back).splitlines())


@pytest.mark.timeout(600)
def test_two_processes_train_as_one_does(reader):
    (launch,) = re.findall(r"`(LAUNCH=[^`]*)`", README)
    loss = "cat metrics/train.json"
    alone = json.loads(reader(loss))
    together = json.loads(reader(f"{launch} -sf train >&2 && {loss}"))
    assert together["valid_nats_per_token"] == pytest.approx(alone["valid_nats_per_token"], rel=1e-3)
    too_many = launch.replace("--nproc_per_node=2", "--nproc_per_node=3")
    assert "does not split into 3 processes" in reader(f"{too_many} -sf train 2>&1 || true")


@pytest.mark.timeout(600)
def test_a_text_that_was_edited_behind_its_path_is_noticed_when_the_download_is_forced(reader):
    (forced,) = re.findall(r"`(dvc repro -f [^`]*)`", README)
    stories = "".join(f"Once there were {number} kettles that sang.\\n<|endoftext|>\\n" for number in range(200))
    reader(f"printf '{stories}' > text.txt && sed -i 's|source: pocket|source: text.txt|' params.yaml")
    reader(forced)
    reader("sed -i s/kettle/teapot/ text.txt")
    assert "didn't change" in reader("dvc repro download")
    reader(forced)
    assert "teapot" in reader("cat data/corpus/train.txt")


@pytest.mark.parametrize("target", re.findall(r"\bmake ([a-z]+)", SHELL + "\n".join(re.findall(r"`([^`\n]*)`", README))))
def test_make_knows_what_to_do_for_a_target_that_is_named(target):
    """Everything but doing it: `make repro` is what the smoke run of `.ci/run` does in steps."""
    done = subprocess.run(["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    programs = re.findall(r"^\.venv/bin/(\S+)", done.stdout, re.MULTILINE)
    assert programs and all(shutil.which(program, path=Path(sys.executable).parent) for program in programs)


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http)[^)#]+)\)", README) + re.findall(r'src(?:set)?="([^"]+)"', README))
def test_a_file_that_is_linked_exists(path):
    assert (ROOT / path).exists()
