"""Sentences into sentences: translation, and whatever else has a text for each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.columns import Column, Columns, Dataset, Ragged, Split
from flambeau.core import Batch, Builder, Evaluation, Facts, Loss, Metrics, Phase, device_of
from flambeau.data import pairs
from flambeau.data.doubts import of_sentence
from flambeau.data.inputs import sentence_error, sentence_inputs
from flambeau.data.tokens import decode as texts_from
from flambeau.data.tokens import encode, size, train_tokenizer
from flambeau.errors import BadRows, DataError, FlambeauError
from flambeau.metrics import translation as scores
from flambeau.models.search import END, PAD, SPECIALS, START, UNKNOWN
from flambeau.models.translator import Translator, check_translator
from flambeau.recipe import NonNegative, Part, Recipe
from flambeau.task import Breakdown, Insight, Intake, Outcome, Shown, Task, View
from flambeau.tasks import answers, translation_program
from flambeau.tasks.common import classless_checks, optimizer_checks, optimizer_of, tensors
from flambeau.tasks.wires import wires

BANDS = ((1, 6), (7, 9), (10, 12), (13, 16), (17, 24), (25, 10**6))
"""Lengths of a source, in words, that quality is broken down by."""


class Options(Part):
    """What only this task has."""

    beam: Annotated[int, Field(ge=1, le=64)] = 4
    """Hypotheses that the search keeps; 1 takes the most probable token each time. Between epochs it always does."""
    length_penalty: NonNegative = 0.6
    """The exponent of the length penalty (Wu et al. 2016): higher prefers longer translations."""
    max_ratio: Annotated[float, Field(gt=0, le=100)] = 2.0
    """The most tokens of a translation for each of its source; ten more are always allowed."""
    reverse: bool = False
    """Translates from the data's second language into its first."""


def describe(dataset: Dataset) -> dict[str, Any]:
    """A data set of pairs in JSON values: rows, and how many words a side has."""
    lengths = {
        side: [len(text.split()) for text in cast(list[str], dataset.splits["train"][side])]
        for side in ("source", "target")
    }
    return {
        "name": dataset.name,
        "source": dataset.info.get("source"),
        "hash": dataset.hash,
        **{key: dataset.info[key] for key in ("licence", "homepage") if key in dataset.info},
        "languages": list(dataset.info.get("languages", ())),
        "rows": {name: len(split) for name, split in dataset.splits.items()},
        "words": {
            side: {"mean": sum(counts) / len(counts), "most": max(counts), "all": sum(counts)}
            for side, counts in lengths.items()
        },
        "notes": list(dataset.info.get("notes", ())),
    }


def about(found: Mapping[str, Any]) -> dict[str, str]:
    """Languages, and how long sentences are."""
    told = {"languages": " to ".join(found["languages"])} if found["languages"] else {}
    for side, words in found["words"].items():
        told[f"{side} side"] = (
            f"{words['all']:,} words, {words['mean']:.1f} a sentence, at most {words['most']} (training split)"
        )
    return told


def shown_samples(dataset: Dataset, count: int) -> list[str | Shown]:
    """The first few pairs."""
    train = dataset.splits["train"]
    rows = zip(train["source"][:count], train["target"][:count], strict=True)
    return [f"{source}\n  -> {target}" for source, target in rows]


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """Languages, and the tokeniser of both sides together, learnt from the training split."""
    texts = [*cast(list[str], split["source"]), *cast(list[str], split["target"])]
    tokenizer = train_tokenizer(texts, recipe.text, specials=SPECIALS)
    return {
        "languages": list(info.get("languages", ())),
        "reverse": bool(info.get("reversed", False)),
        "vocabulary": size(tokenizer),
        "max_length": recipe.text.max_length,
        "lower": recipe.text.lower,
        "tokenizer": tokenizer,
    }


def read(raw: Columns, facts: Facts) -> dict[str, Column]:
    """Texts to tokens: ``source`` up to ``</s>``, ``target`` from ``<s>`` to ``</s>``, int32, both ragged.

    The reference stays as it is too, as UTF-8 bytes, so that it can be compared whatever the tokeniser makes of it.

    Raises:
        BadRows: A source is no text, or an empty one.
    """
    tokenizer, longest = facts["tokenizer"], facts["max_length"]
    sources = _texts(raw["source"])
    made: dict[str, Column] = {
        **{name: column for name, column in raw.items() if name not in ("source", "target")},
        "source": encode(tokenizer, sources, longest, after=(END,)),
    }
    if "target" in raw:
        targets = _texts(raw["target"])
        made["target"] = encode(tokenizer, targets, longest, before=(START,), after=(END,))
        made["reference"] = _bytes(targets)
    return made


