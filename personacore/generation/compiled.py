"""One token through the model in one compiled call: what `model/gpt.py` computes, in loops that numba compiles.

The plain step spends its time between some hundred small operations of PyTorch; this one reads every weight once and does
nothing else. As many threads as PyTorch has share the rows of each matrix, and the heads; no sum depends on how many they are.
With int8 it reads a quarter of the bytes: each row of a matrix is rounded to whole numbers from -127 to 127 with a scale of
its own, and the activations to whole numbers of up to 16 bits, whose products add up exactly.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numba import config, get_num_threads, njit, prange, set_num_threads, types
from numba.extending import overload
from torch import Tensor, nn

from personacore.model.gpt import GPT, KeyValueCache

EPSILON = 1e-5  # of a LayerNorm
OPTIONS = {"cache": True, "nogil": True, "fastmath": {"reassoc", "contract", "arcp", "nsz"}}  # sums in any order, no more
# Coefficients of x * above(x²) / below(x²) = tanh(x), highest first, behind the ones in `_gelu`.
ABOVE = (2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05, 6.37261928875436e-04,
         4.89352455891786e-03)  # fmt: skip
BELOW = (1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


class Linear(NamedTuple):
    """Matrices (N, out, in) in float32 or int8, the scales (N, out) of int8, and biases (N, out)."""

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


class Blocks(NamedTuple):
    """The weights of all blocks, stacked; norms are (n_layer, 2, C), gain and bias."""

    ln_1: np.ndarray
    qkv: Linear
    c_proj: Linear
    ln_2: np.ndarray
    fc_in: Linear
    fc_out: Linear


class Weights(NamedTuple):
    """All that a step reads: embeddings of ids and of positions (0 where there are none), blocks, the last norm, the head."""

    wte: np.ndarray
    wpe: np.ndarray
    blocks: Blocks
    ln_f: np.ndarray
    head: Linear


class CompiledGPT:
    """A model for `generate`, one text at a time, with the weights of the moment it was made and without any adapter.

    `int8` rounds the matrices. A prompt is read by a plain copy, in one pass, or by compiled steps where there is int8.
    """

    def __init__(self, model: GPT, int8: bool = False) -> None:
        self._plain = GPT(model.config).eval().requires_grad_(False)
        self._plain.load_state_dict(model.state_dict())
        self.config, self.wte, self.int8, self.training = model.config, self._plain.wte, int8, False
        blocks = self._plain.blocks

        def linear(*groups: list[nn.Linear]) -> Linear:
            weight = np.stack([np.concatenate([_array(layer.weight) for layer in group]) for group in groups])
            bias = np.stack([np.concatenate([_array(layer.bias) for layer in group]) for group in groups])
            return Linear(*(_rounded(weight) if int8 else (weight, np.ones_like(bias))), bias)

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
            Linear(*(_rounded(head) if int8 else (head, unbiased)), unbiased),
        )

    def eval(self) -> "CompiledGPT":
        """Nothing changes: it never trains."""
        return self

    def train(self, mode: bool = True) -> "CompiledGPT":
        """Nothing changes: it never trains."""
        return self

    def next_logits(self, tokens: Tensor, cache: KeyValueCache | None) -> Tensor:
        """As `GPT.next_logits`, for one row of tokens (1, T).

        Raises:
            ValueError: more rows than one, no cache, or more positions than `block_size`.
        """
        if cache is None or len(tokens) != 1:
            raise ValueError("the compiled step reads one row, with a cache")
        end = cache.length + tokens.size(1)
        if end > self.config.block_size:
            raise ValueError(f"{end} positions are more than block_size {self.config.block_size}")
        if tokens.size(1) > 1 and not self.int8:
            return self._plain.next_logits(tokens, cache)
        logits = np.empty((1, self.config.vocab_size), np.float32)
        with _threads() as threads:
            _read(tokens.numpy(), cache.length, self._weights, cache.store.numpy(), logits, threads)
        cache.length = end
        return torch.from_numpy(logits)


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
    before, threads = get_num_threads(), min(torch.get_num_threads(), MOST_THREADS)
    set_num_threads(threads)
    try:
        yield threads
    finally:
        set_num_threads(before)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def _rounded(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrices in int8, and the scale of each row."""
    scale = np.maximum(np.abs(weight).max(-1), np.finfo(np.float32).tiny) / 127
    return np.round(weight / scale[..., None]).astype(np.int8), scale.astype(np.float32)


