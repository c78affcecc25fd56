"""One story and one answer from every program that loads the exports: ours, `transformers`, `peft` and llama.cpp.

python -m benchmarks.same_story    (after `dvc repro`; llama.cpp needs `pip install '.[bench]'`)

Fails where a program splits a text or writes otherwise than we do; the files of fewer bits may, and where is said.
"""

import ctypes
from collections.abc import Callable, Sequence
from itertools import islice, takewhile
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from personacore.core import load
from personacore.corpus.dialogue.values import Values
from personacore.corpus.documents import stream_documents
from personacore.export.gguf import PRECISIONS
from personacore.export.teaching import load_teaching
from personacore.generation.generate import generate
from personacore.generation.prompts import encode_prompt
from personacore.generation.sampling import Sampling
from personacore.layout import CHAT_EXPORT, GGUF, HUGGINGFACE, PEFT, VALID_TEXT, WRITING
from personacore.memory.facts import plain_question
from personacore.memory.people import draw_people
from personacore.model.adapter import load_adapter
from personacore.params import load_params
from personacore.tokenizer.bpe import Tokenizer
from stages.writing import PEOPLE

BEGINNING = "Once upon a time"
NEW_TOKENS = 150
DOCUMENTS = 200
Writer = Callable[[Sequence[int]], list[int]]  # the likeliest ids behind a prompt, up to `stop`


def ours(model: torch.nn.Module, stop: int) -> Writer:
    """By our own loop."""

    def write(prompt: Sequence[int]) -> list[int]:
        steps = generate(
            model, torch.tensor([list(prompt)]), max_new_tokens=NEW_TOKENS, sampling=Sampling(0.0), seed=0, stop=stop
        )
        return [int(step) for step in steps]

    return write


def theirs(peer: torch.nn.Module, stop: int) -> Writer:
    """By `transformers`, also below an adapter of `peft`."""

    def write(prompt: Sequence[int]) -> list[int]:
        ids = torch.tensor([list(prompt)])
        written = peer.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=stop
        )
        return written[0, len(prompt) :].tolist()

    return write


def llama(file: Path, context: int) -> llama_cpp.Llama:
    """A file opened by llama.cpp."""
    full = llama_cpp.GGML_TYPE_F32  # of the key/value cache, which is in float16 otherwise
    return llama_cpp.Llama(str(file), n_ctx=context, n_batch=context, logits_all=True, verbose=False, type_k=full, type_v=full)


def by_llama(peer: llama_cpp.Llama, stop: int, adapter: Path | None = None, invocation: int | None = None) -> Writer:
    """By llama.cpp; an adapter acts from its invocation on, for which the prompt is read in two parts."""
    lora = llama_cpp.llama_adapter_lora_init(peer.model, str(adapter).encode()) if adapter else None
    if adapter and not lora:
        raise SystemExit(f"llama.cpp does not load {adapter}")

    def write(prompt: Sequence[int]) -> list[int]:
        peer.reset()
        start = 0
        if lora:
            start = list(prompt).index(invocation)
            llama_cpp.llama_set_adapters_lora(peer.ctx, None, 0, None)
            peer.eval(list(prompt[:start]))
            llama_cpp.llama_set_adapters_lora(peer.ctx, ctypes.byref(lora), 1, ctypes.byref(ctypes.c_float(1.0)))
        peer.eval(list(prompt[start:]))
        written: list[int] = []
        while len(written) < NEW_TOKENS:
            written.append(int(np.argmax(peer.scores[peer.n_tokens - 1])))
            if written[-1] == stop:
                break
            peer.eval(written[-1:])
        return written

    return write


def main() -> None:
    """Let everybody write, and compare."""
    core = load(CHAT_EXPORT)
    model, tokenizer = core.model, core.tokenizer
    _, identity = load_teaching(CHAT_EXPORT)
    lora, _ = load_adapter(WRITING / "lora" / "0.safetensors", **identity)
    seed, facts = load_params().seed, load_params().memory.facts
    (fact, *_), *_ = draw_people(PEOPLE, facts, "calibration", f"{seed}/writing", Values())  # the first of stage writing
    asked = plain_question(fact.key)
    story, question = [tokenizer.end_of_text, *tokenizer.encode(BEGINNING)], encode_prompt(tokenizer, asked)
    end, turn = tokenizer.end_of_text, tokenizer.specials["<|end|>"]

    peer = AutoModelForCausalLM.from_pretrained(HUGGINGFACE)
    files = {precision: llama(GGUF / f"{precision}.gguf", model.config.block_size) for precision in PRECISIONS}
    expected = {"story": ours(model, end)(story), "answer": ours(model, turn)(question)}
    print(f"{BEGINNING}{tokenizer.decode(expected['story'])}\n\n{asked} {tokenizer.decode(expected['answer'])}\n")
    wrong = check_ids(files["f32"], core.tokenizer)
    wrong += compare("transformers", expected, {"story": theirs(peer, end)(story), "answer": theirs(peer, turn)(question)})
    for precision, file in files.items():
        written = {"story": by_llama(file, end)(story), "answer": by_llama(file, turn)(question)}
        wrong += compare(f"llama.cpp, {precision}", expected, written) * (precision == "f32")

    with lora.attached(model):
        expected = {"story": ours(model, end)(story), "answer": ours(model, turn)(question)}
    print(f"\n{asked} {tokenizer.decode(expected['answer'])}    (with a memory)\n")
    below = PeftModel.from_pretrained(peer, PEFT)
    wrong += compare("peft", expected, {"story": theirs(below, end)(story), "answer": theirs(below, turn)(question)})
    adapted = by_llama(files["f32"], turn, GGUF / "adapter.gguf", lora.invocation)
    wrong += compare("llama.cpp, adapter", expected, {"answer": adapted(question)})
    if wrong:
        raise SystemExit(f"{wrong} texts differ from ours")


def check_ids(peer: llama_cpp.Llama, tokenizer: Tokenizer) -> int:
    """How many documents llama.cpp splits into other ids."""
    documents = list(islice(stream_documents(VALID_TEXT), DOCUMENTS))
    other = sum(peer.tokenize(text.encode(), add_bos=False, special=False) != tokenizer.encode(text) for text in documents)
    print(f"{'llama.cpp, ids':20} {len(documents) - other} of {len(documents)} documents alike")
    return other


def compare(name: str, expected: dict[str, list[int]], found: dict[str, list[int]]) -> int:
    """How many of the texts differ; says where each does."""
    for what, ids in found.items():
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, expected[what], strict=False)))
        alike = ids == expected[what]
        print(f"{name:20} {what}: {'alike' if alike else f'differs from token {same + 1} of {len(expected[what])} on'}")
    return sum(ids != expected[what] for what, ids in found.items())


if __name__ == "__main__":
    main()
