"""Tables that DVC and the figures read."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from personacore.files import write_text


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table whole or not at all; numbers in their shortest form, of floats six digits."""
    lines = [columns, *([f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows)]
    write_text(path, "".join(f"{','.join(line)}\n" for line in lines))
