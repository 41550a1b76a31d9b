"""The wires of our tasks: what each takes and gives over a network. No PyTorch is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flambeau.errors import BadRows, DataError, FlambeauError
from flambeau.wire import Arrays, Slot, Wire, objects

Answer = Mapping[str, Any]


def _files(rows: NDArray[Any]) -> list[Any]:
    """Pictures as arrays, or files as bytes."""
    return [bytes(row) for row in rows] if rows.dtype == object else list(rows)


def _texts(rows: NDArray[Any]) -> list[str]:
    bad: dict[int, FlambeauError] = {}
    texts = []
    for row, value in enumerate(rows):
        try:
            texts.append(bytes(value).decode())
        except UnicodeDecodeError as error:
            bad[row] = DataError("The text is not UTF-8.", received=f"byte {error.start} is no part of a character")
    if bad:
        raise BadRows(bad)
    return texts


def _sounds(rate: int) -> Callable[[NDArray[Any]], list[Any]]:
    def raw(rows: NDArray[Any]) -> list[Any]:
        return [bytes(row) if rows.dtype == object else (row, rate) for row in rows]

    return raw


def _form(front: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The side of a wire that requests come in at.

    Args:
        front: What kind of raw input it is.
        facts: What the model knows of its inputs.
    """
    forms: dict[str, Callable[[], dict[str, Any]]] = {
        "picture": lambda: {
            "form": "picture",
            "input": Slot("image", "UINT8", (-1, -1, -1, -1), "pictures of any size, 1, 3 or 4 channels, or files"),
            "raw": _files,
            "probe": np.zeros((*facts["size"], facts["channels"]), dtype=np.uint8),
            "files": True,
        },
        "sound": lambda: {
            "form": "sound",
            "input": Slot("sound", "FP32", (-1, -1), f"samples from -1 to 1, {facts['rate']} a second, or files"),
            "raw": _sounds(int(facts["rate"])),
            "probe": (np.zeros(int(facts["rate"]), dtype=np.float32), int(facts["rate"])),
            "files": True,
        },
        "text": lambda: _of_texts("text", "text", "texts"),
        "translation": lambda: _of_texts("source", "text", "sentences"),
        "query": lambda: {
            **_of_texts("query", "query", "words, or sums of words such as king - man + woman"),
            "probe": facts["words"][0],
        },
        "node": lambda: {
            "form": "node",
            "input": Slot("node", "INT64", (-1,), f"numbers of nodes, from 0 to {facts['nodes'] - 1}"),
            "raw": lambda rows: rows.tolist(),
            "probe": 0,
        },
    }
    return forms[front]()


def _of_texts(name: str, form: str, about: str) -> dict[str, Any]:
    return {"form": form, "input": Slot(name, "BYTES", (-1,), about), "raw": _texts, "probe": "a", "text": True}


def by_name(answers: Sequence[Answer], names: Sequence[str]) -> NDArray[np.float32]:
    """The probabilities of all classes ``(N, K)`` in the order of the names."""
    rows = [{entry["class"]: entry["probability"] for entry in answer["classes"]} for answer in answers]
    return np.array([[row[name] for name in names] for row in rows], dtype=np.float32).reshape(len(rows), len(names))


def texts_array(texts: Sequence[str]) -> NDArray[Any]:
    """Texts as UTF-8, ``(N,)``."""
    return objects([text.encode() for text in texts])


@dataclass(frozen=True, slots=True)
class _Told:
    """The side of a wire that answers go out at."""

    outputs: tuple[Slot, ...]
    tensors: Callable[[Sequence[Answer]], Arrays]


def _classes(facts: Mapping[str, Any]) -> _Told:
    names = facts["classes"]

    def tensors(answers: Sequence[Answer]) -> Arrays:
        best = texts_array([answer["classes"][0]["class"] for answer in answers])
        return {"probabilities": by_name(answers, names), "class": best}

    slots = (
        Slot("probabilities", "FP32", (-1, len(names)), "calibrated probabilities of the classes"),
        Slot("class", "BYTES", (-1,), "the most probable class"),
    )
    return _Told(slots, tensors)


