"""Two memories that act together: what is known, and how it is asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.model.rows import MemoryRows


class Consolidated(nn.Module):
    """Rows, and the low-rank adapter that has learned to read the questions for what they hold."""

    def __init__(self, rows: MemoryRows, lora: LoRA) -> None:
        super().__init__()
        self.rows, self.lora = rows, lora

    @contextmanager
    def attached(self, model: GPT) -> Iterator["Consolidated"]:
        """Change what `model` computes for the length of a `with` block."""
        with self.lora.attached(model), self.rows.attached(model):
            yield self


Taught = MemoryRows | Consolidated


def rows_of(memory: Taught) -> MemoryRows:
    """The rows of a memory, which hold every fact."""
    return memory.rows if isinstance(memory, Consolidated) else memory


def with_rows(memory: Taught, rows: MemoryRows) -> Taught:
    """A memory whose rows have changed: what sleep has taught it stays as good as it was."""
    return Consolidated(rows, memory.lora) if isinstance(memory, Consolidated) else rows
