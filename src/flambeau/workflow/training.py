"""Training from start to end: data, network, loop, then (in ``finishing``) selection, test, model file and report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from flambeau import catalog, files
from flambeau.core import Observer, Scores, State
from flambeau.engine import checkpoint
from flambeau.engine import device as devices
from flambeau.engine.evaluate import evaluating
from flambeau.engine.loop import Plan
from flambeau.engine.loop import train as train_loop
from flambeau.engine.observers import journal_writer, tensorboard_writer
from flambeau.engine.precision import DTYPES
from flambeau.engine.schedule import Schedule
from flambeau.engine.update import Rules
from flambeau.errors import Interrupted, RunError, TrainingError, UsageError
from flambeau.recipe import Recipe
from flambeau.run import METRICS, Run, require_empty
from flambeau.userfile import in_file
from flambeau.workflow import environment, finishing, postmortem, snapshots, troubles
from flambeau.workflow.job import Job, assemble, data_record
from flambeau.workflow.measuring import with_epochs, with_rate
from flambeau.workflow.planning import resolve
from flambeau.workflow.segments import Segment, appended, first, schedule_of
from flambeau.workflow.signals import Listening
from flambeau.workflow.spending import Clock, Groups
from flambeau.workflow.starting import is_free
from flambeau.workflow.telling import Teller, console_for
from flambeau.workflow.troubles import computing

if TYPE_CHECKING:
    from rich.console import Console


def train(
    source: Any = None,
    *,
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    model: str | nn.Module | type[nn.Module] | None = None,
    task: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Iterable[str] = (),
    init: str | Path | None = None,
    out: str | Path | None = None,
    observers: Iterable[Observer] = (),
    console: Console | None = None,
    quiet: bool = False,
) -> Run:
    """Trains a model, measures it on a test split that nothing else has touched, and saves it with a report.

    Args:
        source: What to train on: a built-in name, a folder of pictures, ``FILE.py:CLASS``, a pair of pictures and
            labels, such pairs by split, or a torch data set. May be left out when the recipe names it.
        recipe: A recipe's name, a path ending in ``.toml``, tables, or a :class:`Recipe`. Default: the one named like
            the source, else ``pictures``.
        model: A name, ``FILE.py:CLASS``, a ``nn.Module`` class, or a network (whose weights it starts from and which
            is changed).
        task: The task's name.
        epochs: How many passes over the training split.
        seed: Of initialisation, order, augmentation and dropout. The global generators are seeded with it.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        settings: ``key=value`` texts, stronger than the recipe, weaker than the arguments above.
        init: A run or a saved model whose network, and weights by name, are gone on from; see ``initial.model``.
        out: The run folder; default ``runs/<data>-<model>-<time>``.
        observers: Functions ``(record, state) -> None`` that watch.
        console: Where to print; a console on standard output by default.
        quiet: Prints nothing.

    Returns:
        The finished run.

    Raises:
        RecipeError: The recipe is not valid; it lists every mistake.
        DataError: The data cannot be found, read or used.
        ModelError: The network does not fit the data.
        RunError: The folder is not empty, locked, or cannot be written.
        TrainingError: The loss is not finite.
        Interrupted: Ctrl-C or SIGTERM; the run can be resumed.

    Example:
        >>> run = train("fashion-mnist-mini", epochs=1, quiet=True, out=tmp / "run")     # doctest: +SKIP
        >>> run.scores["test/accuracy"] > 0.5                                            # doctest: +SKIP
        True
    """
    started = time.monotonic()
    resolved = recipe_for(
        source, recipe, model, settings=settings, task=task, epochs=epochs, seed=seed, device=device, init=init
    )
    if out is not None:
        require_empty(Path(out))
    teller = Teller(console_for(console, quiet), resolved)
    named = os.fspath(source) if is_named(source) else None
    free = is_free(named, recipe, model, init, settings)
    with computing(resolved):
        network = None if isinstance(model, str) else model
        job = assemble(resolved, None if named else source, network, teller, free=free)
        job = with_epochs(with_rate(job, rules_of(job.recipe)), rules_of(job.recipe), started)
        return _begin(job, Path(out) if out is not None else default_folder(job), model, list(observers), started)


def recipe_for(
    source: Any,
    recipe: str | Path | Mapping[str, Any] | Recipe | None,
    model: str | nn.Module | type[nn.Module] | None,
    *,
    settings: Iterable[str] = (),
    task: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    init: str | Path | None = None,
) -> Recipe:
    """The recipe of a run that is asked for by these arguments of :func:`train`.

    Raises:
        RecipeError: It is not valid.
    """
    named = os.fspath(source) if is_named(source) else None
    asked = model if isinstance(model, str) else None if model is None else f"python:{_class_name(model)}"
    resolved = resolve(
        named, recipe, settings=settings, model=asked, task=task, epochs=epochs, seed=seed, device=device, init=init
    )
    return _with_absolute_source(resolved)


def is_named(source: Any) -> bool:
    """Whether data is given by its name or path, not as an object."""
    return isinstance(source, str | os.PathLike)


def _begin(job: Job, path: Path, model: Any, observers: list[Observer], started: float) -> Run:
    """Starts the run folder, now that everything that can be wrong before training has been looked at."""
    state = job.new_state()
    segments = [first(job.recipe)]
    path.mkdir(parents=True, exist_ok=True)
    with files.locked(path):
        run = Run.create(path, job.recipe, _info(job, segments))
        if isinstance(model, nn.Module):
            # Nobody can make these initial weights again, so they are the first checkpoint.
            checkpoint.save(run.checkpoints, state, {"metrics_length": 0, "seconds": {}})
        _tell_facts(job, state, run)
        return _carry_out(run, job, state, segments, observers, started)


def resume(
    run: str | Path | Run,
    *,
    epochs: int | None = None,
    device: str | None = None,
    source: Any = None,
    model: nn.Module | type[nn.Module] | None = None,
    observers: Iterable[Observer] = (),
    console: Console | None = None,
    quiet: bool = False,
) -> Run:
    """Goes on with a run from its newest whole checkpoint, to the same end as if it had never stopped.

    On the same machine, with the same software and number of threads, the weights, the optimiser's state and the
    metrics come out bit for bit. A finished run is returned as it is.

    Args:
        run: The run or its folder.
        epochs: For a finished run: trains so many more epochs, as a segment of its own. After a constant learning
            rate at that rate, else from a tenth of the recipe's down to zero along a cosine.
        device: Goes on elsewhere than where the run began.
        source: The data again, when it was given as objects of Python.
        model: The network's class again, when it was given as an object of Python.
        observers: As for :func:`train`.
        console: As for :func:`train`.
        quiet: Prints nothing.

    Raises:
        RunError: There is no such run, another process works on it, or its checkpoints are damaged.
        DataError: The data is not what it was.
    """
    started = time.monotonic()
    run = Run(run.path if isinstance(run, Run) else run)
    with files.locked(run.path):
        run = Run(run.path)
        teller = Teller(console_for(console, quiet), run.recipe)
        segments = _segments(run, epochs)
        if run.finished and epochs is None:
            teller.say(f"The run in {run.path} is finished. To train longer: flambeau resume {run.path} --epochs N")
            return run
        files.remove_leftovers(run.path)
        files.remove_leftovers(run.checkpoints)
        if run.info.get("threads"):
            torch.set_num_threads(run.info["threads"])
        _require_source(run, source, model)
        job = assemble(run.recipe, source, model, teller, device=device or run.info["device"])
        require_same_data(run, job)
        state = job.new_state()
        if epochs is not None:
            run.save_info(status="training", segments=[segment.to_dict() for segment in segments])
            teller.say(f"going on: {segments[-1]}")
        with computing(run.recipe):
            return _carry_out(run, job, state, segments, list(observers), started, resuming=True)


def _carry_out(
    run: Run,
    job: Job,
    state: State,
    segments: list[Segment],
    observers: list[Observer],
    started: float,
    *,
    resuming: bool = False,
) -> Run:
    """Trains from the newest checkpoint (or from the start) to the end, and finishes the run."""
    loaded = checkpoint.load(run.checkpoints, state)
    notes: dict[str, Any] = loaded.notes if loaded else {"metrics_length": 0, "seconds": {}}
    resumed_from = state.step if resuming else None
    if state.epoch == segments[-1].first_epoch:
        state.stale = 0
    spent_before = notes["seconds"].get("total", 0.0)
    for purpose, seconds in notes["seconds"].items():
        job.seconds[purpose] = job.seconds.get(purpose, 0.0) + seconds
    if resuming:
        warnings = list(loaded.warnings) if loaded else []
        job.teller.notes(warnings)
        job.teller.say(f"resuming after step {state.step:,} (epoch {state.epoch + 1})")
        history = [*run.info.get("history", []), {"started": _now(), "from_step": state.step, "warnings": warnings}]
        run.save_info(history=history, resumed_from=resumed_from)
    plan = plan_of(job.condensed(state.model), segments)
    journal = files.Journal(run.path / METRICS, length=notes["metrics_length"])
    if journal.missing:
        job.teller.notes([f"{METRICS} lacks {journal.missing:,} bytes that it had; those lines are gone"])
    writer = checkpoint.Writer(run.checkpoints, journal, plan.stream.length, job.seconds)
    try:
        _loop(run, job, state, plan, [journal_writer(journal), *observers], writer, spent_before - started)
    except TrainingError as error:
        raise postmortem.examine(run, job, plan, error, before=state.step + 1) from error
    finally:
        journal.close()
    return finishing.finish(run, job, state, spent_before - started)


def plan_of(job: Job, segments: list[Segment]) -> Plan:
    """What the loop is to carry out."""
    recipe, task = job.recipe, job.task
    stream = job.stream()
    metrics = job.metrics()

    def validate(model: nn.Module) -> Generator[int, None, Scores]:
        evaluation = yield from evaluating(model, job.batches("val"), task.glance or task.predict, metrics)
        return evaluation.scores

    return Plan(
        stream=stream,
        epochs=segments[-1].end,
        rules=rules_of(recipe, schedule_of(segments, stream.length)),
        metrics=metrics,
        validate=validate if "val" in job.dataset.splits else None,
        log_every=recipe.log.every,
        log_first=recipe.log.first,
        patience=recipe.train.patience,
        plateau=(recipe.schedule.patience, recipe.schedule.factor) if recipe.schedule.name == "plateau" else None,
    )


def rules_of(recipe: Recipe, schedule: Schedule = lambda step: 1.0) -> Rules:
    """How one update is done."""
    part = recipe.train
    return Rules(schedule, part.accumulate, part.clip, part.ema, DTYPES[part.precision])


def _loop(
    run: Run,
    job: Job,
    state: State,
    plan: Plan,
    observers: list[Observer],
    writer: checkpoint.Writer,
    clock_offset: float,
) -> None:
    """The engine's loop with everybody who watches it."""
    size = len(job.dataset.splits["train"])
    watching = job.teller.watch(plan.epochs, plan.stream.length, job.batch_size, size, plan.metrics.columns)
    with ExitStack() as stack:
        stack.callback(job.teller.done)
        events = stack.enter_context(
            tensorboard_writer(run.path / "tb", job.recipe.log.tensorboard, purge_step=state.step)
        )
        pictures = snapshots.taker(run, job, events)
        told = troubles.halvings_told(run, job.teller)
        groups: Groups = {
            "log": [*observers, *watching, *([events] if events else []), told],
            **({"snapshot": [pictures]} if pictures else {}),
            "checkpoint": [writer],
        }
        listening = stack.enter_context(Listening())
        clock = Clock(job.seconds)
        steps = stack.enter_context(closing(train_loop(state, clock.timing(plan))))
        for record in steps:
            clock.lap("validate" if record.kind in ("validate", "epoch") else "train")
            job.seconds["total"] = time.monotonic() + clock_offset
            clock.show(groups, record, state)
            if listening.caught is not None:
                steps.close()  # in the middle of a validation the model may hold averaged weights
                writer.save(state)
                raise Interrupted(listening.caught, run.path, state.step)
        writer.save(state)  # where further epochs would go on from


