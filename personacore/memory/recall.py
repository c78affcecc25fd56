"""The recall protocol: what taught memories answer in a fresh process, with nothing but the question in the prompt."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from personacore.corpus.dialogue.language import UNKNOWN, say_fact, say_name
from personacore.corpus.dialogue.turns import Turn
from personacore.errors import UserError
from personacore.evaluation.conversations import conversation_loss
from personacore.evaluation.intervals import share_with_interval
from personacore.evaluation.loss import document_loss
from personacore.generation.answers import GREEDY, answers
from personacore.generation.prompts import encode_answer, encode_prompt
from personacore.generation.sampling import Sampling
from personacore.memory.facts import Fact, Lesson, holds
from personacore.memory.people import TRIES, Questions, handwritten, statements
from personacore.memory.write import new_rows, write_facts
from personacore.model.adapter import Adapter
from personacore.model.gpt import GPT
from personacore.params import RowsParams
from personacore.tokenizer.bpe import Tokenizer

DRAWN = Sampling(0.8, top_p=0.95)
FOLLOW_UPS = 5  # questions about each fact that was corrected or forgotten
LEAST_BYTES = 6  # of a value that is looked for in files
ELSEWHERE = 2  # turns about something else before a question in the middle of a conversation


@dataclass
class Outcomes:
    """Which answers were as they should be, by gate and fact, with a transcript."""

    hits: dict[str, dict[str, list[bool]]] = field(default_factory=dict)
    transcript: list[dict[str, str]] = field(default_factory=list)

    def add(self, gate: str, fact: str, hit: bool) -> None:
        """Note one answer."""
        self.hits.setdefault(gate, {}).setdefault(fact, []).append(hit)

    def heard(self, tier: str, asked: str, right: str, said: str, person: str | None = None) -> None:
        """Keep what was asked and said, in the transcript."""
        who = {} if person is None else {"person": person}
        self.transcript.append(who | {"tier": tier, "asked": asked, "right": right, "said": said})

    def extend(self, other: "Outcomes") -> None:
        """Note what somebody else has noted, behind what is noted already."""
        for gate, facts in other.hits.items():
            for fact, hits in facts.items():
                self.hits.setdefault(gate, {}).setdefault(fact, []).extend(hits)
        self.transcript += other.transcript

    def gates(self, thresholds: dict[str, float]) -> dict[str, dict[str, object]]:
        """Every gate with value, interval, counts, threshold and whether it is passed; what no gate judges has no threshold."""
        found: dict[str, dict[str, object]] = {}
        for name, hits in self.hits.items():
            found[name] = dict(share_with_interval(hits))
        return {name: judged(name, gate, thresholds) for name, gate in found.items()}


AT_MOST = ("adapter_off", "wrong_user", "story_drift", "dialogue_drift", "update_old_leak", "forget_emission")


def judged(name: str, gate: dict[str, object], thresholds: dict[str, float]) -> dict[str, object]:
    """A gate with its threshold, where it has one, and whether it is passed."""
    if name not in thresholds:
        return gate
    value, threshold = gate["value"], thresholds[name]
    passed = value <= threshold if name in AT_MOST else value >= threshold
    return gate | {"threshold": threshold, "passed": bool(passed)}


@dataclass
class Asker:
    """Asks a model with or without a memory; every prompt is recorded before the model sees it."""

    model: GPT
    tokenizer: Tokenizer
    prompts: list[list[int]] = field(default_factory=list)

    def ask(
        self,
        lessons: Sequence[Lesson],
        memory: Adapter | None,
        *,
        sampling: Sampling = GREEDY,
        draws: int = 1,
        seed: int = 0,
        context: Sequence[Sequence[Turn]] | None = None,
    ) -> list[list[str]]:
        """The answers to each question, as many as drawn."""
        turns = context or [()] * len(lessons)
        prompts = [encode_prompt(self.tokenizer, question, told) for (question, _), told in zip(lessons, turns, strict=True)]
        self.prompts += prompts
        with memory.attached(self.model) if memory is not None else nullcontext():
            repeated = [prompt for prompt in prompts for _ in range(draws)]
            said = answers(self.model, self.tokenizer, repeated, sampling=sampling, seed=seed)
        return [said[place : place + draws] for place in range(0, len(said), draws)]

    def fits(self, turns: Sequence[Turn]) -> bool:
        """Whether a conversation with its last answer is no longer than what the model can read."""
        prompt = encode_prompt(self.tokenizer, turns[-1].user, turns[:-1])
        return len(prompt) + len(encode_answer(self.tokenizer, turns[-1].assistant)) <= self.model.config.block_size

    def forbid(self, lessons: Sequence[Lesson], facts: Sequence[Fact]) -> None:
        """Stop everything if a taught value stands in a question, as text or as a run of ids.

        Raises:
            UserError: it does, so that answering would prove nothing.
        """
        values = [str(fact.value) for fact in facts]
        runs = [self.tokenizer.encode(f" {value}") for value in values]
        for question, _ in lessons:
            ids = encode_prompt(self.tokenizer, question)
            for value, run in zip(values, runs, strict=True):
                if holds(question, value) or any(ids[place : place + len(run)] == run for place in range(len(ids))):
                    raise UserError(f"recall: the question {question!r} holds the taught value {value!r}")


@dataclass(frozen=True)
class Case:
    """One person with a memory, and another person's to compare."""

    name: str
    facts: Sequence[Fact]
    questions: Questions
    memory: Adapter
    other: Adapter
    other_facts: Sequence[Fact]


