"""The run folder: everything a training run leaves on disk, and what can be asked of it afterwards.

run/  recipe.toml        what was asked for
      run.json           what it was done on and with, and what came out
      metrics.jsonl      one JSON object a logged step and an epoch
      checkpoints/       the newest two and the best
      model.safetensors  the selected model
      report.html        one file, opens offline
      tb/                TensorBoard events
      LOCK
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flambeau import files
from flambeau.errors import RunError
from flambeau.recipe import Recipe, from_file

if TYPE_CHECKING:
    from flambeau.model import Model

RECIPE, INFO, METRICS, MODEL, REPORT = "recipe.toml", "run.json", "metrics.jsonl", "model.safetensors", "report.html"
NEEDED = ("status", "data", "facts", "segments", "device")


class Run:
    """A run folder.

    Args:
        path: The folder.

    Raises:
        RunError: There is no run in it.

    Attributes:
        path: The folder.
        recipe: What was asked for.
        info: What ``run.json`` holds: ``status``, ``data``, ``facts``, ``segments``, ``versions``, ``seconds`` and,
            once finished, ``scores``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        for name in (RECIPE, INFO):
            if not (self.path / name).is_file():
                raise RunError(
                    "This is not a run folder." if self.path.is_dir() else "There is no such run folder.",
                    where=self.path,
                    expected=f"a folder with {RECIPE} and {INFO}, as `flambeau train` makes it",
                    received="no such folder" if not self.path.exists() else f"no {name}",
                )
        self.recipe: Recipe = self._read_recipe()
        self.info: dict[str, Any] = self._read_info()

    @classmethod
    def create(cls, path: Path, recipe: Recipe, info: Mapping[str, Any]) -> Run:
        """Starts a run folder; from here on the run can be resumed, whatever happens.

        Raises:
            RunError: The folder holds something already.
        """
        require_empty(path)
        path.mkdir(parents=True, exist_ok=True)
        # The recipe comes last: a folder that has one can be resumed, one that has none is as good as empty.
        files.write_json(path / INFO, dict(info))
        files.write(path / RECIPE, recipe.to_toml().encode())
        return cls(path)

    def _read_recipe(self) -> Recipe:
        try:
            return from_file(self.path / RECIPE)
        except UnicodeDecodeError as error:
            raise RunError(f"The file is damaged ({error.reason}).", where=self.path / RECIPE) from error

    def _read_info(self) -> dict[str, Any]:
        try:
            info: dict[str, Any] = json.loads((self.path / INFO).read_bytes())
            missing = [name for name in NEEDED if name not in info]
        except (ValueError, TypeError, RecursionError) as error:
            raise RunError(f"The file is damaged ({error}).", where=self.path / INFO) from error
        if missing:
            raise RunError(f"The file is damaged: it has no {', '.join(missing)}.", where=self.path / INFO)
        return info

    def save_info(self, **values: Any) -> None:
        """Adds to ``run.json``, durably."""
        self.info = {**self.info, **values}
        files.write_json(self.path / INFO, self.info)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def finished(self) -> bool:
        """Whether training, testing and reporting are done."""
        return self.info.get("status") == "finished"

    @property
    def scores(self) -> dict[str, float]:
        """Scores by split and name, such as ``test/accuracy`` (a fraction) and ``test/loss`` (nats)."""
        return dict(self.info.get("scores", {}))

    @property
    def report(self) -> Path:
        """The report's path."""
        return self.path / REPORT

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @cached_property
    def model(self) -> Model:
        """The selected model.

        Raises:
            RunError: The run is not finished.
        """
        from flambeau.model import load_file

        if not (self.path / MODEL).is_file():
            raise RunError(
                "The run has no model yet, for it is not finished.",
                where=self.path,
                remedy=f"flambeau resume {self.path}",
            )
        return load_file(self.path / MODEL)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, in order."""
        return files.read_journal(self.path / METRICS)

    def summary(self) -> dict[str, Any]:
        """What ``--json`` prints after training."""
        return {
            "run": str(self.path),
            "model": str(self.path / MODEL),
            "report": str(self.report),
            "scores": self.scores,
            "seconds": self.info.get("seconds", {}),
            "epochs": self.info.get("epochs"),
            "resumed_from": self.info.get("resumed_from"),
            "device": self.info.get("device"),
            "notes": self.info.get("notes", []),
        }

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.4g}" for name, value in self.scores.items() if name.startswith("test/"))
        return f"Run({str(self.path)!r}, {self.info.get('status')}{', ' + scores if scores else ''})"

    def _repr_html_(self) -> str:
        from flambeau.report.notebook import table_html

        rows = {"recipe": self.recipe.name, "status": self.info.get("status"), "report": str(self.report)}
        return table_html(self.name, rows | self.scores)


def require_empty(path: Path) -> None:
    """Refuses a folder that holds something already.

    Raises:
        RunError: It does, or it is a file.
    """
    if path.exists() and not path.is_dir():
        raise RunError("This is a file, and a run needs a folder.", where=path, remedy="Choose another --out.")
    is_run = (path / RECIPE).is_file()
    if path.is_dir() and (is_run or any(not _left_over(entry.name) for entry in path.iterdir())):
        raise RunError(
            "The folder holds a run already." if is_run else "The folder is not empty.",
            where=path,
            remedy=f"flambeau resume {path}, or choose another --out." if is_run else "Choose another --out.",
        )


def _left_over(name: str) -> bool:
    """Whether a start that was interrupted before the recipe was there may have left this."""
    return name in ("LOCK", INFO) or name.startswith(files.TEMPORARY)
