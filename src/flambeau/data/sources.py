"""Opens whatever a user names as data: a built-in set, a folder, a class in a file, or objects of Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flambeau.core import Dataset
from flambeau.data.arrays import classes_of, from_arrays, from_torch, pair_of
from flambeau.data.folders import scan
from flambeau.data.opening import DEFAULT_RULES, PictureRules
from flambeau.errors import DataError, FlambeauError, did_you_mean
from flambeau.userfile import load_object

if TYPE_CHECKING:
    from flambeau.recipe import Data

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


def open_source(
    source: Any,
    data: Data,
    loaders: Mapping[str, Callable[..., Dataset]],
    *,
    rules: PictureRules = DEFAULT_RULES,
) -> Dataset:
    """The data set that a source stands for, with the splits that it comes with.

    Args:
        source: The name of a built-in set; a folder; ``FILE.py:CLASS``; pictures and labels as a pair; such pairs (or
            torch data sets) by split; a torch data set; a :class:`~flambeau.core.Dataset`, which comes back as it is.
        data: ``root``, ``on_bad`` and ``follow_links`` are used.
        loaders: The built-in sets: each is called with the folders to look in first.
        rules: Which picture files are refused.

    Raises:
        DataError: There is no such source, or it cannot be used.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str) and source in loaders:
        return loaders[source]([Path(folder) for folder in data.root])
    if isinstance(source, str) and ".py:" in source:
        return _from_file(source)
    if isinstance(source, str | os.PathLike):
        return _from_path(source, data, loaders, rules)
    return from_python(source)


def from_python(source: Any, *, name: str | None = None, origin: str | None = None) -> Dataset:
    """The data set that an object of Python stands for; see :func:`open_source`."""
    if isinstance(source, Dataset):
        return source
    if isinstance(source, Mapping):
        notes: list[str] = []
        pairs = {str(split): _pair(part, notes) for split, part in source.items()}
        classes = next((found for part in source.values() if (found := classes_of(part))), None)
        return from_arrays(
            pairs, name=name or "arrays", classes=classes, source=origin or "objects in memory", notes=notes
        )
    if isinstance(source, tuple) and len(source) == 2:
        return from_arrays({"train": source}, name=name or "arrays", source=origin or "arrays in memory")
    if (hasattr(source, "__getitem__") and hasattr(source, "__len__")) or hasattr(source, "__iter__"):
        return from_torch(source, name=name, source=origin)
    raise DataError(
        "This cannot serve as data.",
        expected="a name, a path, (pictures, labels), a dictionary of splits, or a torch data set",
        received=type(source).__name__,
    )


def _pair(part: Any, notes: list[str]) -> tuple[Any, Any]:
    return (part[0], part[1]) if isinstance(part, tuple) and len(part) == 2 else pair_of(part, notes)


def _from_file(spec: str) -> Dataset:
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
    return from_python(made, name=spec.rpartition(":")[2], origin=spec)


def _from_path(source: str | os.PathLike[str], data: Data, loaders: Mapping[str, Any], rules: PictureRules) -> Dataset:
    path = Path(source).expanduser()
    if path.is_dir():
        return scan(path, follow_links=data.follow_links, on_bad=data.on_bad, rules=rules)
    if path.exists():
        packed = path.name.lower().endswith(_ARCHIVES)
        raise DataError(
            "Archives are not read directly." if packed else "This is a file, not a folder of pictures.",
            where=source,
            expected="a built-in name, a folder with a folder for each class, or FILE.py:CLASS",
            remedy="Unpack it and give the folder." if packed else "Give the folder that holds the class folders.",
        )
    text = os.fspath(source)
    if isinstance(source, os.PathLike) or path.name != text or text.startswith((".", "~")):
        raise DataError("There is no such folder.", where=source, remedy="Check the path.")
    raise DataError(
        f"There is no data set called {text!r}, and no folder of that name here. {did_you_mean(text, loaders)}",
        expected=f"one of {', '.join(sorted(loaders))}; a folder of pictures; or FILE.py:CLASS",
        remedy="Run `flambeau datasets` for a list.",
    )
