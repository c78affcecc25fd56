"""Export for use: the base in data/export/slim, the arm that converses in data/export/chat."""

from personacore.corpus.dialogue.files import read_conversations
from personacore.export.slim import export_slim
from personacore.layout import ARMS, BASE, CHAT_EXPORT, PRETRAIN, SLIM, TOKENIZER
from personacore.memory.generic import generic_rows
from personacore.memory.teaching import Teaching
from personacore.model.files import load_model
from personacore.params import load_params
from personacore.provenance import made_by
from personacore.stage import Speed, run_stage
from personacore.tokenizer.files import load_tokenizer


def main(speed: Speed) -> None:
    params = load_params()
    chat = ARMS / params.chat.arm / "model.safetensors"
    generic = generic_rows(read_conversations(PRETRAIN), load_tokenizer(TOKENIZER), params.model.block_size)
    teaching = Teaching(params.memory.rows, params.memory.sleep, generic)
    for source, folder, taught_with in ((BASE, SLIM, None), (chat, CHAT_EXPORT, teaching)):
        model, origin = load_model(source)
        provenance = made_by("stages.export", source, TOKENIZER) | {"base": origin}
        weights = dict(model.named_parameters())
        export_slim(folder, model.config, weights, TOKENIZER, params.export.dtype, provenance, taught_with)


if __name__ == "__main__":
    run_stage("export", main)
