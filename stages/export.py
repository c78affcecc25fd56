"""Export for use: the base in data/export/slim, the arm that converses in data/export/chat."""

from personacore.export.slim import export_slim
from personacore.files import sha256_of
from personacore.layout import ARMS, BASE, CHAT_EXPORT, SLIM, TOKENIZER
from personacore.model.files import load_model
from personacore.params import load_params
from personacore.provenance import code_version
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    params = load_params()
    chat = ARMS / params.chat.arm / "model.safetensors"
    for source, folder in ((BASE, SLIM), (chat, CHAT_EXPORT)):
        model, origin = load_model(source)
        provenance = {
            "code": code_version("stages.export"),
            "made_from": {str(path): sha256_of(path) for path in (source, TOKENIZER)},
            "base": origin,
        }
        rows = params.memory.rows if source == chat else None
        export_slim(folder, model.config, dict(model.named_parameters()), TOKENIZER, params.export.dtype, provenance, rows)


if __name__ == "__main__":
    run_stage("export", main)
