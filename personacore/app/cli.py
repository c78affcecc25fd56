"""The `personacore` command."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import shtab

from personacore import layout
from personacore.app import verbs
from personacore.app.lines import fault
from personacore.errors import UserError

SLIM, CHAT = layout.SLIM.as_posix(), layout.CHAT_EXPORT.as_posix()


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(prog="personacore", description="A language model whose memory lives in its weights.")
    parser.add_argument("--version", action="version", version=f"personacore {_version()}")
    shtab.add_argument_to(parser, "--print-completion", help="print what makes your shell complete this command, for: source")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    complete = _add(commands, "complete", "continue a text and print it as it is written", '"Once upon a time" --seed 7')
    complete.add_argument("prompt", nargs="?", default="", help="the beginning of the text (default: none)")
    complete.add_argument("--model", default=SLIM, metavar="DIR", help=f"an exported model (default: {SLIM})")
    complete.add_argument("--max-new-tokens", type=int, default=200, metavar="N", help="longest continuation (default: 200)")
    complete.add_argument("--temperature", type=float, default=0.8, metavar="T", help="0 is greedy (default: 0.8)")
    complete.add_argument("--top-k", type=int, metavar="K", help="draw among the K likeliest tokens (default: all)")
    complete.add_argument("--top-p", type=float, default=0.95, metavar="P", help="draw within this probability (default: 0.95)")
    complete.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed writes the same text (default: 0)")
    complete.add_argument(
        "--compiled",
        choices=("fp32", "int8"),
        help="write by compiled steps, several times faster; int8 also rounds the weights",
    )
    _add_json(complete)

    chat = _add(commands, "chat", "talk with it, line by line; /help says what else it does", "")
    _add_memory_options(chat)
    _add_json(chat)

    for name, word, meaning, example in (
        ("teach", "STATEMENT", "tell it something about you, which its memory keeps", '"My dog is called Biscuit."'),
        ("ask", "QUESTION", "ask what you told it, with nothing but the question", '"What is my dog\'s name?"'),
        ("forget", "WHAT", "make it forget one thing", '"my dog\'s name"'),
    ):
        verb = _add(commands, name, meaning, example)
        verb.add_argument("text", metavar=word, help="in your words")
        _add_memory_options(verb)
        _add_json(verb)
    sleep = _add(commands, "sleep", "let it go over all that it knows, so that it finds it by more ways of asking", "")
    _add_memory_options(sleep)
    _add_json(sleep)
    meaning = "list what the memory knows, read out of its weights; verify its file; or export what sleep has made of it"
    memory = _add(commands, "memory", meaning, "list")
    memory.add_argument("action", choices=("list", "verify", "export"), nargs="?", default="list", help="default: list")
    folder = "where export puts what peft and llama.cpp load"
    memory.add_argument("--to", type=Path, metavar="DIR", default=Path("peft"), help=f"{folder} (default: peft)")
    _add_memory_options(memory)
    _add_json(memory)

    for name, meaning, port in (
        ("demo", "serve the page, which this machine alone can reach", 7860),
        ("serve", "serve OpenAI's interface, which this machine alone can reach; a person's name is a model", 8000),
    ):
        server = _add(commands, name, meaning, f"--port {port + 1}")
        _add_memory_options(server)
        server.add_argument("--port", type=int, default=port, metavar="N", help=f"where it listens (default: {port})")
        _add_json(server)

    meaning = "write a profile of profiles/ into params.yaml, keeping its comments; `dvc repro` rebuilds what changed"
    profile = _add(commands, "profile", meaning, "macbook")
    profile.add_argument("name", metavar="NAME", help="pocket, macbook, or smoke (every stage in three minutes)")
    _add_json(profile)

    meaning = "time it beside other implementations, in a clone of the repository"
    bench = _add(commands, "bench", meaning, "encode_vs_tiktoken")
    bench.add_argument("keys", metavar="KEY", nargs="*", help="keys of metrics/speed/bench.json (default: all)")
    _add_json(bench)
    return parser


def _add(commands: "argparse._SubParsersAction", name: str, meaning: str, example: str) -> argparse.ArgumentParser:
    """A verb, done by the function of `verbs` with its name."""
    verb = commands.add_parser(
        name,
        help=meaning,
        description=f"{meaning[0].upper()}{meaning[1:]}.",
        epilog=f"example: personacore {name} {example}".rstrip(),
    )
    verb.set_defaults(run=getattr(verbs, name))
    return verb


def _add_memory_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=CHAT, metavar="DIR", help=f"an exported model that converses (default: {CHAT})")
    parser.add_argument(
        "--memory", type=Path, metavar="FILE", help="the memory's file (default: me.safetensors in your data folder)"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a line of JSON, for scripts")


def _version() -> str:
    try:
        return version("personacore")
    except PackageNotFoundError:
        return "(a checkout that is not installed)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 for a failure said in one line, 2 for wrong use."""
    parsed = build_parser().parse_args(arguments)
    try:
        parsed.run(parsed)
        print(end="", flush=True)  # here, so that output that cannot be written is a fault like others
    except KeyboardInterrupt:
        return 130
    except (UserError, OSError) as error:
        if sys.stderr and not isinstance(error, BrokenPipeError):  # where a pipe's reader has left, nobody is there to be told
            print(f"personacore: {fault(error)}", file=sys.stderr)
        _drop_what_cannot_be_written()
        return 1
    return 0


def _drop_what_cannot_be_written() -> None:
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
