"""How probable a model finds given answers."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from personacore.corpus.dialogue import language
from personacore.generation.prompts import encode_answer, encode_prompt
from personacore.memory.facts import Lesson
from personacore.model.gpt import GPT
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer


def pad_lessons(tokenizer: Tokenizer, lessons: Sequence[Lesson], values: bool = True) -> tuple[Tensor, Tensor]:
    """Inputs and targets (N, T) of lessons, each a question at position 0 with its answer; only answers count.

    Without `values` an answer counts up to where its value begins, or whole if it says that there is none.
    """
    pairs = [(encode_prompt(tokenizer, question), encode_answer(tokenizer, answer)) for question, answer in lessons]
    width = max(len(prompt) + len(answer) for prompt, answer in pairs)
    inputs = torch.full((len(pairs), width), tokenizer.end_of_text)
    targets = torch.full((len(pairs), width), IGNORED)
    for row, (prompt, answer) in enumerate(pairs):
        ids = torch.tensor(prompt + answer)
        inputs[row, : len(ids)] = ids
        _, answer = lessons[row]
        said = answer if values or language.UNKNOWN in answer else f"{answer.partition(' is ')[0]} is"
        last = len(ids) if said == answer else len(prompt) + len(tokenizer.encode(said))
        targets[row, len(prompt) - 1 : last - 1] = ids[len(prompt) : last]
    return inputs, targets


def answer_log_probabilities(model: GPT, inputs: Tensor, targets: Tensor) -> Tensor:
    """The log probability (N,) of each row's answer, the product over its tokens."""
    places = targets.flatten() != IGNORED
    wanted = targets.flatten()[places]
    hidden = model.hidden(inputs).flatten(0, 1)[places]
    losses = functional.cross_entropy(hidden @ model.lm_head.weight.T, wanted, reduction="none")
    rows = torch.arange(len(inputs)).repeat_interleave(inputs.size(1))[places]
    return torch.zeros(len(inputs)).index_add(0, rows, -losses)
