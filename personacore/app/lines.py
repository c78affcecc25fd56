"""Lines that the terminal is given beside text: JSON for scripts, and how far learning is for whoever watches."""

import json
import sys

from personacore.errors import UserError


def print_json(**found: object) -> None:
    """A line of JSON at once, in ASCII, so that no reader and no encoding breaks it."""
    print(json.dumps(found), flush=True)


def progress(step: int, sure: float) -> None:
    """One line that is written over as it goes, where somebody watches."""
    if _watched():
        print(f"\rlearning: step {step}, {sure:4.0%} sure", end="", file=sys.stderr, flush=True)


def end_progress() -> None:
    """The line is empty again."""
    if _watched():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def fault(error: UserError | OSError) -> str:
    """What somebody is told of a fault of theirs, or of what the system refused: the file, and why."""
    if isinstance(error, UserError):
        return str(error)
    return ": ".join(str(part) for part in (error.filename, error.strerror) if part) or str(error)
