"""`personacore chat`: a conversation in the terminal, line by line."""

import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from personacore.app.lines import end_progress, fault, print_json, progress
from personacore.app.verbs import NOT_UNDERSTOOD, SLEEP_AGAIN, describe_sleep, path_of
from personacore.core import Core
from personacore.errors import UserError
from personacore.memory.memory import Memory
from personacore.memory.talk import Talk

HELP = """\
/remember [STATEMENT]  learn it, or what you said last
/forget WHAT           forget one thing, such as: /forget my dog's name
/memory                list what it says it knows
/sleep                 let it go over that, to find it by more ways of asking
/off, /on              answer without the memory, or with it
/wipe                  empty the conversation; the memory stays
/story [BEGINNING]     tell a story
/save FILE             keep a copy of the memory
/help, /quit           Ctrl-C stops an answer, Ctrl-D leaves"""
WIDTH = 80  # columns that a terminal is taken to have


class Chat:
    """What each line does; everything is written by `write`, piece by piece."""

    def __init__(self, core: Core, memory: Memory, write: Callable[[str], None]) -> None:
        self.core, self.talk, self.write = core, Talk(memory), write
        self.commands: dict[str, Callable[[str], None]] = {
            "remember": self.remember,
            "forget": self.forget,
            "memory": self.list_memory,
            "sleep": self.sleep,
            "off": lambda _: self.switch(False),
            "on": lambda _: self.switch(True),
            "wipe": self.wipe,
            "story": self.story,
            "save": self.save,
            "help": lambda _: self.write(f"{HELP}\n"),
        }

    def line(self, text: str) -> None:
        """Answer a line, or do what it commands; what cannot be done is said, and Ctrl-C ends it."""
        try:
            if not text.startswith("/"):
                return self.stream(self.talk.say(text))
            name, _, rest = text[1:].partition(" ")
            if name not in self.commands:
                raise UserError(f"there is no /{name}; /help says what there is")
            self.commands[name](rest.strip())
        except BrokenPipeError:
            raise
        except (UserError, OSError) as error:
            self.write(f"{fault(error)}\n")
        except KeyboardInterrupt:
            self.write(" (stopped)\n")

    def stream(self, pieces: Iterator[str]) -> None:
        """Write the pieces as they come."""
        for piece in pieces:
            self.write(piece)
        self.write("\n")

    def remember(self, statement: str) -> None:
        """Teach a statement, or what was said last."""
        if not statement and not self.talk.turns:
            raise UserError("nothing was said yet: /remember My dog is called Biscuit.")
        try:
            told = self.talk.memory.teach(statement or self.talk.turns[-1].user, progress)
        finally:
            end_progress()
        if not told.understood:
            raise UserError(NOT_UNDERSTOOD)
        for learned in told.learned:
            self.write(f"Learned: {learned.fact.sentence} ({learned.probability:.0%} sure)\n")

    def forget(self, what: str) -> None:
        """Make the memory forget one thing."""
        memory = self.talk.memory
        with memory.reading(remembering=False):
            had_slept = memory.has_slept
        key = memory.forget(what).key
        self.write(f"{key} is forgotten.{SLEEP_AGAIN * had_slept}\n")

    def list_memory(self, _: str) -> None:
        """What the memory says it knows."""
        self.write("\n".join(self.talk.memory.listing()) + "\n")

    def sleep(self, _: str) -> None:
        """Let the memory go over what it knows."""
        try:
            slept = self.talk.memory.sleep(progress)
        finally:
            end_progress()
        self.write(f"{describe_sleep(slept)}\n")

    def switch(self, on: bool) -> None:
        """Answer with or without the memory from now on."""
        self.talk.remembering = on
        self.write(f"The memory is {'on' if on else 'off'}.\n")

    def wipe(self, _: str) -> None:
        """Empty the conversation."""
        self.talk.wipe()
        self.write("The conversation is wiped. What I was taught, I know.\n")

    def story(self, beginning: str) -> None:
        """Tell a story."""
        beginning = beginning or "Once upon a time"
        self.write(beginning)
        self.stream(self.core.stream(beginning))

    def save(self, file: str) -> None:
        """Keep a copy of the memory."""
        if not file:
            raise UserError("say where: /save me.safetensors")
        self.talk.memory.save_as(path_of(file))
        self.write(f"Saved to {file}.\n")


class Wrapped:
    """Writes text piece by piece in lines of a width, broken between words; a piece may end within a word."""

    def __init__(self, file: TextIO, width: int) -> None:
        self.file, self.width, self.column = file, width, 0

    def __call__(self, text: str) -> None:
        """Write a piece at once."""
        for part in re.findall(r" ?[^ \n]+|[ \n]", text):
            if part == "\n":
                self.column = 0
            elif self.column + len(part) > self.width and part.startswith(" "):
                part = "\n" + part[1:]
                self.column = len(part) - 1
            else:
                self.column += len(part)
            self.file.write(part)
        self.file.flush()


def run_chat(core: Core, memory: Memory, as_json: bool = False) -> None:
    """Read lines until there are no more, with a prompt and a history where somebody types them.

    As JSON each line is printed beside its whole answer, for a program that reads and writes.
    """
    if sys.stdin is None:  # closed, and so at its end
        return
    typed = sys.stdin.isatty() and not as_json
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    pieces: list[str] = []
    piped = pieces.append if as_json else lambda text: print(text, end="", flush=True)
    chat = Chat(core, memory, Wrapped(sys.stdout, WIDTH) if typed else piped)
    if typed:
        import readline  # noqa: F401 (input() has a history and line editing from then on)

        known = {0: "Nothing is known yet", 1: "One fact is known"}.get(memory.count, f"{memory.count} facts are known")
        print(f"{known}. Talk to me, or type /help.")
    while True:
        try:
            text = input("> ") if typed else sys.stdin.readline()
        except EOFError:
            break
        except KeyboardInterrupt:
            if not as_json:
                print()
            continue
        if not typed and not text:  # not even the end of a line
            break
        text = text.strip()
        if text in ("/quit", "/exit"):
            break
        if not text:
            continue
        chat.line(text)
        if as_json:
            print_json(line=text, answer="".join(pieces).rstrip("\n"))
            pieces.clear()
    if typed:
        print()