def _texts(column: Column) -> list[str]:
    errors = {row: sentence_error(value) for row, value in enumerate(column)}
    bad: dict[int, FlambeauError] = {row: error for row, error in errors.items() if error is not None}
    if bad:
        raise BadRows(bad)
    return [text.strip() for text in cast(list[str], column)]


def _bytes(texts: Sequence[str]) -> Ragged:
    encoded = [text.encode("utf-8", "replace") for text in texts]
    lengths = torch.tensor([0, *map(len, encoded)], dtype=torch.int64)
    whole = bytearray(b"".join(encoded))
    return Ragged(torch.frombuffer(whole, dtype=torch.uint8), lengths.cumsum(0))


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with the longest source, in tokens, and the characters that occur in sources."""
    source = split.ragged("source")
    letters = sorted(set("".join(texts_from(facts["tokenizer"], source))))
    return {**facts, "longest": int(source.lengths.max()), "characters": "".join(letters)}


def lengths(split: Split) -> Tensor:
    """Tokens of the longer of source and target, ``(n,)`` int64: sorted by that, both sides need little padding."""
    both = [split.ragged(name).lengths for name in ("source", "target") if name in split.columns]
    return torch.stack(both).amax(0)


def collate(examples: Columns) -> Batch:
    """Padded tokens, int64 ``(N, S)`` and ``(N, T)``, and padded references, uint8 ``(N, B)``."""
    batch = tensors(examples)
    for name, column in examples.items():
        if isinstance(column, Ragged):
            batch[name] = column.padded() if name == "reference" else column.padded(PAD).long()
    return batch


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named network, and how it is decoded; checked with two short sentences."""
    options = Options.model_validate(recipe.options)
    network = builder(facts, **recipe.model.arguments())
    check_translator(network, facts)
    return Translator(network, beam=options.beam, penalty=options.length_penalty, ratio=options.max_ratio)


def phases(recipe: Recipe, facts: Facts) -> tuple[Phase, ...]:
    """One phase: the cross-entropy of each token of the target, given those before it."""
    smoothing = recipe.loss.label_smoothing

    def loss(model: nn.Module, batch: Batch) -> Loss:
        logits, wanted = model(batch["source"], batch["target"])
        return Loss(F.cross_entropy(logits, wanted, reduction="sum", label_smoothing=smoothing))

    def count(batch: Batch) -> float:
        return float((batch["target"][:, 1:] != PAD).sum())

    return (Phase("loss", loss, count, optimizer_of(recipe)),)


