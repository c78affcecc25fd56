"""What it is worth to show attention where a fact was told: learning to converse for a while with and without it.

python -m benchmarks.shown    (seven minutes on two cores, after `dvc repro export`)

Writes metrics/shown.json: by way, the share of told facts that are answered and of untold ones that are called unknown, where
nothing is held out and where the gate's parts are (CALIBRATION), and of story bits per byte the share that was forgotten.
"""

import dataclasses
import tempfile
from pathlib import Path

from benchmarks.in_context import variants
from personacore.corpus.dialogue.values import Values
from personacore.evaluation.loss import file_loss
from personacore.files import write_json
from personacore.layout import BASE, VALID_TOKENS
from personacore.memory.converse import converse
from personacore.memory.people import in_context
from personacore.memory.recall import Asker, Outcomes, ask_in_context
from personacore.model.files import load_model
from personacore.params import ArmParams, ChatParams, load_params
from personacore.reporting.conversation import CONTEXT_GATES
from personacore.tokenizer.tokenfile import open_tokens

STEPS, CONVERSATIONS, BATCH_TOKENS = 1000, 800, 8192
HELD_OUT = ("nothing", "as the gate")


def ways(chat: ChatParams, arm: ArmParams) -> dict[str, tuple[ChatParams, ArmParams]]:
    """The params of each way: attention left to itself, shown in the last layer, or shown in all that ship."""
    return {
        "left alone": (chat, dataclasses.replace(arm, shown_weight=0.0)),
        "last layer": (dataclasses.replace(chat, shown_layers=1), arm),
        "as ships": (chat, arm),
    }


def main() -> None:
    """Train each way from the base, print a line, and keep the table."""
    params = load_params()
    arm = dataclasses.replace(params.chat.arms[params.chat.arm], steps=STEPS)
    stories, values = open_tokens(VALID_TOKENS), Values()
    before = None
    table: dict[str, dict[str, object]] = {}
    for name, (chat, each) in ways(params.chat, arm).items():
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "curve.csv"), Path(folder, "model.safetensors")
            run = converse("stages.chat", chat, params.train, each, params.seed, *files)
        run.forget_state()
        before = before or file_loss(load_model(BASE)[0], run.tokenizer, stories, BATCH_TOKENS)
        after = file_loss(run.model, run.tokenizer, stories, BATCH_TOKENS)
        found = table[name] = {"story_forgotten": after.bits_per_byte / before.bits_per_byte - 1}
        asker = Asker(run.model.eval(), run.tokenizer)
        for held in HELD_OUT:
            outcomes = Outcomes()
            talks = in_context(CONVERSATIONS, f"{params.seed}/shown", values, asker.fits, variants()[held])
            ask_in_context(asker, outcomes, talks)
            found[held] = outcomes.gates({})
        shares = ", ".join(f"{held} {found[held][gate]['value']:.3f}" for held in HELD_OUT for gate in CONTEXT_GATES)
        print(f"{name:10} held out, told and untold by turns: {shares}", flush=True)
    write_json("metrics/shown.json", {"steps": STEPS, "ways": table})


if __name__ == "__main__":
    main()
