"""The errors that Flambeau raises on purpose.

    FlambeauError
    ├── UsageError       a command, option or argument that cannot be carried out
    ├── RecipeError      a recipe that is not valid; it lists every mistake at once
    ├── DataError        data that cannot be found, read or used
    │   └── BadRows      some rows of a table or folder cannot be read; it names each of them
    ├── ModelError       a network that cannot be built or does not fit, a model file that is damaged
    ├── RunError         a run folder that is locked, damaged or not a run folder
    ├── TrainingError    training that cannot go on, such as a loss that is not finite
    ├── Interrupted      training that a signal ended early; it can be resumed
    └── MissingExtra     an optional dependency that is not installed

Each says what is wrong and where, what was expected and received where that helps, and what to do next. Whatever a
user or the world can cause ends in one of these (exit code 2, no traceback); anything else is a bug of ours (1).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class FlambeauError(Exception):
    """Base of all errors raised on purpose.

    Args:
        problem: What is wrong, in one sentence.
        where: The file, field, line or layer concerned.
        expected: What would have been right.
        received: What was found instead.
        remedy: What to do next.

    Example:
        >>> error = FlambeauError("The file is empty.", where="cat.jpg", remedy="Remove it.")
        >>> print(error)
        cat.jpg: The file is empty.
          what to do: Remove it.
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        where: object = None,
        expected: object = None,
        received: object = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = None if where is None else str(where)
        self.expected = None if expected is None else str(expected)
        self.received = None if received is None else str(received)
        self.remedy = remedy

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.problem}" if self.where else self.problem]
        details = (("expected", self.expected), ("received", self.received), ("what to do", self.remedy))
        lines += [f"  {label}: {text}" for label, text in details if text]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """The error as JSON values: its type and the fields that are set."""
        fields = {
            "problem": self.problem,
            "where": self.where,
            "expected": self.expected,
            "received": self.received,
            "remedy": self.remedy,
        }
        return {"type": type(self).__name__, **{name: value for name, value in fields.items() if value is not None}}


class UsageError(FlambeauError):
    """A command, option or argument that cannot be carried out."""


class RecipeError(FlambeauError):
    """A recipe that is not valid.

    Args:
        mistakes: Every mistake found, as ``field: what is wrong`` lines.
        where: The recipe's name or file.
    """

    def __init__(self, mistakes: Iterable[str], *, where: object = None) -> None:
        self.mistakes = list(mistakes)
        count = len(self.mistakes)
        head = "The recipe has a mistake" if count == 1 else f"The recipe has {count} mistakes"
        super().__init__("\n  - ".join([f"{head}:", *self.mistakes]), where=where)

    def as_dict(self) -> dict[str, object]:
        return {**super().as_dict(), "mistakes": self.mistakes}


class DataError(FlambeauError):
    """Data that cannot be found, read or used."""


class BadRows(DataError):
    """Some rows cannot be read.

    Args:
        rows: The error of each bad row, by the row's number (from 0).
    """

    SHOWN = 10

    def __init__(self, rows: Mapping[int, FlambeauError]) -> None:
        self.rows = dict(rows)
        errors = list(self.rows.values())
        if len(errors) == 1:
            only = errors[0]
            super().__init__(
                only.problem, where=only.where, expected=only.expected, received=only.received, remedy=only.remedy
            )
            return
        lines = [f"{len(errors)} inputs cannot be read:"]
        lines += [f"  - {error.where}: {error.problem}" for error in errors[: self.SHOWN]]
        if len(errors) > self.SHOWN:
            lines.append(f"  - and {len(errors) - self.SHOWN} more")
        super().__init__("\n".join(lines), remedy=errors[0].remedy)


class ModelError(FlambeauError):
    """A network that cannot be built or does not fit, or a model file that is damaged."""


class RunError(FlambeauError):
    """A run folder that is locked, damaged or not a run folder."""


class TrainingError(FlambeauError):
    """Training that cannot go on."""


class MissingExtra(FlambeauError):
    """An optional dependency that is not installed.

    Args:
        package: What is missing, by its name in the package index.
        extra: The extra of Flambeau that brings it.
        purpose: What it is needed for, as in "writing TensorBoard events".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{package} is not installed; it is needed for {purpose}.")
        self.remedy = f"pip install 'flambeau[{extra}]'"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the closest known names, or all of them when few.

    Example:
        >>> did_you_mean("fashon-mnist", ["mnist", "fashion-mnist"])
        'Did you mean fashion-mnist?'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    if len(names) <= 20:
        return f"Known: {', '.join(names)}." if names else "None is known."
    return f"{len(names)} names are known; the closest are {', '.join(difflib.get_close_matches(name, names, 5, 0))}."


def one_line(error: Exception, most: int | None = None) -> str:
    """What an error of another package says, in one line of at most so many characters; its class if it says nothing.

    Example:
        >>> one_line(ValueError("shapes\\n  do not match")), one_line(TimeoutError())
        ('shapes do not match', 'TimeoutError')
    """
    return " ".join(str(error).split())[:most] or type(error).__name__


class Interrupted(FlambeauError):
    """A signal ended training early; a checkpoint was written.

    Args:
        signal: The signal's number; the exit code is 128 more, as shells have it.
        run: The run's folder.
        step: Updates done.
    """

    def __init__(self, signal: int, run: object, step: int) -> None:
        super().__init__(
            f"Training was interrupted after step {step}; a checkpoint was written.",
            where=run,
            remedy=f"flambeau resume {run}",
        )
        self.exit_code = 128 + signal
