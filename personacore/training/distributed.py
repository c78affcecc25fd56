"""One training run over several processes: the same global batch, split by rows and summed by gradient."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from personacore.errors import UserError


@dataclass(frozen=True)
class World:
    """This process's place among the processes of a run; one process alone is rank 0 of 1."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum the tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, model: nn.Module) -> None:
        """Sum every gradient over all processes, in one message."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, piece in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(piece.view_as(gradient))


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """The world that `torchrun` describes in the environment, or one process alone.

    Raises:
        UserError: several processes are to share a device that cannot exchange tensors.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"train.device: several processes cannot train on {device.type}; use cpu, or one process")
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
