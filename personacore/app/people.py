"""The people who talk on one machine: each has a memory in a file of their own, opened once however many pages show it."""

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from personacore.core import Core
from personacore.errors import UserError
from personacore.memory.memory import Memory

SUFFIX = ".safetensors"
NAME = re.compile(r"\w(?:[\w .-]{0,38}[\w.-])?")


@dataclass(frozen=True)
class Person:
    """A name with its memory; `learning` is held while it is taught, so that nobody starts a second time."""

    name: str
    memory: Memory
    learning: threading.Lock = field(default_factory=threading.Lock)


class People:
    """Everybody whose memory lies in the folder of a first file, by the name of the file."""

    def __init__(self, core: Core, first: Path) -> None:
        self.core, self.folder, self.first = core, first.parent, first.stem
        self._first_file = first
        self._open: dict[Path, Person] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The first one, then all others by the alphabet."""
        with self._lock:
            found = {path.stem for path in self.folder.glob(f"*{SUFFIX}")} | {person.name for person in self._open.values()}
        return [self.first, *sorted(name for name in found - {self.first} if NAME.fullmatch(name))]

    def person(self, name: str) -> Person:
        """Somebody by name, who may be new.

        Raises:
            UserError: the name cannot be one of a file, or the file is damaged or of another model.
        """
        name = self._checked(name if name == self.first else name.strip())
        path = self.file(name).resolve()
        with self._lock:
            if path not in self._open:
                self._open[path] = Person(name, self.core.memory(path))
            return self._open[path]

    def bring(self, file: Path) -> Person:
        """Somebody whose memory lies elsewhere: it is copied into the folder under the file's name.

        Raises:
            UserError: there is no such memory of this model, or somebody has that name already, or nobody can.
        """
        if not file.is_file():
            raise UserError(f"{file} is no file")
        name = self._checked(file.stem)
        if self.file(name).exists():
            raise UserError(f"there is somebody called {name} already: rename the file first")
        self.core.memory(file).save_as(self.file(name))
        return self.person(name)

    def _checked(self, name: str) -> str:
        """The name, if it can be somebody's; that of the first file may be any."""
        if name != self.first and not NAME.fullmatch(name):
            raise UserError(f"a name is of up to 40 letters, digits, spaces, dots and dashes: {name!r} is none")
        return name

    def file(self, name: str) -> Path:
        """Where somebody's memory lies, or would."""
        return self._first_file if name == self.first else self.folder / f"{name}{SUFFIX}"
