"""What the base needs for its stories: the diagonal Fisher, data/models/fisher/fisher.safetensors, and plots/fisher.csv."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from personacore.evaluation.loss import split_documents
from personacore.layout import BASE, FISHER, TOKENIZER, TRAIN_TOKENS
from personacore.memory.ewc import diagonal_fisher, save_fisher
from personacore.model.files import load_model
from personacore.model.gpt import GPT, PROJECTIONS
from personacore.params import load_params
from personacore.provenance import made_by
from personacore.reporting.tables import write_csv
from personacore.stage import Speed, run_stage
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.tokenfile import open_tokens


def main(speed: Speed) -> None:
    params = load_params()
    model, _ = load_model(BASE)
    end_of_text = load_tokenizer(TOKENIZER).end_of_text
    stories = split_documents(open_tokens(TRAIN_TOKENS), end_of_text, params.chat.fisher_documents)

    def loss(model: GPT, story: np.ndarray) -> Tensor:
        ids = torch.tensor([end_of_text, *story[: model.config.block_size].tolist()])
        return functional.cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="sum")

    fisher = diagonal_fisher(model, loss, stories)
    save_fisher(FISHER, fisher, {"documents": len(stories), **made_by("stages.fisher", BASE, TOKENIZER, TRAIN_TOKENS)})
    projections = [name for name in fisher if name.rsplit(".", 2)[-2] in PROJECTIONS and name.endswith(".weight")]
    rows = [(name.removesuffix(".weight"), fisher[name].mean().item()) for name in projections]
    write_csv("plots/fisher.csv", ("projection", "fisher"), rows)


if __name__ == "__main__":
    run_stage("fisher", main)
