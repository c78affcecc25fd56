"""The loops of a compiled step, over arrays of numpy: products, norms, GELU, and attention of one or of many rows."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

EPSILON = 1e-5  # of a LayerNorm
OPTIONS = {"cache": True, "nogil": True, "fastmath": {"reassoc", "contract", "arcp", "nsz"}}  # sums in any order, no more
# Coefficients of x * above(x²) / below(x²) = tanh(x), highest first, behind the ones in `gelu`.
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
    together = len(weight) // 4 * 4
    for row in range(0, together, 4):  # four at once, since x is read once for them, and memory from four places
        first, second, third, fourth = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for column in range(len(x)):
            first += weight[row, column] * x[column]
            second += weight[row + 1, column] * x[column]
            third += weight[row + 2, column] * x[column]
            fourth += weight[row + 3, column] * x[column]
        out[row], out[row + 1] = first + bias[row], second + bias[row + 1]
        out[row + 2], out[row + 3] = third + bias[row + 2], fourth + bias[row + 3]
    for row in range(together, len(weight)):
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
def multiply(linear: Linear, place: int, x: np.ndarray, out: np.ndarray, threads: int) -> None:
    """out = weight @ x + bias, for one matrix of a stack."""
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
def gelu(x: np.ndarray) -> None:
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
    """Some heads of all rows: q, k and v (B, 3 C) of a token each, whose k and v go into the memory (2, B, nh, S, hs)."""
    heads, size = memory.shape[2], memory.shape[4]
    for each in range(first, last):
        row, head = each // heads, each % heads
        query = head * size
        key, value = heads * size + query, 2 * heads * size + query
        memory[0, row, head, position] = qkv[row, key : key + size]
        memory[1, row, head, position] = qkv[row, value : value + size]
        keys, values = memory[0, row, head, : position + 1], memory[1, row, head, : position + 1]
        _attend(qkv[row, query : query + size], keys, values, out[row, query : query + size])


@njit(parallel=True, **OPTIONS)
def _shared_heads(qkv, memory, position, out, threads):  # noqa: ANN001, ANN202
    count = len(out) * memory.shape[2]
    for part in prange(threads):
        _heads(qkv, memory, position, part * count // threads, (part + 1) * count // threads, out)


@njit(**OPTIONS)
def mix(qkv: np.ndarray, memory: np.ndarray, position: int, out: np.ndarray, threads: int) -> None:
    """`_heads`, all of them."""
    if threads == 1:
        _heads(qkv, memory, position, 0, len(out) * memory.shape[2], out)
    else:
        _shared_heads(qkv, memory, position, out, threads)


@njit(**OPTIONS)
def _through_blocks(x, blocks, store, position, threads):  # noqa: ANN001, ANN202
    """Read one token: x (C,) is changed in place, its keys and values are put into the store (n_layer, 2, 1, nh, S, hs)."""
    width = len(x)
    normed, back, wide = np.empty_like(x), np.empty_like(x), np.empty(4 * width, x.dtype)
    qkv, mixed = np.empty((1, 3 * width), x.dtype), np.empty((1, width), x.dtype)
    for layer in range(len(store)):
        _norm(x, blocks.ln_1[layer], normed)
        multiply(blocks.qkv, layer, normed, qkv[0], threads)
        mix(qkv, store[layer], position, mixed, threads)
        multiply(blocks.c_proj, layer, mixed[0], back, threads)
        for place in range(width):
            x[place] += back[place]
        _norm(x, blocks.ln_2[layer], normed)
        multiply(blocks.fc_in, layer, normed, wide, threads)
        gelu(wide)
        multiply(blocks.fc_out, layer, wide, back, threads)
        for place in range(width):
            x[place] += back[place]


@njit(**OPTIONS)
def read(tokens: np.ndarray, start: int, weights: Weights, store: np.ndarray, logits: np.ndarray, threads: int) -> None:
    """Read tokens (1, T) from a position on; the logits (1, V) behind the last are written."""
    x = np.empty(weights.wte.shape[1], np.float32)
    for place in range(tokens.shape[1]):
        position = start + place
        for part in range(len(x)):
            x[part] = weights.wte[tokens[0, place], part] + weights.wpe[position, part]
        _through_blocks(x, weights.blocks, store, position, threads)
    _norm(x, weights.ln_f, x)
    multiply(weights.head, 0, x, logits[0], threads)
