"""The report's chapter on memory: what the arms forgot, and what taught memories answer."""

from collections.abc import Mapping
from typing import Any

from personacore.params import ArmParams, MemoryParams

GATES = {
    "in_context_recall": "told in the same conversation, then asked; no adapter",
    "in_context_abstention": "other things told in the same conversation; no adapter",
    "taught_greedy": "in frames that memories are taught with",
    "h1_greedy": "in frames the model has met, but no teaching uses",
    "h2_greedy": "in frames that it has never met",
    "h2_sampled": "the same, drawn at temperature 0.8 and top-p 0.95",
    "nouns_greedy": "by noun phrases that it has never met",
    "handwritten_greedy": "questions written by hand, independently of the grammar",
    "reversed_greedy": "what a value is, in frames that it has never met",
    "verified_greedy": "whether a value is so, half of the time another one is claimed; the answer gives the true one",
    "combined_greedy": "two facts in one question, both right",
    "adapter_off": "right answers without the adapter, of which there should be none",
    "wrong_user": "right answers with somebody else's adapter",
    "shuffled_values": "another value of the same person in the place of the right one",
    "abstain_known_slot": "says that it does not know what was never told",
    "abstain_unseen_slot": "the same of slots that no conversation had",
    "abstain_other_person": "the same of somebody else, when it was told of oneself",
    "intrusion": "a value that was told, in answers about what was not",
    "update_new": "the new value after a correction",
    "update_old_leak": "the old value after a correction",
    "forget_abstain": "says that it does not know what was forgotten",
    "forget_emission": "the value that was forgotten",
    "sequential_100_accuracy": "one fact a session: all that was told, when all sessions are held",
    "first_fact": "the fact of the first session, in the end",
    "backward_transfer": "right answers in the end, less those right after each session",
    "story_drift": "nats of stories with an adapter, over without; a memory acts only in conversations, so none by design",
    "dialogue_drift": "nats of EVALUATION conversations with an adapter, over without",
}


def memory_chapter(
    forgetting: Mapping[str, Mapping[str, float]],
    recall: Mapping[str, Mapping[str, Any]],
    sessions: Mapping[str, Any],
    arms: Mapping[str, ArmParams],
    shipped: str,
    memory: MemoryParams,
) -> str:
    """The chapter as Markdown."""
    rows = [
        f"| `{name}`{' (ships)' if name == shipped else ''} | {facts['steps']:,} | {_protection(arms[name])} "
        f"| {facts['story_bits_per_byte_after']:.4f} | {facts['story_forgotten']:+.1%} | {facts['dialogue_nats_per_token']:.3f} |"
        for name, facts in forgetting.items()
    ]
    before = next(iter(forgetting.values()))["story_bits_per_byte_before"]
    gates = [
        f"| `{name}` | {meaning} | {_value(recall[name])} | {_interval(recall[name])} | {_threshold(recall[name])} |"
        for name, meaning in GATES.items()
        if name in recall
    ]
    missed = [name for name, gate in recall.items() if gate.get("passed") is False]
    verdict = f"Missed: {', '.join(f'`{name}`' for name in missed)}." if missed else "All gates are passed."
    return f"""## Conversation, and what it costs

The base learns to converse from made-up conversations in which facts are told, asked for, corrected and forgotten. What protects its
stories meanwhile differs by arm; the arms of one number of steps can be compared. The base stands at {before:.4f} bits per byte of stories.

| arm | steps | protected by | stories, bits per byte | forgotten | conversations, nats per token |
|---|---|---|---|---|---|
{chr(10).join(rows)}

![Forgetting](../plots/forgetting.png)

**Decision: the key before the value.** Every answer begins by writing out what is asked for in one fixed way ("Your sister's town is
..."), whatever the question looked like. Understanding a question is then the model's, learned once, and a memory has only to tie a
key to its value: what it is taught in one phrasing it can answer in others.

## Memory

A memory is a low-rank adapter of rank {memory.teach.rank} on all six projections of every block, which acts from the first word of a
conversation on: stories are read without it. {memory.people} made-up people tell {memory.facts} facts each ({memory.protocol} protocol),
of slots that no conversation of the model's had and with values that were nobody's there; a quarter are about things the grammar has no
word for ("my ladder"). They are asked in another process, with nothing but the question in the prompt, and it is checked that no question
holds a value, except where a value is what is asked about (`reversed`, `verified`, in context). An answer counts when the whole
sentence is right, and as abstention when it says that it does not know. Corrections and forgetting go the way of the product: the
memory is read out, changed, and taught. Intervals are 95 % bootstraps over facts; of drift, the least and the most of the adapters.

| gate | asked | value | interval | threshold |
|---|---|---|---|---|
{chr(10).join(gates)}

{verdict}

![Recall](../plots/recall.png)

![Teaching](../plots/teaching.png)

![Where a memory lies](../plots/moved.png)

**Decision: a memory is read out and taught anew with every fact.** One person tells one fact in each of {sessions["sessions"]} sessions. A
session has nothing but the adapter that the last one left: it asks for every key of the grammar, keeps the answers that are likely
enough, and teaches them together with the new fact. Of the facts told before, {sessions["read_out_recall"]:.1%} were read out, and
{sessions["read_out_precision"]:.1%} of what was read out was right, over all sessions.

![Sessions](../plots/sessions.png)

Limits of this chapter: people, frames and values come from one grammar, written by the same hands as the model's conversations, so that
only the hand-written questions say how it would do with somebody's own words; `h2` frames are new but of the grammar's kind; one
pretraining seed; sessions tell slots of the grammar only, which can be asked for one by one; a story told inside a conversation is not
measured; other ways to write stand in docs/EXPERIMENTS.md, ablations of teaching are not measured yet."""


def _protection(arm: ArmParams) -> str:
    said = []
    if arm.ewc_strength:
        said.append(f"EWC, strength {arm.ewc_strength:g}")
    if arm.distill_weight:
        said.append(f"KL to the base on {arm.story_rows} rows of stories, weight {arm.distill_weight:g}")
    elif arm.story_rows:
        said.append(f"{arm.story_rows} rows of stories a step")
    return ", ".join(said) or "nothing"


def _value(gate: Mapping[str, Any]) -> str:
    return f"{gate['value']:.2%}" if gate["value"] < 0.1 else f"{gate['value']:.1%}"


def _interval(gate: Mapping[str, Any]) -> str:
    counted = f", {gate['hits']:,} of {gate['asked']:,}" if "asked" in gate else ""
    return f"{gate['low']:.1%} to {gate['high']:.1%}{counted}"


def _threshold(gate: Mapping[str, Any]) -> str:
    if "threshold" not in gate:
        return "none"
    return f"{gate['threshold']:.1%} {'passed' if gate['passed'] else '**missed**'}"
