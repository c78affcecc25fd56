"""The report's chapter on conversation: how the base learns it, and what each way of learning it forgets."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from personacore.params import ArmParams
from personacore.reporting.markdown import interval, table

CONVERSATION_METRICS = ("forgetting", "ewc_digits", "in_context", "arm_seeds", "shown", "joint")
CONTEXT_GATES = ("in_context_recall", "in_context_abstention")
SHOWN_WAYS = {"left alone": "nothing", "last layer": "one head of the last layer", "as ships": "as ships"}
ORDERS = {"behind": "behind the stories, as ships", "joint": "beside the stories, from the first step on"}
ORDER_COLUMNS = {"story_bits_per_byte": ".4f"} | dict.fromkeys(CONTEXT_GATES, ".1%")


def conversation_chapter(
    forgetting: Mapping[str, Mapping[str, float]],
    ewc_digits: Mapping[str, Any],
    in_context: Mapping[str, Mapping[str, Any]],
    arm_seeds: Mapping[str, Mapping[str, Sequence[float]]],
    shown: Mapping[str, Any],
    joint: Mapping[str, Mapping[str, Any]],
    arms: Mapping[str, ArmParams],
    shipped: str,
) -> str:
    """The chapter as Markdown."""
    costs = table(
        ("arm", "steps", "protected by", "stories, bits per byte", "forgotten", "conversations, nats per token"),
        (
            (
                f"`{name}`{' (ships)' if name == shipped else ''}",
                f"{facts['steps']:,}",
                _protection(arms[name]),
                f"{facts['story_bits_per_byte_after']:.4f}",
                f"{facts['story_forgotten']:+.1%}" + _spread(arm_seeds.get(name), "story_forgotten", "+.1%"),
                f"{facts['dialogue_nats_per_token']:.3f}" + _spread(arm_seeds.get(name), "dialogue_nats_per_token", ".3f"),
            )
            for name, facts in forgetting.items()
        ),
    )
    before = next(iter(forgetting.values()))["story_bits_per_byte_before"]
    held_out = table(
        ("never met before", "told, and answered", "not told, and said to be unknown"),
        (
            (name, *(f"{found[gate]['value']:.1%} ({interval(found[gate])})" for gate in CONTEXT_GATES))
            for name, found in in_context.items()
        ),
    )
    looked = table(
        ("shown", "PRETRAIN: told, not told", "as the gate: told, not told", "stories forgotten"),
        (
            (
                SHOWN_WAYS[name],
                *(
                    ", ".join(f"{found[held][gate]['value']:.1%}" for gate in CONTEXT_GATES)
                    for held in ("nothing", "as the gate")
                ),
                f"{found['story_forgotten']:+.1%}",
            )
            for name, found in shown["ways"].items()
        ),
    )
    orders = table(
        ("conversations", "rows of stories, conversations, drills", "stories, bits per byte", "told", "not told"),
        (
            (
                meaning,
                ", ".join(f"{count:,}" for count in found["rows"].values()),
                *(f"{fmean(found[name]):{form}}" + _spread(found, name, form) for name, form in ORDER_COLUMNS.items()),
            )
            for order, meaning in ORDERS.items()
            for found in [joint[order]]
        ),
    )
    return f"""## Conversation, and what it costs

The base learns to converse from made-up conversations in which facts are told, asked for, corrected and forgotten. What protects its
stories meanwhile differs by arm; the arms of one number of steps can be compared. The base stands at {before:.4f} bits per byte of stories.

{costs}

![Forgetting](../plots/forgetting.png)

In brackets: least and most of three seeds, each with other stories, conversations and drills, from one base (`python -m benchmarks.arms`).
The arm that ships was trained once. It sees {_replayed(arms[shipped])} rows of stories while it learns to converse, so that what it gains
or loses is more training as much as protection; forgetting can be compared among the short arms only.

EWC is written for any module and any loss. On {ewc_digits["tasks"]} permutations of scikit-learn's digits, learned one after the other, its mean accuracy
over all of them in the end is {ewc_digits["ours_accuracy"]:.1%}, that of Avalanche {ewc_digits["avalanche_version"]} {ewc_digits["avalanche_accuracy"]:.1%}, {ewc_digits["naive_accuracy"]:.1%} without protection and {ewc_digits["joint_accuracy"]:.1%} when all are
learned at once ({len(ewc_digits["seeds"])} seeds; each method's epochs and strength were chosen on other seeds; `python -m benchmarks.ewc_digits`).

A *key* is what a fact is about ("Your sister's town"), a *slot* an owner with an attribute, a *frame* the words around either in a question or a
statement. Of slots, frames, noun phrases and values PRETRAIN is trained on, CALIBRATION is for tuning, and EVALUATION for the gates, which are the
table of the next chapter. A *claim* asks whether something is so ("Is my town Wexmouth?"), a *pair* asks two things in one turn, a *tier* is all
questions in frames of one kind, and a *read-out* is what a memory says when it is asked for all that it knows.

**Decision: the key before the value.** Every answer begins by writing out what is asked for in one fixed way ("Your sister's town is
..."), whatever the question looked like. Understanding a question is then the model's, learned once, and a memory has only to tie a
key to its value: what it is taught in one phrasing it can answer in others.

**Decision: drills as well as conversations.** To answer from what was just told, the model must match owner and noun at once, and conversations
alone teach a small model to match either. Drills tell up to ten facts, most of them alike in one of the two, and ask for each before any is
asked for again, half of the time for something close that was not told. Many have nothing but the key to go by, so that no wording of a
question can replace it.

**Decision: attention is shown where a fact was told.** Where the assistant begins a sentence as it did before, the value is what followed then; where
a fact is new, it stands in what the person has just said. So in the arm that ships one head of each of the last layers learns, beside what to say, to
look there, where it was said to be forgotten, or at the beginning of the text where none of these holds (supervised attention: Liu et al., 2016; Mi
et al., 2016). The model's shape stays what it is, and nothing is shown once it is trained. After {shown["steps"]:,} steps from the base, in conversations of PRETRAIN and in such as the gate's, of CALIBRATION (`python -m benchmarks.shown`):

{looked}

**What makes a told fact hard to find.** Conversations of one to three statements and a question, in which one part after the other is held out of
all training (CALIBRATION; `python -m benchmarks.in_context`). The gate holds out values, frames and slots:

{held_out}

**Decision: conversations behind the stories.** Every arm begins from one base, so that what it forgets can be measured. What this order costs and
brings shows after few steps: the base that goes on with conversations, and a model that begins at random and meets as many rows of every kind, mixed
from the first step on. Told and not told as the gate asks, of CALIBRATION; the mean of three seeds, with the least and the most in brackets, of other
rows each time, and of other weights to begin with where all is mixed (`python -m benchmarks.joint`; the first table has the arm that ships, which goes
on for longer):

{orders}"""


def _replayed(arm: ArmParams) -> str:
    return f"{arm.steps * arm.story_rows:,}"


def _spread(by_seed: Mapping[str, Sequence[float]] | None, name: str, form: str) -> str:
    """The least and the most of several seeds, in brackets."""
    return f" ({min(by_seed[name]):{form}} to {max(by_seed[name]):{form}})" if by_seed else ""


def _protection(arm: ArmParams) -> str:
    said = []
    if arm.ewc_strength:
        said.append(f"EWC, strength {arm.ewc_strength:g}")
    if arm.distill_weight:
        said.append(f"KL to the base on {arm.story_rows} rows of stories, weight {arm.distill_weight:g}")
    elif arm.story_rows:
        said.append(f"{arm.story_rows} rows of stories a step")
    return ", ".join(said) or "nothing"
