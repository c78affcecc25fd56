"""Answers to many questions at once."""

from collections.abc import Sequence

import torch

from personacore.generation.generate import generate, rows_until_stop
from personacore.generation.sampling import Sampling
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer

GREEDY = Sampling(0.0)
MAX_ANSWER_TOKENS = 64


def answers(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    max_new_tokens: int = MAX_ANSWER_TOKENS,
) -> list[str]:
    """The answer to each prompt as `encode_prompt` makes them; prompts of one length are answered together."""
    end = tokenizer.specials["<|end|>"]
    forbidden = [number for number in tokenizer.specials.values() if number != end]
    by_length: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(place)
    found = [""] * len(prompts)
    for places in by_length.values():
        rows = torch.tensor([list(prompts[place]) for place in places])
        steps = generate(
            model, rows, max_new_tokens=max_new_tokens, sampling=sampling, seed=seed, stop=end, forbidden=forbidden
        )
        for place, ids in zip(places, rows_until_stop(steps, end), strict=True):
            found[place] = tokenizer.decode(ids)
    return found
