"""New examples from a model that can make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from flambeau import catalog
from flambeau.engine.evaluate import evaluation_mode
from flambeau.errors import UsageError
from flambeau.model import Model, load
from flambeau.run import Run
from flambeau.task import SampleRequest, Shown


def sample(
    model: str | Path | Run | Model,
    *,
    n: int = 1,
    prompt: str = "",
    length: int = 500,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    network: Any = None,
    trust_code: bool = False,
) -> list[str | Shown]:
    """Makes new examples: texts from a language model, a picture with a grid from a GAN.

    Equal arguments give equal examples; nothing is drawn from the global generators.

    Args:
        model: A run, a model, or the path of one.
        n: How many.
        prompt: The text to go on from.
        length: The most tokens of a text.
        temperature: Divides the logits that tokens are drawn from; 0 always takes the most probable.
        top_k: Draws among so many most probable tokens only.
        seed: Of the draws.
        device: Where to do it.
        network: As for :func:`flambeau.load`.
        trust_code: As for :func:`flambeau.load`.

    Returns:
        Texts, or one picture with ``name`` and ``png``.

    Raises:
        UsageError: The model makes nothing new, or an argument is out of range.
    """
    loaded = model if isinstance(model, Model) else load(model, device=device, network=network, trust_code=trust_code)
    make = loaded.task.sample
    if make is None:
        able = [name for name in catalog.task_names() if catalog.task(name).sample is not None]
        raise UsageError(
            f"A model for {loaded.task.name} makes no new examples.", expected=f"a model for {' or '.join(able)}"
        )
    _check(n, length, temperature, top_k)
    request = SampleRequest(n, prompt, length, temperature, top_k, seed)
    with evaluation_mode(loaded.network), torch.inference_mode():
        return list(make(loaded.network, loaded.facts, request))


def _check(n: int, length: int, temperature: float, top_k: int | None) -> None:
    wrong = [
        ("n", n, n >= 1, "at least 1"),
        ("length", length, length >= 1, "at least 1"),
        ("temperature", temperature, 0 <= temperature < float("inf"), "0 or more"),
        ("top_k", top_k, top_k is None or top_k >= 1, "at least 1"),
    ]
    for name, received, fine, expected in wrong:
        if not fine:
            raise UsageError(f"The value of {name} is out of range.", where=name, expected=expected, received=received)
