"""Texts into classes: one label a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from flambeau.columns import Column, Columns, Dataset, Ragged, Split
from flambeau.core import Batch, Builder, Draw, Facts, Metrics, Scores, Transform, device_of
from flambeau.data import texts
from flambeau.data.doubts import of_text
from flambeau.data.hashing import key, keys
from flambeau.data.inputs import shortened, text_inputs, text_problem
from flambeau.data.splits import with_test_and_validation
from flambeau.data.tokens import UNKNOWN, encode, size, train_tokenizer
from flambeau.errors import BadRows, DataError, FlambeauError
from flambeau.metrics.classification import COLUMNS
from flambeau.models.bert import CHECKPOINT, checkpoint_facts, load_pretrained
from flambeau.models.fit import dry_run
from flambeau.models.text import TextClassifier
from flambeau.models.text_baseline import fit
from flambeau.recipe import Part, Recipe
from flambeau.task import Baseline, Intake, Outcome, Shown, Task, View
from flambeau.tasks import labels
from flambeau.tasks.common import check_outputs, column_checks, tensors
from flambeau.tasks.text_program import program
from flambeau.tasks.wires import wires

_WORDS = 11
"""The stream of draws that words are dropped by."""

FEW = 0.4
"""A class with less than this part of the rows is the rarer of two, and the one whose F1 is told."""


class Options(Part):
    """What only this task has."""

    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The part of the words of a training text that are replaced by the unknown word, others in every epoch."""


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """Classes and the tokeniser: one trained on these texts, or that of the pretrained model that is to be tuned."""
    wanted = recipe.text
    known = {"classes": list(info["classes"]), "max_length": wanted.max_length}
    checkpoint = recipe.model.arguments().get(CHECKPOINT)
    if checkpoint is not None:
        return {**known, **checkpoint_facts(str(checkpoint), wanted.max_length)}
    tokenizer = train_tokenizer(texts.texts_of(split.columns), wanted)
    return {
        **known,
        "tokenizer": tokenizer,
        "vocabulary": size(tokenizer),
        "before": [],
        "after": [],
        "shift": 0,
        "unknown": UNKNOWN,
    }


def read(raw: Columns, facts: Facts) -> dict[str, Column]:
    """Texts to token numbers, Ragged int32; a text without a single token becomes one unknown one.

    Raises:
        BadRows: Some are no texts, empty or much too long.
    """
    given = texts.texts_of(raw)
    bad: dict[int, FlambeauError] = {}
    for row, text in enumerate(given):
        problem = text_problem(text)
        if problem:
            bad[row] = DataError(problem, received=None if isinstance(text, str) else repr(text)[:80])
    if bad:
        raise BadRows(bad)
    rows = encode(facts["tokenizer"], given, facts["max_length"], facts["before"], facts["after"])
    rows = Ragged(rows.values + facts["shift"], rows.offsets)
    return {**raw, "tokens": _never_empty(rows, facts["unknown"])}


