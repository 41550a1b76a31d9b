"""Loads an object from a Python file of the user's own, as ``FILE.py:NAME`` says it."""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import sys
from pathlib import Path
from typing import Any

from flambeau.errors import UsageError, did_you_mean


def in_file(name: str) -> bool:
    """Whether a name is that of an object in a Python file: ``FILE.py:NAME``."""
    return ".py:" in name


def load_object(spec: str) -> Any:
    """The object of this name in this file; the file is executed.

    Args:
        spec: ``path/to/file.py:Name``.

    Raises:
        UsageError: There is no such file or name, or the file raised while it was executed.
    """
    path_text, colon, name = spec.rpartition(":")
    path = Path(path_text).expanduser()
    if not colon or not path_text.endswith(".py") or not name.isidentifier():
        raise UsageError(
            "This does not name an object in a Python file.",
            where=spec,
            expected="FILE.py:NAME, as in my_data.py:Flowers",
        )
    if not path.is_file():
        raise UsageError("There is no such Python file.", where=path, remedy="Check the path before the colon.")
    module = _execute(path)
    if not hasattr(module, name):
        known = [title for title in vars(module) if not title.startswith("_")]
        raise UsageError(
            f"The file defines no {name}.",
            where=path,
            received=spec,
            remedy=did_you_mean(name, known),
        )
    return getattr(module, name)


def _execute(path: Path) -> Any:
    # The name must differ between files and stay the same for one, so that what it defines can be found again.
    title = f"flambeau_user_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    definition = importlib.util.spec_from_file_location(title, path)
    if definition is None or definition.loader is None:
        raise UsageError("Python cannot load this file.", where=path)
    module = importlib.util.module_from_spec(definition)
    sys.modules[title] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        definition.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(title, None)
        raise UsageError(
            "The file raised an error while it was executed.",
            where=_place(path, error),
            received=f"{type(error).__name__}: {error}",
            remedy="Run it with Python by itself to see the whole traceback.",
        ) from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    return module


def _place(path: Path, error: BaseException) -> str:
    line = error.lineno if isinstance(error, SyntaxError) else None
    frame = error.__traceback__
    while frame is not None and line is None:
        if Path(frame.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = frame.tb_lineno
        frame = frame.tb_next
    return f"{path}, line {line}" if line else str(path)


class _Text(importlib.abc.InspectLoader):
    """Loads a module from a text instead of a file."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:
        return self.text


def object_from_source(text: str, name: str, *, where: object) -> Any:
    """The object of this name that a Python text defines; the text is executed, so its origin must be trusted.

    Args:
        text: A module's source.
        name: What to take from it.
        where: Where the text came from, for an error.

    Raises:
        UsageError: The text raised while it was executed, or defines no such name.
    """
    title = f"flambeau_text_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    definition = importlib.util.spec_from_loader(title, _Text(text))
    if definition is None or definition.loader is None:
        raise UsageError("Python cannot load this text.", where=where)
    module = importlib.util.module_from_spec(definition)
    sys.modules[title] = module
    try:
        definition.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(title, None)
        raise UsageError(
            "The source text that the file carries raised an error.",
            where=where,
            received=f"{type(error).__name__}: {error}",
        ) from error
    if not hasattr(module, name):
        raise UsageError(f"The source text that the file carries defines no {name}.", where=where)
    return getattr(module, name)
