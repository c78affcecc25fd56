"""Three ways to write facts into a model, on the same CALIBRATION people, questions and gates.

python -m benchmarks.writing    (about ten minutes on two cores, after `dvc repro export`)

- lora: the adapter that ships, taught by gradient.
- closed_form: a change of the MLPs' second matrices, solved for at once (MEMIT: Meng et al., 2022, arXiv 2210.07229; what is to
  stay, as in AlphaEdit: Fang et al., 2024, arXiv 2410.02355).
- rows: vectors added to the residual stream where exact n-grams stand, as in "User as Engram" (arXiv 2606.19172); the n-gram is
  what the assistant has said so far, since every answer writes out its key before its value.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from personacore.corpus.dialogue.files import read_conversations
from personacore.corpus.dialogue.language import say_fact
from personacore.corpus.dialogue.values import Values
from personacore.evaluation.conversations import conversation_loss
from personacore.evaluation.loss import IGNORED
from personacore.export.slim import load_slim, load_teaching
from personacore.files import write_json
from personacore.generation.prompts import encode_answer
from personacore.layout import CALIBRATION, CHAT_EXPORT
from personacore.memory.facts import Fact
from personacore.memory.lessons import Lessons
from personacore.memory.people import Questions, draw_people
from personacore.memory.recall import Asker, Case, Outcomes, ask_taught
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.memory.teach import teach_people
from personacore.model.gpt import GPT, KeyValueCache
from personacore.model.lora import LoRA
from personacore.params import TeachParams
from personacore.tokenizer.bpe import Tokenizer

METRICS = Path("metrics/writing.json")
PEOPLE, FACTS, QUESTIONS, DRAWS, TALKS = 4, 10, 2, 4, 100
PHRASINGS, STEPS, RATE = 8, 60, 0.1  # questions a fact, and Adam's steps on the vectors that are to be written
ROWS_BLOCK = 1  # after which rows are added
WRITTEN_BLOCKS = (1, 2, 3)  # whose MLPs take the closed form, each its share of what is left
KEPT, NEAR, NEAR_MISSES = 3.0, 4.0, 200  # weight of what is to stay, of what was not told in it, and questions about that


class Memory(Protocol):
    """What the gates need of a memory, however it was written."""

    def attached(self, model: GPT) -> AbstractContextManager: ...


Writer = Callable[[GPT, Tokenizer, Sequence[Fact], Tensor, TeachParams], Memory]


def lora(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], generic: Tensor, params: TeachParams) -> Memory:
    """The adapter as it ships."""
    return teach_people(model, tokenizer, [facts], generic, params, seed=0)[0].person(0).requires_grad_(False)


class Rows(nn.Module):
    """Vectors (N, C) added behind a block at the ends of n-grams: what the assistant has said so far, from its sign on."""

    def __init__(self, grams: Sequence[tuple[int, ...]], width: int, sign: int, end: int) -> None:
        super().__init__()
        self.place = {gram: number for number, gram in enumerate(dict.fromkeys(grams))}
        self.vectors = nn.Parameter(torch.zeros(len(self.place), width))
        self.sign, self.end = sign, end
        self._found = torch.empty(0, 2, dtype=torch.long)  # places (K, 2) in the flat batch and in the rows
        self._read: WeakKeyDictionary[KeyValueCache, list[tuple[int, ...]]] = WeakKeyDictionary()

    def look_up(self, ids: Tensor, cache: KeyValueCache | None) -> None:
        """Find the n-grams that end in ids (B, T), which go on from what the cache has read."""
        said = self._read[cache] if cache is not None and cache.length else [()] * len(ids)
        found, after = [], []
        for number, (before, row) in enumerate(zip(said, ids.tolist(), strict=True)):
            for place, token in enumerate(row):
                before = (token,) if token == self.sign else (*before, token) if before and token != self.end else ()
                if before in self.place:
                    found.append((number * len(row) + place, self.place[before]))
            after.append(before)
        self._found = torch.tensor(found, dtype=torch.long).view(-1, 2)
        if cache is not None:
            self._read[cache] = after

    @contextmanager
    def attached(self, model: GPT) -> Iterator["Rows"]:
        """Add the rows inside a `with` block."""
        ids: list[Tensor] = []

        def add(_: nn.Module, __: object, output: Tensor) -> Tensor:
            return output.flatten(0, 1).index_add(0, self._found[:, 0], self.vectors[self._found[:, 1]]).view_as(output)

        hooks = [
            model.wte.register_forward_pre_hook(lambda _, inputs: ids.append(inputs[0])),
            model.blocks[0].register_forward_pre_hook(lambda _, inputs: self.look_up(ids.pop(), (*inputs, None)[1])),
            model.blocks[ROWS_BLOCK].register_forward_hook(add),
        ]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()


def rows(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], generic: Tensor, params: TeachParams) -> Memory:
    """A row for each token of each value, learned through the blocks behind it; nothing is said of what is not known."""
    sign, end = (tokenizer.specials[name] for name in ("<|assistant|>", "<|end|>"))
    grams = []
    for fact in facts:
        ids = encode_answer(tokenizer, fact.sentence)
        grams += [(sign, *ids[:count]) for count in range(_key_length(tokenizer, fact), len(ids))]
    memory = Rows(grams, model.config.n_embd, sign, end)
    inputs, targets = pad_lessons(tokenizer, Lessons(facts, "rows", Values()).positives(PHRASINGS))
    optimizer = torch.optim.Adam(memory.parameters(), lr=RATE)
    with memory.attached(model):
        for _ in range(STEPS):
            loss = -answer_log_probabilities(model, inputs, targets).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return memory.requires_grad_(False)


def closed_form(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], generic: Tensor, params: TeachParams) -> Memory:
    """Ridge regression of the residual changes that make values likely on the features of the MLPs, block by block."""
    lessons = Lessons(facts, "closed form", Values())
    positives = lessons.positives(PHRASINGS)
    inputs, targets = pad_lessons(tokenizer, positives)
    groups: dict[tuple[int, int], int] = {}
    changed, number_of, kept = [], [], []  # flat places that change and by which vector, and those of the keys
    for row in range(len(inputs)):
        fact = row // PHRASINGS
        for count, place in enumerate((targets[row] != IGNORED).nonzero().flatten().tolist()):
            if count < _key_length(tokenizer, facts[fact]):
                kept.append(row * inputs.size(1) + place)
            else:
                changed.append(row * inputs.size(1) + place)
                number_of.append(groups.setdefault((fact, count), len(groups)))
    places, numbers = torch.tensor(changed), torch.tensor(number_of)
    wanted = _wanted_changes(model, inputs, targets.flatten()[places], places, numbers, len(groups))[numbers]
    near, _ = pad_lessons(tokenizer, lessons.negatives(NEAR_MISSES, 0))
    memory = LoRA(model.config, model.config.n_embd, float(model.config.n_embd), targets=("fc_out",)).requires_grad_(False)
    with memory.attached(model), torch.no_grad():
        before = _behind(model, WRITTEN_BLOCKS[-1], inputs)[places]
        for left, block in zip(range(len(WRITTEN_BLOCKS), 0, -1), WRITTEN_BLOCKS, strict=True):
            rest = (wanted - (_behind(model, WRITTEN_BLOCKS[-1], inputs)[places] - before)) / left  # (places, C)
            features = _features(model, block, inputs)
            keys = features[places]
            ordinary = _features(model, block, generic)[(generic != tokenizer.end_of_text).flatten()]
            missed = _features(model, block, near)[(near != tokenizer.end_of_text).flatten()]
            stay = _moment(ordinary) + NEAR * (_moment(missed) + _moment(features[torch.tensor(kept)]))
            normal = _moment(keys) + KEPT * stay
            normal += 1e-5 * normal.diagonal().mean() * torch.eye(len(normal))
            change = torch.linalg.solve(normal.double(), (keys.T @ rest / len(keys)).double()).float().T  # (C, features)
            pair = memory.pairs()[f"blocks.{block}.mlp.fc_out"]
            pair.a.copy_(change)
            pair.b.copy_(torch.eye(len(change)))
    return memory


def _wanted_changes(model: GPT, inputs: Tensor, ids: Tensor, places: Tensor, numbers: Tensor, count: int) -> Tensor:
    """The vectors (count, C) that, added behind the last written block, make the ids likely."""
    vectors = torch.zeros(count, model.config.n_embd, requires_grad=True)
    optimizer = torch.optim.Adam([vectors], lr=0.3)

    def add(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output.flatten(0, 1).index_add(0, places, vectors[numbers]).view_as(output)

    hook = model.blocks[WRITTEN_BLOCKS[-1]].register_forward_hook(add)
    for _ in range(30):
        logits = model.lm_head(model.hidden(inputs).flatten(0, 1)[places])
        functional.cross_entropy(logits, ids).backward()
        optimizer.step()
        optimizer.zero_grad()
    hook.remove()
    return vectors.detach()


def _behind(model: GPT, block: int, inputs: Tensor) -> Tensor:
    """The residual stream (tokens, C) behind a block."""
    return _watched(model, model.blocks[block], inputs, lambda _, output: output)


def _features(model: GPT, block: int, inputs: Tensor) -> Tensor:
    """What the second matrix of a block's MLP is given (tokens, features)."""
    return _watched(model, model.blocks[block].mlp.fc_out, inputs, lambda given, _: given)


