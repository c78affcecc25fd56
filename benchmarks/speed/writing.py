"""Writing text beside the same model without a cache, and beside `transformers` and llama.cpp on the same weights."""

import dataclasses
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.speed.pairs import threads, versus
from personacore.export.gguf import export_gguf
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

    def pair(count: int) -> dict[str, float | int]:
        return versus(lambda: ours(model, streams, new_tokens), theirs, repeats, per=streams * new_tokens)

    return at_best(pair)


def llamacpp(config: GPTConfig, precision: str, repeats: int) -> dict[str, float | int]:
    """Over llama.cpp on the same weights, which it has in a precision of its own, with the vocabulary that is there."""
    from llama_cpp import Llama

    tokenizer = load_tokenizer(TOKENIZER)
    model = GPT(dataclasses.replace(config, vocab_size=tokenizer.vocab_size)).eval().requires_grad_(False)

    def pair(count: int) -> dict[str, float | int]:
        peer = Llama(f"{folder}/{precision}.gguf", n_ctx=config.block_size, n_threads=count, verbose=False)

        def theirs() -> None:
            for _ in islice(peer.generate([1] * 8, temp=0.0, repeat_penalty=1.0), NEW_TOKENS):
                pass

        return versus(lambda: ours(model, 1), theirs, repeats, per=NEW_TOKENS)

    with tempfile.TemporaryDirectory() as folder:
        export_gguf(Path(folder), model, tokenizer)
        return at_best(pair)


def at_best(pair: Callable[[int], dict[str, float | int]]) -> dict[str, float | int]:
    """A pair on one and on all threads: the better of either side over the better of the other."""
    found = []
    for count in (1, torch.get_num_threads()):
        with threads(count):
            found.append(pair(count))
    best, other = (max(found, key=lambda each: each[rate])[rate] for rate in ("ours_rate", "theirs_rate"))
    return {**max(found, key=lambda each: each["ours_rate"]), "value": round(best / other, 3), "theirs_rate": other}
