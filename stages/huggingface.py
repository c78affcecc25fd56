"""The model that converses as a folder for `transformers`, with its card, and an adapter of somebody made up for `peft`."""

import json
from pathlib import Path

from personacore.export.card import model_card
from personacore.export.huggingface import export_huggingface
from personacore.export.peft import export_peft
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.files import sha256_of
from personacore.layout import CHAT_EXPORT, HUGGINGFACE, PEFT, WRITING
from personacore.model.adapter import load_adapter
from personacore.params import load_params
from personacore.provenance import made_by
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    params = load_params()
    model, tokenizer = load_slim(CHAT_EXPORT)
    names = ("corpus", "evaluate", "forgetting", "recall")
    corpus, evaluate, forgetting, recall = (json.loads(Path(f"metrics/{name}.json").read_text()) for name in names)
    made_from = sha256_of(CHAT_EXPORT / "model.safetensors")
    card = model_card(corpus, evaluate, forgetting[params.chat.arm], recall, made_from)
    config = CHAT_EXPORT / "config.json"  # names the files beside it by their SHA-256
    export_huggingface(HUGGINGFACE, model, tokenizer, card, made_by("stages.huggingface", config))
    _, identity = load_teaching(CHAT_EXPORT)
    adapter = WRITING / "lora" / "0.safetensors"
    lora, _ = load_adapter(adapter, **identity)
    export_peft(PEFT, lora, str(HUGGINGFACE), made_by("stages.huggingface", config, adapter))


if __name__ == "__main__":
    run_stage("huggingface", main)
