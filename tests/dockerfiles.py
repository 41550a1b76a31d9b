"""Reads Dockerfiles as far as ours go: instructions one a line, continued by a backslash, without heredocs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """One instruction: its name in capitals, and the rest."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """Of the exec form. Raises ``ValueError`` for the shell form."""
        found = json.loads(self.rest[self.rest.index("[") :])
        assert all(isinstance(word, str) for word in found)
        return list(found)


def instructions(path: Path) -> list[Instruction]:
    """The instructions of a file, in order."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in whole.splitlines() if line.strip()]
