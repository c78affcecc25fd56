"""What conversations are made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """What the person says and what the assistant answers; `kind` says what sort of turn it is."""

    user: str
    assistant: str
    kind: str
