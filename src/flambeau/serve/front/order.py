"""What the process in front is started with, and told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from flambeau.serve.limits import Limits

READY, DRAIN, DRAINED = b"ready\n", b"drain\n", b"drained\n"
"""What the two processes say to each other, beside what was counted."""


@dataclass(frozen=True, slots=True)
class Order:
    """One argument of a command line.

    Attributes:
        listening: The number of the socket that clients connect to.
        control: The number of the connection to the server's process.
        address: The path of the socket at which that listens.
        limits: Of the server.
    """

    listening: int
    control: int
    address: str
    limits: Limits

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Order:
        """Out of such text."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "limits": Limits(**values["limits"])})
