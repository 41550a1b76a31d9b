"""Functions that watch training: the metrics file, TensorBoard, the progress bar with its epoch table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flambeau import files
from flambeau.core import Observer, Record, State
from flambeau.errors import MissingExtra

if TYPE_CHECKING:
    from rich.console import Console


def journal_writer(journal: files.Journal) -> Observer:
    """Writes every record that carries values as one line; none holds a time, so equal runs write equal files."""

    def observe(record: Record, state: State) -> None:
        if record.values:
            head = {"kind": record.kind, "step": record.step, "epoch": record.epoch, "batch": record.batch}
            journal.append({**head, **record.values} | ({"best": record.best} if record.kind == "epoch" else {}))

    return observe


class Events:
    """Writes records and pictures as TensorBoard events.

    Args:
        writer: TensorBoard's ``SummaryWriter``.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def __call__(self, record: Record, state: State) -> None:
        for name, value in record.values.items():
            self._writer.add_scalar(f"train/{name}" if record.kind == "step" else name, value, record.step)

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Shows a picture, given as a PNG."""
        import io

        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(png)) as picture:
            self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")


@contextmanager
def tensorboard_writer(folder: Path, wanted: bool | str, purge_step: int) -> Iterator[Events | None]:
    """Writes the same values as TensorBoard events.

    Args:
        folder: Where the event files go.
        wanted: True, False, or ``auto`` (when TensorBoard is installed).
        purge_step: Events of an earlier session from this step on are taken back.

    Raises:
        MissingExtra: Events are wanted and TensorBoard is not installed.
    """
    writer = _summary_writer(folder, purge_step) if wanted is not False else None
    if writer is None:
        if wanted is True:
            raise MissingExtra("tensorboard", "tensorboard", "writing TensorBoard events")
        yield None
        return

    try:
        yield Events(writer)
    finally:
        writer.close()


def _summary_writer(folder: Path, purge_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=purge_step or None)


class Progress:
    """A progress bar for the epoch at hand, and a table with one row an epoch.

    On a terminal the bar shows loss, speed and the time left; elsewhere only the table's rows are printed.

    Args:
        console: Where to print.
        epochs: The epoch that the run ends before.
        batches: Batches in an epoch.
        batch_size: Examples in a batch, for the speed.
        columns: Validation scores to show, as (key, heading, format).
    """

    def __init__(
        self, console: Console, epochs: int, batches: int, batch_size: int, columns: list[tuple[str, str, str]]
    ) -> None:
        self.console = console
        self.epochs = epochs
        self.batches = batches
        self.batch_size = batch_size
        self.columns = [("train/loss", "train loss", ".4f"), *columns]
        self._bar: Any = None
        self._task: Any = None
        self._started = time.monotonic()
        self._batches_at_start: int | None = None
        self._headed = False
        self._drawn = 0.0

    def __call__(self, record: Record, state: State) -> None:
        if record.kind == "epoch-start":
            self._started, self._batches_at_start = time.monotonic(), 0
        elif self._batches_at_start is None:
            # The first record after a resume in mid-epoch: what came before it took none of this session's time.
            self._started, self._batches_at_start = time.monotonic(), record.batch
        if record.kind == "epoch":
            self._row(record)
        elif self.console.is_terminal and time.monotonic() - self._drawn > 0.1:
            self._draw(record)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, record: Record) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._drawn = time.monotonic()
        if self._bar is None:
            text = "[bold]{task.description}[/] {task.fields[status]}"
            self._bar = Progress(
                TextColumn(text), BarColumn(), TimeRemainingColumn(), console=self.console, transient=True
            )
            self._task = self._bar.add_task("", total=self.epochs * self.batches, status="")
            self._bar.start()
        if record.kind == "validate":
            self._bar.update(self._task, status=f"validating, batch {record.batch}")
            return
        seconds = max(1e-9, time.monotonic() - self._started)
        speed = (record.batch - (self._batches_at_start or 0)) * self.batch_size / seconds
        loss = "" if record.loss is None else f"loss {float(record.loss):.4f}  {speed:,.0f} examples/s"
        done = record.epoch * self.batches + record.batch
        self._bar.update(self._task, description=f"epoch {record.epoch + 1}/{self.epochs}", completed=done, status=loss)

    def _row(self, record: Record) -> None:
        shown = [(heading, form, record.values[key]) for key, heading, form in self.columns if key in record.values]
        if not self._headed:
            self._headed = True
            self.console.print("epoch  " + "  ".join(f"{heading:>12}" for heading, _, _ in shown), style="bold")
        cells = "  ".join(f"{value:>12{form}}" for _, form, value in shown)
        mark = "  best so far" if record.best else ""
        self.console.print(f"{record.epoch + 1:>5}  {cells}{mark}", highlight=False)
