"""What makes a fact hard to find in the conversation: a value, frame, noun phrase or slot that was never met.

python -m benchmarks.in_context [MODEL]    (a minute, after `dvc repro export`; MODEL is data/export/chat)

Each part in turn comes from CALIBRATION, the others from PRETRAIN. Writes metrics/in_context.json: the share of told facts
that are answered and of untold ones that are called unknown, with intervals.
"""

import sys
from pathlib import Path

from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT
from personacore.memory.people import in_context
from personacore.memory.recall import Asker, Outcomes, ask_in_context
from personacore.params import load_params

CONVERSATIONS = 800
PARTS = ("values", "frames", "nouns", "slots")


def variants() -> dict[str, Splits]:
    """What comes from CALIBRATION, by name: nothing, each part alone, those of the gate, and all."""
    held = {
        "nothing": (),
        **{part: (part,) for part in PARTS},
        "as the gate": ("values", "frames", "slots"),
        "everything": PARTS,
    }
    return {
        name: Splits(**{part: "calibration" if part in parts else "pretrain" for part in PARTS}) for name, parts in held.items()
    }


def main() -> None:
    """Ask the model without any memory, print a line a variant, and keep the table."""
    model, tokenizer = load_slim(Path(sys.argv[1]) if len(sys.argv) > 1 else CHAT_EXPORT)
    asker, values, seed = Asker(model, tokenizer), Values(), load_params().seed
    table = {}
    for name, splits in variants().items():
        outcomes = Outcomes()
        ask_in_context(asker, outcomes, in_context(CONVERSATIONS, f"{seed}/held", values, asker.fits, splits))
        table[name] = outcomes.gates({})
        told, untold = (table[name][f"in_context_{kind}"]["value"] for kind in ("recall", "abstention"))
        print(f"held out: {name:12} told {told:.3f}  untold {untold:.3f}", flush=True)
    write_json("metrics/in_context.json", table)


if __name__ == "__main__":
    main()
