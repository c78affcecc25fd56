"""Writing text beside the same model without a cache, and beside `transformers`, ONNX Runtime and llama.cpp on its weights.

All by compiled steps.
"""

import dataclasses
import tempfile
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from benchmarks.speed.onnx_step import export_step
from benchmarks.speed.pairs import Timed, seconds, threads, versus
from personacore.evaluation.loss import split_documents
from personacore.export.gguf import export_gguf
from personacore.export.huggingface import export_huggingface
from personacore.export.slim import load_slim
from personacore.generation.compiled import CompiledGPT
from personacore.generation.generate import generate
from personacore.generation.sampling import Sampling
from personacore.layout import SLIM, TOKENIZER, VALID_TOKENS
from personacore.model.gpt import GPT, GPTConfig, KeyValueCache
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.tokenfile import open_tokens

GREEDY = Sampling(0.0)
NEW_TOKENS = 200


def ours(model: GPT | CompiledGPT, streams: int, new_tokens: int = NEW_TOKENS, use_cache: bool = True) -> None:
    """Write so many tokens in so many streams at once."""
    prompts = torch.ones(streams, 8, dtype=torch.long)
    for _ in generate(model, prompts, max_new_tokens=new_tokens, sampling=GREEDY, seed=0, use_cache=use_cache):
        pass


def uncached(config: GPTConfig, repeats: int) -> dict[str, float | int]:
    """Compiled steps with their key/value cache, over plain ones without any."""
    model = GPT(config).eval().requires_grad_(False)
    compiled = CompiledGPT(model)
    return versus(lambda: ours(compiled, 1), lambda: ours(model, 1, use_cache=False), repeats, per=NEW_TOKENS)


def peer_of(model: GPT) -> torch.nn.Module:
    """The same weights in `transformers`."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = load_tokenizer(TOKENIZER)
        export_huggingface(Path(folder), model, tokenizer, "")
        return AutoModelForCausalLM.from_pretrained(folder).eval()


def transformers(config: GPTConfig, streams: int, repeats: int, new_tokens: int = NEW_TOKENS) -> dict[str, float | int]:
    """Over `transformers` with its own cache, each at its better count of threads."""
    model = GPT(config).eval().requires_grad_(False)
    writer, peer, prompts = CompiledGPT(model), peer_of(model), torch.ones(streams, 8, dtype=torch.long)

    def theirs() -> None:
        peer.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=False, min_new_tokens=new_tokens,
            max_new_tokens=new_tokens, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip

    return at_best(lambda: ours(writer, streams, new_tokens), lambda count: theirs, repeats, per=streams * new_tokens)


def llamacpp(config: GPTConfig, precision: str, repeats: int) -> dict[str, float | int]:
    """Over llama.cpp on the same weights, which it has in a precision of its own, with the vocabulary that is there."""
    from llama_cpp import Llama

    tokenizer = load_tokenizer(TOKENIZER)
    model = GPT(dataclasses.replace(config, vocab_size=tokenizer.vocab_size)).eval().requires_grad_(False)
    writer = CompiledGPT(model, int8=precision != "f32")

    def theirs(count: int) -> Timed:
        peer = Llama(f"{folder}/{precision}.gguf", n_ctx=config.block_size, n_threads=count, verbose=False)

        def write() -> None:
            for _ in islice(peer.generate([1] * 8, temp=0.0, repeat_penalty=1.0), NEW_TOKENS):
                pass

        return write

    with tempfile.TemporaryDirectory() as folder:
        export_gguf(Path(folder), model, tokenizer)
        return at_best(lambda: ours(writer, 1), theirs, repeats, per=NEW_TOKENS)


def onnxruntime(config: GPTConfig, int8: bool, repeats: int) -> dict[str, float | int]:
    """Over ONNX Runtime on the same weights, in float32 or quantized by its own tool, at its better count of threads."""
    from onnxruntime import InferenceSession, OrtValue, SessionOptions
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = GPT(config).eval().requires_grad_(False)
    writer = CompiledGPT(model, int8)
    prompt = np.zeros((config.n_layer, 2, 1, config.n_head, 8, config.n_embd // config.n_head), np.float32)  # read already

    def theirs(count: int) -> Timed:
        options = SessionOptions()
        options.intra_op_num_threads = count
        session = InferenceSession(file, options)

        def write() -> None:
            memory, token = OrtValue.ortvalue_from_numpy(prompt), np.ones((1, 1), np.int64)
            for position in range(8, 8 + NEW_TOKENS):
                place = OrtValue.ortvalue_from_numpy(np.array([position]))
                given = {"token": OrtValue.ortvalue_from_numpy(token), "position": place, "past": memory}
                logits, memory = session.run_with_ort_values(None, given)
                token[0, 0] = logits.numpy().argmax()

        return write

    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/step.onnx"
        export_step(model, file)
        if int8:
            quantize_dynamic(file, whole := f"{folder}/step8.onnx", weight_type=QuantType.QInt8)
            file = whole
        return at_best(lambda: ours(writer, 1), theirs, repeats, per=NEW_TOKENS)


@torch.no_grad()
def int8_loss() -> dict[str, float | int]:
    """By what share the exported model's loss of the validation file grows with int8, as far as documents fit into a block."""
    model, tokenizer = load_slim(SLIM)
    documents = split_documents(open_tokens(VALID_TOKENS), tokenizer.end_of_text)
    plain, whole = (
        np.array([_nats(writer, document) for document in documents])
        for writer in (CompiledGPT(model), CompiledGPT(model, int8=True))
    )
    drawn = np.random.default_rng(0).integers(len(documents), size=(1000, len(documents)))  # a bootstrap over documents
    low, high = np.quantile(whole[drawn].sum(1) / plain[drawn].sum(1) - 1, (0.025, 0.975)).tolist()
    return {
        "value": float(whole.sum() / plain.sum() - 1),
        "low": low,
        "high": high,
        "documents": len(documents),
        "nats": float(plain.sum()),
        "int8_nats": float(whole.sum()),
        "threads": torch.get_num_threads(),
    }


def _nats(model: CompiledGPT, document: np.ndarray) -> float:
    """Of the tokens of a document that fit into a block, read one by one."""
    cache, tokens = KeyValueCache(model.config, 1, model.wte.weight), document[: model.config.block_size + 1].tolist()
    nats = 0.0
    for token, following in pairwise(tokens):
        logits = model.next_logits(torch.tensor([[token]]), cache)
        nats -= float(logits.log_softmax(-1)[0, following])
    return nats


def at_best(ours: Timed, theirs: Callable[[int], Timed], repeats: int, per: float) -> dict[str, float | int]:
    """`versus`, each in the better of one and of all threads; `theirs` makes what is timed for a count of threads."""
    counts = (1, torch.get_num_threads())

    def within(count: int, work: Timed) -> Timed:
        def timed() -> float:
            with threads(count):
                return seconds(work)

        return timed

    def better(makes: Callable[[int], Timed]) -> tuple[int, Timed]:
        works = {count: within(count, makes(count)) for count in counts}
        best = min(counts, key=lambda count: min(seconds(works[count]) for _ in range(4)))
        return best, works[best]

    (own_count, own), (other_count, other) = better(lambda count: ours), better(theirs)
    return {**versus(own, other, repeats, per), "threads": own_count, "their_threads": other_count}
