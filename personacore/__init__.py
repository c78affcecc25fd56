"""PersonaCore: a conversational AI whose memory lives in its weights."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from personacore.core import Core, load

__all__ = ["Core", "load"]

# OpenMP's waiting threads, PyTorch's and numba's, spin for milliseconds before they sleep. Beside another busy process every
# parallel loop then waits for a thread that is not running; docs/EXPERIMENTS.md, "threads that spin", has the measurements.
# It is read when torch is first imported, so it must stand here, before anything of ours can do so.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def __getattr__(name: str) -> object:
    """`load` and `Core`, imported when first used, so that the pipeline's light stages never import torch."""
    if name in __all__:
        from personacore import core

        return getattr(core, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
