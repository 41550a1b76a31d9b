"""Running text into a model of what comes next, by characters or by pieces of words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.columns import Column, Columns, Dataset, Ragged, Split
from flambeau.core import Batch, Builder, Facts, Loss, Metrics, Phase, Transform, device_of
from flambeau.data import corpus, tokens, windows
from flambeau.data.hashing import key
from flambeau.errors import BadRows, DataError, FlambeauError, UsageError
from flambeau.metrics.language import language
from flambeau.models import gpt2
from flambeau.models.gpt import GPT
from flambeau.models.sampling import LanguageModel, generate
from flambeau.recipe import Count, Part, Recipe
from flambeau.task import Intake, Outcome, SampleRequest, Shown, Task, View
from flambeau.tasks import language_program
from flambeau.tasks.common import classless_checks, optimizer_checks, optimizer_of, tensors
from flambeau.tasks.wires import wires

SPECIALS = ("<pad>", "<unk>", "<end>")
END = 2

CONTINUED = 100
"""Tokens that a prediction goes on for."""


class Options(Part):
    """What is said in a recipe's table ``options``."""

    context: Count = 128
    """Tokens that the model reads at once."""
    pretrained: str | None = None
    """A folder with a GPT-2 as ``transformers`` saves it, for the model ``gpt2``."""


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """The tokeniser, how many tokens there are, the context, and the tokens with a meaning.

    One document begins after a line break, for it may be cut anywhere; several are kept apart by a token of their own,
    which ends a text when it is drawn.
    """
    options = Options.model_validate(recipe.options)
    texts = _texts(split.columns)
    if options.pretrained is not None:
        return gpt2.facts(Path(options.pretrained), options.context)
    parts = [piece for text in texts for piece in corpus.pieces(text)]
    json = tokens.train_tokenizer(parts, recipe.text, specials=SPECIALS)
    line = tokens.encode(json, ["\n"]).values.tolist()
    apart = len(texts) > 1 or len(line) != 1 or line[0] == tokens.UNKNOWN
    return {
        "tokenizer": json,
        "vocabulary": tokens.size(json),
        "context": options.context,
        "documents": len(texts),
        "start": END if apart else line[0],
        "end": END if apart else None,
        "unknown": tokens.UNKNOWN,
        "never": [tokens.PADDING, tokens.UNKNOWN] + ([] if apart else [END]),
    }


def read(raw: Columns, facts: Facts) -> dict[str, Column]:
    """Texts to tokens (ragged int32), with how many characters and bytes of UTF-8 each has (int64)."""
    texts = _texts(raw)
    parts = [list(corpus.pieces(text)) for text in texts]
    encoded = tokens.encode(facts["tokenizer"], [piece for part in parts for piece in part])
    # The tokens of a text are those of its pieces, one after the other.
    ends = torch.tensor([0, *(len(part) for part in parts)], dtype=torch.int64).cumsum(0)
    return {
        "tokens": Ragged(encoded.values, encoded.offsets[ends]),
        "characters": torch.tensor([len(text) for text in texts], dtype=torch.int64),
        "bytes": torch.tensor([len(text.encode("utf-8", "surrogatepass")) for text in texts], dtype=torch.int64),
    }


def _texts(raw: Columns) -> list[str]:
    column = raw["text"]
    bad: dict[int, FlambeauError] = {
        row: DataError("This is no text.", expected="str", received=type(value).__name__)
        for row, value in enumerate(column)
        if not isinstance(value, str)
    }
    if bad:
        raise BadRows(bad)
    return cast(list[str], list(column))


def arrange(split: Split, facts: Facts) -> Split:
    """Documents to windows of one stream of tokens, each with its share of the text's characters and bytes."""
    context = facts["context"]
    made = windows.windows(windows.joined(split.ragged("tokens"), facts["start"]), context)
    totals = {name: int(split.tensor(name).sum()) for name in ("characters", "bytes")}
    return made.with_columns(**{name: windows.shared(total, made, context) for name, total in totals.items()})


def collate(examples: Columns) -> Batch:
    """Windows as they are; the texts of a request as ``prompt``, int64 ``(N, T)``, with the ``length`` of each."""
    batch = tensors(examples)
    asked = examples.get("tokens")
    if isinstance(asked, Ragged):
        batch |= {"prompt": asked.padded().long(), "length": asked.lengths}
    return batch


