"""Writing text beside the same model without a cache, and beside `transformers` on the same weights."""

import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.speed.pairs import threads, versus
from personacore.export.huggingface import export_huggingface
from personacore.generation.generate import generate
from personacore.generation.sampling import Sampling
from personacore.layout import TOKENIZER
from personacore.model.gpt import GPT, GPTConfig
from personacore.tokenizer.files import load_tokenizer

GREEDY = Sampling(0.0)
NEW_TOKENS = 200


def ours(model: GPT, streams: int, new_tokens: int = NEW_TOKENS, use_cache: bool = True) -> None:
    """Write so many tokens in so many streams at once."""
    prompts = torch.ones(streams, 8, dtype=torch.long)
    for _ in generate(model, prompts, max_new_tokens=new_tokens, sampling=GREEDY, seed=0, use_cache=use_cache):
        pass


def uncached(config: GPTConfig, repeats: int) -> dict[str, float | int]:
    """With the key/value cache, over without it."""
    model = GPT(config).eval()
    return versus(lambda: ours(model, 1), lambda: ours(model, 1, use_cache=False), repeats, per=NEW_TOKENS)


def peer_of(model: GPT) -> torch.nn.Module:
    """The same weights in `transformers`."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = load_tokenizer(TOKENIZER)
        export_huggingface(Path(folder), model, tokenizer, "")
        return AutoModelForCausalLM.from_pretrained(folder).eval()


def transformers(config: GPTConfig, streams: int, repeats: int, new_tokens: int = NEW_TOKENS) -> dict[str, float | int]:
    """Over `transformers` with its own cache, at the better of one and of all threads for either."""
    model = GPT(config).eval().requires_grad_(False)
    peer, prompts = peer_of(model), torch.ones(streams, 8, dtype=torch.long)

    def theirs() -> None:
        peer.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=False, min_new_tokens=new_tokens,
            max_new_tokens=new_tokens, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip

    found = []
    for count in (1, torch.get_num_threads()):
        with threads(count):
            found.append(versus(lambda: ours(model, streams, new_tokens), theirs, repeats, per=streams * new_tokens))
    best, other = (max(found, key=lambda each: each[rate])[rate] for rate in ("ours_rate", "theirs_rate"))
    return {**max(found, key=lambda each: each["ours_rate"]), "value": round(best / other, 3), "theirs_rate": other}