def ask_taught(asker: Asker, outcomes: Outcomes, case: Case, count: int, draws: int, seed: int) -> None:
    """Every tier with the person's own memory, the controls without it and with another's, and what was never told."""
    for tier in ("taught", "h1", "h2", "nouns"):
        lessons = case.questions.tier(tier, count)
        asker.forbid(lessons, case.facts)
        own = _ask_tier(asker, outcomes, case, tier, lessons)
        if tier == "h2":
            drawn = asker.ask(lessons, case.memory, sampling=DRAWN, draws=draws, seed=seed)
            others = {fact.sentence for fact in case.other_facts}
            off, wrong = asker.ask(lessons, None), asker.ask(lessons, case.other)
            for number, (_, right) in enumerate(lessons):
                name = f"{case.name} {right}"
                for said in drawn[number]:
                    outcomes.add("h2_sampled", name, said == right)
                outcomes.add("shuffled_values", name, own[number] in _exchanged(case.facts, right))
                outcomes.add("adapter_off", name, off[number][0] == right)
                if right not in others:
                    outcomes.add("wrong_user", name, wrong[number][0] == right)
    for tier in ("reversed", "verified", "combined"):
        _ask_tier(asker, outcomes, case, tier, getattr(case.questions, tier)())
    unnamed = case.questions.reversed_untold()
    for (question, right), (said, *_) in zip(unnamed, asker.ask(unnamed, case.memory), strict=True):
        outcomes.add("abstain_reversed", f"{case.name} {question}", said == right)
        outcomes.heard("reversed", question, right, said, case.name)
    _ask_untold(asker, outcomes, case, "")
    _ask_in_conversation(asker, outcomes, case, count)


def ask_asleep(asker: Asker, outcomes: Outcomes, case: Case, count: int) -> None:
    """The tiers of frames and what was never told, with the person's own memory after it has slept."""
    for tier in ("taught", "h1", "h2"):
        lessons = case.questions.tier(tier, count)
        asker.forbid(lessons, case.facts)
        _ask_tier(asker, outcomes, case, f"asleep_{tier}", lessons)
    _ask_untold(asker, outcomes, case, "asleep_")


