"""A token of one text through the model in one compiled call: what `model/gpt.py` computes, in loops that numba compiles.

The plain step spends its time between some hundred small operations of PyTorch; this one reads every weight once and does
nothing else. As many threads as PyTorch has share the rows of each matrix, and the heads; each sum is the work of one.
With int8 it reads a quarter of the bytes: each row of a matrix is rounded to whole numbers from -127 to 127 with a scale of
its own, and the activations to whole numbers of up to 16 bits, whose products add up exactly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from numba import config, get_num_threads, set_num_threads
from torch import Tensor, nn

from personacore.generation.kernels import Blocks, Linear, Weights, mix, read
from personacore.generation.packed import PackedLinear
from personacore.model.gpt import GPT, KeyValueCache


class CompiledGPT:
    """A model for `generate`, with the weights of the moment it was made and without any adapter.

    `int8` rounds the matrices, and writes one text at a time. A prompt is read by a plain copy, in one pass, or by compiled
    steps where there is int8.
    """

    def __init__(self, model: GPT, int8: bool = False) -> None:
        self._plain = GPT(model.config).eval().requires_grad_(False)
        self._plain.load_state_dict(model.state_dict())
        self.config, self.wte, self.int8, self.training = model.config, self._plain.wte, int8, False
        blocks = self._plain.blocks

        def linear(*groups: list[nn.Linear]) -> Linear:
            weight = np.stack([np.concatenate([_array(layer.weight) for layer in group]) for group in groups])
            bias = np.stack([np.concatenate([_array(layer.bias) for layer in group]) for group in groups])
            return Linear(*(rounded(weight) if int8 else (weight, np.ones_like(bias))), bias)

        def norm(layers: list[nn.LayerNorm]) -> np.ndarray:
            return np.stack([np.stack([_array(layer.weight), _array(layer.bias)]) for layer in layers])

        head = _array(self._plain.lm_head.weight)[None]
        unbiased = np.zeros(head.shape[:2], np.float32)
        wpe = self._plain.wpe
        self._weights = Weights(
            _array(self.wte.weight),
            np.zeros((self.config.block_size, self.config.n_embd), np.float32) if wpe is None else _array(wpe.weight),
            Blocks(
                norm([block.ln_1 for block in blocks]),
                linear(*([block.attn.q_proj, block.attn.k_proj, block.attn.v_proj] for block in blocks)),
                linear(*([block.attn.c_proj] for block in blocks)),
                norm([block.ln_2 for block in blocks]),
                linear(*([block.mlp.fc_in] for block in blocks)),
                linear(*([block.mlp.fc_out] for block in blocks)),
            ),
            norm([self._plain.ln_f])[0],
            Linear(*(rounded(head) if int8 else (head, unbiased)), unbiased),
        )

    def eval(self) -> "CompiledGPT":
        """Nothing changes: it never trains."""
        return self

    def train(self, mode: bool = True) -> "CompiledGPT":
        """Nothing changes: it never trains."""
        return self

    def next_logits(self, tokens: Tensor, cache: KeyValueCache | None) -> Tensor:
        """As `GPT.next_logits`; with int8 for one row of tokens (1, T).

        Raises:
            ValueError: no cache, more positions than `block_size`, or several rows and int8.
        """
        if cache is None or (self.int8 and len(tokens) > 1):
            raise ValueError("the compiled step reads with a cache, and with int8 one row at a time")
        end = cache.length + tokens.size(1)
        if end > self.config.block_size:
            raise ValueError(f"{end} positions are more than block_size {self.config.block_size}")
        if tokens.size(1) > 1 and not self.int8:
            return self._plain.next_logits(tokens, cache)
        with _threads() as threads:
            logits = (self._read_row if len(tokens) == 1 else self._read_rows)(tokens, cache, threads)
        cache.length = end
        return logits

    def _read_row(self, tokens: Tensor, cache: KeyValueCache, threads: int) -> Tensor:
        logits = np.empty((1, self.config.vocab_size), np.float32)
        read(tokens.numpy(), cache.length, self._weights, cache.store.numpy(), logits, threads)
        return torch.from_numpy(logits)

    def _read_rows(self, tokens: Tensor, cache: KeyValueCache, threads: int) -> Tensor:
        """One token of each row: many rows share each weight, so that the products are PyTorch's; attention is compiled."""
        model, (products, head), store = self._plain, self._packed, cache.store.numpy()
        x = model.wte.weight[tokens[:, 0]] + torch.from_numpy(self._weights.wpe[cache.length])
        mixed = torch.empty_like(x)
        for layer, (block, (qkv, c_proj, fc_in, fc_out)) in enumerate(zip(model.blocks, products, strict=True)):
            mix(qkv(block.ln_1(x)).numpy(), store[layer], cache.length, mixed.numpy(), threads)
            x = x + c_proj(mixed)
            x = x + fc_out(fc_in(block.ln_2(x)))
        return head(model.ln_f(x))

    @cached_property
    def _packed(self) -> tuple[list[tuple[PackedLinear, ...]], PackedLinear]:
        """The matrices of each block and of the head, made ready when several texts are first written at once."""
        qkv = self._weights.blocks.qkv
        products = [
            (
                PackedLinear(torch.from_numpy(weight), torch.from_numpy(bias)),
                PackedLinear(block.attn.c_proj.weight, block.attn.c_proj.bias),
                PackedLinear(block.mlp.fc_in.weight, block.mlp.fc_in.bias, gelu=True),
                PackedLinear(block.mlp.fc_out.weight, block.mlp.fc_out.bias),
            )
            for block, weight, bias in zip(self._plain.blocks, qkv.weight, qkv.bias, strict=True)
        ]
        return products, PackedLinear(self._plain.lm_head.weight)


def _safe_for_threads() -> bool:
    """Whether numba's own threads can be shared: its last resort ends the program where two texts are written at once."""
    try:
        from numba.np.ufunc import omppool  # noqa: F401 (where there is no OpenMP, importing it says so)
    except ImportError:
        return False
    return True


MOST_THREADS = config.NUMBA_NUM_THREADS if _safe_for_threads() else 1


@contextmanager
def _threads() -> Iterator[int]:
    """How many share a product: as many as PyTorch has, where numba has them too."""
    before, of_torch = get_num_threads(), torch.get_num_threads()
    threads = min(of_torch, MOST_THREADS)
    set_num_threads(threads)
    try:
        yield threads
    finally:
        set_num_threads(before)
        torch.set_num_threads(of_torch)  # numba's number is OpenMP's, and so PyTorch's, where both use OpenMP


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def rounded(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrices in int8, and the scale of each row."""
    scale = np.maximum(np.abs(weight).max(-1), np.finfo(np.float32).tiny) / 127
    return np.round(weight / scale[..., None]).astype(np.int8), scale.astype(np.float32)
