"""Reads a folder of pictures: ``class/…``, or ``train|val|test/class/…``.

Scanning looks at names, headers and content hashes; the pixels are decoded when the data is prepared.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flambeau.columns import Dataset, Split
from flambeau.data.arrays import may_mirror
from flambeau.data.examine import Examined, Listed, as_split, content_hash, examine, frames_note, skip_note, some_of
from flambeau.data.opening import DEFAULT_RULES, EXTENSIONS, PictureRules
from flambeau.data.prepare import check_skipped
from flambeau.data.splits import SPLIT_FOLDERS, leak_note, leaks
from flambeau.errors import BadRows, DataError, FlambeauError

_JUNK_FOLDERS = {"__macosx", "__pycache__", "@eadir", "lost+found", "$recycle.bin", "system volume information"}
_JUNK_FILES = {"thumbs.db", "desktop.ini"}
_SHOWN = 20


@dataclass(slots=True)
class _Walk:
    """What a walk through the tree has met so far."""

    root: Path
    follow_links: bool
    visited: set[tuple[int, int]] = field(default_factory=set)
    junk_folders: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    other_files: Counter[str] = field(default_factory=Counter)
    hidden_files: int = 0
    stray_pictures: int = 0


def scan(
    root: str | os.PathLike[str],
    *,
    follow_links: bool = False,
    on_bad: Literal["fail", "skip"] = "fail",
    rules: PictureRules = DEFAULT_RULES,
    group: str | None = None,
) -> Dataset:
    """The data set in a folder.

    Args:
        root: Has a folder for each class, or ``train``, ``val`` and ``test`` folders that do.
        follow_links: Whether links may lead out of the root.
        on_bad: Whether a file that is no picture is an error or is left out (up to 1 % of them).
        rules: What is refused.
        group: A regular expression that finds, in a picture's path from the root, what pictures that belong together
            have in common: its first group, or all that it matches.

    Returns:
        Splits of the raw columns ``image`` (a list of paths), ``name`` (from the root), ``label`` (int64), ``group``
        (int64, equal for files of equal content) and, with ``group``, ``together`` (int64). ``info`` has ``classes``,
        ``class_order``, ``source``, ``mirror``, ``duplicates``, ``skipped`` and ``notes``.

    Raises:
        DataError: The tree cannot be understood, and why.
        BadRows: Some files are not pictures, and ``on_bad`` is ``fail``.

    Example:
        >>> scan("flowers").info["classes"]  # doctest: +SKIP
        ['daisy', 'rose', 'tulip']
    """
    pattern = _compiled(group)
    walk = _Walk(Path(root), follow_links)
    folders, found = _layout(walk)
    classes = _agreed_classes(found, walk.root)
    walk.visited |= {_identity(folder) for folder in [walk.root, *folders]}
    for inner in found.values():
        _claim(walk, inner.values())
    listed = {
        split: [
            _listed(path, label, walk.root, pattern)
            for label, name in enumerate(classes)
            for path in _pictures(walk, inner[name])
        ]
        for split, inner in found.items()
    }
    files, errors = examine(listed, rules)
    if errors and on_bad == "fail":
        raise BadRows(errors)
    if errors:
        check_skipped(len(errors), sum(map(len, listed.values())), next(iter(errors.values())))
    splits = {split: as_split(part) for split, part in files.items()}
    info = _info(walk, files, errors, classes, splits)
    return Dataset(walk.root.absolute().name or "folder", splits, info, content_hash(files))


def _listed(path: Path, label: int, root: Path, pattern: re.Pattern[str] | None) -> Listed:
    name = path.relative_to(root).as_posix()
    found = pattern.search(name) if pattern else None
    # Its first group where it has one, so that what must surround the name of a group can be said.
    return Listed(path, name, label, None if found is None else found[min(1, found.re.groups)])


def _compiled(group: str | None) -> re.Pattern[str] | None:
    try:
        return None if group is None else re.compile(group)
    except re.error as error:
        raise DataError(
            f"This is no regular expression: {error}.",
            where="data.group",
            received=group,
            expected="for a folder, an expression that finds the name of its group in a picture's path",
        ) from error


def _info(
    walk: _Walk,
    files: Mapping[str, Sequence[Examined]],
    errors: Mapping[int, FlambeauError],
    classes: list[str],
    splits: Mapping[str, Split],
) -> dict[str, Any]:
    order = _order(classes)
    mirror = may_mirror(classes)
    duplicates = leaks(splits)
    notes = [*_notes(walk, files, classes, order, mirror), *skip_note(errors.values())]
    return {
        "classes": classes,
        "class_order": order,
        "source": str(walk.root.absolute()),
        "mirror": mirror,
        "notes": notes + ([leak_note(splits)] if duplicates else []),
        "duplicates": duplicates,
        "skipped": [str(error.where) for error in errors.values()],
    }


def _layout(walk: _Walk) -> tuple[list[Path], dict[str, dict[str, Path]]]:
    """The folders of the splits, if there are any, and the class folders of each split by name."""
    if not walk.root.is_dir():
        missing = not walk.root.exists()
        raise DataError(
            "There is no such folder." if missing else "This is not a folder.",
            where=walk.root,
            remedy="Check the path." if missing else "Give the folder that has a folder for each class.",
        )
    inner = _folders(walk, walk.root)
    named = {name: SPLIT_FOLDERS[name.lower()] for name in inner if name.lower() in SPLIT_FOLDERS}
    if not named:
        return [], {"train": _class_folders(walk, walk.root, inner)}
    classes = sorted(set(inner) - set(named))
    if classes:
        raise DataError(
            "Folders of splits and other folders lie side by side, so it is not clear which are the classes.",
            where=walk.root,
            received=f"{', '.join(sorted(named))} beside {', '.join(classes[:_SHOWN])}",
            remedy="Keep either class folders or train, val and test folders at the top; "
            "names of splits are never taken for classes.",
        )
    twice = [split for split, count in Counter(named.values()).items() if count > 1]
    if twice or "train" not in named.values():
        raise DataError(
            f"Several folders mean the split {twice[0]}." if twice else "There is no train folder.",
            where=walk.root,
            expected="train, and if you like val and test",
            received=", ".join(sorted(named)),
            remedy="Rename the folders.",
        )
    ordered = sorted(named.items(), key=lambda item: item[1] != "train")
    found = {split: _class_folders(walk, inner[name], _folders(walk, inner[name])) for name, split in ordered}
    return [inner[name] for name, _ in ordered], found


def _folders(walk: _Walk, folder: Path) -> dict[str, Path]:
    """The folders in a folder by name, without those that no one meant as data; its files are counted."""
    inner = {}
    for entry in _entries(folder):
        if _is_folder(walk, entry):
            if _is_junk(entry.name):
                walk.junk_folders.append(str(Path(entry.path).relative_to(walk.root)))
            else:
                inner[entry.name] = Path(entry.path)
        elif not _ignored(walk, entry.name):
            walk.stray_pictures += 1
    return inner


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, in the order of names.

    Raises:
        DataError: A name is not UTF-8, or the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"The folder cannot be read: {error.strerror}.", where=folder) from error
    for entry in entries:
        try:
            entry.name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                "The name is not valid UTF-8, so it could not be written into a report or a run folder.",
                where=os.fsencode(entry.path).decode("utf-8", "backslashreplace"),
                remedy="Rename the file or folder.",
            ) from error
    return entries


def _is_folder(walk: _Walk, entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        _check_link(walk, Path(entry.path))
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _check_link(walk: _Walk, link: Path) -> None:
    target = Path(os.path.realpath(link))
    if not walk.follow_links and not target.is_relative_to(Path(os.path.realpath(walk.root))):
        raise DataError(
            "The link leads out of the folder.",
            where=link,
            received=f"a link to {target}",
            remedy="Remove it, or allow such links with --set data.follow_links=true.",
        )


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK_FOLDERS


def _ignored(walk: _Walk, name: str) -> bool:
    """Whether a file is not a picture by its name; it is counted."""
    if name.startswith(".") or name.lower() in _JUNK_FILES:
        walk.hidden_files += 1
        return True
    ending = Path(name).suffix.lower()
    if ending not in EXTENSIONS:
        walk.other_files[ending or "no ending"] += 1
        return True
    return False


def _class_folders(walk: _Walk, folder: Path, inner: Mapping[str, Path]) -> dict[str, Path]:
    """The class folders in a folder by their names in Unicode's composed form."""
    same: dict[str, list[str]] = {}
    for name in inner:
        same.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    clash = next((names for names in same.values() if len(names) > 1), None)
    if clash:
        raise DataError(
            "Names of classes differ only in case or in their Unicode form, so that other systems take them for one.",
            where=folder,
            received=" and ".join(repr(name) for name in clash),
            remedy="Rename or merge the folders.",
        )
    if not inner:
        raise DataError(
            "There are no class folders here.",
            where=folder,
            expected="a folder for each class, with its pictures inside",
            received=_contents(walk),
            remedy="Put the pictures of each class into a folder of its own.",
        )
    return {unicodedata.normalize("NFC", name): path for name, path in inner.items()}


