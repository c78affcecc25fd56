"""Facts written by solving for a change of the MLPs' second matrices, without gradient steps on them.

As in MEMIT (Meng et al., 2022, arXiv 2210.07229): the residual changes that make values likely are found first, then a ridge
regression writes them onto the MLPs' features, each block its share. What is to stay is weighed in by its second moment, a soft
form of the null space of AlphaEdit (Fang et al., 2024, arXiv 2410.02355).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from personacore.corpus.dialogue.language import say_fact
from personacore.corpus.dialogue.values import Values
from personacore.generation.prompts import encode_answer
from personacore.memory.facts import Fact
from personacore.memory.lessons import Lessons
from personacore.memory.scoring import pad_lessons
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer

PHRASINGS = 8  # questions a fact
FIRST_BLOCK = 1  # from which on MLPs are changed, each its share of what is left
KEPT, NEAR, NEAR_MISSES = 3.0, 4.0, 200  # weight of what is to stay, of what was not told in it, and questions about that
STEPS, RATE = 30, 0.3  # of Adam on the residual changes


def closed_form(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], generic: Tensor) -> LoRA:
    """A change of full rank that makes facts likely, while rows (N, T) of generic conversations stay."""
    lessons = Lessons(facts, "closed form", Values())
    blocks = range(min(FIRST_BLOCK, model.config.n_layer - 1), model.config.n_layer)
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
        before = _behind(model, blocks[-1], inputs)[places]
        for left, block in zip(range(len(blocks), 0, -1), blocks, strict=True):
            rest = (wanted - (_behind(model, blocks[-1], inputs)[places] - before)) / left  # (places, C)
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
    optimizer = torch.optim.Adam([vectors], lr=RATE)

    def add(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output.flatten(0, 1).index_add(0, places, vectors[numbers]).view_as(output)

    hook = model.blocks[-1].register_forward_hook(add)
    for _ in range(STEPS):
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
