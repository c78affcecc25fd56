"""The model that converses as files for llama.cpp, and the adapter of somebody made up for it."""

from personacore.export.gguf import export_gguf, export_gguf_adapter
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.layout import CHAT_EXPORT, GGUF, WRITING
from personacore.model.adapter import load_adapter
from personacore.provenance import made_by
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    model, tokenizer = load_slim(CHAT_EXPORT)
    _, identity = load_teaching(CHAT_EXPORT)
    adapter = WRITING / "lora" / "0.safetensors"
    lora, _ = load_adapter(adapter, **identity)
    config = CHAT_EXPORT / "config.json"  # names the files beside it by their SHA-256
    export_gguf(GGUF, model, tokenizer, made_by("stages.gguf", config))
    export_gguf_adapter(GGUF / "adapter.gguf", lora, made_by("stages.gguf", config, adapter))


if __name__ == "__main__":
    run_stage("gguf", main)
