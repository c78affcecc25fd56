"""The loss of conversations: what it costs the model to say what the assistant says."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from personacore.corpus.dialogue.turns import Turn
from personacore.evaluation.loss import Loss
from personacore.generation.prompts import encode_row
from personacore.model.gpt import GPT
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer

BATCH_ROWS = 32


@torch.no_grad()
def conversation_loss(model: GPT, tokenizer: Tokenizer, conversations: Sequence[Sequence[Turn]]) -> Loss:
    """The loss of the answers, of as many turns of each conversation as fit into a block; bytes are those of the answers."""
    was_training, device = model.training, model.wte.weight.device
    model.eval()
    sizes = np.array([len(tokenizer.token_bytes(number)) for number in range(tokenizer.vocab_size)])
    sizes[list(tokenizer.specials.values())] = 0
    nats, tokens, count = 0.0, 0, 0
    for start in range(0, len(conversations), BATCH_ROWS):
        encoded = [encode_row(tokenizer, turns, model.config.block_size) for turns in conversations[start : start + BATCH_ROWS]]
        inputs, targets = (torch.from_numpy(np.stack(part)) for part in zip(*encoded, strict=True))
        places = targets.flatten() != IGNORED
        wanted = targets.flatten()[places]
        hidden = model.hidden(inputs.to(device)).flatten(0, 1)[places.to(device)]
        losses = functional.cross_entropy(model.lm_head(hidden).float(), wanted.to(device), reduction="none")
        nats += losses.cpu().double().sum().item()
        tokens += len(wanted)
        count += int(sizes[wanted.numpy()].sum())
    model.train(was_training)
    return Loss(nats, tokens, count)
