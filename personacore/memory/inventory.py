"""What a memory says it knows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from personacore.corpus.dialogue import language
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_prompt
from personacore.memory.facts import Fact, plain_question, read_facts
from personacore.memory.scoring import pad_lessons
from personacore.memory.write import fact_hash, name_of
from personacore.model.gpt import GPT
from personacore.model.rows import MemoryRows
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


def listed(model: GPT, tokenizer: Tokenizer, rows: MemoryRows) -> list[Fact]:
    """What the attached rows say that they hold, in the order in which it was told.

    Each fact is asked by its name what it is about, then for its value. It is left out where it misspells what it is about,
    which its number shows.
    """
    numbers = list(dict.fromkeys(fact for *_, fact in rows.spans))
    questions = [language.what_is(name_of(number)) for number in numbers]
    named = _begun(model, tokenizer, [(question, language.NAMING) for question in questions])
    keys = [language.sentence(said.strip().removesuffix(".")) for said in named]
    right = [key for key, number in zip(keys, numbers, strict=True) if fact_hash(tokenizer, key) == number]
    said = _begun(model, tokenizer, [(plain_question(key), f"{key} is") for key in right])
    read = [(key, read_facts(f"{key} is{value}") or []) for key, value in zip(right, said, strict=True)]
    return [fact for key, facts in read for fact in facts if len(facts) == 1 and fact.key == key and fact.value is not None]


def _begun(model: GPT, tokenizer: Tokenizer, begun: Sequence[tuple[str, str]]) -> list[str]:
    """How the model ends answers to questions, each of which begins so."""
    return answers(model, tokenizer, [encode_prompt(tokenizer, asked) + tokenizer.encode(start) for asked, start in begun])
