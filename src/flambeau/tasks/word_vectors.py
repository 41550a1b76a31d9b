"""Vectors for words from running text: words that occur in the same surroundings get similar vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from flambeau.columns import Column, Columns, Dataset, Ragged, Split
from flambeau.core import Batch, Builder, Draw, Facts, Loss, Metrics, Phase, Transform
from flambeau.data import corpus
from flambeau.data.inputs import query, word_inputs
from flambeau.data.words import blocks, drawn, has_context, numbered, tables, vocabulary
from flambeau.engine.optim import Factory, NamedParameters
from flambeau.errors import BadRows, DataError, FlambeauError
from flambeau.metrics.vectors import block_sums, losses, nearest, negative_sampling, unit
from flambeau.models.word_vectors import Scored, WordModel
from flambeau.program import Call, Compared, Graph, Port, Program, Wish, require_varying
from flambeau.recipe import Count, Part, Recipe
from flambeau.task import Intake, Outcome, Shown, Task, View
from flambeau.tasks import answers
from flambeau.tasks.answers import NEIGHBOURS
from flambeau.tasks.common import classless_checks, optimizer_checks, optimizer_of
from flambeau.tasks.wires import wires


class Options(Part):
    """What only this task has; the names and values are those of the word2vec program."""

    window: Count = 5
    """The most words to either side that count as a word's surroundings."""
    negatives: Count = 5
    """Noise words for each true one."""
    subsample: Annotated[float, Field(ge=0, lt=1)] = 1e-3
    """Words that make up more of the text than this fraction are thinned out; 0 keeps all."""


def about(found: Mapping[str, Any]) -> dict[str, str]:
    """How long the texts are."""
    return {"text": ", ".join(f"{name} {count:,} characters" for name, count in found["characters"].items())}


def samples(dataset: Dataset, count: int) -> list[str | Shown]:
    """How the first texts begin."""
    return [" ".join(str(text)[:200].split()) for text in dataset.splits["train"]["text"][:count]]


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """The vocabulary with how often each word occurs, the most frequent first, and the recipe's options."""
    wanted = recipe.text
    words, counts = vocabulary(
        _texts(split["text"]), lower=wanted.lower, min_count=wanted.min_count, most=wanted.vocabulary
    )
    options = Options.model_validate(recipe.options).model_dump()
    return {"words": words, "counts": counts, "lower": wanted.lower, "vocabulary": len(words), **options}


def _texts(column: Column) -> list[str]:
    if not isinstance(column, list):
        raise DataError("Texts are needed here.", received=type(column).__name__)
    return [str(text) for text in column]


def read(raw: Columns, facts: Facts) -> dict[str, Column]:
    """Texts to the numbers of their words; queries (``query``) to words with a sign.

    Raises:
        BadRows: A query holds a word that is not in the vocabulary. In a text such words are left out.
    """
    if "query" not in raw:
        return {"words": numbered(_texts(raw["text"]), facts["words"], lower=facts["lower"])}
    bad: dict[int, FlambeauError] = {}
    found: list[list[tuple[int, float]]] = []
    for row, text in enumerate(_texts(raw["query"])):
        try:
            found.append(query(text, facts["words"], lower=facts["lower"]))
        except DataError as error:
            bad[row] = error
    if bad:
        raise BadRows(bad)
    return {
        "query": Ragged.of([[number for number, _ in row] for row in found]),
        "sign": Ragged.of([[sign for _, sign in row] for row in found], torch.float32),
    }


def arrange(split: Split, facts: Facts) -> Split:
    """The words of all texts in blocks of consecutive ones, int32 ``(n, 128)``."""
    return Split({"words": blocks(split.ragged("words"))})


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with the number of words in the training text that the vocabulary holds."""
    return {**facts, "text": sum(facts["counts"])}


def collate(examples: Columns) -> Batch:
    """Blocks as they are; queries padded with -1, whose sign is 0."""
    made = {}
    for name, column in examples.items():
        if isinstance(column, Ragged):
            column = column.padded(0 if name == "sign" else -1)
        if isinstance(column, Tensor):
            made[name] = column
    return made


def transform(recipe: Recipe, facts: Facts) -> Transform:
    """Thins out frequent words, and draws windows and noise words."""
    by = tables(facts["counts"], facts["subsample"])

    def draw_for(batch: Batch, draw: Draw) -> Batch:
        keep, noise = (by[name].to(batch["words"].device) for name in ("keep", "noise"))
        return {**batch, **drawn(batch["words"], draw, keep, noise, facts["window"])}

    return draw_for


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named network, with the tables that evaluation draws by."""
    network = builder(facts, **recipe.model.arguments())
    return WordModel(network, tables(facts["counts"], facts["subsample"]), facts["window"], facts["negatives"])