def _contents(walk: _Walk) -> str:
    parts = [
        (walk.stray_pictures, "pictures"),
        (sum(walk.other_files.values()), "other files"),
        (walk.hidden_files, "hidden files"),
        (len(walk.junk_folders), "ignored folders"),
    ]
    return ", ".join(f"{count} {what}" for count, what in parts if count) or "an empty folder"


def _agreed_classes(found: Mapping[str, Mapping[str, Path]], root: Path) -> list[str]:
    """The classes, in order, of which every split must have all.

    Raises:
        DataError: The splits differ in their classes, or there is only one class.
    """
    names = set(found["train"])
    for split, inner in found.items():
        absent, extra = sorted(names - set(inner)), sorted(set(inner) - names)
        if absent or extra:
            told = [f"only in train: {', '.join(absent[:_SHOWN])}"] if absent else []
            told += [f"only in {split}: {', '.join(extra[:_SHOWN])}"] if extra else []
            raise DataError(
                f"The classes of train and {split} differ.",
                where=root,
                received="; ".join(told),
                remedy="Give every split the same class folders.",
            )
    if len(names) < 2:
        raise DataError(
            "There is only one class, so there is nothing to tell apart.",
            where=root,
            received=next(iter(names)),
            expected="at least two class folders",
            remedy="Add a folder for each further class.",
        )
    return sorted(names, key=lambda name: (int(name), name)) if all(map(_is_number, names)) else sorted(names)


