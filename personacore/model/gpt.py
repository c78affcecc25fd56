"""The GPT, whole, in the order data flows through it.

The architecture is GPT-2's (Radford et al., 2019): pre-norm blocks, learned positions, GELU, tied embeddings. Query, key
and value are separate linear layers, so that an adapter can attach to each of the six projections of a block by name.

Shapes: B rows, T tokens, C = n_embd, nh = n_head, hs = C / nh, V = vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from personacore.model.products import Linear

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "c_proj", "fc_in", "fc_out")
RESIDUAL_WRITERS = ("c_proj", "fc_out")
Probe = Callable[[int, Tensor, Tensor], None]  # is given a layer's number, its queries and its keys, (B, nh, T, hs)


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a model; everything a checkpoint needs to be rebuilt."""

    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    dropout: float = 0.0
    tie_weights: bool = True
    position: Literal["learned", "none"] = "learned"


class KeyValueCache:
    """Keys and values of the tokens a model has already read, for every layer."""

    def __init__(self, config: GPTConfig, batch_size: int, like: Tensor) -> None:
        head_size = config.n_embd // config.n_head
        shape = (config.n_layer, 2, batch_size, config.n_head, config.block_size, head_size)
        self.store = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.length = 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, nh, T, hs) keys and values of one layer and return all of that layer's so far."""
        end = self.length + key.size(2)
        self.store[layer, 0, :, :, self.length : end] = key
        self.store[layer, 1, :, :, self.length : end] = value
        return self.store[layer, 0, :, :, :end], self.store[layer, 1, :, :, :end]


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """Causal attention written out: softmax(q kᵀ / √hs, masked) v.

    The queries are the last T of the S keyed positions; position i of the text sees positions 0..i only.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))  # (B, nh, T, S)
    queries, keys = scores.shape[-2:]
    visible = torch.ones(queries, keys, dtype=torch.bool, device=scores.device).tril(keys - queries)
    weights = scores.masked_fill(~visible, -math.inf).softmax(dim=-1)
    return functional.dropout(weights, dropout) @ value  # (B, nh, T, hs)


def attend_fused(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """The same attention through PyTorch's fused kernel."""
    queries, keys = query.size(-2), key.size(-2)
    if queries == keys:
        return functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
    if queries == 1:  # one new token sees everything before it
        return functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    visible = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=dropout)


class Attention(nn.Module):
    """Multi-head causal self-attention."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.n_head, self.dropout = layer, config.n_head, config.dropout
        self.q_proj = Linear(config.n_embd, config.n_embd)
        self.k_proj = Linear(config.n_embd, config.n_embd)
        self.v_proj = Linear(config.n_embd, config.n_embd)
        self.c_proj = Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.attend = attend_fused

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, probe: Probe | None = None) -> Tensor:
        query, key, value = (  # each (B, nh, T, hs)
            projection(x).unflatten(-1, (self.n_head, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if probe is not None:
            probe(self.layer, query, key)
        if cache is not None:
            key, value = cache.extend(self.layer, key, value)  # (B, nh, S, hs)
        mixed = self.attend(query, key, value, self.dropout if self.training else 0.0)
        return self.resid_dropout(self.c_proj(mixed.transpose(1, 2).flatten(-2)))  # (B, T, C)


class MLP(nn.Module):
    """The position-wise half of a block."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.fc_in = Linear(config.n_embd, 4 * config.n_embd)
        self.fc_out = Linear(4 * config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.gelu(self.fc_in(x), approximate="tanh")  # (B, T, 4C)
        return self.resid_dropout(self.fc_out(hidden))  # (B, T, C)


class Block(nn.Module):
    """Communicate, then compute; each half reads a normed copy and writes back into the residual stream."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, probe: Probe | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache, probe)
        return x + self.mlp(self.ln_2(x))


def _embedding(count: int, width: int) -> nn.Embedding:
    """One whose values are still to be set."""
    return nn.Embedding.from_pretrained(torch.empty(count, width), freeze=False)


class GPT(nn.Module):
    """A decoder-only transformer language model."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = _embedding(config.vocab_size, config.n_embd)
        self.wpe = _embedding(config.block_size, config.n_embd) if config.position == "learned" else None
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_weights:
            self.lm_head.weight = self.wte.weight
        if not self.wte.weight.is_meta:  # where there are no values, and `normal_` would take a second to load what traces it
            self.reset_parameters()

    def reset_parameters(self, seed: int | None = None, embedding_std: float = 0.02) -> None:
        """GPT-2's initialisation, from a generator of its own when `seed` is given.

        Normal weights of deviation 0.02 and zero biases; the two layers of a block that write into the residual stream
        are scaled by 1/√(2·n_layer), so that its variance does not grow with depth. `embedding_std` is the deviation of
        the token embedding: with a larger one the words stand apart from the first step on, and attention learns sooner
        to copy them.
        """
        generator = torch.Generator().manual_seed(seed) if seed is not None else None
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                *_, layer, kind = name.split(".")
                if layer.startswith("ln_"):
                    parameter.fill_(1.0 if kind == "weight" else 0.0)
                elif kind == "bias":
                    parameter.zero_()
                else:
                    deviation = embedding_std if layer == "wte" else 0.02
                    if layer in RESIDUAL_WRITERS:
                        deviation /= math.sqrt(2 * self.config.n_layer)
                    parameter.normal_(0.0, deviation, generator=generator)

    def use_attention(self, written_out: bool) -> None:
        """Compute attention by the written-out mathematics (True) or by the fused kernel (False, the default)."""
        for block in self.blocks:
            block.attn.attend = attend if written_out else attend_fused

    def hidden(self, tokens: Tensor, cache: KeyValueCache | None = None, probe: Probe | None = None) -> Tensor:
        """The normed residual stream (B, T, C) after the last block, for token ids (B, T).

        With a cache, `tokens` continue what the cache has read, and the cache reads them. A probe sees what each layer asks.

        Raises:
            ValueError: more positions than `block_size`.
        """
        start = cache.length if cache is not None else 0
        end = start + tokens.size(1)
        if end > self.config.block_size:
            raise ValueError(f"{end} positions are more than block_size {self.config.block_size}")
        x = self.wte(tokens)  # (B, T, C)
        if self.wpe is not None:
            x = x + self.wpe.weight[start:end]
        x = self.drop(x)
        for block in self.blocks:
            x = block(x, cache, probe)
        if cache is not None:
            cache.length = end
        return self.ln_f(x)

    def next_logits(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Logits (B, V) of the token that follows the last, for token ids (B, T); raises as `hidden`."""
        return self.lm_head(self.hidden(tokens, cache)[:, -1])

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Logits (B, T, V) of the token that follows each position."""
        return self.lm_head(self.hidden(tokens, cache))

    def parameter_count(self) -> int:
        """Number of trained scalars, shared storage counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
