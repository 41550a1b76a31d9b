"""Pictures from noise: a generator and a discriminator that are trained against each other (Goodfellow et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.columns import Dataset, Split
from flambeau.core import Batch, Builder, Draw, Facts, Loss, Metrics, Phase, Scores, Transform, device_of
from flambeau.data import brightness, pictures, preview
from flambeau.data.augment import draws
from flambeau.data.hashing import dataset_hash, key
from flambeau.data.loader import order
from flambeau.data.opening import EXTENSIONS, picture_inputs
from flambeau.data.splits import with_test_and_validation
from flambeau.metrics import frechet
from flambeau.models.gan import Features, Gan, classifier, generate, prepared
from flambeau.recipe import Count, Part, Recipe
from flambeau.task import Intake, Outcome, SampleRequest, Shown, Task, View
from flambeau.tasks import gan_program, image_inputs
from flambeau.tasks.common import classless_checks, column_checks, optimizer_checks, optimizer_of, tensors
from flambeau.tasks.wires import wires

VALIDATED = 2000
"""Pictures that an automatic validation split has at most: enough for a distance, cheap after every epoch."""

TAUGHT, LESSONS, LESSON = 6000, 4, 50
"""Pictures that the classifier behind the distance learns from, how often it sees them, and how many at a time."""

COLLAPSED = 0.6
"""Below this diversity or variety the samples are called collapsed."""

BEATEN = 0.98
"""Above this rate of right verdicts on both kinds the generator is called beaten."""

_NOISE, _SEED, _FIXED = 21, 0x6A17, 0x5EED


class GanOptions(Part):
    """What only a GAN has."""

    noise: Count = 100
    """How many normal numbers a picture is made of."""


def open_folder(path: Path, recipe: Recipe) -> Dataset:
    """The pictures in a folder: with their classes where it has two class folders or more, else without any."""
    if path.is_dir():
        inside = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__"))]
        if sum(pictures.holds(entry, EXTENSIONS) for entry in inside) < 2:
            files = sorted(found for found in path.rglob("*") if found.suffix.lower() in EXTENSIONS)
            return _unlabelled(files, path.absolute().name, str(path.absolute()))
    return pictures.open_pictures(path, recipe)


def of_python(source: Any, name: str | None, origin: str | None, recipe: Recipe) -> Dataset:
    """Pictures with labels as the picture tasks take them, or pictures alone: an array, a tensor or a list."""
    if isinstance(source, list) or hasattr(source, "dtype"):
        return _unlabelled(source, name or "pictures", origin or "pictures in memory")
    return pictures.pictures_of_python(source, name, origin, recipe)


def _unlabelled(images: Any, name: str, source: str) -> Dataset:
    from flambeau.data.arrays import pictures as column_of

    notes = ["The pictures have no classes."]
    splits = {"train": Split({"image": column_of(images, where="train", notes=notes)})}
    info = {"classes": [], "source": source, "mirror": True, "notes": notes}
    return Dataset(name, splits, info, dataset_hash(splits))


def divide(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The data set with its splits made; validation has at most 2,000 pictures unless the recipe says how many."""
    data = recipe.data
    if data.validation == "auto" and "val" not in dataset.splits:
        fraction = min(0.1, VALIDATED / max(1, len(dataset.splits["train"])))
        data = data.model_copy(update={"validation": fraction})
    return with_test_and_validation(dataset, data)


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """What is known about the pictures, as for every picture task, and how much noise one is made of."""
    known = image_inputs.facts_of(split, info, recipe)
    return {"classes": list(info.get("classes", ())), **known, "noise": GanOptions.model_validate(recipe.options).noise}


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with how dark and how bright pictures are."""
    return {**facts, "brightness": brightness.ranges(split.tensor("image").numpy())}


def transform(recipe: Recipe, facts: Facts) -> Transform:
    """Varies the pictures as the recipe says, and draws noise ``(N, 2, Z)``: one row for each of the two phases."""
    vary = image_inputs.transform(recipe, facts)
    size = facts["noise"]

    def add_noise(batch: Batch, draw: Draw) -> Batch:
        varied = batch if vary is None else vary(batch, draw)
        rows = draw.rows.to(batch["image"].device)
        noise = normals(Draw(draw.seed, draw.epoch, rows), 2 * size)
        return {**varied, "noise": noise.view(-1, 2, size)}

    return add_noise


def normals(draw: Draw, n: int) -> Tensor:
    """Standard normal numbers, ``n`` for each row, float32 ``(len(rows), n)``; a function of the draw alone.

    By the method of Box and Muller ("A note on the generation of random normal deviates", 1958).
    """
    half = -(-n // 2)
    first, second = draws(draw, _NOISE, 2 * half).split(half, dim=1)  # type: ignore[no-untyped-call]
    radius, angle = (-2 * torch.log1p(-first)).sqrt(), 2 * torch.pi * second
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :n]


def fixed_noise(rows: Tensor, size: int, seed: int = _FIXED) -> Tensor:
    """The noise ``(N, Z)`` of these rows in every evaluation."""
    return normals(Draw(seed, 0, rows), size)


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """Generator and discriminator as one network."""
    return Gan(builder(facts, **recipe.model.arguments()), facts)


def ready(model: nn.Module, dataset: Dataset) -> None:
    """Teaches the classifier whose features distances are measured by: the same one for the same data, every time.

    It sees a few thousand labelled training pictures. Pictures without labels are compared by a random network, which
    the report says. No global generator moves.
    """
    if isinstance(model, Gan):
        with torch.random.fork_rng(devices=[]):
            # Of the processor's generator alone: torch.manual_seed would reach the accelerators' too.
            torch.default_generator.manual_seed(_SEED)
            network = classifier(model.features.facts)
        device = device_of(model)
        accuracy = _teach(network.to(device), model.features, dataset, device)
        model.features.adopt(network, accuracy)


def _teach(network: nn.Module, features: Features, dataset: Dataset, device: torch.device) -> float | None:
    train = dataset.splits["train"]
    train = train.take(order(_SEED, 0, len(train))[:TAUGHT])
    network.train()
    if len(features.facts["classes"]) < 2 or "label" not in train.columns:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the plain mean over what comes next
        with torch.no_grad():
            network(prepared(train.tensor("image")[:512].to(device), features.shrink))
        return None
    steps = LESSONS * -(-len(train) // LESSON)
    learner = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(learner, max_lr=5e-3, total_steps=steps)
    for lesson in range(LESSONS):
        for rows in torch.split(order(_SEED, lesson + 1, len(train)), LESSON):
            part = train.take(rows)
            images = prepared(part.tensor("image").to(device), features.shrink)
            if len(rows) > 1:  # batch normalisation cannot take a single row
                learner.zero_grad()
                F.cross_entropy(network(images), part.tensor("label").to(device)).backward()  # type: ignore[no-untyped-call]
                learner.step()
            schedule.step()
    network.eval()
    held = dataset.splits.get("val", dataset.splits["test"]).slice(0, VALIDATED)
    right = 0
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(held)), 256):
            part = held.take(rows)
            guess = network(prepared(part.tensor("image").to(device), features.shrink)).argmax(1).cpu()
            right += int((guess == part.tensor("label")).sum())
    return right / max(1, len(held))


def phases(recipe: Recipe, facts: Facts) -> tuple[Phase, ...]:
    """First the discriminator learns to tell pictures from samples, then the generator to make it take them for real.

    The generator's loss is the non-saturating one. ``loss.label_smoothing`` lowers what is wanted for real pictures,
    and for them alone (Salimans et al. 2016, arXiv 1606.03498).
    """
    wanted = 1 - recipe.loss.label_smoothing

    def tell_apart(model: nn.Module, batch: Batch) -> Loss:
        judged = model(images=batch["image"], noise=batch["noise"][:, 0])
        parts = {f"{name}_as_real": judged[name].detach().sigmoid().sum() for name in ("real", "fake")}
        return Loss(_entropy(judged["real"], wanted) + _entropy(judged["fake"], 0.0), parts)

    def deceive(model: nn.Module, batch: Batch) -> Loss:
        return Loss(_entropy(model(noise=batch["noise"][:, 1])["fake"], 1.0))

    def count(batch: Batch) -> float:
        return len(batch["image"])

    make = optimizer_of(recipe)
    return (
        Phase("discriminator", tell_apart, count, make, trains=_belongs("discriminator.")),
        Phase("generator", deceive, count, make, trains=_belongs("generator.")),
    )


def _belongs(prefix: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(prefix)


def _entropy(logits: Tensor, wanted: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted), reduction="sum")


def metrics(recipe: Recipe, facts: Facts) -> Metrics:
    """The Fréchet distance, how varied samples are, and how often the discriminator is right.

    ``frechet`` selects, less is better. ``diversity`` is the spread of samples over that of pictures, and ``variety``
    the effective number of classes among samples over that among pictures, as the classifier behind the distance sees
    them (only where there are classes). ``real_right`` and ``fake_right`` are fractions of right verdicts, ``loss`` is
    the discriminator's.
    """
    classes = facts["classes"] if len(facts["classes"]) > 1 else ["one", "two"]
    with torch.device("meta"):  # only its size is wanted, and no generator is to move
        features = Features({**facts, "classes": classes}).size

    def start(device: torch.device) -> dict[str, Tensor]:
        sums = {f"{kind}_{name}": value for kind in _KINDS for name, value in frechet.start(features, device).items()}
        for kind in _KINDS:
            sums[f"{kind}_classes"] = torch.zeros(len(classes), dtype=torch.int64, device=device)
            sums[f"{kind}_hits"] = torch.zeros((), dtype=torch.int64, device=device)
            sums[f"{kind}_loss"] = torch.zeros_like(sums["real_sum"][0])
        return sums

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        for kind in _KINDS:
            frechet.add(_of(sums, kind), outputs[f"{kind}_features"])
            seen = outputs[f"{kind}_class"]
            sums[f"{kind}_classes"].index_add_(0, seen, torch.ones_like(seen))
            logits = outputs["logits" if kind == "real" else "fake_logits"].to(sums["real_loss"].dtype)
            sums[f"{kind}_hits"] += (logits > 0).sum() if kind == "real" else (logits <= 0).sum()
            sums[f"{kind}_loss"] += _entropy(logits, 1.0 if kind == "real" else 0.0)

    def result(sums: Mapping[str, Tensor]) -> Scores:
        return _scores(sums, labelled=len(facts["classes"]) > 1)

    columns = (("loss", ".4f"), ("frechet", ".3f"), ("diversity", ".3f"))
    return Metrics(start, add, result, select="frechet", mode="min", columns=columns)


_KINDS = ("real", "fake")


def _of(sums: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {name: sums[f"{kind}_{name}"] for name in ("count", "sum", "products")}


def _scores(sums: Mapping[str, Tensor], *, labelled: bool) -> Scores:
    real, fake = _of(sums, "real"), _of(sums, "fake")
    counts = {kind: max(1, int(sums[f"{kind}_count"])) for kind in _KINDS}
    scores = {
        "frechet": frechet.distance(real, fake),
        "diversity": frechet.diversity(fake, real),
        "loss": sum(float(sums[f"{kind}_loss"]) / counts[kind] for kind in _KINDS),
        "real_right": float(sums["real_hits"]) / counts["real"],
        "fake_right": float(sums["fake_hits"]) / counts["fake"],
    }
    if labelled:
        scores["variety"] = frechet.effective(sums["fake_classes"]) / frechet.effective(sums["real_classes"])
    return scores


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits and probability ``(N,)`` of each picture being real.

    In an evaluation, where rows have numbers, as many samples are made of noise that belongs to the numbers; the
    outputs are then completed by what the scores are made of.
    """
    if "row" not in batch:
        logits = model(images=batch["image"])["real"]
        return {"logits": logits, "probability": logits.sigmoid()}
    noise = fixed_noise(batch["row"], int(model.noise))  # type: ignore[arg-type]
    judged = model(images=batch["image"], noise=noise, compare=True)
    compared = {name: value for name, value in judged.items() if name.endswith(("_features", "_class"))}
    logits = judged["real"]
    return {"logits": logits, "probability": logits.sigmoid(), "fake_logits": judged["fake"], **compared}