def _ready(weight: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, float]:
    """What a matrix in float32 or int8 is multiplied by for x, and the scale of that."""


@overload(_ready, jit_options=OPTIONS)
def _choose_ready(weight, x):  # noqa: ANN001, ANN202
    return _ready_int8 if weight.dtype == types.int8 else _ready_fp32


def _ready_fp32(weight, x):  # noqa: ANN001, ANN202
    return x, np.float32(1)


def _ready_int8(weight, x):  # noqa: ANN001, ANN202
    highest = np.float32(0)
    for column in range(len(x)):
        highest = max(highest, abs(x[column]))
    most = min(32767, (2**31 - 1) // (127 * len(x)))  # so that a whole row's sum stays within 32 bits
    step = max(highest / np.float32(most), np.float32(1e-30))
    whole = np.empty(len(x), np.int16)
    for column in range(len(x)):
        whole[column] = np.int16(np.rint(x[column] / step))
    return whole, step


def _product(weight: np.ndarray, scale: np.ndarray, bias: np.ndarray, x: np.ndarray, step: float, out: np.ndarray) -> None:
    """out = weight @ x + bias, for what `_ready` gives, and the scale of each row in int8."""


@overload(_product, jit_options=OPTIONS)
def _choose_product(weight, scale, bias, x, step, out):  # noqa: ANN001, ANN202
    return _product_int8 if weight.dtype == types.int8 else _product_fp32


def _product_fp32(weight, scale, bias, x, step, out):  # noqa: ANN001, ANN202
    for row in range(len(weight)):
        total = np.float32(0)
        for column in range(len(x)):
            total += weight[row, column] * x[column]
        out[row] = total + bias[row]


def _product_int8(weight, scale, bias, x, step, out):  # noqa: ANN001, ANN202
    for row in range(len(weight)):
        total = np.int32(0)
        for column in range(len(x)):
            total = np.int32(total + np.int32(weight[row, column]) * np.int32(x[column]))  # else numba adds in 64 bits
        out[row] = np.float32(total) * scale[row] * step + bias[row]


@njit(**OPTIONS)
def _rows(weight, scale, bias, x, step, out):  # noqa: ANN001, ANN202
    _product(weight, scale, bias, x, step, out)


@njit(parallel=True, **OPTIONS)
def _shared_rows(weight, scale, bias, x, step, out, threads):  # noqa: ANN001, ANN202
    for part in prange(threads):
        first, last = part * len(out) // threads, (part + 1) * len(out) // threads
        _rows(weight[first:last], scale[first:last], bias[first:last], x, step, out[first:last])


@njit(**OPTIONS)
def _multiply(linear, place, x, out, threads):  # noqa: ANN001, ANN202
    weight, scale, bias = linear.weight[place], linear.scale[place], linear.bias[place]
    ready, step = _ready(weight, x)
    if threads == 1:
        _rows(weight, scale, bias, ready, step, out)
    else:
        _shared_rows(weight, scale, bias, ready, step, out, threads)


@njit(**OPTIONS)
def _norm(x, gain_and_bias, out):  # noqa: ANN001, ANN202
    mean = np.float32(0)
    for place in range(len(x)):
        mean += x[place]
    mean /= np.float32(len(x))
    variance = np.float32(0)
    for place in range(len(x)):
        variance += (x[place] - mean) ** 2
    shrink = np.float32(1) / np.sqrt(variance / np.float32(len(x)) + np.float32(EPSILON))
    for place in range(len(x)):
        out[place] = (x[place] - mean) * shrink * gain_and_bias[0, place] + gain_and_bias[1, place]


@njit(**OPTIONS)
def _gelu(x):  # noqa: ANN001, ANN202
    """GELU by its approximation with tanh, in place; tanh is a quotient of polynomials, to 24 bits (Eigen's `ptanh`)."""
    one, root = np.float32(1), np.float32(math.sqrt(2 / math.pi))
    for place in range(len(x)):
        value = x[place]
        u = root * (value + np.float32(0.044715) * value * value * value)
        u = min(max(u, np.float32(-9)), np.float32(9))
        square = u * u
        above = np.float32(-2.76076847742355e-16)
        for factor in ABOVE:
            above = above * square + np.float32(factor)
        below = np.float32(1.19825839466702e-06)
        for factor in BELOW:
            below = below * square + np.float32(factor)
        x[place] = np.float32(0.5) * value * (one + u * above / below)


@njit(**OPTIONS)
def _attend(query, keys, values, out):  # noqa: ANN001, ANN202
    """One head: a query (hs,) over keys and values (S, hs)."""
    size, root = len(query), np.float32(1 / math.sqrt(len(query)))
    scores = np.empty(len(keys), np.float32)
    highest = np.float32(-np.inf)
    for place in range(len(keys)):
        score = np.float32(0)
        for part in range(size):
            score += query[part] * keys[place, part]
        scores[place] = score * root
        highest = max(highest, scores[place])
    total = np.float32(0)
    out[:] = 0
    for place in range(len(keys)):
        share = np.exp(scores[place] - highest)
        total += share
        for part in range(size):
            out[part] += share * values[place, part]
    for part in range(size):
        out[part] /= total


@njit(**OPTIONS)
def _heads(qkv, memory, position, first, last, out):  # noqa: ANN001, ANN202
    """Heads from `first` on: q, k and v (3 C,) of one token, whose k and v go into the memory (2, 1, nh, S, hs)."""
    size = memory.shape[-1]
    width = len(out)
    for head in range(first, last):
        start, end = head * size, (head + 1) * size
        memory[0, 0, head, position] = qkv[width + start : width + end]
        memory[1, 0, head, position] = qkv[2 * width + start : 2 * width + end]
        _attend(qkv[start:end], memory[0, 0, head, : position + 1], memory[1, 0, head, : position + 1], out[start:end])


@njit(parallel=True, **OPTIONS)
def _shared_heads(qkv, memory, position, out, threads):  # noqa: ANN001, ANN202
    heads = memory.shape[2]
    for part in prange(threads):
        _heads(qkv, memory, position, part * heads // threads, (part + 1) * heads // threads, out)


@njit(**OPTIONS)
def _through_blocks(x, blocks, store, position, threads):  # noqa: ANN001, ANN202
    """Read one token: x (C,) is changed in place, its keys and values are put into the store (n_layer, 2, 1, nh, S, hs)."""
    width = len(x)
    normed, qkv, mixed, back = np.empty_like(x), np.empty(3 * width, x.dtype), np.empty_like(x), np.empty_like(x)
    wide = np.empty(4 * width, x.dtype)
    for layer in range(len(store)):
        _norm(x, blocks.ln_1[layer], normed)
        _multiply(blocks.qkv, layer, normed, qkv, threads)
        if threads == 1:
            _heads(qkv, store[layer], position, 0, store.shape[3], mixed)
        else:
            _shared_heads(qkv, store[layer], position, mixed, threads)
        _multiply(blocks.c_proj, layer, mixed, back, threads)
        for place in range(width):
            x[place] += back[place]
        _norm(x, blocks.ln_2[layer], normed)
        _multiply(blocks.fc_in, layer, normed, wide, threads)
        _gelu(wide)
        _multiply(blocks.fc_out, layer, wide, back, threads)
        for place in range(width):
            x[place] += back[place]


@njit(**OPTIONS)
def _read(tokens, start, weights, store, logits, threads):  # noqa: ANN001, ANN202
    """Read tokens (1, T) from a position on; the logits (1, V) behind the last are written."""
    x = np.empty(weights.wte.shape[1], np.float32)
    for place in range(tokens.shape[1]):
        position = start + place
        for part in range(len(x)):
            x[part] = weights.wte[tokens[0, place], part] + weights.wpe[position, part]
        _through_blocks(x, weights.blocks, store, position, threads)
    _norm(x, weights.ln_f, x)
    _multiply(weights.head, 0, x, logits[0], threads)
