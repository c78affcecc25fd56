"""Which hardware a run uses, and in which precision."""

import torch

from personacore.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device for `auto` (cuda, then mps, then cpu), or the one named.

    Raises:
        UserError: the named device is not there.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if present[kind]))
    if not present[name]:
        raise UserError(f"train.device: {name} is not available here; use auto or cpu")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> str:
    """`bf16` or `fp32`: for `auto`, bf16 where the hardware multiplies it natively, and fp32 on MPS."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return "bf16" if native else "fp32"
