"""How much of what an arm forgets and learns is chance: the arms that do not ship, trained anew with other seeds.

python -m benchmarks.arms [ARM ...]    (half a minute an arm and seed on two cores, after `dvc repro forgetting`)

Base and Fisher stay the same; each seed draws other stories, conversations and drills. Writes metrics/arm_seeds.json, unless
arms are named: by arm and seed, the share of story bits per byte that was forgotten, and the loss of CALIBRATION conversations.
"""

import sys
import tempfile
from pathlib import Path

from personacore.corpus.dialogue.files import read_conversations
from personacore.evaluation.conversations import conversation_loss
from personacore.evaluation.loss import file_loss
from personacore.files import write_json
from personacore.layout import BASE, CALIBRATION, VALID_TOKENS
from personacore.memory.converse import converse
from personacore.model.files import load_model
from personacore.params import load_params
from personacore.tokenizer.tokenfile import open_tokens

SEEDS = 3
BATCH_TOKENS = 8192


def main() -> None:
    """Train every arm with every seed, print a line each, and keep the table."""
    params = load_params()
    chat = params.chat
    names = sys.argv[1:] or [name for name in chat.arms if name != chat.arm]
    base, _ = load_model(BASE)
    stories, talks = open_tokens(VALID_TOKENS), read_conversations(CALIBRATION)
    table: dict[str, dict[str, list[float]]] = {}
    before = None
    for name in names:
        found = table[name] = {"story_forgotten": [], "dialogue_nats_per_token": []}
        for seed in range(params.seed, params.seed + SEEDS):
            with tempfile.TemporaryDirectory() as folder:
                files = Path(folder, "curve.csv"), Path(folder, "model.safetensors")
                run = converse("stages.chat", chat, params.train, chat.arms[name], seed, *files)
            run.forget_state()
            before = before or file_loss(base, run.tokenizer, stories, BATCH_TOKENS)
            after = file_loss(run.model, run.tokenizer, stories, BATCH_TOKENS)
            found["story_forgotten"].append(after.bits_per_byte / before.bits_per_byte - 1)
            found["dialogue_nats_per_token"].append(conversation_loss(run.model, run.tokenizer, talks).nats_per_token)
            forgotten, learned = (each[-1] for each in found.values())
            print(f"{name:12} seed {seed}: stories {forgotten:+.2%}, conversations {learned:.3f} nats per token", flush=True)
    if not sys.argv[1:]:
        write_json("metrics/arm_seeds.json", table)


if __name__ == "__main__":
    main()
