"""Weights that others have published: looked for in the cache, else fetched into it, and checked before they are read.

The cache is that of ``torch.hub``, so that what other programs have fetched is found, and what is fetched here is found
by them. Files are named by their publishers with the beginning of their SHA-256 (``resnet18-f37072fd.pth``).
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flambeau import files
from flambeau.errors import ModelError

ADDRESS = "FLAMBEAU_WEIGHTS"
"""The environment variable with an address to fetch weights from in place of their publisher's."""

WEIGHT_KEYS = ("model_state_dict", "state_dict", "model")
"""What a dictionary with more than weights keeps them under."""

_DIGEST = re.compile(r"-([a-f0-9]{8,})\.")


@dataclass(frozen=True, slots=True)
class Weights:
    """A published file of weights.

    Attributes:
        name: What its publisher calls it, such as ``ResNet18_Weights.IMAGENET1K_V1``.
        url: Where it is published.
        megabytes: Its size, in units of 1,048,576 bytes.
        licence: As the publisher states it.
    """

    name: str
    url: str
    megabytes: float
    licence: str

    @property
    def path(self) -> Path:
        """Where it is in the cache, when it is."""
        return cached(self.url.rpartition("/")[2])

    @property
    def digest(self) -> str:
        """The beginning of its SHA-256 as hexadecimal digits, from its name."""
        found = _DIGEST.search(self.path.name)
        if found is None:
            raise ModelError("The file's name does not carry its checksum, so it is not trusted.", where=self.url)
        return found[1]


def cached(file: str) -> Path:
    """Where a file of weights is in the cache, when it is."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file


def fetch(weights: Weights) -> None:
    """Downloads a file into the cache, unless it is there.

    Raises:
        ModelError: It cannot be fetched, or what arrived is something else.
    """
    if weights.path.is_file():
        return
    base = os.environ.get(ADDRESS)
    url = f"{base.rstrip('/')}/{weights.path.name}" if base else weights.url
    print(f"Fetching {weights.name} ({weights.megabytes:.0f} MB) from {url}", file=sys.stderr, flush=True)
    try:
        weights.path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(weights.path), weights.digest, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"The weights {weights.name} are not in the cache and could not be fetched: {error}.",
            where=url,
            expected=f"a file of {weights.megabytes:.0f} MB whose SHA-256 begins with {weights.digest}",
            remedy=f"With a network, run the command again, or: curl --create-dirs -o {weights.path} {weights.url}\n"
            f"  A mirror is named by {ADDRESS}=ADDRESS. Without the weights: model.pretrained = false.",
        ) from error


def read(weights: Weights) -> dict[str, Tensor]:
    """The tensors of a file in the cache, by name, once its checksum has been found right.

    Raises:
        ModelError: It is not there, is damaged, or holds more than tensors.
    """
    path = weights.path
    if not path.is_file() or not files.sha256(path).startswith(weights.digest):
        raise ModelError(
            "The file of weights is damaged." if path.is_file() else "The file of weights is gone.",
            where=path,
            expected=f"a SHA-256 that begins with {weights.digest}",
            remedy=f"Remove it and run the command again, which fetches {weights.megabytes:.0f} MB.",
        )
    return read_weights(path)[0]


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights in a ``.pth`` file, and the single values beside them (``epoch``, ``loss``) as text.

    Raises:
        ModelError: There is no such file, it holds code, or it holds no weights.
    """
    if not path.is_file():
        raise ModelError("There is no such file.", where=path, expected="a .pth file that torch.save wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            "The file holds Python objects other than tensors; loading it would run code, so it is refused.",
            where=path,
            remedy="Where it came from, save the weights alone: torch.save(model.state_dict(), 'model.pth').",
        ) from error
    except (RuntimeError, ValueError, EOFError, KeyError, OSError, AttributeError, IndexError) as error:
        raise ModelError(
            "This is not a file that torch.save wrote, or it is damaged.",
            where=path,
            expected="a .pth file with a state dict",
            received=str(error).splitlines()[0] if str(error) else type(error).__name__,
            remedy="Where the network is, write one with torch.save(model.state_dict(), 'model.pth').",
        ) from error
    if not isinstance(content, Mapping):
        raise ModelError(
            "The file holds no state dict.", where=path, expected="a dictionary of tensors", received=type(content)
        )
    inner = next((content[key] for key in WEIGHT_KEYS if isinstance(content.get(key), Mapping)), content)
    weights = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not weights or len(weights) != len(inner):
        raise ModelError(
            "The file holds no state dict.",
            where=path,
            expected=f"a dictionary of tensors, by itself or under {' or '.join(map(repr, WEIGHT_KEYS))}",
            received=f"the keys {', '.join(map(str, list(inner)[:8]))}",
        )
    # A network inside nn.DataParallel names every weight with this prefix.
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    extra = {k: str(content[k]) for k in ("epoch", "loss") if isinstance(content.get(k), int | float)}
    return weights, extra