def transform(recipe: Recipe, facts: Facts) -> Transform:
    """Cuts a window out of each row, elsewhere in every epoch."""
    context = facts["context"]
    return lambda batch, draw: windows.cut_anywhere(batch, draw, context)


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named network with what is to be known about its tokens."""
    return LanguageModel(
        builder(facts, **recipe.model.arguments()),
        facts["context"],
        start=facts["start"],
        end=facts["end"],
        unknown=facts["unknown"],
        never=facts["never"],
    )


def ready(model: nn.Module, dataset: Dataset) -> None:
    """Reads the weights of a GPT-2 into a fresh network of its shape."""
    network = cast(LanguageModel, model).network
    if isinstance(network, GPT) and network.source is not None:
        gpt2.fill(network, Path(network.source))


def phases(recipe: Recipe, facts: Facts) -> tuple[Phase, ...]:
    """One phase: cross-entropy of the next token, summed over the tokens of a batch."""
    context, smoothing = facts["context"], recipe.loss.label_smoothing

    def cut(batch: Batch) -> Batch:
        return batch if "target" in batch else windows.cut_at(batch, torch.zeros_like(batch["reach"]), context)

    def loss(model: nn.Module, batch: Batch) -> Loss:
        part = cut(batch)
        logits = model(part["tokens"]).flatten(0, 1)
        target = part["target"].flatten()
        return Loss(F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing))

    def count(batch: Batch) -> float:
        return float((cut(batch)["target"] != windows.IGNORED).sum())

    return (Phase("loss", loss, count, optimizer_of(recipe)),)


def metrics(recipe: Recipe, facts: Facts) -> Metrics:
    """Nats by token, by character and by byte."""
    return language(facts["context"])


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What each token of the windows costs; for the texts of a request what they cost and how they might go on.

    Windows: ``nats`` and ``scored`` as :func:`~flambeau.metrics.language.language` wants them, read one after the
    other, and ``far_nats``, ``far_tokens`` of windows that overlap by half. Texts: ``continuation``, int64
    ``(N, 100)`` ending in -1, always the most probable token; ``nats``, float32 ``(N,)``.
    """
    known = cast(LanguageModel, model)
    return continued(known, batch) if "prompt" in batch else scored(known, batch, overlapping=True)