def _is_number(name: str) -> bool:
    return name.isascii() and name.removeprefix("-").isdigit()


def _order(classes: Sequence[str]) -> str:
    return "numeric" if all(map(_is_number, classes)) else "alphabetic"


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _claim(walk: _Walk, folders: Iterable[Path]) -> None:
    """Marks the class folders as visited, so that no link inside one leads to another one's pictures."""
    for folder in folders:
        identity = _identity(folder)
        if identity in walk.visited:
            raise DataError(
                "The class folder is the same as another folder of this tree, under a second name.",
                where=folder,
                received=f"a link to {os.path.realpath(folder)}",
                remedy="Remove the link.",
            )
        walk.visited.add(identity)


def _pictures(walk: _Walk, folder: Path) -> list[Path]:
    """The picture files of a class, in all folders below it, each folder visited once.

    Raises:
        DataError: There is none.
    """
    pictures: list[Path] = []
    waiting = [folder]
    while waiting:
        inner: list[Path] = []
        for entry in _entries(waiting.pop()):
            path = Path(entry.path)
            if not _is_folder(walk, entry):
                if not _ignored(walk, entry.name):
                    pictures.append(path)
            elif _is_junk(entry.name):
                walk.junk_folders.append(str(path.relative_to(walk.root)))
            elif _identity(path) in walk.visited:
                walk.repeated.append(str(path.relative_to(walk.root)))
            else:
                walk.visited.add(_identity(path))
                inner.append(path)
        waiting += reversed(inner)
    if not pictures:
        raise DataError(
            "The class folder holds no picture.",
            where=folder,
            expected=f"files ending in {', '.join(sorted(EXTENSIONS))}",
            remedy="Add pictures, or remove the folder.",
        )
    return pictures


def _notes(
    walk: _Walk, files: Mapping[str, Sequence[Examined]], classes: Sequence[str], order: str, mirror: bool
) -> list[str]:
    notes = []
    if order == "numeric":
        notes.append(f"The classes are in numeric order: {some_of(classes)}.")
    if not mirror:
        notes.append("The classes are letters or numbers, so pictures are not mirrored unless the recipe says so.")
    if walk.junk_folders:
        notes.append(f"Ignored folders that systems and tools leave behind: {some_of(walk.junk_folders)}.")
    if walk.hidden_files:
        notes.append(f"Ignored {walk.hidden_files:,} hidden files (such as ._name.jpg, .DS_Store and Thumbs.db).")
    if walk.other_files:
        counts = [f"{count:,} of {ending}" for ending, count in sorted(walk.other_files.items())]
        notes.append(f"Left out files whose ending is not a picture's: {some_of(counts)}.")
    if walk.stray_pictures:
        notes.append(f"Left out {walk.stray_pictures:,} pictures that lie outside the class folders.")
    if walk.repeated:
        notes.append(f"Links to folders that are read anyway were not followed: {some_of(walk.repeated)}.")
    return notes + frames_note(files)