def _labels(facts: Mapping[str, Any]) -> _Told:
    names = facts["classes"]
    slot = Slot("probabilities", "FP32", (-1, len(names)), "probabilities of the labels, each by itself")
    return _Told((slot,), lambda answers: {"probabilities": by_name(answers, names)})


def _numbers(facts: Mapping[str, Any]) -> _Told:
    names = facts["targets"]

    def tensors(answers: Sequence[Answer]) -> Arrays:
        return {"values": _floats([[answer["values"][name] for name in names] for answer in answers])}

    return _Told((Slot("values", "FP32", (-1, len(names)), ", ".join(names)),), tensors)


def _floats(values: Sequence[Any]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def _translations(facts: Mapping[str, Any]) -> _Told:
    slots = (
        Slot("translation", "BYTES", (-1,), "the translations"),
        Slot("score", "FP32", (-1,), "log-probabilities over the length penalty"),
    )

    def tensors(answers: Sequence[Answer]) -> Arrays:
        return {
            "translation": texts_array([answer["translation"] for answer in answers]),
            "score": _floats([answer["score"] for answer in answers]),
        }

    return _Told(slots, tensors)


def _continuations(facts: Mapping[str, Any]) -> _Told:
    slot = Slot("continuation", "BYTES", (-1,), "how each text goes on, most probable token by token")
    return _Told((slot,), lambda answers: {"continuation": texts_array([answer["continuation"] for answer in answers])})


def _neighbours(facts: Mapping[str, Any]) -> _Told:
    slots = (
        Slot("neighbours", "BYTES", (-1, -1), "the nearest words, nearest first"),
        Slot("cosines", "FP32", (-1, -1), "their cosines"),
    )

    def tensors(answers: Sequence[Answer]) -> Arrays:
        rows = [answer["neighbours"] for answer in answers]
        words = np.empty((len(rows), len(rows[0]) if rows else 0), dtype=object)
        for place, row in enumerate(rows):
            words[place] = [entry["word"].encode() for entry in row]
        return {"neighbours": words, "cosines": _floats([[entry["cosine"] for entry in row] for row in rows])}

    return _Told(slots, tensors)


def _verdicts(facts: Mapping[str, Any]) -> _Told:
    slots = (
        Slot("verdict", "BYTES", (-1,), "what the discriminator takes each picture for: real or made"),
        Slot("probability", "FP32", (-1,), "the probability of its being real"),
    )

    def tensors(answers: Sequence[Answer]) -> Arrays:
        return {
            "verdict": texts_array([answer["verdict"] for answer in answers]),
            "probability": _floats([answer["probability"] for answer in answers]),
        }

    return _Told(slots, tensors)


_KINDS: dict[str, Callable[[Mapping[str, Any]], _Told]] = {
    "classes": _classes,
    "labels": _labels,
    "numbers": _numbers,
    "texts": _translations,
    "continuations": _continuations,
    "neighbours": _neighbours,
    "verdicts": _verdicts,
}


def wire(front: str, kind: str, facts: Mapping[str, Any]) -> Wire:
    """The wire of a model.

    Args:
        front: What it is asked with: ``picture``, ``sound``, ``text``, ``translation``, ``query``, ``node``.
        kind: What it answers with: ``classes``, ``labels``, ``numbers``, ``texts``, ``continuations``,
            ``neighbours``, ``verdicts``.
        facts: The model's, or what the card of an exported file says in their place.

    Example:
        >>> made = wire("text", "classes", {"classes": ["ham", "spam"]})
        >>> made.input.name, made.tensors([{"classes": [{"class": "spam", "probability": 1.0},
        ...     {"class": "ham", "probability": 0.0}]}])["probabilities"].tolist()
        ('text', [[0.0, 1.0]])
    """
    told = _KINDS[kind](facts)
    return Wire(**_form(front, facts), outputs=told.outputs, tensors=told.tensors)


def wires(front: str, kind: str) -> Callable[[Mapping[str, Any]], Wire]:
    """:func:`wire` for a task's record: facts to the wire."""
    return partial(wire, front, kind)
