"""What the verbs of the command line do, once their arguments are read."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from personacore.app.lines import end_progress, print_json, progress
from personacore.errors import UserError
from personacore.layout import HUGGINGFACE

NOT_UNDERSTOOD = "I did not understand that: say one thing in a plain sentence, such as: My dog is called Biscuit."

SLEEP_AGAIN = " What it learned in its sleep is gone as well: it can sleep again."

if TYPE_CHECKING:  # torch takes a second to import, which --help should not
    from personacore.core import Core
    from personacore.memory.memory import Memory
    from personacore.memory.sleep import Slept


def complete(arguments: argparse.Namespace) -> None:
    """Continue a text, printing it as it is written."""
    core = _load(arguments)
    if arguments.compiled:
        core = core.compiled(int8=arguments.compiled == "int8")
    pieces = core.stream(
        arguments.prompt,
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    if arguments.json:
        return print_json(prompt=arguments.prompt, text="".join(pieces))
    first = next(pieces, "")  # before anything is printed, so that a wrong argument prints nothing but its error
    for piece in chain((arguments.prompt, first), pieces):
        print(piece, end="", flush=True)
    print(flush=True)


def teach(arguments: argparse.Namespace) -> None:
    """Teach a statement, with its progress where somebody watches."""
    memory = _open_memory(arguments)
    try:
        told = memory.teach(arguments.text, progress)
    finally:
        end_progress()
    if not told.understood:
        raise UserError(NOT_UNDERSTOOD)
    if arguments.json:
        learned = [
            {"key": each.fact.key, "value": each.fact.value, "sentence": each.fact.sentence, "probability": each.probability}
            for each in told.learned
        ]
        return print_json(learned=learned, seconds=round(told.seconds, 3))
    for each in told.learned:
        print(f"{each.fact.sentence} ({each.probability:.0%} sure)")


def ask(arguments: argparse.Namespace) -> None:
    """Print the answer, alone."""
    answer = _open_memory(arguments).ask(arguments.text)
    if arguments.json:
        return print_json(question=arguments.text, answer=answer)
    print(answer)


def forget(arguments: argparse.Namespace) -> None:
    """Make the memory forget one thing."""
    opened = _open_memory(arguments)
    had_slept, key = opened.has_slept, opened.forget(arguments.text).key
    if arguments.json:
        return print_json(forgotten=key)
    print(f"{key} is forgotten.{SLEEP_AGAIN * had_slept}")


def sleep(arguments: argparse.Namespace) -> None:
    """Let the memory learn to read the questions for what it knows."""
    opened = _open_memory(arguments)
    try:
        slept = opened.sleep(progress)
    finally:
        end_progress()
    if arguments.json:
        right = {"before": round(slept.before, 4), "after": round(slept.after, 4)}
        return print_json(facts=len(slept.facts), kept=slept.after >= slept.before, seconds=round(slept.seconds, 3), **right)
    print(describe_sleep(slept))


def describe_sleep(slept: "Slept") -> str:
    """What came of sleep, in words."""
    if not slept.facts:
        return "It can name nothing of what it knows, so there was nothing to go over."
    facts = f"{len(slept.facts)} fact{'s' * (len(slept.facts) != 1)}"
    if slept.after < slept.before:
        return f"Went over {facts}, and stays as it was: {slept.before:.0%} of new questions are answered rightly so."
    return f"Went over {facts}: of new questions {slept.before:.0%} were answered rightly before, {slept.after:.0%} now."


def memory(arguments: argparse.Namespace) -> None:
    """List what the memory knows, say whether its file fits the model, or export what sleep has made of it."""
    opened = _open_memory(arguments)
    if arguments.action == "export":
        return _export(opened, arguments)
    if arguments.action == "verify":
        exists = opened.path.exists()
        if arguments.json:
            return print_json(file=str(opened.path), exists=exists, facts=opened.count)
        print(f"{opened.path} {'is a memory of this model' if exists else 'does not exist yet: teach something first'}")
    elif arguments.json:
        known = opened.known()
        print_json(known=[{"key": fact.key, "value": fact.value} for fact in known], unlisted=opened.count - len(known))
    else:
        print("\n".join(opened.listing()))


def _export(opened: "Memory", arguments: argparse.Namespace) -> None:
    from safetensors import SafetensorError

    from personacore.export.gguf import export_gguf_adapter
    from personacore.export.peft import export_peft
    from personacore.model.consolidated import Consolidated

    if not isinstance(opened.adapter, Consolidated):
        raise UserError("rows are no adapter that others know: let the memory sleep first, with `personacore sleep`")
    to = path_of(str(arguments.to))
    if to.exists():
        raise UserError(f"{to} exists already: name a new folder with --to")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as place:
            folder = Path(place, "peft")
            export_peft(folder, opened.adapter.lora, str(HUGGINGFACE))
            export_gguf_adapter(folder / "adapter.gguf", opened.adapter.lora)
            folder.rename(to)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{to} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    if arguments.json:
        return print_json(folder=str(to))
    print(f"{to} holds what sleep has made of it: peft loads it onto {HUGGINGFACE}, llama.cpp its adapter.gguf")


def chat(arguments: argparse.Namespace) -> None:
    """Talk line by line."""
    from personacore.app.chat import run_chat

    core = _load(arguments)
    run_chat(core, core.memory(memory_file(arguments.memory)), arguments.json)


def demo(arguments: argparse.Namespace) -> None:
    """Serve the page on this machine alone."""
    try:
        from personacore.app.demo.server import serve
    except ModuleNotFoundError as error:
        raise UserError(f"the page needs {error.name}: python -m pip install '.[demo]' in a clone") from None
    serve(_load(arguments), memory_file(arguments.memory), arguments.port, arguments.json)


def serve(arguments: argparse.Namespace) -> None:
    """Serve OpenAI's interface on this machine alone."""
    try:
        from personacore.app.serve import run_interface
    except ModuleNotFoundError as error:
        raise UserError(f"serving needs {error.name}: python -m pip install '.[serve]' in a clone") from None
    run_interface(_load(arguments), memory_file(arguments.memory), arguments.port, arguments.json)