def glance(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """As :func:`predict`, without the windows that overlap, which cost as much again."""
    return scored(cast(LanguageModel, model), batch, overlapping=False)


def scored(model: LanguageModel, batch: Batch, *, overlapping: bool) -> dict[str, Tensor]:
    """What the tokens of windows cost; each is scored once, and with ``overlapping`` once more."""
    context, window, reach = model.context, batch["window"].long(), batch["reach"].unsqueeze(1)
    places = torch.arange(context, device=window.device)
    there = places < reach
    nats = costs(model, window[:, : context + 1]).where(there, 0)
    target = window[:, 1 : context + 1]
    strange = torch.zeros_like(there) if model.unknown is None else (target == model.unknown) & there
    outputs = {"nats": nats, "scored": there, "unknown": strange.sum(1), "surprise": nats.sum(1)}
    if overlapping:
        # A second window begins half a context later. Of the first its later half counts (all of it where the text
        # begins), of the second what lies beyond the first; so each token counts once, seen from afar.
        half = context // 2
        first = there & ((places >= half) | (batch["place"].unsqueeze(1) == 0))
        second = (places >= context - half) & (places + half < reach)
        later = costs(model, window[:, half : half + context + 1])
        outputs["far_nats"] = nats.where(first, 0).sum(1) + later.where(second, 0).sum(1)
        outputs["far_tokens"] = first.sum(1) + second.sum(1)
    return outputs


def costs(model: nn.Module, stretch: Tensor) -> Tensor:
    """What each token but the first costs in nats, float ``(N, T)`` for tokens ``(N, T + 1)``."""
    logits: Tensor = model(stretch[:, :-1])
    return F.cross_entropy(logits.transpose(1, 2).float(), stretch[:, 1:], reduction="none")


def continued(model: LanguageModel, batch: Batch) -> dict[str, Tensor]:
    """The cost of each text, and how it might go on."""
    rows, nats = [], []
    for padded, length in zip(batch["prompt"], batch["length"].tolist(), strict=True):
        text = torch.cat([padded.new_tensor([model.start]), padded[:length]])
        stretches = [text[first : first + model.context + 1] for first in range(0, length, model.context)]
        nats.append(sum((costs(model, part.unsqueeze(0)).sum() for part in stretches), torch.zeros(())))
        row = list(generate(model, text.tolist(), CONTINUED, temperature=0))
        rows.append(row + [-1] * (CONTINUED - len(row)))
    return {
        "continuation": torch.tensor(rows, dtype=torch.int64).view(-1, CONTINUED),
        "nats": torch.tensor([float(value) for value in nats]),
        "length": batch["length"],
        "characters": batch["characters"],
    }


def decode(outputs: Batch, facts: Facts) -> list[dict[str, Any]]:
    """For each text how it might go on, and what it costs: nats by character and perplexity by token, if it has any."""
    rows = [[token for token in row if token >= 0] for row in outputs["continuation"].tolist()]
    texts = tokens.decode(facts["tokenizer"], rows)
    found = zip(*(outputs[name].tolist() for name in ("nats", "length", "characters")), strict=True)
    return [
        {
            "continuation": text,
            "nats_per_character": nats / characters if characters else None,
            "perplexity": math.exp(nats / length) if length else None,
            "tokens": length,
        }
        for text, (nats, length, characters) in zip(texts, found, strict=True)
    ]


def example(facts: Facts) -> dict[str, Tensor]:
    """One window of start tokens."""
    context = facts["context"]
    one = torch.ones(1)
    return {
        "window": torch.full((1, 2 * context + 1), facts["start"], dtype=torch.int32),
        "reach": torch.tensor([2 * context]),
        "place": torch.tensor([0]),
        "characters": one,
        "bytes": one,
    }


def doubts(batch: Batch, facts: Facts) -> list[str | None]:
    """Texts with characters that never occur in the training text, in a sentence."""
    if "prompt" not in batch or facts["unknown"] is None:
        return [None] * len(next(iter(batch.values())))
    there = torch.arange(batch["prompt"].shape[1]) < batch["length"].cpu().unsqueeze(1)
    counts = ((batch["prompt"].cpu() == facts["unknown"]) & there).sum(1)
    return [
        f"{count} of its {length} tokens never occur in the training text" if count else None
        for count, length in zip(counts.tolist(), batch["length"].tolist(), strict=True)
    ]


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    mistakes = classless_checks(recipe) + optimizer_checks(recipe)
    given = recipe.options.get("pretrained")
    if recipe.text.tokenizer == "words" and given is None:
        mistakes.append(
            "text.tokenizer: a language model takes characters or bpe, which lose nothing; received 'words'"
        )
    if recipe.text.max_length is not None:
        mistakes.append(
            "text.max_length: a language model reads all of a text; options.context is what it sees at once"
        )
    if (recipe.model.name == "gpt2") != (given is not None):
        mistakes.append('options.pretrained: the folder of a GPT-2 goes with model.name = "gpt2", and the other way')
    return mistakes


def sample(model: nn.Module, facts: Facts, request: SampleRequest) -> Iterator[str | Shown]:
    """Texts that go on from the prompt, which each begins with.

    Raises:
        UsageError: The prompt has characters that the tokeniser does not know, or a wish is out of range.
    """
    known = cast(LanguageModel, model)
    prompt = tokens.encode(facts["tokenizer"], [request.prompt]).values.tolist()
    if facts["unknown"] is not None and facts["unknown"] in prompt:
        raise UsageError(
            "The prompt has characters that never occur in the training text.",
            where="prompt",
            received=repr(request.prompt),
            remedy="Leave them out; this model knows nothing of them.",
        )
    for number in range(request.n):
        drawn = generate(
            known,
            [facts["start"], *prompt],
            request.length,
            temperature=request.temperature,
            top_k=request.top_k,
            seed=key(request.seed, number) >> 1 & (1 << 62) - 1,
        )
        yield request.prompt + tokens.decode(facts["tokenizer"], [list(drawn)])[0]


def inputs(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """Texts as they are; the text of a file where one of this name ends like a text file."""
    found: list[tuple[str, Any]] = []
    for argument in arguments:
        path = Path(argument)
        if path.suffix.lower() in corpus.EXTENSIONS and path.is_file():
            found.append((argument, corpus.decoded(path.read_bytes(), path)))
        else:
            found.append((argument if len(argument) <= 40 else f"{argument[:39]}…", argument))
    return found


def line(row: Mapping[str, Any], top: int) -> str:
    """A prediction in a line: what the text costs, and how it might go on."""
    cost = "" if row["nats_per_character"] is None else f"{row['nats_per_character']:.3f} nats a character  "
    return f"{cost}→ {row['continuation']!r}"


def cells(row: Mapping[str, Any], top: int) -> dict[str, str]:
    """A prediction as columns."""
    return {name: "" if value is None else str(value) for name, value in row.items()}


def tell(outcome: Outcome, recipe: Recipe) -> list[str | Shown]:
    """What the test text costs."""
    scores = outcome.evaluation.scores
    told = (
        f"test loss {scores['loss']:.4f} nats a token (perplexity {scores['perplexity']:.2f}), "
        f"{scores['nats_per_character']:.4f} nats or {scores['bits_per_character']:.4f} bits a character"
    )
    if "far_nats_per_character" in scores:
        told += f"; {scores['far_nats_per_character']:.4f} nats with windows that overlap by half"
    return [told]


def about(described: Mapping[str, Any]) -> dict[str, str]:
    """How much text there is."""
    counts = ", ".join(f"{name} {count:,}" for name, count in described["characters"].items())
    return {"characters": counts, "different characters": f"{described['alphabet']:,}"}


def samples(dataset: Dataset, count: int) -> list[str | Shown]:
    """The first lines of the training text that are not empty."""
    found: list[str | Shown] = []
    for text in _texts(dataset.splits["train"].columns):
        for piece in corpus.pieces(text):
            found += [row for row in piece.splitlines() if row.strip()][: count - len(found)]
            if len(found) >= count:
                return found
    return found


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers and sections: what the text costs, by place in the context, what surprised, and samples."""
    from flambeau.report.language import LanguageReport, cards, sections

    known, facts = cast(LanguageModel, outcome.model), outcome.facts
    split = outcome.dataset.splits[outcome.split]
    made = LanguageReport(
        split=outcome.split,
        scores=outcome.evaluation.scores,
        sums=outcome.evaluation.sums,
        passages=_passages(known, facts, split, outcome.evaluation.outputs["surprise"]),
        samples=[
            (temperature, str(text))
            for temperature in (0.5, 0.8, 1.0)
            for text in sample(known, facts, SampleRequest(length=400, temperature=temperature))
        ],
    )
    return cards(made), sections(made)


@torch.inference_mode()
def _passages(
    model: LanguageModel, facts: Facts, split: Split, surprise: Tensor, count: int = 4
) -> list[list[tuple[str, float]]]:
    """The windows that cost most by token: for each their tokens as texts, with what each cost."""
    context = model.context
    mean = surprise / split.tensor("reach").clamp(max=context)
    # A stretch of a few tokens at the end is surprising by chance.
    mean[split.tensor("reach") < min(context, int(split.tensor("reach").max()))] = -1
    rows = mean.topk(min(count, len(mean))).indices
    part = {name: split.tensor(name)[rows] for name in ("window", "reach", "place")}
    device = device_of(model)
    nats = scored(model, {name: value.to(device) for name, value in part.items()}, overlapping=False)["nats"].cpu()
    found = []
    for window, row, reach in zip(part["window"].tolist(), nats.tolist(), part["reach"].tolist(), strict=True):
        length = min(context, reach)
        texts = tokens.decode(facts["tokenizer"], [[token] for token in window[1 : length + 1]])
        found.append(list(zip(texts, row[:length], strict=True)))
    return found


TASK = Task(
    name="language-model",
    about="Learns from running text what comes next, and writes on.",
    family="language",
    recipe="language-model",
    input="text",
    intake=Intake(
        forms=corpus.FORMS,
        claims=corpus.claims,
        open=lambda path, recipe: corpus.open_corpus(path, recipe.data),
        of_python=lambda value, name, origin, recipe: corpus.of_python(value, name, origin),
        divide=lambda dataset, recipe: corpus.divide(dataset, recipe.data),
        describe=corpus.describe,
    ),
    view=View(
        asks="TEXT...",
        inputs=inputs,
        line=line,
        cells=cells,
        report=report,
        tell=tell,
        about=about,
        samples=samples,
        noun="windows",
        private=("tokenizer",),
    ),
    facts=facts,
    read=read,
    measure=lambda split, facts, recipe: facts,
    collate=collate,
    transform=transform,
    build=build,
    phases=phases,
    metrics=metrics,
    predict=predict,
    decode=decode,
    example=example,
    toy={
        "vocabulary": 32,
        "context": 16,
        "documents": 1,
        "start": END,
        "end": END,
        "unknown": tokens.UNKNOWN,
        "never": [tokens.PADDING, tokens.UNKNOWN],
    },
    parts=("text",),
    options=Options,
    checks=checks,
    arrange=arrange,
    ready=ready,
    keep=("surprise",),
    glance=glance,
    doubts=doubts,
    trace=lambda model, batch: model(batch["window"][:, : batch["window"].shape[1] // 2].long()),
    sample=sample,
    program=partial(language_program.program, predict),
    wire=wires("text", "continuations"),
)
