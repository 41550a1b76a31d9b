"""A model written in a form that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flambeau import catalog
from flambeau.model import Model, load
from flambeau.run import Run


def export_model(
    model: str | Path | Run | Model,
    out: str | Path,
    format: str = "state-dict",  # noqa: A002 - as the command's option
    *,
    network: Any = None,
    trust_code: bool = False,
) -> dict[str, Any]:
    """Writes a model in another format.

    Args:
        model: A run, a model, or the path of one.
        out: The file to write; one of that name is replaced.
        format: ``state-dict``, a ``.pth`` file for plain PyTorch, or a format of another package.
        network: As for :func:`flambeau.load`.
        trust_code: As for :func:`flambeau.load`.

    Returns:
        What the format says about the file; for ``state-dict`` ``out``, ``tensors`` and ``preprocessing`` (size,
        channels, mean and standard deviation of pixels in [0, 1], classes).

    Raises:
        UsageError: Nobody knows the format.
        ModelError: The model cannot be loaded.
        FlambeauError: The file cannot be written.

    Example:
        >>> export_model("runs/demo", "model.pth")["tensors"]          # doctest: +SKIP
        32
    """
    write = catalog.find("formats", format)
    loaded = model if isinstance(model, Model) else load(model, network=network, trust_code=trust_code)
    result: dict[str, Any] = write(loaded, Path(out))
    return result