def metrics(recipe: Recipe, facts: Facts) -> Metrics:
    """BLEU of the translations, and loss and accuracy of the reference's tokens."""
    return scores.translation(lambda tokens: texts_from(facts["tokenizer"], tokens))


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The best translations as ``tokens`` ``(N, L)`` with their ``score``, and how probable the reference is."""
    return _predicted(model, batch, None)


def glance(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """As :func:`predict`, by greedy search."""
    return _predicted(model, batch, 1)


def _predicted(model: nn.Module, batch: Batch, beam: int | None) -> dict[str, Tensor]:
    found = cast(Translator, model).translate(batch["source"], beam)
    outputs = {"tokens": found.tokens, "score": found.score, "complete": found.complete}
    if "target" not in batch:
        return outputs
    logits, wanted = model(batch["source"], batch["target"])
    there = batch["target"][:, 1:] != PAD
    nll, hits = (there.new_zeros(there.shape, dtype=kind) for kind in (torch.float32, torch.int64))
    nll[there] = F.cross_entropy(logits.float(), wanted, reduction="none")
    hits[there] = (logits.argmax(1) == wanted).long()
    return {**outputs, "nll": nll.sum(1), "hits": hits.sum(1)}


def decode(outputs: Batch, facts: Facts) -> list[dict[str, Any]]:
    """For each source its translation, the score it was preferred by, and whether it ended by itself."""
    texts = texts_from(facts["tokenizer"], outputs["tokens"])
    told = zip(texts, outputs["score"].tolist(), outputs["complete"].tolist(), strict=True)
    return [answers.translation_of(text, score, complete) for text, score, complete in told]


def example(facts: Facts) -> dict[str, Tensor]:
    """One short sentence on either side."""
    return {"source": torch.tensor([[4, 4, END]]), "target": torch.tensor([[START, 4, 4, END]])}


def trace(model: nn.Module, batch: Batch) -> Tensor:
    """Logits of the target, without a search."""
    logits: Tensor = cast(Translator, model).network(batch["source"], batch["target"][:, :-1])
    return logits


def doubts(batch: Batch, facts: Facts) -> list[str | None]:
    """Sentences with words or characters that no training sentence has, or longer than all of them."""
    known, longest = set(facts["characters"]), facts["longest"]
    rows = [[token for token in row if token != PAD] for row in batch["source"].tolist()]
    told = zip(rows, texts_from(facts["tokenizer"], rows), strict=True)
    return [of_sentence(row, text, UNKNOWN, known, longest) for row, text in told]


def breakdown(evaluation: Evaluation, facts: Facts) -> Breakdown:
    """The interval of BLEU, and BLEU by the length of the source."""
    hypotheses, references = _compared(evaluation, facts)
    sources = texts_from(facts["tokenizer"], evaluation.outputs["source"])
    rows = by_length(sources, hypotheses, references)
    table = [
        ["words", "bleu", "length_ratio", "sentences"],
        *([row["words"], f"{row['bleu']:.2f}", f"{row['length_ratio']:.3f}", f"{row['sentences']:,}"] for row in rows),
    ]
    interval = scores.bleu_interval(hypotheses, references)
    return Breakdown({"bleu": interval}, table, {"by_length": rows, "signature": scores.signature()})


def by_length(sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]) -> list[dict[str, Any]]:
    """BLEU and length of the translations, by how many words their sources have."""
    rows = []
    counts = [len(source.split()) for source in sources]
    for low, high in BANDS:
        places = [place for place, count in enumerate(counts) if low <= count <= high]
        if not places:
            continue
        counted = scores.statistics([hypotheses[place] for place in places], [references[place] for place in places])
        rows.append(
            {
                "words": f"{low}-{high}" if high < BANDS[-1][1] else f"{low} and more",
                "bleu": scores.bleu_of(counted),
                "length_ratio": int(counted[0]) / max(1, int(counted[1])),
                "sentences": len(places),
                "middle": sum(counts[place] for place in places) / len(places),
            }
        )
    return rows


def _compared(evaluation: Evaluation, facts: Facts) -> tuple[list[str], list[str]]:
    """Translations and references of all rows."""
    outputs = evaluation.outputs
    return texts_from(facts["tokenizer"], outputs["tokens"]), scores.texts_of(outputs["reference"])


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers and sections: scores, quality against length, samples, attention."""
    from flambeau.report.translation import TranslationReport, translation_cards, translation_sections

    hypotheses, references = _compared(outcome.evaluation, outcome.facts)
    outputs = outcome.evaluation.outputs
    sources = texts_from(outcome.facts["tokenizer"], outputs["source"])
    made = TranslationReport(
        split=outcome.split,
        languages=outcome.facts["languages"],
        sources=sources,
        references=references,
        hypotheses=hypotheses,
        scores=outcome.evaluation.scores,
        complete=outputs["complete"],
        by_length=by_length(sources, hypotheses, references),
        beam=cast(Translator, outcome.model).beam,
        penalty=cast(Translator, outcome.model).penalty,
        looks=_looks(outcome),
    )
    return translation_cards(made), translation_sections(made)


def _looks(outcome: Outcome) -> list[tuple[list[str], list[str], Tensor]]:
    """For a few sentences the pieces of source and translation, and where attention went, ``(T, S)``."""
    from flambeau.report.translation import ATTENTION, fit_to_show

    outputs = outcome.evaluation.outputs
    rows = fit_to_show((outputs["source"] != PAD).sum(1))[:ATTENTION]
    found = [attended(outcome.model, outcome.facts, outputs["source"][row], outputs["tokens"][row]) for row in rows]
    return [look for look in found if look is not None]


@torch.no_grad()
def attended(
    model: nn.Module, facts: Facts, source: Tensor, target: Tensor
) -> tuple[list[str], list[str], Tensor] | None:
    """Pieces of a source and of its translation, and how much each of these looked at each of those, or None.

    Args:
        model: A translator.
        facts: Its ``tokenizer``.
        source: Tokens, ``(S,)``, padded or not.
        target: Tokens of the translation, likewise ``(T,)``.

    Returns:
        The weights are ``(T, S)`` from 0 to 1.
    """
    network = cast(Translator, model).network
    attend = getattr(network, "attention", None)
    if attend is None:
        return None
    source, target = (tokens[tokens != PAD].cpu() for tokens in (source, target))
    before = torch.cat([torch.tensor([START]), target[:-1]])
    device = device_of(network)
    weights: Tensor = attend(source[None].to(device), before[None].to(device))[0].float().cpu()
    return _pieces(facts["tokenizer"], source), _pieces(facts["tokenizer"], target), weights


