"""Tiny models and adapters with random weights, for any test, and a tiny model that answers questions."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import nn
from torch.nn import functional

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.turns import Turn
from personacore.generation.prompts import encode_row
from personacore.memory.facts import Fact, plain_question
from personacore.memory.scoring import pad_lessons
from personacore.memory.teaching import Teaching
from personacore.memory.write import name_of
from personacore.model.gpt import GPT, GPTConfig
from personacore.model.lora import LoRA
from personacore.model.rows import MemoryRows
from personacore.model.targets import IGNORED
from personacore.params import RowsParams, load_params
from personacore.tokenizer.bpe import Tokenizer

TOY = GPTConfig(vocab_size=31, n_layer=2, n_head=2, n_embd=8, block_size=12)

COMMITTED = load_params(Path(__file__).parent.parent / "params.yaml").memory
SHORT_SLEEP = dataclasses.replace(
    COMMITTED.sleep, max_steps=30, warmup_steps=2, lr=0.02, negatives=4, reversed=2, open=2, generic_rows=1, check_interval=10
)

Module = TypeVar("Module", bound=nn.Module)


def randomized(module: Module, deviation: float = 0.3, seed: int = 0) -> Module:
    """The module with every parameter drawn anew, large enough to matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, deviation, generator=generator)
    return module


def toy_model(config: GPTConfig = TOY, seed: int = 0) -> GPT:
    """A frozen model whose every parameter is random and large enough to matter."""
    return randomized(GPT(config), seed=seed).eval().requires_grad_(False)


def answering_model(
    tokenizer: Tokenizer, facts: Sequence[Fact], n_layer: int = 2, lessons: Sequence[tuple[str, str]] = ()
) -> GPT:
    """A frozen model that answers plain questions about these facts, of which some may be unknown, and other `lessons`.

    What a number is it does not know.
    """
    model = GPT(GPTConfig(tokenizer.vocab_size, n_layer=n_layer, n_head=2, n_embd=32, block_size=128))
    model.reset_parameters(1, embedding_std=0.1)
    asked = [(plain_question(fact.key), fact.sentence) for fact in facts]
    names = [(language.what_is(name_of(number**5)), language.say_name(None)) for number in range(1, 100, 33)]
    inputs, targets = pad_lessons(tokenizer, [*asked, *lessons, *names])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORED).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval().requires_grad_(False)


def toy_teaching(tokenizer: Tokenizer, rows: RowsParams = COMMITTED.rows, block_size: int = 128) -> Teaching:
    """Rows so, a short sleep, and one ordinary conversation."""
    ordinary, _ = encode_row(tokenizer, [Turn("hello", "I am glad.", "talk")], block_size)
    return Teaching(rows, SHORT_SLEEP, torch.from_numpy(ordinary)[None])


@contextmanager
def tiny_rows() -> Iterator[None]:
    """Rows for a tiny model: as long as need be, and written with lone questions, since it has read no conversation."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("personacore.memory.write.DECAY", 0.0)
        patched.setattr("personacore.memory.write.Talks._before", lambda talks, number: [])
        yield


def toy_tokens(rows: int = 4, length: int = TOY.block_size, seed: int = 1) -> torch.Tensor:
    return torch.randint(TOY.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def taught(seed: int = 0, rank: int = 3, alpha: float = 6.0, **settings) -> LoRA:
    """An adapter whose every parameter is random and large enough to matter."""
    return randomized(LoRA(TOY, rank, alpha, **settings), seed=100 + seed)


def toy_rows() -> MemoryRows:
    return randomized(
        MemoryRows(
            width=TOY.n_embd,
            block=0,
            sign=1,
            end=2,
            stop=3,
            unknown=4,
            forgotten=5,
            naming=7,
            spans={(11, 40, 11): 2, (12, 41, 12): 3},
        )
    )


def logits_of(model: GPT, lora: LoRA, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), lora.attached(model):
        return model(tokens)


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same_bits(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name].view(torch.int32), tensor.view(torch.int32)), name
