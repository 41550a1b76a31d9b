"""Opens whatever a user names as data: a built-in set, a file or folder, a class in a file, or objects of Python.

What files and objects hold is for the task to say; this module only tells the kinds of names apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flambeau.columns import Dataset
from flambeau.data import huggingface
from flambeau.data.archives import is_archive, title_of, unpacked
from flambeau.errors import DataError, FlambeauError, did_you_mean
from flambeau.userfile import in_file, load_object

if TYPE_CHECKING:
    from flambeau.recipe import Recipe
    from flambeau.task import Intake


def open_source(source: Any, recipe: Recipe, intake: Intake, loaders: Mapping[str, Callable[..., Dataset]]) -> Dataset:
    """The data set that a source stands for, with the splits that it comes with.

    Args:
        source: The name of a built-in set; a path; ``hf:OWNER/NAME``; ``FILE.py:CLASS``; objects of Python in a form
            that the task takes; a :class:`~flambeau.columns.Dataset`, which comes back as it is.
        recipe: Its ``data`` part and the task's own parts say how to read.
        intake: The task's.
        loaders: The built-in sets: each is called with the folders to look in first.

    Raises:
        DataError: There is no such source, or it cannot be used.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str) and source in loaders:
        return loaders[source]([Path(folder) for folder in recipe.data.root])
    if isinstance(source, str) and in_file(source):
        return _from_file(source, recipe, intake)
    if huggingface.is_name(source):
        name = source.removeprefix(huggingface.PREFIX)
        return intake.of_python(huggingface.load_name(source), name.rpartition("/")[2], source, recipe)
    if isinstance(source, str | os.PathLike):
        path = existing(source, intake.forms, loaders)
        if is_archive(path):
            return _from_archive(path, recipe, intake)
        if huggingface.is_saved(path):
            return intake.of_python(huggingface.load_saved(path), path.absolute().name, str(path.absolute()), recipe)
        return intake.open(path, recipe)
    return intake.of_python(source, None, None, recipe)


def existing(source: str | os.PathLike[str], forms: str, names: Mapping[str, Any]) -> Path:
    """The path of a file or folder that is there.

    Args:
        source: What was named.
        forms: What may be named, as a phrase.
        names: The built-in sets, for suggestions.

    Raises:
        DataError: There is nothing of this name.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    text = os.fspath(source)
    if isinstance(source, os.PathLike) or path.name != text or text.startswith((".", "~")) or path.suffix:
        raise DataError("There is no such file or folder.", where=source, expected=forms, remedy="Check the path.")
    raise DataError(
        f"There is no data set called {text!r}, and no folder of that name here. {did_you_mean(text, names)}",
        expected=f"one of {', '.join(sorted(names))}; {forms}; or FILE.py:CLASS",
        remedy="Run `flambeau datasets` for a list.",
    )


def _from_archive(path: Path, recipe: Recipe, intake: Intake) -> Dataset:
    """What an archive holds, called after the archive."""
    inside = unpacked(path)
    made = intake.open(inside, recipe)
    notes = [f"{path.name} was unpacked into {inside}.", *made.info.get("notes", ())]
    return Dataset(
        title_of(path), made.splits, {**made.info, "source": str(path.absolute()), "notes": notes}, made.hash
    )


def _from_file(spec: str, recipe: Recipe, intake: Intake) -> Dataset:
    made_by = load_object(spec)
    try:
        made = made_by() if callable(made_by) else made_by
    except FlambeauError:
        raise
    except Exception as error:
        raise DataError(
            "The data set could not be made.",
            where=spec,
            received=f"{type(error).__name__}: {error}",
            expected="a class or function that needs no arguments",
            remedy="Give its arguments defaults, or write a function without arguments that returns it.",
        ) from error
    return made if isinstance(made, Dataset) else intake.of_python(made, spec.rpartition(":")[2], spec, recipe)