def _segments(run: Run, epochs: int | None) -> list[Segment]:
    """The run's segments, with a new one when a finished run is to go on."""
    segments = [Segment(**segment) for segment in run.info["segments"]]
    if epochs is None:
        return segments
    if epochs < 1:
        raise UsageError("The number of further epochs must be at least 1.", where="--epochs", received=epochs)
    if not run.finished:
        raise UsageError(
            "Only a finished run takes further epochs.",
            where=run.path,
            remedy=f"flambeau resume {run.path} finishes it first.",
        )
    return [*segments, appended(run.recipe, run.info["epochs"], epochs, segments[-1])]


def _require_source(run: Run, source: Any, model: Any) -> None:
    """Refuses a resume that lacks what only Python can give."""
    lacks = []
    if run.recipe.data.source is None and source is None:
        lacks.append("source=..., the data")
    if run.recipe.model.name.startswith("python:") and model is None:
        lacks.append(f"model=..., the class {run.recipe.model.name.removeprefix('python:')}")
    if lacks:
        raise RunError(
            "The run was started from Python with objects that no file holds.",
            where=run.path,
            remedy=f"Resume it from Python: flambeau.resume({str(run.path)!r}, ...) with {' and '.join(lacks)}.",
        )


def require_same_data(run: Run, job: Job) -> None:
    """Refuses data that is not what it was when a run began.

    Raises:
        RunError: It is not, or gives other facts.
    """
    before = run.info["data"]["hash"]
    where = job.dataset.info.get("source") or job.dataset.name
    if job.dataset.hash != before:
        raise RunError(
            "The data is not what it was when the run began.",
            where=where,
            expected=f"content hash {before[:16]}…",
            received=f"content hash {job.dataset.hash[:16]}…",
            remedy="Put the data back as it was, or start a new run.",
        )
    facts, learnt = _as_json(job.facts), run.info["facts"]
    changed = sorted(name for name in facts.keys() | learnt.keys() if facts.get(name) != learnt.get(name))
    if changed:
        raise RunError(
            f"The same data now gives other facts than when the run began: {', '.join(changed)}.",
            where=where,
            remedy="Resume with the versions that run.json names, or start a new run.",
        )


