"""What a model has to show beside its answers: examples from its test split, and how often it takes what for what.

Both are read from the data that it was trained on, where that is still to be had: on a thread of their own, when
somebody asks for the first time.
"""

from __future__ import annotations

import base64
import copy
import io
import time
import wave
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from flambeau.errors import DataError, UsageError
from flambeau.serve.repository import Served

if TYPE_CHECKING:
    from torch import nn

    from flambeau.columns import Split
    from flambeau.model import Model
    from flambeau.task import Insight

SPLIT = "test"

EXAMPLES, TEXTS = 24, 12
"""How many are offered, and how many where they are texts, which take more room."""

ROWS, SECONDS, BATCH = 2000, 20.0, 64
"""So many rows are counted in the confusion matrix, for so long at most, so many at a time."""

CLASSES = 40
"""A confusion matrix of more classes cannot be read on a page."""

THUMBNAIL, LARGEST = 96, 1600
"""The longest sides of a thumbnail and of an example, in pixels."""

Stopping = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Example:
    """A row of the test split.

    Attributes:
        raw: What the model is asked with.
        truth: What it really is, in words.
        text: The same as text where that can be typed.
        thumbnail: As a small PNG, where it is a picture.
    """

    raw: Any
    truth: str
    text: str | None = None
    thumbnail: bytes = b""


class Showcase:
    """What one model has to show.

    Args:
        model: The model.
        form: What a person gives it, as :class:`flambeau.wire.Wire` says.
        stopping: Whether the server ends, so that nothing new is to be begun.
    """

    def __init__(self, model: Model, form: str, stopping: Stopping) -> None:
        self._model = model
        self._form = form
        self._stopping = stopping
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="flambeau-show")

    @cached_property
    def examples(self) -> Future[list[Example]]:
        """Rows of the test split, spread over the classes; fails with the reason where there are none."""
        return self._pool.submit(examples_of, self._model, self._form)

    @cached_property
    def confusion(self) -> Future[dict[str, Any]]:
        """``classes``, ``matrix`` (true classes by rows), ``rows`` and ``of``; fails likewise."""
        return self._pool.submit(confusion_of, self._model, self._stopping)

    @cached_property
    def _own(self) -> nn.Module:
        """A network that is not asked by anybody else: maps are made with hooks and gradients."""
        return copy.deepcopy(self._model.network)

    def insights(self, raw: Any) -> list[Insight]:
        """What there is to see of how the model takes an input. For one thread at a time.

        Raises:
            BadRows: It cannot be read.
        """
        look = self._model.task.view.insight
        return [] if look is None else look(self._own, self._model.facts, raw)


class Showcases:
    """Those of all models; one goes when its model does.

    Args:
        stopping: As for :class:`Showcase`.
    """

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping
        self._made: WeakKeyDictionary[Any, Showcase] = WeakKeyDictionary()

    def of(self, served: Served, model: Model) -> Showcase:
        """That of a model that is served."""
        if served.engine not in self._made:
            self._made[served.engine] = Showcase(model, served.engine.wire.form, self._stopping)
        return self._made[served.engine]


def told(work: Future[Any], as_json: Callable[[Any], Mapping[str, Any]]) -> dict[str, Any]:
    """How far something is: ``state`` is ``loading``, ``ready`` or ``absent``, the last with its ``reason``."""
    if not work.done():
        return {"state": "loading"}
    error = work.exception()
    if error is not None:
        return {"state": "absent", "reason": getattr(error, "problem", f"{type(error).__name__}: {error}")}
    return {"state": "ready", **as_json(work.result())}


def _raw_rows(model: Model) -> Split:
    from flambeau.workflow.rows import raw_rows_of

    rows, reason = raw_rows_of(model, SPLIT)
    if rows is None or not len(rows):
        raise DataError(f"There are no examples, for {reason or 'the test split is empty'}.")
    return rows


