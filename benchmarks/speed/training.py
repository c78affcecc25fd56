"""Training beside a plain loop: the same model, batch and AdamW in eager fp32, with attention and all logits written out."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.pairs import seconds, versus
from personacore.evaluation.loss import Loss, file_loss
from personacore.layout import TOKENIZER, TRAIN_TOKENS, VALID_TOKENS
from personacore.model.gpt import GPT, GPTConfig
from personacore.model.products import Linear
from personacore.params import TrainParams, load_params
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.tokenfile import open_tokens
from personacore.training.batches import Batches, row_starts
from personacore.training.loop import train

MACBOOK = GPTConfig(vocab_size=8192, n_layer=6, n_head=6, n_embd=384, block_size=256)
CPU = torch.device("cpu")
Figures = dict[str, float | int | str | dict[str, float | int]]


def pocket_config() -> GPTConfig:
    """The shape of the committed profile's model."""
    params = load_params()
    return GPTConfig(params.tokenizer.vocab_size, **dataclasses.asdict(params.model))


def training(config: GPTConfig, precision: str, batch_size: int, micro: int, steps: int, repeats: int) -> Figures:
    """Tokens a second of the training loop, over those of the plain one."""
    tokenizer = load_tokenizer(TOKENIZER)
    tokens = open_tokens(TRAIN_TOKENS)
    starts = row_starts(tokens, tokenizer.end_of_text, config.block_size)
    batches = Batches(tokens, starts, config.block_size, batch_size, 1)
    params = dataclasses.replace(
        load_params().train, max_steps=steps, batch_size=batch_size, micro_batch_size=micro, optimizer="adamw", warmup_steps=0,
        eval_interval=10**9, log_interval=10**9,
    )  # fmt: skip
    ours, theirs = GPT(config), plain_model(config)
    nothing = Loss(nats=1.0, tokens=1, bytes=1)

    def loop() -> float:
        return train(ours, params, batches, lambda model: nothing, device=CPU, precision=precision).seconds

    def plain_loop() -> None:
        for _ in plain_steps(theirs, params, batches):
            pass

    found = versus(loop, plain_loop, repeats, per=steps * batch_size * config.block_size)
    return {**found, "precision": precision}


def gemm_fraction(config: GPTConfig, precision: str, rate: float, batch_size: int) -> Figures:
    """What the matrix products of so many trained tokens a second are of what the machine does in this precision."""
    width, dtype = config.n_embd, torch.bfloat16 if precision == "bf16" else torch.float32
    layers = config.n_layer
    uses = {(width, width): 4 * layers, (width, 4 * width): layers, (4 * width, width): layers, (width, config.vocab_size): 1}
    weights = sum(rows * columns * count for (rows, columns), count in uses.items())
    attention = 2 * layers * config.block_size * width  # additions and multiplications a token, half of the square being masked
    needed = rate * 3 * (2 * weights + attention)  # forward, and twice as much backward
    tokens = batch_size * config.block_size

    def products() -> float:
        """The rate of a forward pass's products alone."""
        spent = 0.0
        for (rows, columns), count in uses.items():
            left, right = torch.randn(tokens, rows, dtype=dtype), torch.randn(rows, columns, dtype=dtype)
            spent += count * min(seconds(lambda left=left, right=right: _multiplied(left, right)) for _ in range(3))
        return 2 * tokens * weights / spent

    rates = [products() for _ in range(5)]
    value, low, high = (round(needed / each, 3) for each in (float(np.median(rates)), max(rates), min(rates)))
    gemm = round(float(np.median(rates)) / 1e9, 1)
    return {"value": value, "low": low, "high": high, "repeats": 5, "threads": torch.get_num_threads(), "gemm_gflops": gemm}


def _multiplied(left: torch.Tensor, right: torch.Tensor) -> None:
    left @ right


def plain_model(config: GPTConfig) -> GPT:
    """The model as it is usually written: attention in full, and PyTorch's own linear layers."""
    model = GPT(config)
    model.use_attention(written_out=True)
    for layer in model.modules():
        if isinstance(layer, Linear):
            layer.__class__ = nn.Linear
    return model


def plain_steps(model: GPT, params: TrainParams, batches: Batches) -> Iterator[int]:
    """The steps as they are usually written, with a linear warm-up; yields behind each how many were made."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.lr)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, params.warmup_steps)))
    for step in range(params.max_steps):
        inputs, targets = batches.rows(step, 0, params.batch_size)
        loss = functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), params.grad_clip)
        optimizer.step()
        warmup.step()
        optimizer.zero_grad()
        yield step + 1


def evaluation(config: GPTConfig, trained_rate: float, tokens: int = 40_000) -> Figures:
    """Tokens a second of the validation sweep, over those of training."""
    tokenizer, model = load_tokenizer(TOKENIZER), GPT(config).eval()
    held_out = open_tokens(VALID_TOKENS)[:tokens]
    batch_tokens = load_params().evaluate.batch_tokens
    file_loss(model, tokenizer, held_out, batch_tokens)
    rates = [tokens / seconds(lambda: _sweep(model, tokenizer, held_out, batch_tokens)) for _ in range(3)]
    return {
        "value": round(float(np.median(rates)) / trained_rate, 3),
        "low": round(min(rates) / trained_rate, 3),
        "high": round(max(rates) / trained_rate, 3),
        "repeats": 3,
        "threads": torch.get_num_threads(),
        "ours_rate": round(float(np.median(rates)), 1),
        "theirs_rate": trained_rate,
    }


def _sweep(model: GPT, tokenizer: object, tokens: np.ndarray, batch_tokens: int) -> None:
    with torch.no_grad():
        file_loss(model, tokenizer, tokens, batch_tokens)