def trace(model: nn.Module, batch: Batch) -> Any:
    """One sample made and judged, so that the layers of both networks are seen."""
    images = batch["image"]
    return model(noise=fixed_noise(torch.arange(len(images), device=images.device), int(model.noise)))  # type: ignore[arg-type]


def decode(outputs: Batch, facts: Facts) -> list[dict[str, Any]]:
    """For each picture the discriminator's verdict, ``real`` or ``made``, and the probability of its being real."""
    verdicts = ["real" if logit > 0 else "made" for logit in outputs["logits"].tolist()]
    probabilities = outputs["probability"].tolist()
    return [{"verdict": said, "probability": p} for said, p in zip(verdicts, probabilities, strict=True)]


def warnings_of(scores: Mapping[str, float]) -> list[str]:
    """What has gone wrong by the scores, in sentences: mode collapse, and a generator that is beaten."""
    found = []
    if scores["diversity"] < COLLAPSED:
        found.append(
            f"Mode collapse: samples differ from each other only {scores['diversity']:.0%} as much as pictures do."
        )
    if scores.get("variety", 1.0) < COLLAPSED:
        found.append(
            f"Mode collapse: samples spread over only {scores['variety']:.0%} as many classes as pictures do, as the "
            "classifier behind the distance sees them."
        )
    if min(scores["real_right"], scores["fake_right"]) > BEATEN:
        found.append(
            "The discriminator tells nearly all samples from pictures: the generator learns little from it. A lower "
            "optimizer.lr, or loss.label_smoothing = 0.1, can help."
        )
    return found


