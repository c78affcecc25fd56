"""PersonaCore: a conversational AI whose memory lives in its weights."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from personacore.core import Core, load

__all__ = ["Core", "load"]


def __getattr__(name: str) -> object:
    """`load` and `Core`, imported when first used, so that the pipeline's light stages never import torch."""
    if name in __all__:
        from personacore import core

        return getattr(core, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
