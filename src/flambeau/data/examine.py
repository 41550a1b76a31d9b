"""Labelled picture files, looked at: each header and content hash, and the raw columns that they make."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from flambeau.columns import Column, Split
from flambeau.data.opening import Header, PictureRules, read_header
from flambeau.data.splits import GROUP, together
from flambeau.errors import DataError, FlambeauError

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture that a source names, before anyone has looked at it.

    Attributes:
        raw: Its path, or its bytes.
        name: What it is called in reports.
        label: The number of its class; or for other targets the row of numbers that it stands for.
        together: What it shares with the pictures that are to stay on its side of every split, or None.
    """

    raw: Path | bytes
    name: str
    label: int | tuple[float, ...]
    together: str | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """A picture whose header can be read."""

    listed: Listed
    digest: str
    header: Header


def examine(
    listed: Mapping[str, Sequence[Listed]], rules: PictureRules
) -> tuple[dict[str, list[Examined]], dict[int, FlambeauError]]:
    """Every picture's header and content hash by split, and the errors of those that are no pictures."""

    def look(one: Listed) -> Examined | DataError:
        try:
            header = read_header(one.raw, rules, where=one.name)
            return Examined(one, _digest(one.raw), header)
        except DataError as error:
            return error
        except OSError as error:
            return DataError(f"The file cannot be read: {error.strerror}.", where=one.name)

    found: dict[str, list[Examined]] = {}
    errors: dict[int, FlambeauError] = {}
    row = 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for split, part in listed.items():
            found[split] = []
            for result in pool.map(look, part):
                if isinstance(result, DataError):
                    errors[row] = result
                else:
                    found[split].append(result)
                row += 1
    return found, errors


def _digest(raw: Path | bytes) -> str:
    if isinstance(raw, bytes):
        return hashlib.sha256(raw).hexdigest()
    with raw.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_split(files: Sequence[Examined], target: str = "label", dtype: torch.dtype = torch.int64) -> Split:
    """The raw columns ``image``, ``name``, the target, that of content hashes, and where there are groups theirs.

    Args:
        files: The pictures.
        target: What the column of their labels is called.
        dtype: Its type.
    """
    groups = [int.from_bytes(bytes.fromhex(file.digest[:16]), "big", signed=True) for file in files]
    columns: dict[str, Column] = {
        "image": [file.listed.raw for file in files],
        "name": [file.listed.name for file in files],
        target: torch.tensor([file.listed.label for file in files], dtype=dtype),
        GROUP: torch.tensor(groups, dtype=torch.int64),
    }
    columns |= together([file.listed.together for file in files], groups)
    return Split(columns)


def content_hash(files: Mapping[str, Sequence[Examined]]) -> str:
    """SHA-256 over split, name, label and content of every picture."""
    digest = hashlib.sha256()
    for split in sorted(files):
        for file in files[split]:
            digest.update(f"{split}\0{file.listed.name}\0{file.listed.label}\0{file.digest}\n".encode())
    return digest.hexdigest()


def frames_note(files: Mapping[str, Sequence[Examined]]) -> list[str]:
    """A sentence about pictures with several frames, when there are any."""
    several = [file.listed.name for part in files.values() for file in part if file.header.several]
    return [f"Of {len(several):,} files with several frames the first is taken: {some_of(several)}."] if several else []


def skip_note(errors: Iterable[FlambeauError], what: str = "files") -> list[str]:
    """A sentence about what cannot be read and is left out, when there is any."""
    told = [f"{error.where} ({error.problem.rstrip('.')})" for error in errors]
    return [f"{len(told):,} {what} cannot be read and were left out: {some_of(told)}."] if told else []


def some_of(names: Sequence[str]) -> str:
    """The first twenty of some names, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
