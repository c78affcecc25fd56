"""Samples of a fixed seed: what the model writes, not what somebody liked."""

from dataclasses import dataclass

import torch

from personacore.generation.generate import generate, rows_until_stop
from personacore.generation.sampling import Sampling
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer


@dataclass(frozen=True)
class Sample:
    """A prompt, its continuation, how it was drawn, and whether the model ended it itself."""

    prompt: str
    text: str
    kind: str
    tokens: int
    finished: bool


def write_samples(
    model: GPT, tokenizer: Tokenizer, prompt: str, count: int, *, sampling: Sampling, max_new_tokens: int, seed: int
) -> list[Sample]:
    """`count` continuations of one prompt, drawn side by side; an empty prompt begins a text."""
    end = tokenizer.end_of_text
    prompts = torch.tensor([[end, *tokenizer.encode(prompt)]]).repeat(count, 1)
    forbidden = [number for number in tokenizer.specials.values() if number != end]
    steps = generate(model, prompts, max_new_tokens=max_new_tokens, sampling=sampling, seed=seed, stop=end, forbidden=forbidden)
    rows = rows_until_stop(steps, end)
    kind = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    return [Sample(prompt, tokenizer.decode(row), kind, len(row), len(row) < max_new_tokens) for row in rows]