def _never_empty(rows: Ragged, unknown: int) -> Ragged:
    empty = rows.lengths == 0
    if not bool(empty.any()):
        return rows
    lengths = rows.lengths.clamp(min=1)
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    values = rows.values.new_full((int(offsets[-1]),), unknown)
    values[(~empty).repeat_interleave(lengths)] = rows.values
    return Ragged(values, offsets)


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with the number of training texts of each class, and how many tokens texts have."""
    lengths = split.ragged("tokens").lengths
    return {
        **facts,
        "counts": torch.bincount(split.tensor("label"), minlength=len(facts["classes"])).tolist(),
        "tokens": {"least": int(lengths.min()), "median": int(lengths.median()), "most": int(lengths.max())},
    }


def collate(examples: Columns) -> Batch:
    """Tokens int32 ``(N, T)``, each row followed by zeros, and the columns that are tensors already."""
    tokens = examples["tokens"]
    if not isinstance(tokens, Ragged):
        raise TypeError("The tokens are not ragged; the texts have not been read yet.")
    return {"tokens": tokens.padded(), **tensors(examples)}


def transform(recipe: Recipe, facts: Facts) -> Transform | None:
    """Word dropout (Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods", ACL 2015)."""
    rate = Options.model_validate(recipe.options).word_dropout
    return word_dropout(rate, facts["unknown"]) if rate else None


def word_dropout(rate: float, unknown: int) -> Transform:
    """Replaces each token by the unknown one with this probability, by (seed, epoch, row, place) alone."""

    def transform(batch: Batch, draw: Draw) -> Batch:
        tokens = batch["tokens"]
        rows = keys(key(draw.seed, draw.epoch, _WORDS), draw.rows.to(tokens.device))
        places = keys(key(_WORDS), torch.arange(tokens.shape[1], device=tokens.device))
        drawn = (keys(key(_WORDS, 1), rows.unsqueeze(1) ^ places) >> 40) & 0xFFFFFF
        return {**batch, "tokens": tokens.masked_fill((drawn < rate * (1 << 24)) & (tokens != 0), unknown)}

    return transform


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named network of tokens, with its temperature; checked with a short text where the loss asks for more."""
    network = builder(facts, **recipe.model.arguments())
    if recipe.loss.name == "nll":
        with dry_run(network):
            check_outputs(recipe, network(example(facts)["tokens"].to(device_of(network))))
    return TextClassifier(network)


def metrics(recipe: Recipe, facts: Facts) -> Metrics:
    """Accuracy and what belongs to it; of two classes ``f1`` as well, that of the rarer one, or of the second."""
    made = labels.metrics(recipe, facts)
    if len(facts["classes"]) != 2:
        return made
    chosen = positive(facts)

    def result(sums: Mapping[str, Tensor]) -> Scores:
        confusion = sums["confusion"].cpu()
        both = float(confusion[chosen].sum() + confusion[:, chosen].sum())
        f1 = 2 * float(confusion[chosen, chosen]) / both if both else float("nan")
        return {**made.result(sums), "f1": f1}

    return replace(made, result=result, columns=(*COLUMNS, ("f1", ".4f")))


def positive(facts: Facts) -> int:
    """Of two classes the one whose F1 is told: the rarer, where one is rare, else the second."""
    counts = facts["counts"]
    return 0 if counts[0] < FEW * sum(counts) else 1


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits ``(N, K)`` and calibrated probabilities ``(N, K)``, both float32."""
    return labels.outputs_of(model, model(batch["tokens"]))


def example(facts: Facts) -> dict[str, Tensor]:
    """One text of a few unknown words, int32 ``(1, T)``."""
    return {"tokens": torch.full((1, min(8, facts["max_length"] or 8)), facts["unknown"], dtype=torch.int32)}


def doubts(batch: Batch, facts: Facts) -> list[str | None]:
    """Texts most of whose words occur in no training text, in a sentence."""
    marks = len(facts["before"]) + len(facts["after"])
    rows = ([token for token in row if token] for row in batch["tokens"].tolist())
    return [of_text(row, facts["unknown"], marks) for row in rows]


def baseline(dataset: Dataset, facts: Facts, recipe: Recipe) -> Baseline:
    """Softmax regression on words and pairs of words, chosen by the validation split where there is one."""
    train, test, val = (dataset.splits.get(name) for name in ("train", "test", "val"))
    if train is None or test is None:
        raise DataError("There is nothing to compare with.", expected="a training and a test split")
    chosen = None if val is None or val is test else (val.ragged("tokens"), val.tensor("label"))
    vocabulary = facts["vocabulary"] + facts["shift"]
    model = fit(
        train.ragged("tokens"), train.tensor("label"), len(facts["classes"]), vocabulary, validation=chosen
    )  # fmt: skip
    logits = model.logits(test.ragged("tokens"))
    score = metrics(recipe, facts)
    sums = score.start(torch.device("cpu"))
    score.add(sums, {"logits": logits, "probabilities": logits.softmax(1)}, {"label": test.tensor("label")})
    return Baseline("softmax regression on words and pairs of words", score.result(sums))


def ready(model: nn.Module, dataset: Dataset) -> None:
    """Loads the pretrained weights, where there are any."""
    if isinstance(model, TextClassifier):
        load_pretrained(model.network)


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers and sections: scores, confusion, classes, calibration, mistakes, lengths, telling words."""
    from flambeau.report.texts import text_report

    return text_report(outcome)


def tell(outcome: Outcome, recipe: Recipe) -> list[str | Shown]:
    """Accuracy and loss on the test split, and the F1 of the rarer of two classes."""
    told: list[str | Shown] = [*labels.tell(outcome, recipe)]
    f1 = outcome.evaluation.scores.get("f1")
    if f1 is not None:
        told.append(f"test F1 of {outcome.facts['classes'][positive(outcome.facts)]}: {f1:.4f}")
    return told


def about(found: Mapping[str, Any]) -> dict[str, str]:
    """How long texts are."""
    words = found["words"]
    return {
        "words": f"{words['least']:,} to {words['most']:,} a text, half of the texts at most {words['median']:,}; "
        f"{words['different']:,} different ones in train"
    }


def samples(dataset: Dataset, count: int) -> list[str | Shown]:
    """A few training texts of each class."""
    train, classes = dataset.splits["train"], dataset.info["classes"]
    label, given = train.tensor("label"), texts.texts_of(train.columns)
    share = -(-count // max(1, len(classes)))
    rows = [row for number in range(len(classes)) for row in (label == number).nonzero().flatten()[:share].tolist()]
    return [f"{classes[int(label[row])]}: {shortened(given[row], 100)}" for row in rows[:count]]


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    return column_checks(recipe, "text", "label") + labels.checks(recipe)


INTAKE = Intake(
    forms=texts.FORMS,
    claims=texts.looks_like_texts,
    open=lambda path, recipe: texts.open_texts(path, recipe.data),
    of_python=lambda source, name, origin, recipe: texts.from_python(source, name, origin),
    divide=lambda dataset, recipe: with_test_and_validation(dataset, recipe.data, noun="texts"),
    describe=texts.describe,
    align=labels.align,
)

VIEW = View(
    asks="TEXT...",
    inputs=text_inputs,
    line=labels.line,
    cells=labels.cells,
    truth=labels.truth,
    breakdown=labels.breakdown,
    report=report,
    tell=tell,
    about=about,
    samples=samples,
    private=("tokenizer", "counts", "before", "after", "shift", "unknown", "encoder"),
)

_logits: Callable[[nn.Module, Batch], Tensor] = lambda model, batch: model(batch["tokens"])  # noqa: E731

TASK = Task(
    name="text-classification",
    about="One of several classes for each text.",
    family="text",
    recipe="text",
    input="text",
    intake=INTAKE,
    view=VIEW,
    facts=facts,
    read=read,
    measure=measure,
    collate=collate,
    transform=transform,
    build=build,
    phases=lambda recipe, facts: labels.phases_of(recipe, facts, _logits),
    metrics=metrics,
    predict=predict,
    decode=labels.decode,
    example=example,
    toy={
        "classes": ["a", "b"],
        "vocabulary": 10_000,
        "max_length": None,
        "unknown": UNKNOWN,
        "before": [],
        "after": [],
        "shift": 0,
        "counts": [1, 1],
    },
    parts=("text",),
    options=Options,
    checks=checks,
    lengths=lambda split: split.ragged("tokens").lengths,
    ready=ready,
    keep=labels.KEPT,
    doubts=doubts,
    calibrate=labels.calibrate,
    baseline=baseline,
    program=program,
    wire=wires("text", "classes"),
)