def _ask_untold(asker: Asker, outcomes: Outcomes, case: Case, when: str) -> None:
    for kind in ("known_slot", "unseen_slot", "other_person"):
        lessons = case.questions.untold(kind, 2 * len(case.facts))
        for (question, right), (said, *_) in zip(lessons, asker.ask(lessons, case.memory), strict=True):
            outcomes.add(f"{when}abstain_{kind}", f"{case.name} {right}", abstains(said))
            outcomes.add(f"{when}intrusion", f"{case.name} {right}", any(holds(said, str(fact.value)) for fact in case.facts))
            outcomes.heard(f"{when}{kind}", question, right, said, case.name)


def _ask_tier(
    asker: Asker,
    outcomes: Outcomes,
    case: Case,
    tier: str,
    lessons: Sequence[Lesson],
    context: Sequence[Sequence[Turn]] | None = None,
) -> list[str]:
    answered = [said for said, *_ in asker.ask(lessons, case.memory, context=context)]
    for number, ((question, right), said) in enumerate(zip(lessons, answered, strict=True)):
        fact = right.removesuffix(", so yes.").removesuffix(", so no.").removesuffix(".")
        outcomes.add(f"{tier}_greedy", f"{case.name} {fact}", said == right)
        asked = " / ".join([*(turn.user for turn in context[number]), question] if context else [question])
        outcomes.heard(tier, asked, right, said, case.name)
    return answered


def _ask_in_conversation(asker: Asker, outcomes: Outcomes, case: Case, count: int) -> None:
    """The frames of h2 in the middle of a conversation about something else, in which nothing that was taught is said."""
    lessons = case.questions.tier("h2", count)
    asker.forbid(lessons, case.facts)
    contexts = [_fitting(asker, case.questions, Turn(question, right, "ask")) for question, right in lessons]
    _ask_tier(asker, outcomes, case, "conversation", lessons, contexts)


def _fitting(asker: Asker, questions: Questions, asked: Turn) -> list[Turn]:
    """Turns about something else that leave room for the question; fewer where a block is too short for them."""
    for turns in range(ELSEWHERE, 0, -1):
        for _ in range(TRIES):
            if asker.fits([*(before := questions.elsewhere(turns)), asked]):
                return before
    return []


def check_absent(file: Path, facts: Sequence[Fact]) -> None:
    """Stop everything if a taught value can be read in a memory's file; those that bytes spell by chance are too short for it.

    Raises:
        UserError: it can.
    """
    data = file.read_bytes()
    for fact in facts:
        value = str(fact.value).encode()
        if len(value) >= LEAST_BYTES and value in data:
            raise UserError(f"recall: {file} holds the taught value {fact.value!r}")


def _exchanged(facts: Sequence[Fact], right: str) -> set[str]:
    """What is said if the fact's value is taken for another's."""
    key = next(fact.key for fact in facts if fact.sentence == right)
    return {Fact(key, fact.value).sentence for fact in facts} - {right}


def ask_changed(
    asker: Asker, outcomes: Outcomes, change: str, before: Sequence[Fact], case: Case, draws: int, seed: int
) -> None:
    """What is left of facts that were corrected ("update") or forgotten ("forget"): greedy, and drawn again and again."""
    known = {fact.key: fact for fact in case.facts}
    for old in before:
        new = known.get(old.key, Fact(old.key, None))
        lessons = case.questions.about(old, FOLLOW_UPS)
        greedy = asker.ask(lessons, case.memory)
        drawn = asker.ask(lessons, case.memory, sampling=DRAWN, draws=draws, seed=seed)
        for (question, _), (said, *_), many in zip(lessons, greedy, drawn, strict=True):
            outcomes.heard(change, question, new.sentence, said, case.name)
            fact, leaks = f"{case.name} {old.key}", [holds(answer, str(old.value)) for answer in (said, *many)]
            if change == "update":
                outcomes.add("update_new", fact, said == new.sentence)
            else:
                outcomes.add("forget_abstain", fact, said == new.sentence)
            for leak in leaks:
                outcomes.add("update_old_leak" if change == "update" else "forget_emission", fact, leak)


