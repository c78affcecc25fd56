"""Where a memory acts on an answer: how far it moves the residual stream, block by block and token by token."""

from collections.abc import Sequence

import torch
from torch import Tensor

from personacore.memory.memory import Memory


def influence(memory: Memory, ids: Sequence[int]) -> Tensor:
    """The length of what a memory adds behind each block (n_layer, T), as a share of the residual stream's there.

    `ids` are a prompt and its answer. Where the memory does not act, a share is 0 to the bit.
    """
    without, with_memory = (_streams(memory, ids, remembering) for remembering in (False, True))
    return (with_memory - without).norm(dim=-1) / without.norm(dim=-1)


@torch.no_grad()
def _streams(memory: Memory, ids: Sequence[int], remembering: bool) -> Tensor:
    """The residual stream (n_layer, T, C) behind each block."""
    outputs: dict[int, Tensor] = {}  # of a block that reads more than once, the last, which is the one that counts
    with memory.reading(remembering) as model:
        hooks = [  # behind those of the memory, which are there already
            block.register_forward_hook(lambda _, __, output, layer=layer: outputs.update({layer: output[0]}))
            for layer, block in enumerate(model.blocks)
        ]
        try:
            model.hidden(torch.tensor([list(ids)]))
        finally:
            for hook in hooks:
                hook.remove()
    return torch.stack([outputs[layer] for layer in range(len(hooks))])
