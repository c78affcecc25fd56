"""What a memory says it knows: every key of the grammar is asked for, and answers that it is not sure of are left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from personacore.corpus.dialogue import language
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_prompt
from personacore.memory.facts import Fact, plain_question, read_facts
from personacore.memory.teach import answer_log_probabilities, pad_lessons
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer

BATCH_ROWS = 256
CONFIDENCE = 0.5  # probability of an answer below which it is no knowledge; chosen on CALIBRATION people


@dataclass(frozen=True)
class Known:
    """A fact that a memory says, and the probability with which it says it."""

    fact: Fact
    probability: float


def grammar_keys() -> list[str]:
    """The keys of everything that the grammar has a word for, about the person who talks."""
    pairs = (pair for slots in language.slots().values() for pair in slots)
    return [language.key_of(language.owner_of("", relation), name) for relation, name in pairs]


@torch.no_grad()
def take_inventory(model: GPT, tokenizer: Tokenizer, keys: Sequence[str], confidence: float = CONFIDENCE) -> list[Known]:
    """What the model, with whatever adapter is attached, says of these keys with at least so much probability."""
    said = _answered(model, tokenizer, _not_unknown(model, tokenizer, list(dict.fromkeys(keys))))
    sure: list[float] = []
    for start in range(0, len(said), BATCH_ROWS):
        lessons = [(plain_question(fact.key), fact.sentence) for fact in said[start : start + BATCH_ROWS]]
        sure += answer_log_probabilities(model, *pad_lessons(tokenizer, lessons)).exp().tolist()
    return [Known(fact, p) for fact, p in zip(said, sure, strict=True) if p >= confidence]


def _not_unknown(model: GPT, tokenizer: Tokenizer, keys: Sequence[str]) -> list[str]:
    """The keys behind which "unknown" is not the likeliest word: one look at most of them is enough."""
    unknown = tokenizer.encode(f" {language.UNKNOWN}")[0]
    found = []
    for start in range(0, len(keys), BATCH_ROWS):
        batch = keys[start : start + BATCH_ROWS]
        inputs, targets = pad_lessons(tokenizer, [(plain_question(key), language.say_fact(key, None)) for key in batch])
        places = (targets == unknown).int().argmax(1)  # (N,): where the value would begin
        likeliest = model.lm_head(model.hidden(inputs)[torch.arange(len(inputs)), places]).argmax(1)
        found += [key for key, token in zip(batch, likeliest.tolist(), strict=True) if token != unknown]
    return found


def _answered(model: GPT, tokenizer: Tokenizer, keys: Sequence[str]) -> list[Fact]:
    """The facts that the model tells when it is asked for the keys, and no others."""
    told = answers(model, tokenizer, [encode_prompt(tokenizer, plain_question(key)) for key in keys])
    facts = [(key, fact) for key, answer in zip(keys, told, strict=True) for fact in read_facts(answer) or []]
    return [fact for key, fact in facts if fact.key == key and fact.value not in (None, language.FORGOTTEN)]
