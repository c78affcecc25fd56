"""Lines that the terminal is given beside text: JSON for scripts, and how far learning is for whoever watches."""

import json
import sys


def print_json(**found: object) -> None:
    """A line of JSON at once, in ASCII, so that no reader and no encoding breaks it."""
    print(json.dumps(found), flush=True)


def progress(step: int, sure: float) -> None:
    """One line that is written over as it goes, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\rlearning: step {step}, {sure:4.0%} sure", end="", file=sys.stderr, flush=True)


def end_progress() -> None:
    """The line is empty again."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