def phases(recipe: Recipe, facts: Facts) -> tuple[Phase, ...]:
    """One phase: the loss of negative sampling, a prediction."""
    by_word = recipe.model.name == "cbow"

    def loss(model: nn.Module, batch: Batch) -> Loss:
        scored: Scored = model(batch["words"], batch["context"], batch["noise"])
        return Loss(losses(scored.true, scored.counted, scored.noise, facts["negatives"]).sum())

    def count(batch: Batch) -> float:
        context = batch["context"]
        # A batch in which every word was thinned out costs nothing, and changes nothing.
        return max(1.0, float((has_context(context) if by_word else context).sum()))

    return (Phase("loss", loss, count, _sparse_optimizer(recipe)),)


def _sparse_optimizer(recipe: Recipe) -> Factory:
    """The recipe's optimiser in the form that takes sparse gradients: only words that occur are touched."""

    def make(parameters: NamedParameters) -> torch.optim.Optimizer:
        # Said expressly: what these optimisers put together themselves needs no check, which would double their time.
        torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
        if recipe.optimizer.name != "adam" or recipe.model.name not in ("skip-gram", "cbow"):
            return optimizer_of(recipe)(parameters)
        part = recipe.optimizer
        return torch.optim.SparseAdam([parameter for _, parameter in parameters], lr=part.rate, betas=part.betas)

    return make


def metrics(recipe: Recipe, facts: Facts) -> Metrics:
    """The loss on held-out text, and how often the true word scores above a noise word."""
    return negative_sampling()


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """For queries the nearest words ``(n, k)`` int64 with their cosines ``(n, k)``; for blocks of text sums ``(n,)``.

    Blocks are scored with draws that are the same every time, of the kind that training draws.
    """
    network = cast(WordModel, model)
    if "query" in batch:
        chosen = batch["query"].long()
        summed = (unit(network.vectors)[chosen.clamp(min=0)] * batch["sign"].unsqueeze(2)).sum(1)
        neighbours, cosines = nearest(network.vectors, summed, NEIGHBOURS, chosen)
        return {"neighbours": neighbours, "cosines": cosines}
    made = drawn(batch["words"], Draw(0, 0, batch["row"]), network.keep, network.noise, network.window)
    scored: Scored = network(made["words"], made["context"], made["noise"])
    return block_sums(scored.true, scored.counted, scored.noise, network.negatives)


class Looked(nn.Module):
    """The vectors of words, as a tuple."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, words: Tensor) -> tuple[Tensor]:
        return (self.inner(words),)


def program(model: nn.Module, facts: Facts, wish: Wish) -> Program:
    """One graph: numbers of words to their vectors."""
    require_varying(wish, "word-vectors")
    network, count = cast(WordModel, model).network, facts["vocabulary"]
    words = Port("words", torch.arange(2) % count, ("N",), "numbers of words, as the card lists them from 0 on")

    def run(call: Call, raw: Columns | None, batch: Batch) -> dict[str, Tensor]:
        # The model with the file's vectors in place of its own.
        vectors = call("model", {"words": torch.arange(count)})["vectors"]
        return dict(torch.func.functional_call(Answering(model), {"model.network.inner.weight": vectors}, (batch,)))

    return Program(
        (Graph("model", Looked(cast(nn.Module, network.inner)).eval(), (words,), {"vectors": "(N, D) float32"}),),
        run,
        (Compared("cosines"), Compared("vectors", within=0.0)),
        {
            "front": "words",
            "words": facts["words"],
            "lower": facts["lower"],
            "similarity": "cosine",
            "neighbours": NEIGHBOURS,
            "answer": {"kind": "vectors"},
        },
        lambda: {"query": [facts["words"][0], " + ".join(facts["words"][:3])]},
        lambda: [("model", {"words": torch.arange(n) % count}) for n in (1, 3, 50)],
    )


class Answering(nn.Module):
    """What :func:`predict` says, as a module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return predict(self.model, batch)


def decode(outputs: Batch, facts: Facts) -> list[dict[str, Any]]:
    """For each query the words that are nearest to it, with the cosine."""
    pairs = zip(outputs["neighbours"].tolist(), outputs["cosines"].tolist(), strict=True)
    return [answers.neighbours_of(facts["words"], numbers, cosines) for numbers, cosines in pairs]


