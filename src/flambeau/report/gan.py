"""The sections of a report on a GAN: samples, samples over time, distances, and what training pictures are nearest."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from flambeau.report.elements import callout, escape, number, percent, picture, table, tiles
from flambeau.report.page import Card, Section

SHOWN = 64
"""Samples in a grid."""

COMPARED = 16
"""Samples whose nearest training pictures are shown."""

MOMENTS = 8
"""Grids over time that are shown, of all that were made."""

SIDE = 64
"""To about so many pixels small pictures are enlarged in a grid."""

_CHUNK = 4096


def sheet(images: Tensor, columns: int = 8) -> bytes:
    """Pictures uint8 ``(N, C, H, W)`` of 1 or 3 channels edge to edge in one PNG."""
    from PIL import Image

    n, channels, height, width = images.shape
    columns = max(1, min(columns, n))
    rows, gap = -(-n // columns), 1
    whole = images.new_full((rows * columns, channels, height + gap, width + gap), 255)
    whole[:n, :, :height, :width] = images.cpu()
    whole = whole.view(rows, columns, channels, height + gap, width + gap).permute(0, 3, 1, 4, 2)
    array = whole.reshape(rows * (height + gap), columns * (width + gap), channels).expand(-1, -1, 3).contiguous()
    factor = max(1, SIDE // max(height, width))
    made = Image.fromarray(array.numpy())
    made = made.resize((made.width * factor, made.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    made.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def cards(scores: Mapping[str, float], note: str) -> list[Card]:
    """The headline numbers: distance, diversity, and how often the discriminator is right."""
    right = (scores["real_right"] + scores["fake_right"]) / 2
    return [
        ("Fréchet distance", number(scores["frechet"], 3), note),
        ("diversity", number(scores["diversity"], 3), "spread of samples over that of pictures; 1 is alike"),
        ("discriminator right", percent(right), "50 % means that it cannot tell"),
    ]


def distances(scores: Mapping[str, float], features: str, counts: tuple[int, int], warnings: Sequence[str]) -> Section:
    """The scores, each with what it means.

    Args:
        scores: As the task's metrics give them.
        features: What the features are those of, in a sentence.
        counts: Pictures and samples that were compared.
        warnings: Sentences about what has gone wrong.
    """
    about = {
        "frechet": "between normal distributions fitted to the features of both; 0 is alike",
        "diversity": "mean distance of two samples over that of two pictures, in the same features",
        "variety": "effective number of classes among the samples over that among the pictures",
        "loss": "of the discriminator, binary cross-entropy over both kinds, in nats",
        "real_right": "pictures that the discriminator takes for real",
        "fake_right": "samples that it takes for made",
    }
    names = {"frechet": "Fréchet distance", "real_right": "real recognised", "fake_right": "made recognised"}
    rows = [[names.get(name, name), f"{scores[name]:.4f}", text] for name, text in about.items() if name in scores]
    lead = (
        f"{counts[0]:,} pictures that were not trained on against {counts[1]:,} samples. {features} Distances measured "
        "with other features, such as Inception's, or on other numbers of pictures, cannot be compared with this one."
    )
    return Section("Distances", callout(warnings, "warning") + table(["score", "value", ""], rows, numeric=(1,)), lead)


def samples(images: Tensor) -> Section:
    """A grid of samples, uint8 ``(N, C, H, W)``, none of them chosen."""
    return Section("Samples", _image(sheet(images), "samples"), f"{len(images)} samples as they come, none chosen.")


def over_time(snapshots: Sequence[tuple[int, bytes]]) -> Section | None:
    """Grids from the same noise after several epochs; None where there is none."""
    if not snapshots:
        return None
    last = len(snapshots) - 1
    places = sorted({round(step * last / max(1, MOMENTS - 1)) for step in range(MOMENTS)})
    entries = []
    for place in places:
        epoch, png = snapshots[place]
        entries.append((_image(png, f"samples after epoch {epoch + 1}"), f"epoch {epoch + 1}"))
    style = '<div style="display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:1rem">'
    cells = "".join(
        f'<figure style="margin:0">{image}<figcaption>{text}</figcaption></figure>' for image, text in entries
    )
    return Section("Samples over time", f"{style}{cells}</div>", "The same noise after each of these epochs.")


def _image(png: bytes, alt: str) -> str:
    code = base64.b64encode(png).decode("ascii")
    return f'<img style="max-width:100%" src="data:image/png;base64,{code}" alt="{escape(alt)}">'


def nearest(images: Tensor, training: Tensor) -> Section:
    """Samples beside the training pictures nearest to them in pixels: a copy would stand out.

    Args:
        images: Samples, uint8 ``(N, C, H, W)``.
        training: The training pictures, uint8 ``(M, C, H, W)``.
    """
    chosen = images[:COMPARED]
    rows, apart = nearest_rows(chosen, training)
    entries = []
    for place, (row, distance) in enumerate(zip(rows.tolist(), apart.tolist(), strict=True)):
        pair = picture(chosen[place], f"sample {place + 1}") + picture(training[row], f"training picture {row}")
        entries.append((pair, f"{distance:.0f} grey values apart"))
    lead = (
        "Each sample (first) with the training picture that differs least from it (second): the root of the mean "
        "squared difference of their values from 0 to 255. Differences near 0 would mean that it repeats pictures "
        "instead of making them."
    )
    return Section("Nearest training pictures", tiles(entries, "samples"), lead)


def nearest_rows(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """For each picture the row of the nearest other one, int64 ``(N,)``, and how far it is: the root of the mean
    squared difference of values from 0 to 255, float32 ``(N,)``."""
    wanted = images.flatten(1).float()
    best = torch.full((len(images),), float("inf"))
    rows = torch.zeros(len(images), dtype=torch.int64)
    for first in range(0, len(training), _CHUNK):
        part = training[first : first + _CHUNK].flatten(1).float()
        # |a - b|² by its three terms: every value is a whole number that float32 sums to well within a grey value.
        squares = wanted.square().sum(1, keepdim=True) - 2 * wanted @ part.T + part.square().sum(1)
        least, place = squares.clamp(min=0).min(1)
        closer = least < best
        best = torch.where(closer, least, best)
        rows = torch.where(closer, place + first, rows)
    return rows, (best / max(1, wanted.shape[1])).sqrt()
