"""What people read of a prediction, in plain Python: models and exported files give the same answers.

There are three kinds made of one output, by what that is for a row: probabilities of classes of which one is right,
probabilities of labels of which any may be, and numbers. A translation is what a search found, a continuation what a
language model went on with, and neighbours are the words whose vectors are nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flambeau.errors import UsageError

LEAST = 0.5
"""From this probability on a label is said."""

CONTINUED = 100
"""Tokens that a language model goes on for when it is asked about a text."""

NEIGHBOURS = 10
"""How many similar words an answer has."""

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answers:
    """How outputs of one kind become answers, and how these are printed.

    Attributes:
        output: The output that the answers are made of.
        of: The answer of one row, from the names of what comes out and the values.
        line: An answer in a line, listing at most so many classes.
        cells: The same as a row of CSV, by column.
    """

    output: str
    of: Callable[[Sequence[str], Sequence[float]], Answer]
    line: Callable[[Mapping[str, Any], int], str]
    cells: Callable[[Mapping[str, Any], int], dict[str, str]]


def class_of(names: Sequence[str], probabilities: Sequence[float], scores: Sequence[float] | None = None) -> Answer:
    """The class, the probability of that, and all classes from the most probable on.

    Args:
        names: Of the classes.
        probabilities: In their order.
        scores: What to rank by where it tells more apart than probabilities do; equal ones keep their order.

    Example:
        >>> class_of(["cat", "dog"], [0.25, 0.75])["class"]
        'dog'
    """
    by = probabilities if scores is None else scores
    order = sorted(range(len(names)), key=lambda k: -by[k])
    ranked = [{"class": names[k], "probability": probabilities[k]} for k in order]
    return {**ranked[0], "classes": ranked}


def class_line(row: Mapping[str, Any], top: int) -> str:
    """A prediction in a line: the most probable classes, in brackets where the model abstains."""
    told = "  ".join(f"{entry['class']} {entry['probability']:.1%}" for entry in row["classes"][:top])
    return f"abstains ({told})" if row.get("abstains") else told


def class_cells(row: Mapping[str, Any], top: int) -> dict[str, str]:
    """A prediction as columns: ``class1``, ``probability1`` and so on; before them ``answer`` where it may be none."""
    made: dict[str, str] = {"answer": row["class"] or ""} if "abstains" in row else {}
    for number, entry in enumerate(row["classes"][:top], start=1):
        made |= {f"class{number}": entry["class"], f"probability{number}": f"{entry['probability']:.6f}"}
    return made


def labels_of(names: Sequence[str], probabilities: Sequence[float]) -> Answer:
    """``labels``, the names from a probability of a half on, and ``classes``, all by probability.

    Example:
        >>> labels_of(["red", "new", "big"], [0.5, 0.2, 0.9])["labels"]
        ['big', 'red']
    """
    ranked = class_of(names, probabilities)["classes"]
    return {"labels": [entry["class"] for entry in ranked if entry["probability"] >= LEAST], "classes": ranked}


def labels_line(row: Mapping[str, Any], top: int) -> str:
    """The labels that are said, and of the others the most probable ones in brackets."""
    chances = {entry["class"]: entry["probability"] for entry in row["classes"]}
    said = [f"{name} {chances[name]:.1%}" for name in row["labels"]]
    rest = [f"{name} {value:.1%}" for name, value in chances.items() if name not in row["labels"]]
    rest = rest[: max(0, top - len(said))]
    return "  ".join([*(said or ["none"]), *([f"({'  '.join(rest)})"] if rest else [])])


def labels_cells(row: Mapping[str, Any], top: int) -> dict[str, str]:
    """The labels that are said, and the probability of each label."""
    listed = {f"probability {entry['class']}": f"{entry['probability']:.6f}" for entry in row["classes"]}
    return {"labels": ";".join(row["labels"]), **dict(sorted(listed.items()))}


def numbers_of(names: Sequence[str], values: Sequence[float]) -> Answer:
    """``values``, the numbers by name; of a single one also ``value``."""
    row = dict(zip(names, values, strict=True))
    return {"value": row[names[0]], "values": row} if len(names) == 1 else {"values": row}


def numbers_line(row: Mapping[str, Any], top: int) -> str:
    """The numbers in a line."""
    return "  ".join(f"{name} {value:.6g}" for name, value in row["values"].items())


def numbers_cells(row: Mapping[str, Any], top: int) -> dict[str, str]:
    """The numbers as columns, in full."""
    return {name: repr(value) for name, value in row["values"].items()}


def translation_of(text: str, score: float, complete: bool) -> Answer:
    """A translation, the score it was preferred by, and whether it ended by itself."""
    return {"translation": text, "score": score, "complete": complete}


def translation_line(row: Mapping[str, Any], top: int) -> str:
    """The translation."""
    return f"{row['translation']}{'' if row['complete'] else ' [cut off: it did not end by itself]'}"


def translation_cells(row: Mapping[str, Any], top: int) -> dict[str, str]:
    """The translation and its score."""
    return {"translation": row["translation"], "score": f"{row['score']:.6f}"}


def continuation_of(text: str, nats: float, tokens: int, characters: int) -> Answer:
    """How a text might go on, and what it costs: nats by character and perplexity by token, if it has any."""
    return {
        "continuation": text,
        "nats_per_character": nats / characters if characters else None,
        "perplexity": math.exp(nats / tokens) if tokens else None,
        "tokens": tokens,
    }


def continuation_line(row: Mapping[str, Any], top: int) -> str:
    """What a text costs, and how it might go on."""
    cost = "" if row["nats_per_character"] is None else f"{row['nats_per_character']:.3f} nats a character  "
    return f"{cost}→ {row['continuation']!r}"


def continuation_cells(row: Mapping[str, Any], top: int) -> dict[str, str]:
    """The same as columns."""
    return {name: "" if value is None else str(value) for name, value in row.items()}


def neighbours_of(words: Sequence[str], numbers: Sequence[int], cosines: Sequence[float]) -> Answer:
    """The nearest words with the cosine of each."""
    pairs = zip(numbers, cosines, strict=True)
    return {"neighbours": [{"word": words[number], "cosine": value} for number, value in pairs]}


def neighbours_line(row: Mapping[str, Any], top: int) -> str:
    """The nearest words in a line."""
    return "  ".join(f"{entry['word']} {entry['cosine']:.3f}" for entry in row["neighbours"][:top])


def neighbours_cells(row: Mapping[str, Any], top: int) -> dict[str, str]:
    """The nearest words as columns: ``word1``, ``cosine1`` and so on."""
    made: dict[str, str] = {}
    for number, entry in enumerate(row["neighbours"][:top], start=1):
        made |= {f"word{number}": entry["word"], f"cosine{number}": f"{entry['cosine']:.6f}"}
    return made


KINDS = {
    "classes": Answers("probabilities", class_of, class_line, class_cells),
    "labels": Answers("probabilities", labels_of, labels_line, labels_cells),
    "numbers": Answers("values", numbers_of, numbers_line, numbers_cells),
}
"""By ``answer.kind`` on the card of an exported file."""


def with_doubt(row: Any, doubt: str | None) -> Any:
    """An answer with what there is to doubt about its input."""
    return {**row, "doubt": doubt} if doubt and isinstance(row, dict) else row


def asked(rows: Sequence[Any], top: int | None, abstain_below: float | None) -> list[Any]:
    """Answers as someone wants them: only so many classes, and none where it is less sure than that.

    Raises:
        UsageError: ``abstain_below`` is not a probability, or the answers have none.
    """
    cut = [{**row, "classes": row["classes"][:top]} if top is not None and "class" in row else row for row in rows]
    return cut if abstain_below is None else [_sure_or_silent(row, abstain_below) for row in cut]


def _sure_or_silent(row: Any, least: float) -> dict[str, Any]:
    """A prediction without an answer where its probability is less than the least that is wanted."""
    if not 0 <= least <= 1:
        raise UsageError("This is not a probability to abstain below.", expected="from 0 to 1", received=least)
    if not isinstance(row, Mapping) or "probability" not in row or "class" not in row:
        raise UsageError(
            "This model gives no probability of an answer, so it cannot abstain.",
            expected="a model that answers with one of several classes",
            remedy="Leave the threshold out.",
        )
    abstains = row["probability"] < least
    return {**row, "class": None if abstains else row["class"], "abstains": abstains}