def profile(arguments: argparse.Namespace) -> None:
    """Write a profile into params.yaml."""
    from personacore.app.profile import apply_profile

    changed = apply_profile(arguments.name, Path("profiles"), Path("params.yaml"))
    if arguments.json:
        return print_json(profile=arguments.name, changed=changed)
    print("\n".join(changed) or f"params.yaml is the {arguments.name} profile already")


def bench(arguments: argparse.Namespace) -> None:
    """Time the implementation beside its peers, as benchmarks/ of a clone does."""
    if not Path("benchmarks/bench.py").exists():
        raise UserError("bench: benchmarks/ is not part of the package: run this in a clone of the repository")
    if missing := [name for name in ("llama_cpp", "onnxruntime", "onnxscript", "rustbpe") if find_spec(name) is None]:
        raise UserError(f"bench: {', '.join(missing)} missing: pip install '.[bench]', or `make bench`")
    shown = sys.stderr if arguments.json else None  # so that standard output is JSON alone
    if status := subprocess.run([sys.executable, "-m", "benchmarks.bench", *arguments.keys], stdout=shown).returncode:
        raise SystemExit(status)
    if arguments.json:
        print_json(**json.loads(Path("metrics/speed/bench.json").read_text()))


def memory_file(named: Path | None) -> Path:
    """The memory's file: the one that was named, or me.safetensors in the person's data folder."""
    from platformdirs import user_data_path

    if named is not None:
        return path_of(str(named))  # a shell leaves ~ as it is behind a =
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home, "personacore") if home else user_data_path("personacore")) / "me.safetensors"


def path_of(text: str) -> Path:
    """The path that somebody has written, in which ~ is their home.

    Raises:
        UserError: there is no such home.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{text}: {error}") from None


def _load(arguments: argparse.Namespace) -> "Core":
    from personacore.core import load

    return load(path_of(arguments.model))


def _open_memory(arguments: argparse.Namespace) -> "Memory":
    return _load(arguments).memory(memory_file(arguments.memory))
