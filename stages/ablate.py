"""Train one ablation: metrics/ablations/NAME.json and plots/ablations/NAME.csv; NAME is the argument."""

import sys
from pathlib import Path

from personacore.errors import UserError
from personacore.evaluation.loss import file_loss
from personacore.files import write_json
from personacore.layout import VALID_TOKENS
from personacore.params import load_params
from personacore.stage import Speed, run_stage
from personacore.tokenizer.tokenfile import open_tokens
from personacore.training.run import pretrain


def main(speed: Speed) -> None:
    if len(sys.argv) != 2:
        raise UserError("name one ablation of params.yaml: python -m stages.ablate NAME")
    name = sys.argv[1]
    params = load_params().ablated(name)
    curve = Path("plots/ablations") / f"{name}.csv"
    run = pretrain("stages.ablate", params.model, params.train, params.seed, curve_file=curve)
    if run.leads:
        loss = file_loss(run.model, run.tokenizer, open_tokens(VALID_TOKENS), batch_tokens=8192)
        facts = {
            "parameters": run.facts["parameters"],
            "perplexity": loss.perplexity,
            "bits_per_byte": loss.bits_per_byte,
            "nats_per_token": loss.nats_per_token,
            "steps": run.facts["steps"],
            "tokens": run.facts["tokens"],
        }
        write_json(f"metrics/ablations/{name}.json", facts)
        speed.update(run.speed())
        run.forget_state()


if __name__ == "__main__":
    run_stage("_".join(["ablate", *sys.argv[1:]]), main)
