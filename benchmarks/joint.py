"""Conversations while the base learns stories, or behind them: what the order is worth, for as many rows of each.

python -m benchmarks.joint    (a quarter of an hour on two cores, after `dvc repro export`)

`behind` goes on from the base; `joint` begins from random weights and meets as many rows of everything, mixed from the first
step on. Writes metrics/joint.json: by order, the rows of each kind, bits per byte of stories, and of CALIBRATION conversations
the nats per token, and the share of told facts that are answered and of untold ones that are called unknown.
"""

import dataclasses
import tempfile
from pathlib import Path

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
from personacore.params import ArmParams, Params, load_params
from personacore.reporting.conversation import CONTEXT_GATES
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.tokenfile import open_tokens
from personacore.training.attention import ShownAttention
from personacore.training.batches import Batches, row_starts
from personacore.training.conversations import ConversationRows
from personacore.training.device import choose_device, choose_precision
from personacore.training.drills import DrillRows
from personacore.training.loop import train

STEPS, CONVERSATIONS, BATCH_TOKENS = 2000, 800, 8192


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
    steps = params.train.max_steps + arm.steps
    per_step = {kind: max(1, round(rows / steps)) for kind, rows in wanted.items()}
    config = load_model(BASE)[0].config
    block_size, tokens = config.block_size, open_tokens(TRAIN_TOKENS)
    starts = row_starts(tokens, tokenizer.end_of_text, block_size)
    beside = [
        Batches(tokens, starts, block_size, per_step["stories"], params.seed),
        DrillRows(tokenizer, block_size, per_step["drills"], params.seed),
    ]
    talks, held_out = read_conversations(PRETRAIN), read_conversations(CALIBRATION)[: params.chat.eval_documents]
    rows = ConversationRows(talks, tokenizer, block_size, per_step["conversations"], params.seed, beside)
    device = choose_device(params.train.device)
    layers = range(config.n_layer)[-params.chat.shown_layers :]
    model = GPT(config)
    model.reset_parameters(params.seed, params.train.embedding_std)
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
    return model, {kind: count * steps for kind, count in per_step.items()}


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
    """Train both, print a line each, and keep the table."""
    params, tokenizer = load_params(), load_tokenizer(TOKENIZER)
    arm = dataclasses.replace(params.chat.arms[params.chat.arm], steps=STEPS)
    model, met = behind(params, arm)
    table = {"behind": {"rows": met} | measure(params, model, tokenizer)}
    model, met = joint(params, arm, tokenizer, met)
    table["joint"] = {"rows": met} | measure(params, model, tokenizer)
    for name, found in table.items():
        print(name, found, flush=True)
    write_json("metrics/joint.json", table)


if __name__ == "__main__":
    main()
