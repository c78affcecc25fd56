"""How probable it is that an adapter knows something of a key, for every key of the grammar."""

from collections.abc import Sequence

import torch
from torch import Tensor

from personacore.corpus.dialogue import language
from personacore.memory.facts import plain_question
from personacore.memory.scoring import pad_lessons
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer

BATCH_ROWS = 256


def grammar_keys() -> list[str]:
    """The keys of everything that the grammar has a word for, about the person who talks."""
    pairs = (pair for slots in language.slots().values() for pair in slots)
    return [language.key_of(language.owner_of("", relation), name) for relation, name in pairs]


class Asked:
    """Keys with the plainest question for each, ready to be looked up again and again."""

    def __init__(self, tokenizer: Tokenizer, keys: Sequence[str]) -> None:
        self.keys = list(dict.fromkeys(keys))
        self._unknown = tokenizer.encode(f" {language.UNKNOWN}")[0]
        self._batches: list[tuple[Tensor, Tensor]] = []  # inputs (N, T), and where a value would begin (N,)
        for start in range(0, len(self.keys), BATCH_ROWS):
            lessons = [(plain_question(key), language.say_fact(key, None)) for key in self.keys[start : start + BATCH_ROWS]]
            inputs, targets = pad_lessons(tokenizer, lessons)
            self._batches.append((inputs, (targets == self._unknown).int().argmax(1)))

    @torch.no_grad()
    def known(self, model: GPT, people: int = 1) -> Tensor:
        """How probable it is (people, keys) that the value of a key is not "unknown", by the adapters attached of so many."""
        found = []
        for inputs, places in self._batches:
            hidden = model.hidden(inputs.repeat(people, 1)).unflatten(0, (people, -1))  # (P, N, T, C)
            logits = model.lm_head(hidden[:, torch.arange(len(inputs)), places])  # (P, N, V)
            found.append(1 - logits.softmax(-1)[..., self._unknown])
        return torch.cat(found, dim=1)
