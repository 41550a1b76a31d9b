"""A run written as a script that needs no Flambeau."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from flambeau import files
from flambeau.datasets import opened
from flambeau.eject.reading import with_rows, without_rows
from flambeau.eject.script import script_of
from flambeau.errors import RunError, UsageError
from flambeau.recipe import Recipe
from flambeau.run import Run
from flambeau.workflow.job import assemble
from flambeau.workflow.telling import Teller
from flambeau.workflow.training import require_same_data


def eject_run(run: str | Path | Run, out: str | Path = "train.py") -> dict[str, Any]:
    """Writes a run as one readable script of plain PyTorch, which reads the same data and reproduces the run.

    The script is made of Flambeau's own source: the functions that the run used are copied, and what its recipe sets is
    put in, so that branches it does not take are gone. On the processor that the run was made on, with the same version
    of PyTorch, each loss and each weight comes out bit for bit. What is left out, the script says at its beginning.

    Args:
        run: The run or its folder. Its data must be where it was.
        out: The script to write; one of that name is replaced. A file that it needs lies beside it, under the same name
            with another ending.

    Returns:
        ``out``, ``files`` (all that was written), ``lines`` (of the script), ``left_out`` (sentences).

    Raises:
        RunError: There is no such run, it holds more than one stretch of training, or the data is not what it was.
        UsageError: The run cannot be written as a script, and why.

    Example:
        >>> eject_run("runs/demo", "train.py")["lines"]            # doctest: +SKIP
        172
    """
    run = Run(run.path if isinstance(run, Run) else run)
    path = _checked(Path(out))
    recipe = _of_files(run)
    raw = with_rows(opened(recipe))
    with torch.random.fork_rng(devices=[]):
        job = assemble(recipe, raw, None, Teller(None, recipe), device="cpu")
        read = job.dataset
        job = replace(job, dataset=without_rows(read))
        require_same_data(run, job)
        try:
            script = script_of(job, run, raw, read, path.stem)
        except (OSError, KeyError, SyntaxError) as error:
            raise UsageError(
                f"The source of this run cannot be taken apart ({type(error).__name__}: {error}).",
                where=run.path,
                remedy="Functions of a task, and classes of a network, must stand in files that can be read.",
            ) from error
    for name, content in script.beside.items():
        files.write(path.with_name(name), content)
    files.write(path, script.text.encode())
    return {
        "out": str(path),
        "files": [str(path), *(str(path.with_name(name)) for name in script.beside)],
        "lines": script.text.count("\n"),
        "left_out": script.left_out,
    }


def _checked(path: Path) -> Path:
    """The path of a script that can be written and run.

    Raises:
        UsageError: It is none.
    """
    if path.suffix != ".py" or path.is_dir():
        raise UsageError(
            "The script needs a file to be written to.",
            where="--out",
            expected="a name that ends in .py",
            received=path,
        )
    return path


def _of_files(run: Run) -> Recipe:
    """The recipe of a run that can be repeated from files alone.

    Raises:
        RunError: It cannot.
    """
    recipe = run.recipe
    if recipe.data.source is None or recipe.model.name.startswith("python:"):
        raise RunError(
            "The run was started from Python with objects that no file holds, so no script can read them.",
            where=run.path,
            remedy="Train from a folder or a built-in set, with the network in a file: --model FILE.py:CLASS.",
        )
    if len(run.info["segments"]) > 1:
        raise RunError(
            "The run went on after it was finished, and a script holds one stretch of training.",
            where=run.path,
            remedy="Train once with all epochs, and eject that run.",
        )
    if recipe.train.precision == "float16":
        raise RunError(
            "The run trained in float16, which needs a CUDA device; the script computes on the processor.",
            where=run.path,
            remedy="Train with train.precision = 'float32' or 'bfloat16', and eject that run.",
        )
    return recipe
