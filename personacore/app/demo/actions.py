"""What the page does when something is pressed: each action takes what its inputs hold and returns what is shown then."""

import html
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gradio as gr

from personacore.app.lines import fault
from personacore.app.people import People, Person
from personacore.app.verbs import NOT_UNDERSTOOD, SLEEP_AGAIN, describe_sleep, path_of
from personacore.core import Core
from personacore.errors import UserError
from personacore.files import sha256_of
from personacore.memory.facts import read_facts
from personacore.memory.influence import influence
from personacore.memory.talk import Said, Talk
from personacore.model.consolidated import Consolidated

Messages = list[dict[str, str]]
SHOWN = 10  # moments of teaching that are listed


def _heat_map(columns: Sequence[str], rows: Sequence[Sequence[float]], strongest: float) -> str:
    """Shares, a row for each block, as a table whose cells are coloured in proportion to the strongest."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><th>block {layer}</th>"
        + "".join(f'<td style="background:rgba(234,88,12,{min(share / strongest, 1):.2f})">{share:.0%}</td>' for share in row)
        + "</tr>"
        for layer, row in enumerate(rows)
    )
    return f'<div class="scroll"><table class="heat"><tr><th></th>{head}</tr>{body}</table></div>'


class Visit:
    """One browser tab: who talks in it, and what was said there. A copy, as each new tab gets one, begins a conversation."""

    def __init__(self, person: Person) -> None:
        self.person, self.talk = person, Talk(person.memory)

    def __deepcopy__(self, memo: dict[int, object]) -> "Visit":
        return Visit(self.person)

    def said_last(self, text: str) -> str:
        """The text or, where it is empty, what the person said last."""
        return text.strip() or next((turn.user for turn in reversed(self.talk.turns)), "")


@contextmanager
def in_words() -> Iterator[None]:
    """Faults of the person, and what the system refuses, are said on the page in one line."""
    try:
        yield
    except (UserError, OSError) as error:
        raise gr.Error(fault(error), print_exception=False, title="That did not work") from None


@contextmanager
def learning(person: Person) -> Iterator[None]:
    """One thing is learned at a time.

    Raises:
        UserError: something is being learned.
    """
    if not person.learning.acquire(blocking=False):
        raise UserError("It is still learning: wait until it is done, then press once more")
    try:
        yield
    finally:
        person.learning.release()


class Actions:
    """The actions for people who talk with one model, and stories by the same or another."""

    def __init__(self, people: People, stories: Core) -> None:
        self.people, self.stories = people, stories

    def open_visit(self, name: str) -> tuple[Visit, Messages, str, Any, Any]:
        """Somebody begins to talk, with an empty conversation."""
        with in_words():
            person = self.people.person(name)
            visit = Visit(person)
            return visit, [], self.about(visit), gr.update(choices=self.people.names(), value=person.name), self.known(visit)

    def about(self, visit: Visit) -> str:
        """How much is remembered of the person, in words."""
        memory = visit.person.memory
        with memory.reading(remembering=False):  # as the file is by now, which another program may have written
            if not memory.path.exists():
                return f"Nothing is remembered of **{visit.person.name}** yet."
            facts = f"{memory.count} fact{'s' * (memory.count != 1)}"
            size = f"{memory.path.stat().st_size:,} bytes of tensors"
            return f"Of **{visit.person.name}** it remembers {facts}, in {size}{', and has slept' * memory.has_slept}."

    def file(self, visit: Visit) -> str:
        """Where the memory lies, what identifies it, and when it was taught."""
        memory = visit.person.memory
        if not memory.path.exists():
            return self.about(visit)
        times = "".join(f"\n- taught {moment.replace('T', ' ')}" for moment in memory.taught[-SHOWN:])
        return f"{self.about(visit)} `{memory.path}`, SHA-256 `{sha256_of(memory.path)}`{times}"

    def refreshed(self, visit: Visit) -> tuple[str, Any]:
        """How much is remembered, and what, after somebody may have been taught."""
        with in_words():
            return self.about(visit), self.known(visit)

    def known(self, visit: Visit) -> Any:
        """What the memory says it knows, to choose from."""
        lines = [fact.sentence for fact in visit.person.memory.known()]
        others = visit.person.memory.count - len(lines)
        label = f"What it says it knows of {visit.person.name}" + f" (and {others} more: ask)" * bool(others)
        return gr.update(choices=lines, value=None, label=label)

    def say(self, visit: Visit, text: str, on: bool, learn: bool, messages: Messages) -> Iterator[tuple[Messages, Any]]:
        """Answer as it is written; with `learn` what was said is taught then, if it is a statement.

        The box for text is emptied once, so that what is typed meanwhile stays.
        """
        with in_words():
            visit.talk.remembering = on
            messages = [*messages, {"role": "user", "content": text}, {"role": "assistant", "content": ""}]
            box: Any = ""
            for piece in visit.talk.say(text):
                messages[-1]["content"] += piece
                yield messages, box
                box = gr.skip()
            if learn and not text.rstrip().endswith("?"):
                yield [*messages, {"role": "assistant", "content": self._teach(visit, text, lambda step, sure: None)}], box

    def remember(self, visit: Visit, text: str, messages: Messages, progress: Callable) -> tuple[Messages, str, str, Any]:
        """Teach what is written, or what was said last."""
        with in_words():
            if not (statement := visit.said_last(text)):
                raise UserError("Write something to remember first, such as: My dog is called Biscuit.")
            steps = visit.person.memory.teaching.rows.steps
            note = self._teach(
                visit, statement, lambda step, sure: progress(step % steps / steps, f"learning, {sure:.0%} sure")
            )
            shown = [{"role": "user", "content": text}] if text.strip() else []
            return [*messages, *shown, {"role": "assistant", "content": note}], "", self.about(visit), self.known(visit)

    def sleep(self, visit: Visit, progress: Callable) -> tuple[str, Any]:
        """Let the memory go over what it knows."""
        steps = visit.person.memory.teaching.sleep.max_steps
        with in_words(), learning(visit.person):
            slept = visit.person.memory.sleep(lambda step, sure: progress(step / steps, f"asleep, {sure:.0%} sure"))
        gr.Info(describe_sleep(slept))
        return self.about(visit), self.known(visit)

    def _teach(self, visit: Visit, statement: str, on_step: Callable[[int, float], None]) -> str:
        with learning(visit.person):
            told = visit.person.memory.teach(statement, on_step)
        if not told.understood:
            return NOT_UNDERSTOOD
        sure = " ".join(f"{each.fact.sentence} ({each.probability:.0%} sure)" for each in told.learned)
        return f"Learned in {told.seconds:.1f} s: {sure}"

    def wipe(self, visit: Visit) -> Messages:
        """Empty the conversation."""
        visit.talk.wipe()
        return []

    def both_ways(self, visit: Visit, text: str) -> tuple[str, str]:
        """The answers to what is written, or was said last, with the memory and without."""
        with in_words():
            return visit.talk.both_ways(visit.said_last(text))

    def proof(self, visit: Visit) -> tuple[str, str, str, str, str]:
        """The prompt of the last answer, as text and as ids; where the memory acts and where sleep moved; the file."""
        with in_words():
            last, moved, file = visit.talk.last, self._moved(visit), self.file(visit)
            if last is None:
                return "Nothing was asked yet.", "", "", moved, file
            acts = self._acts(visit, last) if last.remembering else "The memory was off."
            prompt = self.people.core.tokenizer.decode(last.prompt)
            return prompt, " ".join(map(str, last.prompt)), acts, moved, file

    def _acts(self, visit: Visit, last: Said) -> str:
        tokenizer = self.people.core.tokenizer
        answer = tokenizer.encode(last.answer)
        if not answer:
            return ""
        shares = influence(visit.person.memory, [*last.prompt, *answer])[:, -len(answer) :].tolist()
        return _heat_map([tokenizer.decode([number]) for number in answer], shares, strongest=1.0)

    def _moved(self, visit: Visit) -> str:
        memory = visit.person.memory
        with memory.reading(remembering=False) as model:
            if not isinstance(memory.adapter, Consolidated):
                return "It has not slept, and no weight has moved: what it knows lies in rows beside the weights."
            moved = memory.adapter.lora.moved(model)
        names = list(dict.fromkeys(name.rpartition(".")[2] for name in moved))
        shares = list(moved.values())
        rows = [shares[start : start + len(names)] for start in range(0, len(shares), len(names))]
        return _heat_map(names, rows, strongest=max(shares))

    def forget(self, visit: Visit, chosen: str | None, typed: str) -> tuple[str, str, Any]:
        """Forget what is named, or what is chosen of the list."""
        with in_words():
            memory = visit.person.memory
            with memory.reading(remembering=False):
                had_slept = memory.has_slept
            if typed.strip():
                forgotten = memory.forget(typed.strip())
            elif chosen and (facts := read_facts(chosen)):
                forgotten = memory.forget_key(facts[0].key)
            else:
                raise UserError("Choose what to forget, or write it: my dog's name")
            gr.Info(f"{forgotten.key} is forgotten.{SLEEP_AGAIN * had_slept}")
            return "", self.about(visit), self.known(visit)

    def eject(self, visit: Visit, meant: bool) -> tuple[bool, str, Any]:
        """Delete the memory, if that is meant."""
        with in_words():
            if not meant:
                raise UserError("Tick the box first: the file is deleted, and nothing brings it back")
            visit.person.memory.eject()
            return False, self.about(visit), self.known(visit)

    def save_as(self, visit: Visit, file: str) -> None:
        """Keep a copy of the memory."""
        with in_words():
            if not file.strip():
                raise UserError("Say where, such as: ~/me-copy.safetensors")
            visit.person.memory.save_as(path_of(file.strip()))
            gr.Info(f"Saved to {file.strip()}.")

    def bring(self, file: str) -> str:
        """The name of somebody whose memory is brought from a file."""
        with in_words():
            return self.people.bring(path_of(file.strip())).name

    def tell(
        self, beginning: str, temperature: float, top_k: int, top_p: float, length: int, seed: int | None
    ) -> Iterator[tuple[str, str]]:
        """A story as it is written, and how fast."""
        text, began = beginning, time.monotonic()
        options = {"temperature": temperature, "top_k": int(top_k) or None, "top_p": top_p}
        with in_words():
            for piece in self.stories.stream(beginning, max_new_tokens=int(length), seed=int(seed or 0), **options):
                text += piece
                made = len(self.stories.tokenizer.encode(text[len(beginning) :]))
                yield text, f"{made} tokens, {made / (time.monotonic() - began):.0f} a second"
