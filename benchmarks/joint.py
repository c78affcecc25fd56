"""Conversations while the base learns stories, or behind them: what the order is worth, for as many rows of each.

python -m benchmarks.joint    (an hour and a half on two slow cores, after `dvc repro fisher dialogues`)

`behind` goes on from the base; `joint` begins from random weights and meets as many rows of everything, mixed from the first
step on. Each seed draws other rows, and other weights to begin with where all is mixed; the base stays one. Writes
metrics/joint.json: by order, the rows of each kind, and by seed bits per byte of stories, and of CALIBRATION conversations the
nats per token, and the share of told facts that are answered and of untold ones that are called unknown.
"""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.in_context import variants
from personacore.corpus.dialogue.files import read_conversations
from personacore.corpus.dialogue.values import Values
from personacore.evaluation.conversations import conversation_loss
from personacore.evaluation.loss import file_loss
from personacore.files import write_json
from personacore.layout import BASE, CALIBRATION, PRETRAIN, TOKENIZER, TRAIN_TOKENS, VALID_TOKENS
from personacore.memory.converse import HEAD, converse
from personacore.memory.people import in_context
from personacore.memory.recall import Asker, Outcomes, ask_in_context
from personacore.model.files import load_model
from personacore.model.gpt import GPT
from personacore.model.targets import IGNORED
from personacore.params import ArmParams, Params, load_params
from personacore.reporting.conversation import CONTEXT_GATES
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.tokenfile import open_tokens
from personacore.training.attention import ShownAttention
from personacore.training.batches import Batches, Rows, row_starts
from personacore.training.conversations import ConversationRows
from personacore.training.device import choose_device, choose_precision
from personacore.training.drills import DrillRows
from personacore.training.loop import train

SEEDS, STEPS, CONVERSATIONS, BATCH_TOKENS = 3, 2000, 800, 8192


class Mixed:
    """Rows of several kinds, each of which comes one at a time, spread evenly over all steps; stories fill up every step."""

    def __init__(self, kinds: Mapping[str, Rows], wanted: Mapping[str, int], steps: int, seed: int) -> None:
        self.kinds, self.wanted, self.steps, self.seed = kinds, wanted, steps, seed
        self.batch_size = round(sum(wanted.values()) / steps)

    def before(self, step: int) -> dict[str, int]:
        """How many rows of each kind all steps before this one hold."""
        others = {kind: step * rows // self.steps for kind, rows in self.wanted.items() if kind != "stories"}
        return {"stories": step * self.batch_size - sum(others.values())} | others

    def rows(self, step: int, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (count, block_size) of rows first .. first + count of one step's batch."""
        here, there = self.before(step), self.before(step + 1)
        numbers = [(kind, number) for kind in here for number in range(here[kind], there[kind])]
        parts = [self.kinds[kind].rows(number, 0, 1) for kind, number in numbers[first : first + count]]
        inputs, targets = zip(*parts, strict=True)
        return torch.cat(inputs), torch.cat(targets)

    def scored(self, step: int) -> int:
        """The number of targets that count in one step's whole batch."""
        return int((self.rows(step, 0, self.batch_size)[1] != IGNORED).sum())


def behind(params: Params, arm: ArmParams) -> tuple[GPT, dict[str, int]]:
    """The base after so many steps of conversations, and the rows that it met by then."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "curve.csv"), Path(folder, "model.safetensors")
        run = converse("stages.chat", params.chat, params.train, arm, params.seed, *files)
    run.forget_state()
    stories = params.train.max_steps * params.train.batch_size + arm.steps * arm.story_rows
    met = {
        "stories": stories,
        "conversations": arm.steps * params.chat.batch_size,
        "drills": arm.steps * params.chat.drill_rows,
    }
    return run.model, met


def joint(params: Params, arm: ArmParams, tokenizer: Tokenizer, wanted: dict[str, int]) -> tuple[GPT, dict[str, int]]:
    """A model that learned everything from the first step on, in as many steps, and the rows that it met."""
    steps, seed = params.train.max_steps + arm.steps, params.seed
    config = load_model(BASE)[0].config
    tokens, block_size = open_tokens(TRAIN_TOKENS), config.block_size
    starts = row_starts(tokens, tokenizer.end_of_text, block_size)
    kinds = {
        "stories": Batches(tokens, starts, block_size, 1, seed),
        "conversations": ConversationRows(read_conversations(PRETRAIN), tokenizer, block_size, 1, seed),
        "drills": DrillRows(tokenizer, block_size, 1, seed),
    }
    rows = Mixed(kinds, wanted, steps, seed)
    held_out = read_conversations(CALIBRATION)[: params.chat.eval_documents]
    device = choose_device(params.train.device)
    layers = range(config.n_layer)[-params.chat.shown_layers :]
    model = GPT(config)
    model.reset_parameters(seed, params.train.embedding_std)
    train(
        model,
        dataclasses.replace(params.train, max_steps=steps, batch_size=rows.batch_size),
        rows,
        lambda current: conversation_loss(current, tokenizer, held_out),
        device=device,
        precision=choose_precision(params.train.precision, device),
        shown=ShownAttention.of(tokenizer, layers, HEAD, arm.shown_weight),
        log=lambda line: print(line, flush=True),
    )
    return model, rows.before(steps)


def measure(params: Params, model: GPT, tokenizer: Tokenizer) -> dict[str, float]:
    """What a model has learned of stories and of conversations."""
    asker, outcomes = Asker(model.eval(), tokenizer), Outcomes()
    talks = in_context(CONVERSATIONS, f"{params.seed}/joint", Values(), asker.fits, variants()["as the gate"])
    ask_in_context(asker, outcomes, talks)
    return {
        "story_bits_per_byte": file_loss(model, tokenizer, open_tokens(VALID_TOKENS), BATCH_TOKENS).bits_per_byte,
        "dialogue_nats_per_token": conversation_loss(model, tokenizer, read_conversations(CALIBRATION)).nats_per_token,
        **{gate: outcomes.gates({})[gate]["value"] for gate in CONTEXT_GATES},
    }


def main() -> None:
    """Train both with every seed, print a line each, and keep the table."""
    params, tokenizer = load_params(), load_tokenizer(TOKENIZER)
    arm = dataclasses.replace(params.chat.arms[params.chat.arm], steps=STEPS)
    table: dict[str, dict[str, Any]] = {}
    for seed in range(params.seed, params.seed + SEEDS):
        drawn = dataclasses.replace(params, seed=seed)
        first, met = behind(drawn, arm)
        second, mixed = joint(drawn, arm, tokenizer, met)
        for order, model, rows in (("behind", first, met), ("joint", second, mixed)):
            found = measure(params, model, tokenizer)
            print(f"{order:6} seed {seed}: {rows} {found}", flush=True)
            row = table.setdefault(order, {"rows": rows} | {name: [] for name in found})
            for name, value in found.items():
                row[name].append(value)
    write_json("metrics/joint.json", table)


if __name__ == "__main__":
    main()
