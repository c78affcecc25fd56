"""Does a model say again whom and what a story is about? The grammar knows where it must."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import torch

from personacore.corpus.grammar import Plot, Story, capitalize
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer


@torch.no_grad()
def repeated_mentions(
    model: GPT, tokenizer: Tokenizer, stories: Iterable[Story], plots: Mapping[str, Plot]
) -> dict[str, tuple[int, int]]:
    """By role: how often its word came again, and how often the model found it likelier there than any other of its list.

    The model reads each story as it was told, from its start. Only the first token of a word is compared, and only what
    lies within a block; a guess would be right once in as many times as the list has words.
    """
    device = model.wte.weight.device
    found: dict[str, list[bool]] = defaultdict(list)
    for story in stories:
        ids = tokenizer.encode(story.text)[: model.config.block_size - 1]
        starts = np.cumsum([0, *(len(tokenizer.token_bytes(number)) for number in ids)])
        logits = model(torch.tensor([[tokenizer.end_of_text, *ids]], device=device))[0].float().cpu()
        for role, start, end, again in story.mentions:
            if not again:
                continue
            before = " " if story.text[:start].endswith(" ") else ""
            place = int(np.searchsorted(starts, len(story.text[: start - len(before)].encode())))
            if place >= len(ids):
                break
            word = story.text[start:end]
            capital = word[0].isupper()
            words = {capitalize(row.columns[0]) if capital else row.columns[0] for row in plots[story.plot].roles[role]}
            rivals = sorted({tokenizer.encode(before + other)[0] for other in words})
            best = rivals[int(logits[place, rivals].argmax())]
            found[role].append(best == ids[place])
    return {role: (len(right), sum(right)) for role, right in sorted(found.items())}
