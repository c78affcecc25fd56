"""Many sessions: each reads out what the memory knows, and teaches that together with one new fact."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from personacore.layout import MEMORY
from personacore.memory.facts import Fact
from personacore.memory.inventory import grammar_keys, take_inventory
from personacore.memory.teach import teach_people
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.params import TeachParams
from personacore.tokenizer.bpe import Tokenizer

FOLDER = MEMORY.with_name("sessions")
COUNT, QUICK_COUNT = 100, 20  # sessions by the full and by the quick protocol


@dataclass(frozen=True)
class Session:
    """One session: the facts that were read out before it, how many of them were right, and what it took."""

    read_out: int
    right: int
    told_before: int
    steps: int
    seconds: float


def hold_sessions(
    model: GPT,
    tokenizer: Tokenizer,
    facts: Sequence[Fact],
    generic: Tensor,
    params: TeachParams,
    seed: int,
    on_session: Callable[[int, LoRA, Session], None],
) -> None:
    """One session for each fact, in which nothing is at hand but the adapter that the session before has left.

    `on_session` is given the number of facts told, the adapter and the record of each session.
    """
    lora: LoRA | None = None
    for number, new in enumerate(facts):
        known: dict[str, Fact] = {}
        if lora is not None:
            with lora.attached(model):
                listed = take_inventory(model, tokenizer, grammar_keys())
            known = {each.fact.key: each.fact for each in listed}
        right = sum(fact in facts[:number] for fact in known.values())
        told = list((known | {new.key: new}).values())
        start = LoRA.stack([lora]) if lora is not None else None
        taught, results = teach_people(model, tokenizer, [told], generic, params, seed + number, start)
        lora = taught.person(0)
        on_session(number + 1, lora, Session(len(known), right, number, results[0].steps, results[0].seconds))
