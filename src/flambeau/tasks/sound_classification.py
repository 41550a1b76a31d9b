"""Recordings into classes: one label a recording, by way of its log-mel spectrogram and any picture network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from flambeau.columns import Column, Columns, Dataset, Split
from flambeau.core import Batch, Builder, Draw, Facts, Transform
from flambeau.data import sounds
from flambeau.data.augment import draws
from flambeau.data.augment.mixing import beta_quantiles, mixed_targets, mixup
from flambeau.data.splits import with_test_and_validation
from flambeau.data.waves import doubt, probe, sound_inputs
from flambeau.errors import DataError
from flambeau.models.spectrogram import LogMel, SoundClassifier, frames
from flambeau.program import Call, Graph, Port, Predicting, Program, Wish
from flambeau.recipe import Part, Recipe
from flambeau.task import Insight, Intake, Outcome, Shown, Task, View
from flambeau.tasks import image_inputs, labels
from flambeau.tasks.common import column_checks, tensors
from flambeau.tasks.wires import wires

LONGEST = 10.0
"""Seconds beyond which a length that the recipe leaves open does not grow."""

COVERED = 95
"""The percentage of the training recordings that fit into a length that the recipe leaves open."""

MEASURED = 2000
"""Recordings that the statistics of the mel bands are taken from, at most."""

_SHIFT, _GAIN, _MASK, _MIX = 11, 12, 13, 14


class SoundOptions(Part):
    """How training recordings are varied."""

    shift: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The most that a recording is moved back or forth, as a fraction of the length that is looked at."""
    gain: Annotated[float, Field(ge=0, le=40)] = 6.0
    """The most that it is made louder or softer, in decibels."""
    mask_mels: Annotated[float, Field(ge=0, le=1)] = 0.15
    mask_frames: Annotated[float, Field(ge=0, le=1)] = 0.15
    """The widest strip of mel bands, and of time, that is blotted out, as a fraction of all."""
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Mixes recordings and their labels in pairs; both parameters of the beta distribution of the shares. 0 is off."""


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """Classes, the rate and length that recordings are brought to, and the shape of their spectrograms.

    A recipe's own rate and length win. Otherwise the rate that most training recordings have, and a length that 95 %
    of them fit into, at most 10 seconds.
    """
    audio = recipe.audio
    rates: Counter[int] = Counter()
    seconds: list[float] = []
    for raw in split["sound"]:
        try:
            rate, samples = probe(raw, audio.rate if isinstance(audio.rate, int) else None)
        except DataError:
            continue  # read() meets it again and reports it with all others
        rates[rate] += 1
        seconds.append(samples / rate)
    # Of rates that are equally frequent the lower one: nothing is gained by making up what lies above.
    usual = min(rates, key=lambda value: (-rates[value], value), default=16000)
    rate = usual if audio.rate == "auto" else audio.rate
    covered = min(LONGEST, float(np.percentile(seconds, COVERED))) if seconds else 1.0
    wanted = covered if audio.seconds == "auto" else audio.seconds
    window, hop = max(2, round(rate * audio.window)), max(1, round(rate * audio.hop))
    length = max(window, round(rate * wanted))
    return {
        "classes": list(info["classes"]),
        "rate": rate,
        "length": length,
        "window": window,
        "hop": hop,
        "size": [audio.mels, frames(length, hop)],
        "channels": 1,
        "normalize": audio.normalize,
    }


def read(raw: Columns, facts: Facts) -> dict[str, Column]:
    """Recordings in any form to int16 ``(N, length)`` of the model's rate; labels pass through."""
    return {**raw, "sound": sounds.read_sounds(raw["sound"], facts["rate"], facts["length"])}


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with the number of recordings of each class."""
    return {**facts, "counts": torch.bincount(split.tensor("label"), minlength=len(facts["classes"])).tolist()}


def transform(recipe: Recipe, facts: Facts) -> Transform | None:
    """Moves recordings in time, changes their loudness, chooses strips of the spectrogram to blot out, and mixes."""
    options = SoundOptions.model_validate(recipe.options)
    most = round(options.shift * facts["length"])
    strips = [round(options.mask_mels * facts["size"][0]), round(options.mask_frames * facts["size"][1])]

    def vary(batch: Batch, draw: Draw) -> Batch:
        sound = batch["sound"]
        draw = Draw(draw.seed, draw.epoch, draw.rows.to(sound.device))
        if most:
            sound = moved(sound, (draws(draw, _SHIFT, 1)[:, 0] * (2 * most + 1)).long() - most)
        values = sound.float() / 32768
        if options.gain:
            decibels = options.gain * (2 * draws(draw, _GAIN, 1) - 1)
            values = values * 10 ** (decibels / 20)
        varied = {**batch, "sound": values}
        if any(strips):
            varied["masks"] = masks_of(draws(draw, _MASK, 4), facts["size"], strips)
        if options.mixup:
            share = beta_quantiles(options.mixup, draws(draw, _MIX, 1)[:, 0])
            varied["sound"] = mixup(values, share)
            varied["target"] = mixed_targets(batch["label"], len(facts["classes"]), share)
        return varied

    return vary if most or options.gain or any(strips) or options.mixup else None


def moved(sound: Tensor, by: Tensor) -> Tensor:
    """Sounds ``(N, L)`` moved by so many samples ``(N,)`` int64, later where positive, with silence in what is free."""
    length = sound.shape[1]
    place = torch.arange(length, device=sound.device) - by.unsqueeze(1)
    there = (place >= 0) & (place < length)
    return sound.gather(1, place.clamp(0, length - 1)) * there.to(sound.dtype)


def masks_of(uniform: Tensor, size: Sequence[int], most: Sequence[int]) -> Tensor:
    """A strip of bands and one of frames for each row, int64 ``(N, 2, 4)`` as ``SoundClassifier`` takes them.

    Args:
        uniform: Numbers in [0, 1), ``(N, 4)``: breadth and place of each strip.
        size: Bands and frames.
        most: The widest strip of each.
    """
    made = []
    for axis, (whole, widest) in enumerate(zip(size, most, strict=True)):
        breadth = (uniform[:, 2 * axis] * (widest + 1)).long()
        begin = (uniform[:, 2 * axis + 1] * (whole - breadth + 1)).long()
        none, all_ = torch.zeros_like(begin), torch.full_like(begin, size[1 - axis])
        strip = [begin, begin + breadth, none, all_] if axis == 0 else [none, all_, begin, begin + breadth]
        made.append(torch.stack(strip, 1))
    return torch.stack(made, 1)


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named picture network behind its spectrogram; checked with an example of the right shape."""
    return SoundClassifier(image_inputs.network_of(recipe, facts, builder), facts)