def features_sentence(model: nn.Module) -> str:
    """Which features distances are measured by."""
    features = model.features
    if isinstance(features, Features) and bool(features.trained):
        return (
            f"Features are those of a small classifier of our own, trained on {TAUGHT:,} labelled training pictures at "
            f"most, which names {float(features.accuracy):.1%} of held-out pictures right."
        )
    return "The pictures have no labels, so features are those of a small network with fixed random weights."


def sample(model: nn.Module, facts: Facts, request: SampleRequest) -> Iterator[str | Shown]:
    """A grid of so many new pictures; the seed says which."""
    made = generate(model, fixed_noise(torch.arange(request.n), facts["noise"], key(_SEED, request.seed)))
    yield _shown(f"samples-{request.seed}.png", made)


def snapshot(model: nn.Module, facts: Facts) -> Shown:
    """A grid of 64 pictures, always from the same noise."""
    return _shown("samples.png", generate(model, fixed_noise(torch.arange(64), facts["noise"])))


def _shown(name: str, made: Tensor) -> Shown:
    from flambeau.data.preview import to_terminal
    from flambeau.report.gan import sheet

    def terminal(width: int) -> Any:
        columns = max(1, width // 22)
        part = made[: 2 * columns]
        return to_terminal(part, [""] * len(part), columns)

    return Shown(name, sheet(made), terminal)


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers, and samples, samples over time, distances, nearest training pictures."""
    from flambeau.report import gan as page

    scores = outcome.evaluation.scores
    images = generate(outcome.model, fixed_noise(torch.arange(page.SHOWN), outcome.facts["noise"]))
    counts = (int(outcome.evaluation.sums["real_count"]), int(outcome.evaluation.sums["fake_count"]))
    trained = bool(outcome.model.features.trained)  # type: ignore[union-attr]
    note = "in features of our own classifier" if trained else "in features of random weights"
    sections = [
        page.samples(images),
        page.over_time(outcome.snapshots),
        page.distances(scores, features_sentence(outcome.model), counts, warnings_of(scores)),
        page.nearest(images, outcome.dataset.splits["train"].tensor("image")),
    ]
    return page.cards(scores, note), [section for section in sections if section is not None]


def tell(outcome: Outcome, recipe: Recipe) -> list[str | Shown]:
    """The distance with its features, how varied samples are, warnings, and some samples."""
    scores = outcome.evaluation.scores
    variety = f", variety {scores['variety']:.3f}" if "variety" in scores else ""
    right = f"{scores['real_right']:.1%} of pictures and {scores['fake_right']:.1%} of samples"
    lines: list[str | Shown] = [
        f"test Fréchet distance {scores['frechet']:.3f}, diversity {scores['diversity']:.3f}{variety}",
        features_sentence(outcome.model),
        f"the discriminator recognises {right}",
    ]
    return [*lines, *(f"warning: {sentence}" for sentence in warnings_of(scores))]


def line(row: Mapping[str, Any], top: int) -> str:
    """A verdict in a line."""
    return f"{row['verdict']}  (probability of being real {row['probability']:.1%})"


def cells(row: Mapping[str, Any], top: int) -> dict[str, str]:
    """A verdict as columns."""
    return {"verdict": row["verdict"], "probability": f"{row['probability']:.6f}"}


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    mistakes = recipe.augment.contradictions(recipe.train.batch_size, recipe.images.channels)
    if recipe.augment.mixes:
        mistakes.append("augment.mixup, augment.cutmix: a GAN has no labels to mix beside the pictures; set both to 0")
    return mistakes + column_checks(recipe, *pictures.ROLES) + classless_checks(recipe) + optimizer_checks(recipe)


INTAKE = Intake(
    forms="a folder of pictures, with class folders or without",
    claims=pictures.claims_pictures,
    open=open_folder,
    of_python=of_python,
    divide=divide,
    describe=preview.describe,
)

VIEW = View(
    asks="PICTURE...",
    inputs=picture_inputs,
    line=line,
    cells=cells,
    report=report,
    tell=tell,
    about=image_inputs.about,
    samples=image_inputs.samples,
    thumbnail=image_inputs.thumbnail,
    insight=image_inputs.insight,
    private=("rules", "brightness"),
)

TASK = Task(
    name="gan",
    about="New pictures like those given, from noise.",
    family="gan",
    recipe="gan",
    input="image",
    intake=INTAKE,
    view=VIEW,
    facts=facts,
    read=image_inputs.read,
    measure=measure,
    collate=tensors,
    transform=transform,
    build=build,
    ready=ready,
    phases=phases,
    metrics=metrics,
    predict=predict,
    decode=decode,
    example=image_inputs.example,
    toy={"classes": [str(number) for number in range(10)], "size": [28, 28], "channels": 1, "noise": 100},
    parts=("images", "augment"),
    options=GanOptions,
    checks=checks,
    keep=("logits", "fake_logits"),
    doubts=image_inputs.doubts,
    trace=trace,
    sample=sample,
    snapshot=snapshot,
    program=partial(gan_program.program, predict),
    wire=wires("picture", "verdicts"),
)
