"""Train one arm of the comparison: data/models/chat/ARM, metrics/chat/ARM.json and plots/chat/ARM.csv; ARM is the argument."""

import sys
from pathlib import Path

from personacore.corpus.dialogue.files import read_conversations
from personacore.errors import UserError
from personacore.evaluation.conversations import conversation_loss
from personacore.evaluation.loss import file_loss
from personacore.files import write_json
from personacore.layout import ARMS, BASE, CALIBRATION, VALID_TOKENS
from personacore.memory.converse import converse
from personacore.model.files import load_model
from personacore.params import load_params
from personacore.stage import Speed, run_stage
from personacore.tokenizer.tokenfile import open_tokens


def main(speed: Speed) -> None:
    params = load_params()
    chat, seed = params.chat, params.seed
    if len(sys.argv) != 2 or sys.argv[1] not in chat.arms:
        raise UserError(f"name one arm of chat.arms ({', '.join(chat.arms)}): python -m stages.chat ARM")
    name = sys.argv[1]
    curve, file = Path(f"plots/chat/{name}.csv"), ARMS / name / "model.safetensors"
    run = converse("stages.chat", chat, params.train, chat.arms[name], seed, curve, file)
    stories = open_tokens(VALID_TOKENS)
    before = file_loss(load_model(BASE)[0], run.tokenizer, stories, 8192)
    after = file_loss(run.model, run.tokenizer, stories, 8192)
    dialogue = conversation_loss(run.model, run.tokenizer, read_conversations(CALIBRATION))
    facts = {
        "steps": chat.arms[name].steps,
        "story_bits_per_byte_before": before.bits_per_byte,
        "story_bits_per_byte_after": after.bits_per_byte,
        "story_forgotten": after.bits_per_byte / before.bits_per_byte - 1,
        "dialogue_nats_per_token": dialogue.nats_per_token,
        "dialogue_tokens": dialogue.tokens,
    }
    write_json(f"metrics/chat/{name}.json", facts)
    speed["train_seconds"] = round(run.trained.seconds, 3)
    run.forget_state()


if __name__ == "__main__":
    run_stage("_".join(["chat", *sys.argv[1:]]), main)
