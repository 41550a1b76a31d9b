"""Flambeau: from labelled data to a trained, measured, saved and exported PyTorch model.

    >>> import flambeau
    >>> run = flambeau.train("fashion-mnist-mini")          # doctest: +SKIP
    >>> run.scores["test/accuracy"]                         # doctest: +SKIP
    >>> run.model.predict("shirt.png")                      # doctest: +SKIP

Names are imported when they are first used: importing the package costs no more than Python itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flambeau import datasets
    from flambeau.container.writing import write_container
    from flambeau.eject.writing import eject_run
    from flambeau.errors import FlambeauError
    from flambeau.export.importing import import_weights
    from flambeau.export.writing import export_model
    from flambeau.model import Model, load
    from flambeau.recipe import Recipe
    from flambeau.run import Run
    from flambeau.serve.running import serve_models
    from flambeau.workflow.comparing import compare
    from flambeau.workflow.folding import train_folds
    from flambeau.workflow.inspecting import inspect
    from flambeau.workflow.sampling import sample
    from flambeau.workflow.scoring import evaluate
    from flambeau.workflow.training import resume, train

__version__ = "0.1.0"

__all__ = [
    "FlambeauError",
    "Model",
    "Recipe",
    "Run",
    "compare",
    "datasets",
    "eject_run",
    "evaluate",
    "export_model",
    "import_weights",
    "inspect",
    "load",
    "resume",
    "sample",
    "serve_models",
    "train",
    "train_folds",
    "write_container",
]

_HOMES = {
    "FlambeauError": "flambeau.errors",
    "Model": "flambeau.model",
    "Recipe": "flambeau.recipe",
    "Run": "flambeau.run",
    "compare": "flambeau.workflow.comparing",
    "eject_run": "flambeau.eject.writing",
    "evaluate": "flambeau.workflow.scoring",
    "export_model": "flambeau.export.writing",
    "import_weights": "flambeau.export.importing",
    "inspect": "flambeau.workflow.inspecting",
    "load": "flambeau.model",
    "resume": "flambeau.workflow.training",
    "sample": "flambeau.workflow.sampling",
    "serve_models": "flambeau.serve.running",
    "train": "flambeau.workflow.training",
    "train_folds": "flambeau.workflow.folding",
    "write_container": "flambeau.container.writing",
}


def __getattr__(name: str) -> Any:
    if name == "datasets":
        return importlib.import_module("flambeau.datasets")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flambeau' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
