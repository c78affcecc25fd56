"""What a low-rank adapter that holds the values itself may be taught by, on CALIBRATION people.

python -m benchmarks.lora    (ten minutes on two cores, after `dvc repro export`)

- answers: the cross-entropy of each answer behind its question, which stands at position 0. Ours.
- distilled: the KL divergence from the answers that the same model gives with the facts in its context.
- packed: the answers again, of as many questions in a row as a block takes, one behind the other.

Lessons, KL on ordinary conversations and steps are those of sleep in each. Writes metrics/lora.json: the mean over seeds.
"""

import copy
import random
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from personacore.corpus.dialogue.files import read_conversations
from personacore.corpus.dialogue.language import say_facts
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.files import write_json
from personacore.generation.prompts import encode_answer, encode_prompt, encode_row
from personacore.layout import CALIBRATION, CHAT_EXPORT
from personacore.memory.cohort import Room, each_in
from personacore.memory.comparison import measure
from personacore.memory.facts import Fact, Lesson
from personacore.memory.people import draw_people
from personacore.memory.scoring import pad_lessons
from personacore.memory.teach import Objective, teach_people
from personacore.model.gpt import GPT
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer

PEOPLE, FACTS, SEEDS, TALKS = 2, 10, 3, 100
TOLD = 4  # facts in the teacher's context
SHOWN = (
    "taught_greedy",
    "h1_greedy",
    "h2_greedy",
    "h2_sampled",
    "abstain_known_slot",
    "abstain_other_person",
    "dialogue_drift",
)


def distilled(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], seed: int, teacher: GPT) -> Objective:
    """Learn what `teacher`, the same model without the adapter, says with some of the facts in its context."""
    rng = random.Random(seed)

    def context(answer: str) -> list[Turn]:
        asked = [fact for fact in facts if fact.sentence == answer]
        others = rng.sample([fact for fact in facts if fact not in asked], TOLD - len(asked))
        told = rng.sample([*asked, *others], TOLD)
        return [Turn("", say_facts([(fact.key, fact.value) for fact in told]), "tell")]

    def loss(lessons: Sequence[Lesson]) -> Tensor:
        inputs, targets = pad_lessons(tokenizer, lessons)
        taught = []
        for question, answer in lessons:
            prompt, said = encode_prompt(tokenizer, question, context(answer)), encode_answer(tokenizer, answer)
            with torch.no_grad():
                taught.append(teacher(torch.tensor([prompt + said]))[0, len(prompt) - 1 : -1].log_softmax(-1))
        wanted = torch.cat(taught)
        mine = model.lm_head(model.hidden(inputs)[targets != IGNORED]).log_softmax(-1)
        return (wanted.exp() * (wanted - mine)).sum()

    return loss


def packed(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], seed: int, teacher: GPT) -> Objective:
    """Learn the answers of questions that stand one behind the other."""
    size = model.config.block_size

    def loss(lessons: Sequence[Lesson]) -> Tensor:
        turns, rows = [Turn(question, answer, "ask") for question, answer in lessons], []
        while turns:
            fitting = max(n for n in range(1, len(turns) + 1) if _length(tokenizer, turns[:n]) <= size or n == 1)
            rows.append(encode_row(tokenizer, turns[:fitting], size))
            turns = turns[fitting:]
        inputs, targets = (torch.stack([torch.from_numpy(row[part]) for row in rows]) for part in (0, 1))
        mine = model.lm_head(model.hidden(inputs)[targets != IGNORED])
        return torch.nn.functional.cross_entropy(mine, targets[targets != IGNORED], reduction="sum")

    return loss


def _length(tokenizer: Tokenizer, turns: Sequence[Turn]) -> int:
    *before, last = turns
    return len(encode_prompt(tokenizer, last.user, before)) + len(encode_answer(tokenizer, last.assistant))


WAYS: dict[str, Callable[..., Objective] | None] = {"answers": None, "distilled": distilled, "packed": packed}


def learn(
    people: Sequence[Sequence[Fact]], talks: Sequence[Sequence[Turn]], room: Room, way: tuple[str, int]
) -> dict[str, float]:
    """What people's adapters answer that were taught in a way, named with its seed."""
    (name, seed), teacher = way, copy.deepcopy(room.model)
    memories = []
    for facts in people:
        make = WAYS[name]
        objective = make(room.model, room.tokenizer, facts, seed, teacher) if make else None
        lora, _ = teach_people(
            room.model, room.tokenizer, [facts], room.teaching.generic, room.teaching.sleep, seed, objective=objective
        )
        memories.append(lora.person(0).requires_grad_(False))
    return measure(room.model, room.tokenizer, people, memories, talks)


def main() -> None:
    """Teach the same people in each way, print a line each, and keep the table."""
    model, tokenizer = load_slim(CHAT_EXPORT)
    room = Room(model, tokenizer, *load_teaching(CHAT_EXPORT))
    people = draw_people(PEOPLE, FACTS, "calibration", "lora", Values())
    talks, table = read_conversations(CALIBRATION)[:TALKS], {}
    learned = each_in(room, partial(learn, people, talks), [(name, seed) for name in WAYS for seed in range(SEEDS)])
    for name in WAYS:
        runs = [next(learned) for _ in range(SEEDS)]
        table[name] = {gate: round(statistics.mean(run[gate] for run in runs), 4) for gate in runs[0]}
        print(f"{name:10}", *(f"{gate} {table[name][gate]:.3f}" for gate in SHOWN), sep="  ", flush=True)
    write_json("metrics/lora.json", {"people": PEOPLE, "facts": FACTS, "seeds": SEEDS, "ways": table})


if __name__ == "__main__":
    main()
