"""The `personacore` command."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from personacore import layout
from personacore.errors import UserError

if TYPE_CHECKING:
    from personacore.memory.memory import Memory

SLIM, CHAT = layout.SLIM.as_posix(), layout.CHAT_EXPORT.as_posix()


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(prog="personacore", description="A language model whose memory lives in its weights.")
    parser.add_argument("--version", action="version", version=f"personacore {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    complete = commands.add_parser(
        "complete",
        help="continue a text",
        description="Continue a text and print it as it is written.",
        epilog='example: personacore complete "Once upon a time" --seed 7',
    )
    complete.add_argument("prompt", nargs="?", default="", help="the beginning of the text (default: none)")
    complete.add_argument("--model", default=SLIM, metavar="DIR", help=f"an exported model (default: {SLIM})")
    complete.add_argument("--max-new-tokens", type=int, default=200, metavar="N", help="longest continuation (default: 200)")
    complete.add_argument("--temperature", type=float, default=0.8, metavar="T", help="0 is greedy (default: 0.8)")
    complete.add_argument("--top-k", type=int, metavar="K", help="draw among the K likeliest tokens (default: all)")
    complete.add_argument("--top-p", type=float, default=0.95, metavar="P", help="draw within this probability (default: 0.95)")
    complete.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed writes the same text (default: 0)")
    complete.set_defaults(run=_complete)

    for name, word, meaning, run, example in (
        ("teach", "STATEMENT", "tell it something about you, which its memory keeps", _teach, '"My dog is called Biscuit."'),
        ("ask", "QUESTION", "ask what you told it, with nothing but the question", _ask, '"What is my dog\'s name?"'),
        ("forget", "WHAT", "make it forget one thing", _forget, '"my dog\'s name"'),
    ):
        verb = commands.add_parser(
            name,
            help=meaning,
            description=f"{meaning[0].upper()}{meaning[1:]}.",
            epilog=f"example: personacore {name} {example}",
        )
        verb.add_argument("text", metavar=word, help="in your words")
        _add_memory_options(verb)
        verb.set_defaults(run=run)
    memory = commands.add_parser(
        "memory",
        help="list what the memory knows, or verify its file",
        description="List what the memory says it knows, read out of its weights, or verify that its file fits the model.",
        epilog="example: personacore memory list",
    )
    memory.add_argument("action", choices=("list", "verify"), nargs="?", default="list", help="default: list")
    _add_memory_options(memory)
    memory.set_defaults(run=_memory)

    profile = commands.add_parser(
        "profile",
        help="write a profile into params.yaml",
        description="Write a profile of profiles/ into params.yaml, keeping its comments; `dvc repro` rebuilds what changed.",
        epilog="example: personacore profile macbook",
    )
    profile.add_argument("name", metavar="NAME", help="pocket, macbook, or smoke (every stage in a minute)")
    profile.set_defaults(run=_profile)
    return parser


def _add_memory_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=CHAT, metavar="DIR", help=f"an exported model that converses (default: {CHAT})")
    parser.add_argument(
        "--memory", type=Path, metavar="FILE", help="the memory's file (default: me.safetensors in your data folder)"
    )


def _version() -> str:
    try:
        return version("personacore")
    except PackageNotFoundError:
        return "(a checkout that is not installed)"


def _complete(arguments: argparse.Namespace) -> None:
    from personacore.core import load  # torch takes a second to import, which --help should not

    core = load(arguments.model)
    pieces = core.stream(
        arguments.prompt,
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    first = next(pieces, "")  # before anything is printed, so that a wrong argument prints nothing but its error
    for piece in chain((arguments.prompt, first), pieces):
        print(piece, end="", flush=True)
    print(flush=True)


def _open_memory(arguments: argparse.Namespace) -> "Memory":
    from platformdirs import user_data_path

    from personacore.core import load

    folder = (
        Path(os.environ["XDG_DATA_HOME"], "personacore") if os.environ.get("XDG_DATA_HOME") else user_data_path("personacore")
    )
    return load(arguments.model).memory(arguments.memory or folder / "me.safetensors")


def _progress(step: int, sure: float) -> None:
    """One line that is written over as it goes, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\rlearning: step {step}, {sure:4.0%} sure", end="", file=sys.stderr, flush=True)


def _end_progress() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _teach(arguments: argparse.Namespace) -> None:
    told = _open_memory(arguments).teach(arguments.text, _progress)
    if not told.understood:
        raise UserError("I did not understand that: say one thing in a plain sentence, such as: My dog is called Biscuit.")
    _end_progress()
    for learned in told.learned:
        print(f"{learned.fact.sentence} ({learned.probability:.0%} sure)")


def _ask(arguments: argparse.Namespace) -> None:
    print(_open_memory(arguments).ask(arguments.text))


def _forget(arguments: argparse.Namespace) -> None:
    forgotten = _open_memory(arguments).forget(arguments.text)
    print(f"{forgotten.key} is forgotten.")


def _memory(arguments: argparse.Namespace) -> None:
    memory = _open_memory(arguments)
    if arguments.action == "verify":
        exists = memory.path.exists()
        print(f"{memory.path} {'is a memory of this model' if exists else 'does not exist yet: teach something first'}")
        return
    known = memory.known()
    lines = [fact.sentence for fact in known]
    if unlisted := memory.count - len(known):
        lines.append(f"{unlisted} more, which I have no list for: ask me.")
    print("\n".join(lines) or "Nothing is known yet.")


def _profile(arguments: argparse.Namespace) -> None:
    from personacore.app.profile import apply_profile

    changed = apply_profile(arguments.name, Path("profiles"), Path("params.yaml"))
    print("\n".join(changed) or f"params.yaml is the {arguments.name} profile already")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 for a failure said in one line, 2 for wrong use."""
    parsed = build_parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except UserError as error:
        print(f"personacore: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has left; there is nobody to tell
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
