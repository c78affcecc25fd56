"""What the README says that a command prints, it prints, on the model that `dvc repro` exported here; skipped before that."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from personacore.app.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
EXPORT = ROOT / "data" / "export" / "chat"
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) if "$ personacore " in block]
LARGE = 1_000_000  # bytes; the smoke profile's model learns nothing


def commands(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what stands below it."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(command, printed) for command, _, printed in (part.partition("\n") for part in parts)]


@pytest.mark.skipif(
    not (EXPORT / "config.json").exists() or (EXPORT / "model.safetensors").stat().st_size < LARGE,
    reason="needs data/export: run `dvc repro export` first",
)
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_command_prints_what_stands_below_it(block, tmp_path):
    environment = os.environ | {"XDG_DATA_HOME": str(tmp_path), "OMP_NUM_THREADS": "2"}
    program = f"{shlex.quote(sys.executable)} -m personacore.app.cli "
    for command, printed in commands(block):
        line = re.sub(r"\bpersonacore ", lambda _: program, command)
        done = subprocess.run(["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
        assert (done.returncode, done.stdout.strip()) == (0, printed.strip()), f"{command}\n{done.stderr}"


def test_the_readme_shows_teaching_asking_and_a_story():
    shown = [command for block in BLOCKS for command, _ in commands(block)]
    assert {"teach", "ask", "forget", "complete"} <= {word for command in shown for word in command.split()}


@pytest.mark.parametrize("verb", re.findall(r"personacore ([a-z]+)", " ".join(re.findall(r"`([^`\n]*)`", README))))
def test_a_verb_that_is_named_exists(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args([verb, "--help"])
    assert caught.value.code == 0


@pytest.mark.parametrize("target", re.findall(r"^make ([a-z]+)", README, re.MULTILINE))
def test_a_target_of_make_that_is_named_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http)[^)#]+)\)", README) + re.findall(r'src(?:set)?="([^"]+)"', README))
def test_a_file_that_is_linked_exists(path):
    assert (ROOT / path).exists()
