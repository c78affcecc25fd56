"""The report's chapter on memory: what people's memories answer, and other ways to write them."""

from collections.abc import Mapping
from typing import Any

from personacore.params import MemoryParams
from personacore.reporting.markdown import interval, table

MEMORY_METRICS = ("recall", "sessions", "writing", "session_ways", "lora", "sleep")
GATES = {
    "in_context_recall": "told in the same conversation, then asked; no memory",
    "in_context_abstention": "other things told in the same conversation; no memory",
    "taught_greedy": "in frames that memories are taught with",
    "h1_greedy": "in frames the model has met, but no teaching uses",
    "h2_greedy": "in frames that it has never met",
    "h2_sampled": "the same, drawn at temperature 0.8 and top-p 0.95",
    "conversation_greedy": "in frames that it has never met, after two turns about something else",
    "asleep_taught_greedy": "in frames that memories are taught with, after sleep",
    "asleep_h1_greedy": "the same in frames the model has met",
    "asleep_h2_greedy": "the same in frames that it has never met",
    "nouns_greedy": "by noun phrases that it has never met",
    "statements_read": "statements written by hand: all facts in them are read by the model, and no others; no memory",
    "handwritten_greedy": "questions written by hand, independently of the grammar",
    "asleep_handwritten_greedy": "the same after sleep",
    "reversed_greedy": "what a value is, in frames that it has never met",
    "abstain_reversed": "the same of values of their type that nobody told: says that they are unknown",
    "verified_greedy": "whether a value is so, half of the time another one is claimed; the answer gives the true one",
    "combined_greedy": "two facts in one question, both right",
    "adapter_off": "right answers without the memory, of which there should be none",
    "wrong_user": "right answers with somebody else's memory",
    "shuffled_values": "another value of the same person in the place of the right one",
    "abstain_known_slot": "says that it does not know what was never told",
    "abstain_unseen_slot": "the same of slots that no conversation had",
    "abstain_other_person": "the same of somebody else, when it was told of oneself",
    "intrusion": "a value that was told, in answers about what was not",
    "asleep_abstain_known_slot": "says after sleep that it does not know what was never told",
    "asleep_abstain_unseen_slot": "the same of slots that no conversation had",
    "asleep_abstain_other_person": "the same of somebody else, when it was told of oneself",
    "asleep_intrusion": "a value that was told, in these answers",
    "update_new": "the new value after a correction",
    "update_old_leak": "the old value after a correction",
    "forget_abstain": "says that it does not know what was forgotten",
    "forget_emission": "the value that was forgotten",
    "sequential_100_accuracy": "one fact a session: all that was told, when all sessions are held",
    "first_fact": "the fact of the first session, in the end",
    "backward_transfer": "right answers in the end, less those right after each session",
    "story_drift": "nats of stories with a memory, over without; a memory acts in conversations only, so none by design",
    "dialogue_drift": "nats of EVALUATION conversations with a memory, over without",
    "dialogue_drift_elsewhere": "the same without those that ask for what the memory knows, and are told that it is unknown",
    "asleep_dialogue_drift": "nats of all of these conversations after sleep, over without a memory",
    "asleep_dialogue_drift_elsewhere": "the same without those that ask for what the memory knows",
}


ADAPTER_GATES = ("taught_greedy", "h1_greedy", "h2_greedy", "h2_sampled", "abstain_known_slot", "dialogue_drift")
LORA_WAYS = {
    "answers": "the answers, each question at position 0, as above",
    "distilled": "what the model itself says with facts in its context",
    "packed": "the answers, as many questions in a row as a block takes",
}
SESSION_WAYS = {
    "rows": "rows, which ship: each fact is written into its own",
    "read_out": "one adapter: what it says surely is read out and taught again with the new fact",
    "unfiltered": "the same, however sure it is",
    "sequential": "one adapter that goes on with the new fact alone",
    "ewc": "the same, held by EWC to what the sessions before needed",
    "distilled": "the same, held to what it said before wherever else it is asked",
    "sum": "the sum of an adapter for every fact",
    "joint": "one adapter, taught all facts at once, as none of the others can be",
}


