"""One token through the model in one compiled call: what `model/gpt.py` computes, in loops that numba compiles.

The plain step spends its time between some hundred small operations of PyTorch; this one reads every weight once and does
nothing else. With int8 it reads a quarter of the bytes: each row of a matrix is rounded to whole numbers from -127 to 127 with
a scale of its own, and the activations to whole numbers of up to 16 bits, whose products add up exactly.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numba import njit, types
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

        self._blocks = Blocks(
            norm([block.ln_1 for block in blocks]),
            linear(*([block.attn.q_proj, block.attn.k_proj, block.attn.v_proj] for block in blocks)),
            linear(*([block.attn.c_proj] for block in blocks)),
            norm([block.ln_2 for block in blocks]),
            linear(*([block.mlp.fc_in] for block in blocks)),
            linear(*([block.mlp.fc_out] for block in blocks)),
        )
        self._ln_f = norm([self._plain.ln_f])[0]
        head = _array(self._plain.lm_head.weight)[None]
        unbiased = np.zeros(head.shape[:2], np.float32)
        self._head = Linear(*(_rounded(head) if int8 else (head, unbiased)), unbiased)

    def eval(self) -> "CompiledGPT":
        """Nothing changes: it never trains."""
        return self

    def train(self, mode: bool = True) -> "CompiledGPT":
        """Nothing changes: it never trains."""
        return self

    def hidden(self, tokens: Tensor, cache: KeyValueCache | None) -> Tensor:
        """As `GPT.hidden`, for one row of tokens (1, T), of which the last place alone is returned (1, 1, C).

        Raises:
            ValueError: more rows than one, no cache, or more positions than `block_size`.
        """
        if cache is None or len(tokens) != 1:
            raise ValueError("the compiled step reads one row, with a cache")
        if cache.length + tokens.size(1) > self.config.block_size:
            raise ValueError(f"{cache.length + tokens.size(1)} positions are more than block_size {self.config.block_size}")
        if tokens.size(1) > 1 and not self.int8:
            return self._plain.hidden(tokens, cache)[:, -1:]
        store, x = cache.store[:, :, 0].numpy(), np.empty(self.config.n_embd, np.float32)
        for token in tokens[0].tolist():
            embedded = self.wte.weight[token]
            if self._plain.wpe is not None:
                embedded = embedded + self._plain.wpe.weight[cache.length]
            x[:] = _array(embedded)
            _through_blocks(x, self._blocks, store, cache.length)
            cache.length += 1
        _norm(x, self._ln_f, x)
        return torch.from_numpy(x)[None, None]

    def lm_head(self, hidden: Tensor) -> Tensor:
        """Logits (1, V) of a hidden state (1, C)."""
        logits = np.empty(self.config.vocab_size, np.float32)
        _multiply(self._head, 0, hidden[0].numpy(), logits)
        return torch.from_numpy(logits)[None]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def _rounded(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrices in int8, and the scale of each row."""
    scale = np.maximum(np.abs(weight).max(-1), np.finfo(np.float32).tiny) / 127
    return np.round(weight / scale[..., None]).astype(np.int8), scale.astype(np.float32)


def _product(weight: np.ndarray, scale: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out = weight @ x, for a matrix in float32, or in int8 with a scale for each row."""


@overload(_product, jit_options=OPTIONS)
def _choose_product(weight, scale, x, out):  # noqa: ANN001, ANN202
    return _product_int8 if weight.dtype == types.int8 else _product_fp32


def _product_fp32(weight, scale, x, out):  # noqa: ANN001, ANN202
    for row in range(len(weight)):
        total = np.float32(0)
        for column in range(len(x)):
            total += weight[row, column] * x[column]
        out[row] = total


def _product_int8(weight, scale, x, out):  # noqa: ANN001, ANN202
    highest = np.float32(0)
    for column in range(len(x)):
        highest = max(highest, abs(x[column]))
    most = min(32767, (2**31 - 1) // (127 * len(x)))  # so that a whole row's sum stays within 32 bits
    step = max(highest / np.float32(most), np.float32(1e-30))
    whole = np.empty(len(x), np.int16)
    for column in range(len(x)):
        whole[column] = np.int16(np.rint(x[column] / step))
    for row in range(len(weight)):
        total = np.int32(0)
        for column in range(len(x)):
            total = np.int32(total + np.int32(weight[row, column]) * np.int32(whole[column]))  # else numba adds in 64 bits
        out[row] = np.float32(total) * scale[row] * step


@njit(**OPTIONS)
def _multiply(linear, place, x, out):  # noqa: ANN001, ANN202
    _product(linear.weight[place], linear.scale[place], x, out)
    for row in range(len(out)):
        out[row] += linear.bias[place, row]


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
def _through_blocks(x, blocks, store, position):  # noqa: ANN001, ANN202
    """Read one token: x (C,) is changed in place, its keys and values are put into the store (n_layer, 2, nh, S, hs)."""
    n_layer, _, n_head, _, size = store.shape
    width = len(x)
    normed, qkv, mixed, back = np.empty_like(x), np.empty(3 * width, x.dtype), np.empty_like(x), np.empty_like(x)
    wide = np.empty(4 * width, x.dtype)
    for layer in range(n_layer):
        _norm(x, blocks.ln_1[layer], normed)
        _multiply(blocks.qkv, layer, normed, qkv)
        for head in range(n_head):
            start = head * size
            for part in range(size):
                store[layer, 0, head, position, part] = qkv[width + start + part]
                store[layer, 1, head, position, part] = qkv[2 * width + start + part]
            keys, values = store[layer, 0, head, : position + 1], store[layer, 1, head, : position + 1]
            _attend(qkv[start : start + size], keys, values, mixed[start : start + size])
        _multiply(blocks.c_proj, layer, mixed, back)
        for place in range(width):
            x[place] += back[place]
        _norm(x, blocks.ln_2[layer], normed)
        _multiply(blocks.fc_in, layer, normed, wide)
        _gelu(wide)
        _multiply(blocks.fc_out, layer, wide, back)
        for place in range(width):
            x[place] += back[place]