def example(facts: Facts) -> dict[str, Tensor]:
    """The most frequent word as a query."""
    return {"query": torch.zeros(1, 1, dtype=torch.int32), "sign": torch.ones(1, 1)}


def trace(model: nn.Module, batch: Batch) -> Any:
    """One pass over the words of a query, each the other's context."""
    words = batch["query"].long()
    there = torch.ones(*words.shape, words.shape[1], dtype=torch.bool, device=words.device)
    return model(words, there, words)


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers, neighbours of frequent words, analogies, and a map."""
    from flambeau.report.vectors import VectorReport, vector_cards, vector_sections

    made = VectorReport(
        words=outcome.facts["words"],
        counts=outcome.facts["counts"],
        vectors=cast(WordModel, outcome.model).vectors.detach().cpu(),
        keep=tables(outcome.facts["counts"], outcome.facts["subsample"])["keep"],
        split=outcome.split,
        scores=outcome.evaluation.scores,
        negatives=outcome.facts["negatives"],
    )
    return vector_cards(made), vector_sections(made)


def tell(outcome: Outcome, recipe: Recipe) -> list[str | Shown]:
    """The loss on the test part, and the nearest words of a few."""
    from flambeau.report.vectors import telling

    scores, model = outcome.evaluation.scores, cast(WordModel, outcome.model)
    keep = tables(outcome.facts["counts"], outcome.facts["subsample"])["keep"]
    chosen = telling(outcome.facts["words"], keep)[:4]
    numbers = torch.tensor(chosen, dtype=torch.int64)
    found, cosines = nearest(model.vectors, model.vectors[numbers], NEIGHBOURS, numbers.unsqueeze(1))
    rows = decode({"neighbours": found, "cosines": cosines}, outcome.facts)
    return [
        f"test loss {scores['loss']:.4f} nats a prediction; the true word scores above a noise word in "
        f"{scores['auc']:.2%} of comparisons",
        *(
            f"near {outcome.facts['words'][n]!r}: {answers.neighbours_line(row, 5)}"
            for n, row in zip(chosen, rows, strict=True)
        ),
    ]


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other or mean nothing here."""
    mistakes = classless_checks(recipe) + optimizer_checks(recipe)
    if recipe.text.tokenizer != "words" or recipe.text.max_length is not None:
        mistakes.append("text.tokenizer, text.max_length: word vectors are of words, in texts of any length")
    rule = recipe.optimizer
    if rule.name not in ("adagrad", "adam", "sgd") or rule.weight_decay or rule.momentum:
        mistakes.append(
            "optimizer: gradients are sparse here, which adagrad, adam and sgd without weight_decay and momentum take"
        )
    if recipe.train.clip is not None:
        mistakes.append("train.clip: gradients are sparse here and are not clipped")
    return mistakes


INTAKE = Intake(
    forms=corpus.FORMS,
    claims=lambda path: False,
    open=lambda path, recipe: corpus.open_corpus(path, recipe.data),
    of_python=lambda value, name, origin, recipe: (
        value if isinstance(value, Dataset) else corpus.of_python(value, name, origin)
    ),
    divide=lambda dataset, recipe: corpus.divide(dataset, recipe.data),
    describe=corpus.describe,
)

VIEW = View(
    asks="WORD...",
    inputs=word_inputs,
    line=answers.neighbours_line,
    cells=answers.neighbours_cells,
    report=report,
    tell=tell,
    about=about,
    samples=samples,
    noun="blocks of words",
    private=("words", "counts"),
)

TASK = Task(
    name="word-vectors",
    about="A vector for each word of a text, so that words of similar use lie close together.",
    family="vectors",
    recipe="word-vectors",
    input="query",
    intake=INTAKE,
    view=VIEW,
    facts=facts,
    read=read,
    measure=measure,
    collate=collate,
    transform=transform,
    build=build,
    phases=phases,
    metrics=metrics,
    predict=predict,
    decode=decode,
    example=example,
    toy={
        "words": ["the", "of", "and"],
        "counts": [3, 2, 1],
        "lower": True,
        "vocabulary": 3,
        "text": 6,
        **Options().model_dump(),
    },
    parts=("text",),
    options=Options,
    checks=checks,
    arrange=arrange,
    trace=trace,
    program=program,
    wire=wires("query", "neighbours"),
)