def memory_chapter(
    recall: Mapping[str, Mapping[str, Any]],
    sessions: Mapping[str, Any],
    writing: Mapping[str, Any],
    session_ways: Mapping[str, Any],
    lora: Mapping[str, Any],
    sleep: Mapping[str, Any],
    memory: MemoryParams,
) -> str:
    """The chapter as Markdown."""
    gates = table(
        ("gate", "asked", "value", "interval", "facts", "threshold"),
        (
            (
                f"`{name}`",
                meaning,
                _value(recall[name]),
                interval(recall[name]),
                _facts(recall[name]),
                _threshold(recall[name]),
            )
            for name, meaning in GATES.items()
            if name in recall
        ),
    )
    held = table(
        ("way", "answered", "of the first fact", "of the last", "not told, and said to be unknown"),
        (
            (meaning, *(f"{session_ways[way][name]:.1%}" for name in ("accuracy", "first_fact", "last_fact", "abstains")))
            for way, meaning in SESSION_WAYS.items()
        ),
    )
    adapters = table(
        ("taught by", *(f"`{gate}`" for gate in ADAPTER_GATES)),
        ((meaning, *(f"{lora['ways'][way][gate]:.1%}" for gate in ADAPTER_GATES)) for way, meaning in LORA_WAYS.items()),
    )
    slept = table(
        ("changed", *(f"`{gate}`" for gate in ADAPTER_GATES), "seconds a fact"),
        (
            (
                name,
                *(f"{found[gate]:.1%}" for gate in ADAPTER_GATES),
                f"{found['seconds_per_fact']:.2f}" if "seconds_per_fact" in found else "",
            )
            for name, found in sleep["variants"].items()
        ),
    )
    ruined = ", ".join(name for name, found in sleep["variants"].items() if found["dialogue_drift"] > 1)
    ruined = f"These ruin the model, at the learning rate of what ships: {ruined}." if ruined else ""
    ways = writing["ways"]
    judged = [gate for gate in GATES if all(gate in found for found in ways.values())]
    compared = table(("gate", *ways), ((f"`{gate}`", *(f"{found[gate]:.1%}" for found in ways.values())) for gate in judged))
    missed = [name for name, gate in recall.items() if gate.get("passed") is False]
    verdict = f"Missed: {', '.join(f'`{name}`' for name in missed)}." if missed else "All gates are passed."
    return f"""## Memory

A memory is a table of rows, vectors as wide as the model, that are added to the residual stream behind block {memory.rows.block} (counted from 0): one row after a key
that the assistant has just written out, one after each token of the value. Rows are found by the hash of the key's tokens, as in
Engram, and learned by gradient through the blocks above, {memory.rows.steps} steps of Adam a fact, on questions of which every second one
stands in the middle of a conversation. More rows name a value that the person says
("That is your sister's town"), found by the value's hash. The file holds vectors, hashes and the times of teaching, no word. That is no
encryption: whoever has it and the model can list what it knows, and what can be guessed can be found from its hash, which has no salt.

**Decision: a memory speaks only where the model would say that it does not know.** Where a key has been said, the blocks above read
without its rows first, and these act if "unknown" is the likeliest next token. What a conversation has told goes first then, without having
to be learned, and what was forgotten in it stays forgotten there. Where the model takes something else that was said for the answer, the memory is not
heard: `in_context_abstention` says how often.

**Decision: rows hold the values, and sleep learns to read.** A row answers only what the model reads rightly. In its sleep a memory lists what
its rows know. A LoRA of rank {memory.sleep.rank} on all projections is then trained, in up to {memory.sleep.max_steps} steps, on questions for all of it and on near misses.
Of each answer it learns the key and not the value (of near misses, that they are unknown), so that a correction changes rows and nothing else. A KL
holds it to the model on ordinary conversations. It is kept if it answers no fewer questions rightly, drawn anew in the same frames. All of these stand
alone: what sleep does to questions in the middle of a conversation it neither practises nor checks.

**Decision: every fact has a name.** More rows of each fact answer "What is fact 123456789?" with what it is about, the number being that of its key,
so that a memory lists what it knows out of its weights, and finds out by itself where it misspells a key.

{memory.people} made-up people have {memory.facts} facts each ({memory.protocol} protocol, {memory.seeds} {_seeds(memory.seeds)}), of slots that were held out of the
model's conversations and with values that were nobody's there; one in seven is about a noun of the stories' lists ("my ladder"), which it may have met.
The facts are handed to the memory as key and value, so that these numbers leave out the reading of what is typed: of statements written by hand
{recall["statements_read"]["value"]:.0%} are read without fault, and only `python -m benchmarks.typed` measures the whole way from a typed sentence to an answer.
Memories are asked as teaching, correcting or forgetting leaves them, in another process; what the people of the first seed and of the hand-written
questions answer after sleep stands in the rows `asleep_...`, which no gate judges. The prompt holds the question alone, but for `conversation_greedy` and in context. In all
frames that are asked by tier it is checked that no question holds a value, and hand-written questions that hold one are left out. An answer counts when the
whole sentence is right, and as abstention when it says that it does not know. Intervals are 95 % bootstraps over facts, exact ones where all or none
are right; of drift, the least and the most of the memories. They say how sure a number is for this one model, not what another training would bring.

{gates}

{verdict} Some conversations ask for what a memory knows, and are written to be told that it is unknown; the memory says what it was taught.
`dialogue_drift` counts that, `dialogue_drift_elsewhere` leaves these conversations out.

![Recall](../plots/recall.png)

![Teaching](../plots/teaching.png)

**What each way can do.** The same {writing["people"]} CALIBRATION people of {writing["facts"]} facts, written as rows; as rows and slept on; as the LoRA of
sleep alone, taught on the facts themselves, with the settings of sleep; and as a change of the MLPs that is solved for at once, which follows MEMIT, is ours
and was hardly tuned. The ways differ in their lessons too: only rows are written in the middle of conversations, with claims and with pairs,
so that `conversation_greedy`, `verified_greedy` and `combined_greedy` say little about adapters. The table compares one telling. It does not show the
rest: rows hold facts apart, so that a correction overwrites, forgetting removes a fact's rows and hashes, and a hundred facts never meet. An adapter by itself has
to be read out and taught again as a whole each time; what its read-outs lose and make up on the way is in docs/EXPERIMENTS.md.

{compared}

![Where a low-rank memory lies](../plots/moved.png)

An adapter that has to hold the values can be taught in more than one way, here {lora["people"]} people of {lora["facts"]} facts,
mean of {lora["seeds"]} seeds (`python -m benchmarks.lora`):

{adapters}

**What the parts of sleep are worth.** The same rows of {sleep["people"]} CALIBRATION people of {sleep["facts"]} facts, which are given rather than listed, slept on
with one setting changed at a time, and kept whether better or not; mean of {sleep["seeds"]} seeds (`python -m benchmarks.sleep`). As it ships: rank
{memory.sleep.rank}, KL of weight {memory.sleep.kl_weight:g}, {memory.sleep.negatives} negatives a step of which {memory.sleep.near_misses:.0%} are near misses, {memory.sleep.frames} frames.
{ruined}

{slept}

![What the parts of sleep are worth](../plots/sleep.png)

**One fact a session.** One person tells one fact in each of {sessions["sessions"]} sessions, and each session has nothing but the memory that the last
one left. Rows of different facts never meet, so nothing has to be taught again. Asked before each session what it knows, the memory
listed {sessions["read_out_recall"]:.1%} of the facts told before, and {sessions["read_out_precision"]:.1%} of what it listed was right.

![Sessions](../plots/sessions.png)

The same by adapters, of {session_ways["sessions"]} sessions with CALIBRATION facts, asked after the last (`python -m benchmarks.sessions`; of EWC, the best
of several strengths, {session_ways["ewc"]["strength"]:,.0f}, with unmatched negatives):

{held}

Limits of this chapter: people, frames and values come from one grammar, written by the same hands as the model's conversations, so that
only the hand-written questions say how it would do with somebody's own words. No EVALUATION frame and no hand-written question is trained on, but models
and grammar were chosen by looking at both, over many runs: there is no set left that was never looked at. `h2` frames are new but of the
grammar's kind; one pretraining seed. Rows answer where the model itself writes out the key: a question that it misreads stays unanswered until the memory
has slept, and some after that. Some frames of PRETRAIN were written after reading what EVALUATION frames of their kind were missed for. A statement
that it misreads is learned as what it reads, which it says back. Of two facts with one value, the one told last is named. A memory that has slept
keeps what it learned to read until something is forgotten; the times of teaching stay in its file."""


def _seeds(count: int) -> str:
    return "seed" if count == 1 else "seeds"


def _value(gate: Mapping[str, Any]) -> str:
    return f"{gate['value']:.2%}" if gate["value"] < 0.1 else f"{gate['value']:.1%}"


def _facts(gate: Mapping[str, Any]) -> str:
    return f"{gate['facts']:,}" if "facts" in gate else ""


def _threshold(gate: Mapping[str, Any]) -> str:
    if "threshold" not in gate:
        return "none"
    return f"{gate['threshold']:.1%} {'passed' if gate['passed'] else '**missed**'}"
