"""Picture models as graphs: pictures of any size go in as they are stored, and the resize is inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flambeau.columns import Columns
from flambeau.core import Batch, Facts
from flambeau.data import images
from flambeau.data.opening import PictureRules
from flambeau.program import Call, Compared, Graph, Port, Predicting, Program, Wish

Restore = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""What a graph gives to what ``Task.predict`` gives."""


class RawPictures(nn.Module):
    """Pictures as they are stored to a model's outputs: layout and resize, then the model.

    Args:
        inner: Takes pictures ``(N, C, height, width)`` from 0 to 255.
        size: Height and width that the model takes.
        plain: Resizes by products of matrices.
    """

    def __init__(self, inner: nn.Module, size: Sequence[int], plain: bool = False) -> None:
        super().__init__()
        self.inner = inner
        self.size = (size[0], size[1])
        self.resize = images.resized_by_matrices if plain else images.resized

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The outputs for pictures uint8 ``(N, H, W, C)`` of any height and width."""
        outputs: tuple[Tensor, ...] = self.inner(self.resize(image.permute(0, 3, 1, 2), self.size))
        return outputs


def picture_program(
    model: nn.Module,
    facts: Facts,
    wish: Wish,
    *,
    predict: Callable[[nn.Module, Batch], dict[str, Tensor]],
    outputs: Mapping[str, str],
    restore: Restore,
    compared: tuple[Compared, ...],
    answer: Mapping[str, Any],
) -> Program:
    """The program of a model of pictures.

    Args:
        model: The task's, on the CPU.
        facts: The task's.
        wish: ``static`` leaves layout and resize out: float32 ``(1, C, height, width)`` from 0 to 255 goes in.
        predict: The task's.
        outputs: Those of ``predict`` that come out, each with what it is.
        restore: Makes what ``predict`` gives from these.
        compared: What must agree.
        answer: What the outputs mean, for the card.
    """
    inner = Predicting(model, predict, ["image"], list(outputs))
    size, channels = facts["size"], facts["channels"]
    kind = "RGB" if channels == 3 else "grey"
    if wish.static:
        about = f"{kind} pictures resized to {size[0]} x {size[1]}, from 0 to 255"
        port = Port("image", torch.full((1, channels, *size), 128.0), (None, None, None, None), about)
        module: nn.Module = inner
    else:
        sample = torch.randint(0, 256, (2, size[0] + 3, size[1] + 5, channels), dtype=torch.uint8)
        port = Port("image", sample, ("N", "H", "W", None), f"{kind} pictures of any size", {"H": 2, "W": 2})
        module = RawPictures(inner, size, wish.plain)
    card = {
        "front": "picture",
        "static": wish.static,
        "size": list(size),
        "channels": channels,
        "rules": facts["rules"],
        "resize": "bilinear, antialiased, in float32, rounded to whole numbers with halves up",
        "mean": facts["mean"],
        "std": facts["std"],
        "brightness": facts.get("brightness", {}),
        "answer": dict(answer),
    }
    run = _one_by_one if wish.static else _by_size(channels, PictureRules.from_facts(facts["rules"]))
    return Program(
        (Graph("model", module.eval(), (port,), outputs),),
        lambda call, raw, batch: restore(run(call, raw, batch)),
        compared,
        card,
        lambda: strangers(size, channels),
    )


def _one_by_one(call: Call, raw: Columns | None, batch: Batch) -> dict[str, Tensor]:
    """The outputs for pictures of the model's size, a call for each."""
    made = [call("model", {"image": row.unsqueeze(0).float()}) for row in batch["image"]]
    return {name: torch.cat([outputs[name] for outputs in made]) for name in made[0]}


def _by_size(channels: int, rules: PictureRules) -> Callable[[Call, Columns | None, Batch], dict[str, Tensor]]:
    """The outputs for raw pictures, a call for all of a size; without raw ones, for those of the model's size."""

    def run(call: Call, raw: Columns | None, batch: Batch) -> dict[str, Tensor]:
        column = batch["image"] if raw is None else raw["image"]
        pictures = images.decode_all(list(column), rules)
        groups: dict[tuple[int, ...], list[int]] = {}
        stored = [images.in_channels(picture, channels).permute(1, 2, 0) for picture in pictures]
        for row, picture in enumerate(stored):
            groups.setdefault(tuple(picture.shape), []).append(row)
        made = [call("model", {"image": torch.stack([stored[row] for row in rows])}) for rows in groups.values()]
        order = torch.tensor([row for rows in groups.values() for row in rows]).argsort()
        return {name: torch.cat([outputs[name] for outputs in made])[order] for name in made[0]}

    return run


def strangers(size: Sequence[int], channels: int) -> Columns:
    """Made-up pictures, upright, lying, smaller and larger than the model's, exactly half and double among them."""
    height, width = size
    shapes = [
        (2 * height + 7, width), (height, 2 * width + 9), (max(2, height // 2), max(2, width // 2)),
        (max(2, height // 3 + 1), max(2, width // 2 + 3)), (2 * height, 2 * width), (4 * height, 4 * width),
        (3 * height + 1, 5 * width // 2),
    ]  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    made = []
    for tall, wide in shapes:
        ramp = torch.linspace(0, 200, tall).unsqueeze(1) * torch.linspace(0, 1, wide) + 20
        noise = torch.randint(0, 36, (channels, tall, wide), generator=generator)
        made.append((ramp + noise).clamp(0, 255).to(torch.uint8))
    return {"image": made}
