"""One step of a model with its key/value cache, as ONNX."""

import torch
from torch import Tensor, nn

from personacore.model.gpt import GPT


class GrowingCache:
    """Keys and values as ONNX has them: given, and given back longer by one."""

    def __init__(self, past: Tensor) -> None:
        self.past, self.present = past, []

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All of a layer's so far."""
        self.present.append(torch.cat((self.past[layer], torch.stack((key, value))), dim=-2))
        return self.present[-1][0], self.present[-1][1]


class OneToken(nn.Module):
    """What is exported: a token (1, 1), its position (1,) and the past (n_layer, 2, 1, nh, T, hs) to logits and present."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, token: Tensor, position: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        model, cache = self.model, GrowingCache(past)
        x = model.wte(token) + model.wpe(position)
        for block in model.blocks:
            x = block(x, cache)
        return model.lm_head(model.ln_f(x))[:, -1], torch.stack(cache.present)


def export_step(model: GPT, file: str) -> None:
    """Write a step whose inputs are token, position and past, and whose outputs are logits and present."""
    config = model.config
    past = torch.zeros(config.n_layer, 2, 1, config.n_head, 2, config.n_embd // config.n_head)
    example = (torch.ones(1, 1, dtype=torch.long), torch.ones(1, dtype=torch.long), past)
    grows = (None, None, {4: torch.export.Dim("T", min=1, max=config.block_size - 1)})
    names = {"input_names": ["token", "position", "past"], "output_names": ["logits", "present"]}
    torch.onnx.export(OneToken(model).eval(), example, dynamo=True, dynamic_shapes=grows, verbose=False, **names).save(file)