def ask_handwritten(asker: Asker, outcomes: Outcomes, case: Case, tier: str = "handwritten") -> None:
    """The questions that somebody wrote by hand, not from the grammar's frames, though one in twenty is as plain as a frame;
    noted under `tier`.
    """
    written = handwritten()
    lessons = [(question, fact.sentence) for fact in case.facts for question in written[fact.key]]
    lessons = [(question, right) for question, right in lessons if not any(holds(question, str(f.value)) for f in case.facts)]
    _ask_tier(asker, outcomes, case, tier, lessons)


def read_statements(outcomes: Outcomes, read: Callable[[str], Sequence[Fact]]) -> None:
    """The statements that somebody wrote by hand: whether all facts in each are read, and no others."""
    for statement, right in statements().items():
        found = {fact.key: fact.value for fact in read(statement)}
        outcomes.add("statements_read", statement, found == right)
        wanted, said = (" ".join(Fact(*pair).sentence for pair in facts.items()) for facts in (right, found))
        outcomes.heard("statements", statement, wanted, said)


def ask_in_context(asker: Asker, outcomes: Outcomes, conversations: Sequence[Sequence[Turn]]) -> None:
    """Without any memory: the last question of each conversation, with what was said before it in the prompt."""
    lessons = [(turns[-1].user, turns[-1].assistant) for turns in conversations]
    said = asker.ask(lessons, None, context=[turns[:-1] for turns in conversations])
    for number, (turns, (answer, *_)) in enumerate(zip(conversations, said, strict=True)):
        gate = "in_context_recall" if turns[-1].kind == "ask" else "in_context_abstention"
        hit = answer == turns[-1].assistant if turns[-1].kind == "ask" else abstains(answer)
        outcomes.add(gate, str(number), hit)
        outcomes.heard(gate, " / ".join(turn.user for turn in turns), turns[-1].assistant, answer)


def drift(
    model: GPT,
    tokenizer: Tokenizer,
    memories: Sequence[tuple[Adapter, Sequence[Fact]]],
    stories: Sequence[np.ndarray],
    talks: Sequence[Sequence[Turn]],
    thresholds: dict[str, float],
) -> dict[str, dict[str, object]]:
    """How much worse, as a share, stories and conversations are predicted with a memory than without, over memories.

    A memory comes with its facts. `dialogue_drift_elsewhere` leaves out the conversations that ask for one of them and are
    answered that it is unknown: what the memory says there is what it was taught.
    """

    def losses(facts: Sequence[Fact]) -> dict[str, float]:
        elsewhere = [turns for turns in talks if not asks_for(turns, facts)]
        told = {"story_drift": document_loss(model, stories, tokenizer.end_of_text).nats} if stories else {}
        parts = {"dialogue_drift": talks, "dialogue_drift_elsewhere": elsewhere}
        return told | {name: conversation_loss(model, tokenizer, part).nats for name, part in parts.items()}

    changes: dict[str, list[float]] = {}
    for memory, facts in memories:
        without = losses(facts)
        with memory.attached(model):
            for name, nats in losses(facts).items():
                changes.setdefault(name, []).append(nats / without[name] - 1)
    found = {}
    for name, values in changes.items():
        gate = {"value": float(np.mean(values)), "low": min(values), "high": max(values), "memories": len(memories)}
        found[name] = judged(name, gate, thresholds)
    return found


def seconds_per_fact(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], params: RowsParams) -> float:
    """How long it takes to write one of these facts into a new memory."""
    began = time.monotonic()
    write_facts(model, tokenizer, new_rows(model, tokenizer, params), facts, params, "timed")
    return (time.monotonic() - began) / len(facts)


def asks_for(turns: Sequence[Turn], facts: Sequence[Fact]) -> bool:
    """Whether something is asked that these facts answer, and that a conversation says is unknown."""
    unknown = [say_fact(fact.key, None).removesuffix(".") for fact in facts]
    return any(
        any(answer in turn.assistant for answer in unknown)
        or (turn.assistant == say_name(None) and any(holds(turn.user, str(fact.value)) for fact in facts))
        for turn in turns
    )


def abstains(answer: str) -> bool:
    """Whether an answer says that something is not known."""
    return UNKNOWN in answer