def insight(model: nn.Module, facts: Facts, raw: Any) -> list[Insight]:
    """The pieces of a sentence and of its translation, and what each of these looked at."""
    batch = collate(read({"source": [raw]}, facts))
    device = device_of(model)
    with torch.inference_mode():
        found = predict(model, {name: value.to(device) for name, value in batch.items()})
    look = attended(model, facts, batch["source"][0], found["tokens"][0])
    if look is None:
        return []
    columns, rows, weights = look
    about = (
        "What each piece of the translation (a row) looked at in the sentence (the columns): the stronger the colour, "
        "the more. A dot is a space."
    )
    return [Insight(about, columns=columns, rows=rows, weights=weights.tolist())]


def _pieces(tokenizer: str, tokens: Tensor) -> list[str]:
    """Each token as text; a space in front of a piece is kept as a raised dot."""
    texts = texts_from(tokenizer, [[token] for token in tokens.tolist()])
    ends = {END: "</s>"}
    return [ends.get(token, text.replace(" ", "·")) for token, text in zip(tokens.tolist(), texts, strict=True)]


def tell(outcome: Outcome, recipe: Recipe) -> list[str | Shown]:
    """BLEU with its interval and signature, and a few translations."""
    hypotheses, references = _compared(outcome.evaluation, outcome.facts)
    found = outcome.evaluation.scores
    low, high = scores.bleu_interval(hypotheses, references)
    sources = texts_from(outcome.facts["tokenizer"], outcome.evaluation.outputs["source"])
    return [
        *(
            f"{sources[row]}\n  -> {hypotheses[row]}\n  reference: {references[row]}"
            for row in range(min(recipe.show.samples, len(sources)))
        ),
        f"test BLEU {found['bleu']:.2f} (95 % interval {low:.2f} to {high:.2f}), loss {found['loss']:.4f} a token",
        f"sacreBLEU {scores.signature()}, beam {cast(Translator, outcome.model).beam}",
    ]


def align(split: Split, info: Mapping[str, Any], facts: Facts) -> Split:
    """Pairs of other data, in the direction that the model translates."""
    theirs, ours = list(info.get("languages", ())), facts["languages"]
    turned = bool(info.get("reversed", False)) != facts["reverse"]
    if len(theirs) == 2 and len(ours) == 2 and set(theirs) == set(ours):
        turned = theirs != ours
    elif theirs and ours and set(theirs) != set(ours):
        raise DataError(
            "The data is in other languages than the model.",
            where=info.get("source"),
            expected=" to ".join(ours),
            received=" to ".join(theirs),
        )
    return pairs.turned(split) if turned else split


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    mistakes = classless_checks(recipe) + optimizer_checks(recipe)
    if recipe.text.max_length is not None and recipe.text.max_length < 3:
        mistakes.append("text.max_length: expected at least 3, for the marks at both ends and a token between")
    return mistakes


INTAKE = Intake(
    forms=pairs.FORMS,
    claims=pairs.claims_pairs,
    open=pairs.open_pairs,
    of_python=pairs.pairs_of_python,
    divide=pairs.divide_pairs,
    describe=describe,
    align=align,
)

VIEW = View(
    asks="SENTENCE... (or text files with a sentence a line)",
    inputs=sentence_inputs,
    line=answers.translation_line,
    cells=answers.translation_cells,
    insight=insight,
    truth=lambda rows, facts: [str(text) for text in rows["target"]],
    breakdown=breakdown,
    report=report,
    tell=tell,
    about=about,
    samples=shown_samples,
    private=("tokenizer", "characters"),
)

TASK = Task(
    name="translation",
    about="A sentence for each sentence: another language, another form.",
    family="translation",
    recipe="translation",
    input="source",
    intake=INTAKE,
    view=VIEW,
    facts=facts,
    read=read,
    measure=measure,
    collate=collate,
    transform=lambda recipe, facts: None,
    build=build,
    phases=phases,
    metrics=metrics,
    predict=predict,
    decode=decode,
    example=example,
    toy={"vocabulary": 5000, "languages": [], "reverse": False, "max_length": None, "lower": False, "longest": 40},
    parts=("text",),
    options=Options,
    checks=checks,
    lengths=lengths,
    keep=("tokens", "score", "complete", "nll", "source", "reference"),
    glance=glance,
    trace=trace,
    doubts=doubts,
    program=partial(translation_program.program, predict),
    wire=wires("translation", "texts"),
)