def ready(model: nn.Module, dataset: Dataset) -> None:
    """Gives the model mean and standard deviation of each mel band over (at most 2,000) training recordings."""
    if isinstance(model, SoundClassifier) and model.normalised:
        sound = dataset.splits["train"].tensor("sound")
        model.normalise(sound[:: -(-len(sound) // MEASURED)])


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """Logits ``(N, K)``; strips are blotted out where the batch says which."""
    logits: Tensor = model(batch["sound"], batch["masks"]) if "masks" in batch else model(batch["sound"])
    return logits


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits ``(N, K)`` and calibrated probabilities ``(N, K)``, both float32."""
    return labels.outputs_of(model, model(batch["sound"]))


def program(model: nn.Module, facts: Facts, wish: Wish) -> Program:
    """One graph: sounds of the model's rate and length to calibrated probabilities, the spectrogram inside.

    ``static`` takes one sound at a time.
    """
    rate, length = facts["rate"], facts["length"]
    rows = 1 if wish.static else 2
    sound = Port(
        "sound",
        torch.randint(-8192, 8192, (rows, length)).to(torch.int16),
        (None if wish.static else "N", None),
        f"{length} samples at {rate:,} Hz, one channel",
    )

    def run(call: Call, batch: Batch) -> dict[str, Tensor]:
        parts = torch.split(batch["sound"], 1) if wish.static else [batch["sound"]]
        made = [call("model", {"sound": part})["probabilities"] for part in parts]
        return labels.restored(model, {"probabilities": torch.cat(made)})

    module = Predicting(model, predict, ["sound"], list(labels.EXPORTED))
    return Program(
        (Graph("model", module.eval(), (sound,), labels.EXPORTED),),
        lambda call, raw, batch: run(call, batch),
        labels.COMPARED,
        {
            "front": "sound",
            "static": wish.static,
            "rate": rate,
            "length": length,
            "fit": "silence follows what is shorter; of what is longer the stretch with the most energy",
            "answer": {"kind": "classes"},
        },
        lambda: {"sound": made_up(rate, length)},
    )


def made_up(rate: int, length: int) -> list[Any]:
    """Noise and sines, longer and shorter than the model's length and of another rate; one is almost silent."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2 * length + 1, generator=generator)
    time = torch.arange(length) / rate
    return [
        (0.1 * noise.numpy(), rate),
        (0.5 * torch.sin(2 * torch.pi * 0.1 * rate * time).numpy(), rate),
        (0.3 * noise[: max(2, length // 3)].numpy(), rate),
        (0.3 * noise[:length].numpy(), 2 * rate),
        (torch.full((length,), 1e-4).numpy(), rate),
    ]


def example(facts: Facts) -> dict[str, Tensor]:
    """A second of a sine of 440 Hz, or as much of it as the model takes, int16 ``(1, length)``."""
    time = torch.arange(facts["length"]) / facts["rate"]
    return {"sound": (8192 * torch.sin(2 * torch.pi * 440 * time) * (time < 1)).to(torch.int16).unsqueeze(0)}


def doubts(batch: Batch, facts: Facts) -> list[str | None]:
    """Recordings of nothing but silence, in a sentence."""
    return [doubt(sound) for sound in batch["sound"].cpu().numpy()]


def pictures_of(sound: Tensor, facts: Facts) -> Tensor:
    """Spectrograms of sounds int16 ``(N, length)`` as pictures to look at, uint8 ``(N, 1, H, W)``."""
    from flambeau.report.sounds import spectrogram_pictures

    front = LogMel(facts["rate"], mels=facts["size"][0], window=facts["window"], hop=facts["hop"])
    return torch.cat([spectrogram_pictures(front(part)) for part in torch.split(sound, 256)])


def insight(model: nn.Module, facts: Facts, raw: Any) -> list[Insight]:
    """The spectrogram of a recording, as the model is given it."""
    from flambeau.data.preview import png

    heard = Split(read({"sound": [raw]}, facts)).tensor("sound")
    about = f"As the model hears it: {facts['length'] / facts['rate']:.2f} s, low pitches at the bottom."
    return [Insight(about, png(pictures_of(heard, facts)[0]))]


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers and sections: scores, confusion, classes, calibration, mistakes and samples as spectrograms."""
    from flambeau.report.pictures import (
        classification_cards,
        classification_of,
        classification_sections,
        spread_sample,
    )

    train = outcome.dataset.splits["train"]
    scored = outcome.dataset.splits[outcome.split]
    chosen = spread_sample(train.tensor("label"))
    made = classification_of(
        outcome,
        images=pictures_of(scored.tensor("sound"), outcome.facts),
        names=[str(name) for name in scored["name"]] if "name" in scored.columns else None,
        samples=pictures_of(train.tensor("sound")[chosen], outcome.facts),
        sample_labels=train.tensor("label")[chosen],
        noun="recordings",
        singular="recording",
    )
    return classification_cards(made), classification_sections(made)


def about(facts: Mapping[str, Any]) -> dict[str, str]:
    """Rates and lengths, in a line each."""
    lengths = facts["seconds"]
    total = f"{lengths['total']:,.0f} s in all"
    return {
        "rates": ", ".join(f"{int(rate):,} Hz ({count:,})" for rate, count in facts["rates"].items()),
        "lengths": f"{lengths['shortest']:.2f} to {lengths['longest']:.2f} s, half of them below "
        f"{lengths['median']:.2f} s, {COVERED} % below {lengths['percentile95']:.2f} s; {total}",
    }


def shown_samples(dataset: Dataset, count: int) -> list[str | Shown]:
    """A labelled grid of spectrograms of training recordings."""
    from flambeau.data.preview import grid_png, to_terminal
    from flambeau.report.pictures import spread_sample

    train, classes = dataset.splits["train"], dataset.info["classes"]
    chosen = spread_sample(train.tensor("label"), count)
    known = facts(train, dataset.info, Recipe())
    part = train.take(chosen)
    pictures = pictures_of(sounds.read_sounds(part["sound"], known["rate"], known["length"]), known)
    captions = [str(classes[label]) for label in part.tensor("label").tolist()]

    def terminal(width: int) -> Any:
        columns = max(1, width // 22)
        return to_terminal(pictures[: 2 * columns], captions[: 2 * columns], columns)

    return [Shown(f"{dataset.name}-spectrograms.png", grid_png(pictures, captions), terminal)]


def tell(outcome: Outcome, recipe: Recipe) -> list[str | Shown]:
    """Accuracy and loss on the test split."""
    return [*labels.tell(outcome, recipe)]


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    mixes = bool(recipe.options.get("mixup"))
    return column_checks(recipe, "path", "label", "split", "group") + labels.checks(recipe, mixes=mixes)


INTAKE = Intake(
    forms=sounds.FORMS,
    claims=sounds.claims_sounds,
    open=sounds.open_sounds,
    of_python=sounds.sounds_of_python,
    divide=lambda dataset, recipe: with_test_and_validation(dataset, recipe.data, noun="recordings"),
    describe=sounds.describe,
    align=labels.align,
)

VIEW = View(
    asks="RECORDING...",
    inputs=sound_inputs,
    line=labels.line,
    cells=labels.cells,
    truth=labels.truth,
    breakdown=labels.breakdown,
    report=report,
    tell=tell,
    about=about,
    samples=shown_samples,
    insight=insight,
    private=("counts",),
)

TASK = Task(
    name="sound-classification",
    about="One of several classes for each recording.",
    family="pictures",
    recipe="sounds",
    input="sound",
    intake=INTAKE,
    view=VIEW,
    facts=facts,
    read=read,
    measure=measure,
    collate=tensors,
    transform=transform,
    build=build,
    ready=ready,
    phases=lambda recipe, facts: labels.phases_of(recipe, facts, forward),
    metrics=labels.metrics,
    predict=predict,
    decode=labels.decode,
    example=example,
    toy={
        "classes": [str(number) for number in range(10)],
        "rate": 8000,
        "length": 8000,
        "window": 256,
        "hop": 128,
        "size": [40, 63],
        "channels": 1,
        "normalize": True,
    },
    parts=("audio",),
    options=SoundOptions,
    checks=checks,
    keep=labels.KEPT,
    doubts=doubts,
    calibrate=labels.calibrate,
    program=program,
    wire=wires("sound", "classes"),
)
