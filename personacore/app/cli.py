"""The `personacore` command."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

from personacore import layout
from personacore.errors import UserError

SLIM = layout.SLIM.as_posix()


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

    profile = commands.add_parser(
        "profile",
        help="write a profile into params.yaml",
        description="Write a profile of profiles/ into params.yaml, keeping its comments; `dvc repro` rebuilds what changed.",
        epilog="example: personacore profile macbook",
    )
    profile.add_argument("name", metavar="NAME", help="pocket, macbook, or smoke (every stage in a minute)")
    profile.set_defaults(run=_profile)
    return parser


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