def _info(job: Job, segments: list[Segment]) -> dict[str, Any]:
    return {
        "format": 1,
        "status": "training",
        "started": _now(),
        "data": data_record(job.dataset, job.facts),
        "facts": _as_json(job.facts),
        "scoring": _scoring(job),
        "notes": list(job.dataset.info.get("notes", [])),
        "device": str(job.device),
        "threads": torch.get_num_threads(),
        "versions": environment.versions(),
        "machine": environment.machine(),
        "segments": [segment.to_dict() for segment in segments],
        "found": dict(job.found),
        "history": [],
        "resumed_from": None,
    }


def _scoring(job: Job) -> dict[str, Any]:
    """What states of the model are chosen by, and which scores are shown beside the loss."""
    metrics = job.metrics()
    return {"select": metrics.select, "mode": metrics.mode, "shown": [name for name, _ in metrics.columns]}


def _tell_facts(job: Job, state: State, run: Run) -> None:
    """Says what is about to happen."""
    data = data_record(job.dataset, job.facts)
    parameters = sum(parameter.numel() for parameter in state.model.parameters())
    sizes = ", ".join(f"{count:,} {name}" for name, count in data["examples"].items())
    job.teller.facts(
        {
            "recipe": job.recipe.name,
            "data": f"{data['name']} ({sizes})",
            "model": f"{job.recipe.model.name} ({parameters:,} parameters), batches of {job.batch_size}",
            "device": devices.describe(job.device),
            "run": run.path,
        }
    )
    job.teller.notes(job.dataset.info.get("notes", []))
    if job.recipe.show.facts:
        batch = next(iter(job.stream().epoch(0, 0)))
        for name, tensor in batch.items():
            if name != "row":
                job.teller.say(f"batch {name}: shape {list(tensor.shape)}, {tensor.dtype}")
        job.teller.say(str(state.model))


def default_folder(job: Job) -> Path:
    """``runs/<data>-<model>-<time>``, with a number behind it when there is one of that name."""
    model = job.recipe.model.name.rpartition(":")[2]
    stem = f"{job.dataset.name}-{model}-{datetime.now().astimezone():%Y%m%d-%H%M%S}".replace(os.sep, "-")
    candidates = (Path("runs") / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 1000))
    return next(path for path in candidates if not path.exists())


def _with_absolute_source(recipe: Recipe) -> Recipe:
    """The recipe with its folder or file as an absolute path, so that a resume finds it from anywhere."""
    if in_file(recipe.task):
        file, _, name = recipe.task.rpartition(":")
        recipe = recipe.model_copy(update={"task": f"{Path(file).expanduser().resolve()}:{name}"})
    source = recipe.data.source
    if source is None or source in catalog.names("datasets"):
        return recipe
    file, colon, name = source.rpartition(":") if in_file(source) else (source, "", "")
    path = Path(file).expanduser()
    if not path.exists():
        return recipe
    data = recipe.data.model_copy(update={"source": f"{path.resolve()}{colon}{name}"})
    return recipe.model_copy(update={"data": data})


def _class_name(model: Any) -> str:
    return type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", "network")


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