def examples_of(model: Model, form: str) -> list[Example]:
    """Rows of the test split, spread over the classes.

    Raises:
        FlambeauError: There are none, and why.
    """
    view, name = model.task.view, model.task.input
    if view.truth is None:
        raise UsageError("A model of this kind has no labelled examples.")
    rows = _spread(_raw_rows(model), TEXTS if form == "text" else EXAMPLES)
    truths = view.truth(rows, model.facts)
    return [_example(model, form, raw, truth) for raw, truth in zip(rows[name], truths, strict=True)]


def _spread(rows: Split, count: int) -> Split:
    """A few rows, of every class about equally many where there are classes."""
    import torch

    if "label" in rows.columns:
        from flambeau.report.pictures import spread_sample

        return rows.take(spread_sample(rows.tensor("label"), count))
    return rows.take(torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:count])


def _example(model: Model, form: str, raw: Any, truth: str) -> Example:
    if form == "picture":
        return Example(raw, truth, thumbnail=_as_png(model, raw, THUMBNAIL))
    if form == "sound":
        return Example(raw, truth)
    if isinstance(raw, str) or form == "node":
        return Example(raw, truth, str(raw) if isinstance(raw, str) else str(int(raw)))
    raise UsageError("Examples of this kind cannot be shown here.")


def _as_png(model: Model, raw: Any, largest: int) -> bytes:
    from flambeau.data.preview import png

    picture = model.task.view.thumbnail(raw, model.facts)
    if picture is None:
        raise UsageError("This is no picture.")
    return png(picture, largest)


def told_examples(examples: list[Example]) -> dict[str, Any]:
    """Examples in JSON values."""
    return {
        "examples": [
            {
                "truth": example.truth,
                **({} if example.text is None else {"text": example.text}),
                **({"picture": data_url(example.thumbnail)} if example.thumbnail else {}),
            }
            for example in examples
        ]
    }


def file_of(model: Model, example: Example, form: str) -> tuple[bytes, str]:
    """An example as a file, and its media type."""
    if form == "picture":
        return _as_png(model, example.raw, LARGEST), "image/png"
    if form == "sound":
        return _as_wave(example.raw), "audio/wav"
    return str(example.text).encode(), "text/plain; charset=utf-8"


def _as_wave(raw: Any) -> bytes:
    from flambeau.data.waves import decode

    samples, rate = decode(raw)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()


def confusion_of(model: Model, stopping: Stopping) -> dict[str, Any]:
    """How often each true class was taken for each, over test rows in an order of no meaning.

    Raises:
        FlambeauError: There is nothing to count, and why.
    """
    import torch

    from flambeau.recipe import parse

    metrics = model.task.metrics(parse(model.description.recipe), model.facts)
    sums = metrics.start(torch.device("cpu"))
    if "confusion" not in sums:
        raise UsageError("A model of this kind does not answer with one of several classes.")
    if len(model.classes) > CLASSES:
        raise UsageError(f"There are {len(model.classes)} classes, too many for a table.")
    raw = _raw_rows(model)
    order = torch.randperm(len(raw), generator=torch.Generator().manual_seed(0))[:ROWS]
    until = time.monotonic() + SECONDS
    for part in torch.split(order, BATCH):
        if stopping() or time.monotonic() > until:
            break
        _count(model, raw.take(part), partial(metrics.add, sums))
    matrix = sums["confusion"]
    return {"classes": model.classes, "matrix": matrix.tolist(), "rows": int(matrix.sum()), "of": len(raw)}


def _count(model: Model, raw: Split, add: Callable[[Any, Any], None]) -> None:
    from flambeau.workflow.rows import readable

    found, _ = readable(model, raw)
    if not len(found):
        return
    batch = model.task.collate(found.columns)
    add({name: value.cpu() for name, value in model.outputs(batch).items()}, batch)


def data_url(png: bytes) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def told_insight(insight: Insight) -> dict[str, Any]:
    """Something to see, in JSON values."""
    if insight.png:
        return {"about": insight.about, "picture": data_url(insight.png)}
    weights = [[round(float(weight), 4) for weight in row] for row in insight.weights]
    return {
        "about": insight.about,
        "rows": list(insight.rows),
        "columns": list(insight.columns),
        "weights": weights,
    }
