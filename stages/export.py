"""Export the base for use: data/export/slim."""

from personacore.export.slim import export_slim
from personacore.files import sha256_of
from personacore.layout import BASE, SLIM, TOKENIZER
from personacore.model.files import load_model
from personacore.params import load_params
from personacore.provenance import code_version
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    params = load_params()
    model, origin = load_model(BASE)
    provenance = {
        "code": code_version("stages.export"),
        "made_from": {str(path): sha256_of(path) for path in (BASE, TOKENIZER)},
        "base": origin,
    }
    weights = dict(model.named_parameters())
    export_slim(SLIM, model.config, weights, TOKENIZER, params.export.dtype, provenance)


if __name__ == "__main__":
    run_stage("export", main)
