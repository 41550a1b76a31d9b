"""A finished run as one readable script: the definitions that it used, with its settings in place, and a plain loop."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import torch
from torch import nn

from flambeau.columns import Dataset, Ragged, Split
from flambeau.core import Batch, Draw, Metrics, Phase
from flambeau.data import loader
from flambeau.eject.copying import Copier
from flambeau.eject.data import reading
from flambeau.eject.inlining import shortened
from flambeau.eject.located import LINE
from flambeau.eject.naming import finished, imports_needed, in_order, laid_out, names_of, unknown_names
from flambeau.eject.network import GENERATOR, Making, held, recorded
from flambeau.eject.reading import npz
from flambeau.eject.values import Keys, Several
from flambeau.engine import schedule, update
from flambeau.engine.precision import DTYPES
from flambeau.errors import UsageError
from flambeau.models.initialize import initialize
from flambeau.models.regressor import Regressor
from flambeau.recipe import Recipe
from flambeau.run import Run
from flambeau.tasks import image_inputs
from flambeau.tasks.common import tensors
from flambeau.workflow.finishing import validates_apart
from flambeau.workflow.job import Job, seed_everything


def settings_of(recipe: Recipe) -> dict[str, tuple[str, Any]]:
    """The numbers that stand as constants at the top of the script: by the names that our source has for them."""
    found = {
        "lr": ("LR", recipe.optimizer.rate),
        "weight_decay": ("WEIGHT_DECAY", recipe.optimizer.weight_decay),
        "momentum": ("MOMENTUM", recipe.optimizer.momentum),
        "smoothing": ("LABEL_SMOOTHING", recipe.loss.label_smoothing),
        "shift": ("LARGEST_SHIFT", recipe.augment.shift),
        "crop": ("SMALLEST_CROP", recipe.augment.crop),
        "rotate": ("LARGEST_TURN", recipe.augment.rotate),
        "brightness": ("BRIGHTNESS", recipe.augment.brightness),
        "contrast": ("CONTRAST", recipe.augment.contrast),
        "saturation": ("SATURATION", recipe.augment.saturation),
        "hue": ("HUE", recipe.augment.hue),
        "cutout": ("CUTOUT", recipe.augment.cutout),
        "mixup": ("MIXUP", recipe.augment.mixup),
        "cutmix": ("CUTMIX", recipe.augment.cutmix),
        "magnitude": ("MAGNITUDE", recipe.augment.magnitude),
    }
    return {name: (constant, value) for name, (constant, value) in found.items() if value and value != 1.0}


@dataclass(frozen=True, slots=True)
class Script:
    """A script and what belongs to it.

    Attributes:
        text: Its source.
        beside: Files that lie beside it, by name.
        left_out: What it does not do and the run did, in sentences.
    """

    text: str
    beside: dict[str, bytes]
    left_out: list[str]


def script_of(job: Job, run: Run, raw: Dataset, read: Dataset, stem: str) -> Script:
    """Writes a run as a script.

    Args:
        job: The run with its data in memory.
        run: Its folder.
        raw: The data as its source gives it.
        read: The data as the task reads it, each row with its number.
        stem: The script's name without its ending.
    """
    copier = Copier(settings_of(job.recipe), stem)
    data = reading(job.recipe, raw, read, job.facts, copier, stem)
    making = recorded(copier, lambda: plain_model(job))
    if making.model is not None and job.recipe.initial.name != "default":
        initialize(making.model, job.recipe.initial.name, job.recipe.initial.std)  # the script does so too
    before = torch.get_rng_state()
    job, features = _condensed(job, copier, making)
    values: dict[str, Any] = {"features": features, **_pieces(job, copier, making)}
    values |= _loop_values(job, run, copier, job.metrics())
    begun = job.fresh_model()
    making.drawn |= not torch.equal(before, torch.get_rng_state())
    values["partly"] = not all(weight.requires_grad for weight in begun.parameters())
    start = held(copier, making, begun, torch.get_rng_state())
    values |= {"held": _what_is_held(job) if start else "", "generator": GENERATOR in start}
    sections = {
        "data": [data.text, values["ragged"]],
        "network": [values["network"], values["initialize"]],
        "batches": [values[name] for name in ("order", "all_rows", "transform", *_COLLATE)],
        "loss": [values["loss"], values["count"], values["optimizer"]],
        "evaluation": [values[name] for name in ("brief", "start", "add", "result", "predict")],
        "training": [values[name] for name in ("features", "schedule", "micro_batches", "averaged")],
    }
    numbered = any('["row"]' in item.text for item in copier.items)
    values |= {"row_before": "{**" if numbered else "", "row_after": ', "row": chosen}' if numbered else ""}
    done: set[int] = set()
    texts = {name: laid_out(in_order(copier.items, roots, done)) for name, roots in sections.items()}
    left_out = _left_out(job, run)
    values |= {
        "sections": {name: f"\n\n{text}\n" if text else "" for name, text in texts.items()},
        "reading": data,
        "stem": stem,
        "title": f"Trains {job.recipe.model.name} on {run.info['data']['name']}, as the run {run.name} did.",
        "sameness": textwrap.fill(_SAMENESS.format(version=torch.__version__), LINE),
        "notes": [textwrap.fill(note, LINE) for note in [data.note, *left_out] if note],
        "settings": [],
        "imports": _IMPORTS,
        "heading": lambda title: f"# {title} ".ljust(LINE, "-"),
    }
    text = _text_of(values, copier, job, done, data.imports)
    beside = {
        **data.beside,
        f"{stem}-start.npz": npz(start) if start else None,
        f"{stem}-tables.npz": npz(copier.tables) if copier.tables else None,
    }
    return Script(text, {name: content for name, content in beside.items() if content is not None}, left_out)


def _text_of(values: dict[str, Any], copier: Copier, job: Job, used: set[int], imports: set[str]) -> str:
    """The script, from what fills the template; ``used`` are the numbers of the definitions in it.

    Raises:
        UsageError: Something in it has no name.
    """
    constants = {constant for constant, _ in copier.settings.values()}
    brought = {line.rpartition(" ")[2] for line in copier.imports | imports}
    names = names_of(copier.items, used, _RESERVED | constants | brought)
    theirs = {name for number, name in names.items() if not copier.items[number].ours}
    whole = set(re.findall(r"\w+", finished(_rendered(values), names)))
    values["settings"] = _settings(job.recipe, copier.settings, {**values, "body": whole})
    body = shortened(finished(_rendered(values), names), _FRAME | theirs)
    always = {"import torch", "from pathlib import Path", "import numpy as np", "from types import SimpleNamespace"}
    text = finished(body.replace(_IMPORTS, imports_needed(copier.imports | imports | always, body), 1), {})
    unknown = unknown_names(text)
    if unknown:
        raise UsageError(
            f"The source that this run uses names {', '.join(sorted(unknown))}, which cannot be written into a script.",
            where=job.task.name,
            remedy="Keep such objects out of the functions of the task, or give them as numbers, texts or tensors.",
        )
    return text


_IMPORTS = "IMPORTS"
"""Stands where the import lines go, once it is known which are needed."""

_FRAME = {"read_data", "rows_of", "build", "training_batches", "evaluate", "train"}
"""The functions that every script has."""

_SAMENESS = (
    "Written by `flambeau eject`; needs no Flambeau. Given the same data, the same PyTorch ({version}) and as many "
    "threads on a processor of the same kind, each loss and each weight comes out as in the run, bit for bit."
)

_COLLATE = ("collate_before", "collate_after")


def _pieces(job: Job, copier: Copier, making: Making) -> dict[str, Any]:
    """Calls of everything of ours that the run used, by what they are for; the copier has the definitions.

    Raises:
        UsageError: The task trains in a way that the script's loop has no words for.
    """
    recipe, task, metrics = job.recipe, job.task, job.metrics()
    phases = task.phases(recipe, job.facts)
    if len(phases) > 1 and (recipe.train.accumulate > 1 or any(phase.every > 1 for phase in phases)):
        raise UsageError(
            f"A script trains {' and '.join(phase.name for phase in phases)} at every step with the whole batch.",
            where=task.name,
            remedy="Set train.accumulate = 1, and train every phase at each step.",
        )
    assert making.model is not None
    train = job.dataset.splits["train"]
    draw = Draw(recipe.seed, 0, torch.arange(min(2, len(train))))
    transform = task.transform(recipe, job.facts)
    plain: Batch = task.collate(train.slice(0, 2).columns)
    plain = {**plain, "row": draw.rows}
    given = {"batch": Keys(frozenset(plain))}
    changed = {"batch": Keys(frozenset(transform(plain, draw) if transform else plain))}
    collate = "" if task.collate is tensors else copier.reference(task.collate, name="collate")
    ragged = any(isinstance(column, Ragged) for column in train.columns.values())
    made = {
        "network": copier.module(making.model, 4),
        "initialize": _initialize(copier, recipe),
        "transform": copier.reference(transform, name="augment", about=given) if transform else "",
        "collate_before": f"{collate}(" if collate else "",
        "collate_after": ")" if collate else "",
        "ragged": copier.reference(Ragged) if ragged else "",
        **_losses(copier, phases, changed["batch"]),
        "optimizer": copier.reference(phases[0].optimizer, name="make_optimizer"),
        "brief": copier.reference(metrics.brief) if metrics.brief else "",
        "predict": copier.reference(task.glance or task.predict, name="predict", about=given),
        **_row_orders(job, copier),
    }
    whole = {"start": "no_sums", "add": "add_to", "result": "scores_of"}
    for part, name in whole.items():
        made[part] = "" if metrics.brief else copier.reference(getattr(metrics, part), name=name, about=given)
    return made


def _condensed(job: Job, copier: Copier, making: Making) -> tuple[Job, str]:
    """The job as it trains on what frozen layers make of its examples, and the call that computes this; or as it is.

    Raises:
        UsageError: The task computes something else beforehand.
    """
    assert making.model is not None
    few = job.dataset.splits["train"].slice(0, 2)
    if job.task.condense(making.model, few) is few:
        return job, ""
    model = making.model
    inner = "model.inner" if isinstance(model, Regressor) else "model"
    if job.task.condense is not image_inputs.condense:
        raise UsageError(
            "The task computes a part of its examples before training, which no script can say.",
            where=job.task.name,
            remedy="Eject a run of it without that (condense).",
        )
    known = {"model": Several((model.inner if isinstance(model, Regressor) else model,), frozenset({"network"}))}
    call = f"{copier.reference(image_inputs.features_of, about=known)}({inner}, "
    task = replace(job.task, transform=lambda recipe, facts: None)
    return replace(job, task=task), call


def plain_model(job: Job) -> nn.Module:
    """The network as its builder and the seed give it, without what it is told of data or earlier training."""
    seed_everything(job.recipe.seed)
    return job.task.build(job.recipe, job.facts, job.builder)


def _what_is_held(job: Job) -> str:
    earlier = job.recipe.initial.model is not None or bool(job.recipe.model.arguments().get("pretrained"))
    return "the weights that training goes on from" if earlier else "what is not drawn or computed above"


def _row_orders(job: Job, copier: Copier) -> dict[str, str]:
    """In which order rows come in training and in evaluation, as expressions of ``columns`` (and ``epoch``)."""
    first = _first(job.dataset.splits["train"])
    rows = f'len(columns["{first}"])'
    if job.task.lengths is None:
        shuffled = f"{copier.reference(loader.order)}(SEED, epoch, {rows})" if job.recipe.data.shuffle else ""
        return {"order": shuffled or f"torch.arange({rows})", "all_rows": f"torch.arange({rows})"}
    item = copier.specialised(job.task.lengths, {}, name="lengths_of")
    found = copier.call(job.task.lengths, {}, {"split": "columns"}) or f"{item.place}(columns)"
    by_length = f"torch.argsort({found}, stable=True)"
    shuffled = f"{copier.reference(loader.bucketed)}(SEED, epoch, {found}, BATCH_SIZE)"
    return {"order": shuffled if job.recipe.data.shuffle else by_length, "all_rows": by_length}


_RESERVED = {
    "HERE", "DATA", "SEED", "EPOCHS", "BATCH_SIZE", "STEPS", "CLIP", "EMA", "LR", "F", "nn", "np", "torch", "content",
    "read_data", "rows_of", "build", "training_batches", "evaluate", "train", "main", "model", "optimizer", "rate",
    "losses", "selected", "best", "stale", "batch", "scores", "rows", "columns", "chosen", "epoch", "sums", "splits",
    "total", "number", "mean", "parts", "part", "average", "trained", "norm", "rank", "lowered", "Path",
}  # fmt: skip


def _losses(copier: Copier, phases: Sequence[Phase], columns: Keys) -> dict[str, Any]:
    """What is minimised: of a single phase the names of loss and count, of several a table of them."""
    known = {"batch": columns}
    if len(phases) == 1:
        loss = copier.reference(phases[0].loss, name="loss_of", about=known)
        return {"loss": loss, "count": _count(copier, phases[0], columns), "phases": []}
    table = [
        {
            "name": phase.name,
            "loss": copier.reference(phase.loss, about=known),
            "count": copier.reference(phase.count, about=known),
            "trains": copier.reference(phase.trains, name=f"is_of_{phase.name}"),
        }
        for phase in phases
    ]
    return {"loss": " ".join(" ".join(row.values()) for row in table), "count": "", "phases": table}


def _initialize(copier: Copier, recipe: Recipe) -> str:
    """The call that draws the first weights anew, where the recipe says how."""
    if recipe.initial.name == "default":
        return ""
    known = {"rule": recipe.initial.name, "std": recipe.initial.std}
    return f"{copier.reference(initialize, known=known)}(model)"


def _count(copier: Copier, phase: Phase, columns: Keys) -> str:
    """The call that counts what a loss is divided by, or what that comes to where it is a single expression."""
    item = copier.specialised(phase.count, {}, name="count_of", about={"batch": columns})
    return item.expression or f"{item.place}(batch)"


def _first(split: Split) -> str:
    return next(name for name, column in split.columns.items() if isinstance(column, torch.Tensor | Ragged))


def _settings(recipe: Recipe, known: Mapping[str, tuple[str, Any]], values: Mapping[str, Any]) -> list[str]:
    made = {
        "SEED": recipe.seed,
        "EPOCHS": values["epochs"],
        "BATCH_SIZE": recipe.train.batch_size,
        **({"STEPS": values["steps"]} if values["varies"] else {}),
        **({"CLIP": recipe.train.clip} if recipe.train.clip else {}),
        **({"EMA": recipe.train.ema} if recipe.train.ema else {}),
    }
    used = {constant: value for constant, value in known.values() if constant in values["body"]}
    remarks = {"STEPS": "  # in an epoch", "EMA": "  # how much of the averaged weights stays at a step"}
    return [f"{name} = {value!r}{remarks.get(name, '')}" for name, value in {**made, **used}.items()]


def _loop_values(job: Job, run: Run, copier: Copier, metrics: Metrics) -> dict[str, Any]:
    """What the loop depends on."""
    recipe, part = job.recipe, job.recipe.train
    steps = job.stream().length
    rows = len(job.dataset.splits["train"])
    (segment,) = run.info["segments"]
    constant = segment["schedule"] == "constant" and not segment["warmup"]
    plateau = (recipe.schedule.patience, recipe.schedule.factor) if recipe.schedule.name == "plateau" else None
    validates = "val" in job.dataset.splits
    keeps_best = validates_apart(job) and part.keep == "best"
    higher, score = metrics.mode == "max", metrics.select
    sign = "" if higher else "-"
    rank = f'{sign}scores["{score}"]'
    return {
        "steps": steps,
        "epochs": segment["epochs"],
        "varies": not constant or plateau is not None,
        "schedule": "" if constant and plateau is None else _schedule(copier, segment, steps),
        "shuffle": recipe.data.shuffle,
        "left_out": recipe.data.shuffle and job.batch_size > 1 and rows > 1 and rows % job.batch_size == 1,
        "eval_batch_size": part.eval_batch_size,
        "ema": part.ema,
        "averaged": copier.reference(update._average, name="move_towards") if part.ema else "",
        "accumulate": part.accumulate if part.accumulate > 1 else None,
        "micro_batches": copier.reference(update.micro_batches) if part.accumulate > 1 else "",
        "autocast": str(DTYPES[part.precision]) if DTYPES[part.precision] else "",
        "clip": part.clip,
        "validates": validates,
        "keeps_best": keeps_best,
        "selects": validates and (keeps_best or part.patience is not None or plateau is not None),
        "counts_stale": validates and (part.patience is not None or plateau is not None),
        "patience": part.patience,
        "plateau": plateau,
        "rank": rank if score == "loss" else f'({rank}, -scores["loss"])',
        "threads": run.info["threads"],
    }


def _schedule(copier: Copier, segment: Mapping[str, Any], steps: int) -> str:
    """The call that makes the learning rate's course."""
    warmup = round(segment["warmup"] * steps)
    after = f", {warmup}" if warmup else ""
    if segment["schedule"] == "step":
        every = max(1, round(segment["every"] * steps))
        made = copier.reference(schedule.step_down, known={} if warmup else {"warmup": 0})
        return f"{made}(EPOCHS * STEPS{after}, every={every}, factor={segment['drop']!r})"
    known = {} if warmup else {"warmup": 0}
    return f"{copier.reference(schedule.SCHEDULES[segment['schedule']], known=known)}(EPOCHS * STEPS{after})"


def _left_out(job: Job, run: Run) -> list[str]:
    """What the script leaves out, and what that changes."""
    recipe = job.recipe
    notes = []
    if job.task.calibrate is not None and validates_apart(job):
        notes.append(
            "Left out: after training the run fits a temperature on the validation split. It divides the scores before "
            "they become probabilities; which class is the most probable does not change."
        )
    if recipe.train.compile:
        notes.append("Left out: the run compiled the network. Written plainly it gives the same up to rounding.")
    if run.info["device"] != "cpu":
        notes.append(
            f"Left out: the run computed on {run.info['device']}. On a processor sums come out in another order, so "
            "that losses agree in their first digits only."
        )
    return notes


def _rendered(values: Mapping[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    template = resources.files(__package__).joinpath("script.py.j2").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    return environment.from_string(template).render(values)
