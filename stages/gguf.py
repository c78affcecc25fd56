"""The model that converses as files for llama.cpp, and the adapter of somebody made up for it."""

from personacore.export.gguf import export_gguf, export_gguf_adapter
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.layout import CHAT_EXPORT, GGUF, WRITING
from personacore.model.adapter import load_adapter
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    model, tokenizer = load_slim(CHAT_EXPORT)
    export_gguf(GGUF, model, tokenizer)
    _, identity = load_teaching(CHAT_EXPORT)
    lora, _ = load_adapter(WRITING / "lora" / "0.safetensors", **identity)
    export_gguf_adapter(GGUF / "adapter.gguf", lora)


if __name__ == "__main__":
    run_stage("gguf", main)
