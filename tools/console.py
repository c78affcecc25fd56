"""Rewrite what commands print in README.md.

`python -m tools.console`, after `make release`: minutes, since one of them trains a model in a clone.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from personacore.files import write_text

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(?<=```console\n).*?(?=```)", re.DOTALL)
PROGRAM = f"{shlex.quote(sys.executable)} -m personacore.app.cli "
BASELINE = "personacore profile smoke && dvc repro evaluate && git commit -qam baseline"
Run = Callable[[str], str]  # what a command prints


def commands(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what stands below it.

    >>> commands("$ echo a\\na\\n$ true\\n")
    [('echo a', 'a\\n'), ('true', '')]
    """
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(command, printed) for command, _, printed in (part.partition("\n") for part in parts)]


def program(home: Path) -> Run:
    """Runs commands on the exported model, with the memories of somebody who has none yet."""
    environment = {"OMP_NUM_THREADS": "2"} | os.environ | {"XDG_DATA_HOME": str(home)}

    def run(command: str) -> str:
        line = re.sub(r"\bpersonacore ", lambda _: PROGRAM, command)
        return subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    return run


def reader(home: Path) -> Run:
    """Runs commands in a reader's clone below `home`, which holds the smoke profile's results up to `evaluate`."""
    places = ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {place: str(home / place) for place in places} | {"CI": "true"}  # so that DVC leaves no daemon behind

    def run(command: str) -> str:
        words = ["timeout", "180", "bash", "-c", command]
        done = subprocess.run(words, cwd=home / "it", env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    someone = ["-c", "user.name=a reader", "-c", "user.email=reader@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "clone", "--quiet", *someone, ROOT, home / "it"], check=True)
    run(BASELINE.replace("personacore ", PROGRAM))
    return run


def stages_of(printed: str) -> str:
    """Of what DVC prints, which stages it ran and which it did not."""
    return "".join(f"{line}\n" for line in printed.splitlines() if line.startswith(("Stage", "Running stage")))


def printed_anew(block: str) -> str:
    """The block with what its commands print now."""
    with tempfile.TemporaryDirectory() as home:
        run = program(Path(home)) if "personacore " in block else reader(Path(home))
        lines = []
        for command, _ in commands(block):
            printed = run(command)
            lines.append(f"$ {command}\n{stages_of(printed) if ' exp run ' in command else printed}")
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def main() -> None:
    """Rewrite README.md."""
    write_text(README, BLOCK.sub(lambda found: printed_anew(found.group()), README.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
