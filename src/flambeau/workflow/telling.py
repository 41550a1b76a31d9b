"""What a person sees while a run goes on: facts, a progress bar and a table, or the lines that a recipe asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flambeau.core import Observer, Record, State
from flambeau.engine.observers import Progress
from flambeau.recipe import Recipe
from flambeau.task import Shown

if TYPE_CHECKING:
    from rich.console import Console


class Teller:
    """Prints to a console, or nowhere.

    Args:
        console: Where to print; None is silent.
        recipe: Its ``show`` part replaces the progress bar and the table by lines of its own.
    """

    def __init__(self, console: Console | None, recipe: Recipe) -> None:
        self.console = console
        self.lines = recipe.show
        self._progress: Progress | None = None

    @property
    def in_lines(self) -> bool:
        """Whether the recipe prints lines of its own."""
        return bool(self.lines.step or self.lines.epoch)

    def say(self, text: str, *, style: str | None = None) -> None:
        """Prints a line."""
        if self.console is not None:
            self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Prints names and values, one a line."""
        width = max(map(len, facts), default=0)
        for name, value in facts.items():
            self.say(f"{name:<{width}}  {value}")

    def notes(self, notes: Iterable[str]) -> None:
        """Prints what deserves attention."""
        for note in notes:
            self.say(f"note: {note}", style="yellow")

    def show(self, picture: Shown) -> None:
        """Shows a picture, where there is a terminal to show it in."""
        if self.console is not None and self.console.is_terminal:
            self.console.print(picture.terminal(self.console.width))

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Shows on a terminal what goes on inside the ``with`` block, and takes it away afterwards."""
        if self.console is None or not self.console.is_terminal:
            yield
            return
        with self.console.status(doing):
            yield

    def watch(
        self, epochs: int, batches: int, batch_size: int, size: int, scores: Iterable[tuple[str, str]]
    ) -> list[Observer]:
        """The observers that print while training goes on: among other things these scores of the validation."""
        if self.console is None:
            return []
        if self.in_lines:
            return [self._lines(epochs, batch_size, size)]
        columns = [(f"val/{name}", f"val {name.replace('_', ' ')}", style) for name, style in scores]
        self._progress = Progress(self.console, epochs, batches, batch_size, columns)
        return [self._progress]

    def done(self) -> None:
        """Takes the progress bar away."""
        if self._progress is not None:
            self._progress.close()

    def _lines(self, epochs: int, batch_size: int, size: int) -> Observer:
        def observe(record: Record, state: State) -> None:
            if record.kind == "epoch-start" and self.lines.epoch_start:
                self.say(self.lines.epoch_start.format(epoch=record.epoch + 1, epochs=epochs))
            elif record.kind == "step" and record.values and self.lines.step:
                self.say(self.lines.step.format(**_step_fields(record, batch_size, size)))
            elif record.kind == "epoch" and self.lines.epoch:
                self.say(self.lines.epoch.format(**_epoch_fields(record)))

        return observe


def _step_fields(record: Record, batch_size: int, size: int) -> dict[str, float]:
    return {
        "epoch": record.epoch + 1,
        "batch": record.batch,
        "step": record.step,
        "seen": min(size, record.batch * batch_size),
        "size": size,
        "loss": record.values["loss"],
        "mean_loss": record.values["mean_loss"],
        "lr": record.values["lr"],
    }


def _epoch_fields(record: Record) -> dict[str, float]:
    nan = float("nan")
    accuracy = record.values.get("val/accuracy", nan)
    return {
        "epoch": record.epoch + 1,
        "step": record.step,
        "train_loss": record.values["train/loss"],
        "accuracy": accuracy,
        "percent": 100 * accuracy,
        "loss": record.values.get("val/loss", nan),
        "loss_mean_of_batches": record.values.get("val/loss_mean_of_batches", nan),
    }


def console_for(console: Console | None, quiet: bool) -> Console | None:
    """The console to print to: the one that is given, else one on standard output; none when nothing is to be said."""
    if quiet or console is not None:
        return None if quiet else console
    from rich.console import Console

    return Console()