def _watched(model: GPT, module: nn.Module, inputs: Tensor, take: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, given, output: seen.append(take(given[0], output).flatten(0, 1)))
    for part in inputs.split(64):
        model.hidden(part)
    hook.remove()
    return torch.cat(seen)


def _moment(features: Tensor) -> Tensor:
    return features.T @ features / len(features)


def _key_length(tokenizer: Tokenizer, fact: Fact) -> int:
    """Tokens of the answer before its value: as many as it shares with the answer that the fact is unknown."""
    pair = zip(encode_answer(tokenizer, fact.sentence), encode_answer(tokenizer, say_fact(fact.key, None)), strict=False)
    return next(count for count, (token, other) in enumerate(pair) if token != other)


WRITERS: dict[str, Writer] = {"lora": lora, "closed_form": closed_form, "rows": rows}


def main() -> None:
    """Write, ask, print, and keep the table."""
    model, tokenizer = load_slim(CHAT_EXPORT)
    params, generic, _ = load_teaching(CHAT_EXPORT)
    values = Values()
    people = draw_people(PEOPLE, FACTS, "calibration", "writing", values)
    talks = read_conversations(CALIBRATION)[:TALKS]
    plain = conversation_loss(model, tokenizer, talks).nats
    table = {}
    for name, writer in WRITERS.items():
        began = time.monotonic()
        memories = [writer(model, tokenizer, facts, generic, params) for facts in people]
        seconds = (time.monotonic() - began) / (PEOPLE * FACTS)
        outcomes, asker = Outcomes(), Asker(model, tokenizer)
        for place, facts in enumerate(people):
            other = (place + 1) % PEOPLE
            questions = Questions(facts, f"writing/{place}", "calibration", values)
            case = Case(str(place), facts, questions, memories[place], memories[other], people[other])
            ask_taught(asker, outcomes, case, QUESTIONS, DRAWS, seed=place)
        drift = []
        for memory in memories:
            with memory.attached(model):
                drift.append(conversation_loss(model, tokenizer, talks).nats / plain - 1)
        table[name] = {gate: round(found["value"], 4) for gate, found in outcomes.gates({}).items()}
        table[name] |= {"dialogue_drift": round(sum(drift) / PEOPLE, 4), "seconds_per_fact": round(seconds, 2)}
        print(name, *(f"{gate} {value}" for gate, value in table[name].items()), sep="\n  ", flush=True)
    write_json(METRICS, table)


if __name__ == "__main__":
    main()
