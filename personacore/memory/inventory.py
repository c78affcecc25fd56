"""What a memory says it knows: every key of the grammar is asked for, and answers that it is not sure of are left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from personacore.corpus.dialogue import language
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_prompt
from personacore.generation.sampling import Sampling
from personacore.memory.facts import Fact, plain_question, read_facts
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer

BATCH_ROWS = 256
DRAWS = 8  # open questions a fact, when a memory is read out
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


@torch.no_grad()
def take_inventory(model: GPT, tokenizer: Tokenizer, keys: Sequence[str], confidence: float = CONFIDENCE) -> list[Known]:
    """What the model, with whatever adapter is attached, says of these keys with at least so much probability."""
    asked = Asked(tokenizer, keys)
    # A value that is told with some probability begins with no smaller one, so one look at most keys is enough.
    likely = [key for key, p in zip(asked.keys, asked.known(model)[0].tolist(), strict=True) if p >= confidence]
    told = answers(model, tokenizer, [encode_prompt(tokenizer, plain_question(key)) for key in likely])
    read = [(key, fact) for key, answer in zip(likely, told, strict=True) for fact in read_facts(answer) or []]
    said = [fact for key, fact in read if fact.key == key and fact.value not in (None, language.FORGOTTEN)]
    sure: list[float] = []
    for start in range(0, len(said), BATCH_ROWS):
        lessons = [(plain_question(fact.key), fact.sentence) for fact in said[start : start + BATCH_ROWS]]
        sure += answer_log_probabilities(model, *pad_lessons(tokenizer, lessons)).exp().tolist()
    return [Known(fact, p) for fact, p in zip(said, sure, strict=True) if p >= confidence]


def read_out(model: GPT, tokenizer: Tokenizer, count: int, confidence: float = CONFIDENCE) -> dict[str, Fact]:
    """What the attached memory of about `count` facts says it knows, by key: every key of the grammar, and open questions.

    An open question finds keys that the grammar has no word for. It may draw a value that is not the likeliest one, so each
    key's own question decides.
    """
    frames = language.teaching_frames()[0].recounting
    prompts = [encode_prompt(tokenizer, frames[number % len(frames)]) for number in range(DRAWS * max(1, count))]
    drawn = answers(model, tokenizer, prompts, sampling=Sampling(1.0))
    told = [fact.key for answer in drawn for fact in read_facts(answer) or []]
    listed = take_inventory(model, tokenizer, [*grammar_keys(), *told], confidence)
    return {known.fact.key: known.fact for known in listed}
