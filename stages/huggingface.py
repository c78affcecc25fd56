"""The model that converses as a folder for `transformers`, with its card."""

import json
from pathlib import Path

from personacore.export.card import model_card
from personacore.export.huggingface import export_huggingface
from personacore.export.slim import load_slim
from personacore.files import sha256_of
from personacore.layout import CHAT_EXPORT
from personacore.params import load_params
from personacore.stage import Speed, run_stage

FOLDER = Path("data/export/huggingface")


def main(speed: Speed) -> None:
    params = load_params()
    model, tokenizer = load_slim(CHAT_EXPORT)
    names = ("corpus", "evaluate", "forgetting", "recall")
    corpus, evaluate, forgetting, recall = (json.loads(Path(f"metrics/{name}.json").read_text()) for name in names)
    made_from = sha256_of(CHAT_EXPORT / "model.safetensors")
    card = model_card(corpus, evaluate, forgetting[params.chat.arm], recall, made_from)
    export_huggingface(FOLDER, model, tokenizer, card)


if __name__ == "__main__":
    run_stage("huggingface", main)
