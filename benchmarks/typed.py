"""Eight statements that hold ten facts are typed, and another process asks fifty questions, before sleep and after it.

All of them are written by hand.

python -m benchmarks.typed [MODEL]    (a few minutes, after `dvc repro export`; MODEL is data/export/chat)

Writes metrics/typed.json and prints the whole transcript, misses included.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

import personacore
from personacore.app.verbs import describe_sleep
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT
from personacore.memory.facts import holds
from personacore.memory.memory import Memory
from personacore.memory.recall import abstains

TYPED = Path(__file__).with_suffix(".yaml")
UNTOLD = "unknown"  # in the file, the value of what nobody told


def tell(model: Path, memory: Path, statements: Iterable[str]) -> None:
    """Teach each statement on the command line, in a process of its own."""
    for statement in statements:
        command = [sys.executable, "-m", "personacore.app.cli", "teach", "--model", model, "--memory", memory, statement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"> {statement}\n{(done.stdout + done.stderr).strip()}", flush=True)


def main() -> None:
    """Tell, ask, print, and keep how much was right."""
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else CHAT_EXPORT
    typed = yaml.load(TYPED.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "memory.safetensors"
        tell(model, file, typed["statements"])
        memory = personacore.load(model).memory(file)  # this process has been told nothing
        said = {key: value for facts in typed["statements"].values() for key, value in facts.items()}
        learned = sum(said.get(fact.key) == fact.value for fact in memory.known())
        found = {"facts_told": len(said), "facts_learned": learned} | ask(memory, typed["questions"])
        print(f"\n{describe_sleep(memory.sleep())}\n")
        found |= {f"rested_{name}": value for name, value in ask(memory, typed["questions"]).items() if name.endswith("right")}
    write_json("metrics/typed.json", found)
    print(*(f"{name} {value:.2f}" for name, value in found.items()))


def ask(memory: Memory, questions: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """How many questions were asked about what was told and was not, and the share of right answers."""
    right: dict[str, list[bool]] = {"told": [], "untold": []}
    for value, about in questions.items():
        for question in about:
            answer = memory.ask(question)
            hit = abstains(answer) if value == UNTOLD else holds(answer, value)
            right["untold" if value == UNTOLD else "told"].append(hit)
            print(f"{'right' if hit else 'WRONG'}  {question}  {answer}", flush=True)
    counts = {f"{kind}_asked": len(hits) for kind, hits in right.items()}
    return counts | {f"{kind}_right": sum(hits) / len(hits) for kind, hits in right.items()}


if __name__ == "__main__":
    main()
