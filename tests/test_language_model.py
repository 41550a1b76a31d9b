"""The language model as a task: what is counted, and the commands on a text of its own."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from torch import Tensor, nn

import flambeau
from flambeau import catalog
from flambeau.columns import Ragged, Split
from flambeau.data import corpus
from flambeau.data.loader import stream
from flambeau.data.prepare import prepare
from flambeau.engine.evaluate import evaluate
from flambeau.errors import BadRows, DataError, Interrupted, UsageError
from flambeau.metrics.language import language
from flambeau.models.sampling import LanguageModel
from flambeau.recipe import Recipe, Text
from flambeau.report.language import by_place, shade
from flambeau.task import SampleRequest
from flambeau.tasks import language_model as task

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and", "but", "then", "slowly", "fast"]


def made_up(words: int, seed: int = 0) -> str:
    """A text of made-up sentences."""
    drawn = torch.randint(len(WORDS), (words,), generator=torch.Generator().manual_seed(seed)).tolist()
    return "".join(WORDS[word] + ("\n" if place % 7 == 6 else " ") for place, word in enumerate(drawn))


def recipe_of(tokenizer: str = "characters", **options: Any) -> Recipe:
    text = Text(tokenizer=tokenizer, vocabulary=300)  # type: ignore[arg-type]
    return Recipe(task="language-model", text=text, options={"context": 16, **options})


def prepared(texts: Any, recipe: Recipe) -> tuple[dict[str, Any], dict[str, Split]]:
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"test": 0.1})})
    facts, dataset = prepare(corpus.of_python(texts, None, None), task.TASK, recipe)
    return facts, dict(dataset.splits)


class Uniform(nn.Module):
    """Finds every token equally probable, and counts how often it was asked for each place of the stream."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(*tokens.shape, -1)


def scores(facts: dict[str, Any], split: Split, batch_size: int = 3) -> dict[str, float]:
    model = LanguageModel(Uniform(facts["vocabulary"]), facts["context"], start=facts["start"], unknown=1)
    batches = stream(split, task.collate, batch_size=batch_size, shuffle=False).epoch(0, 0)
    return evaluate(model, batches, task.predict, language(facts["context"]), task.TASK.keep).scores


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
@pytest.mark.parametrize("texts", [made_up(400), [made_up(150), "caf\u00e9 \u2603 na\u00efve\n" * 9, made_up(200, 1)]])
def test_every_token_and_character_is_counted_once(tokenizer: str, texts: Any) -> None:
    facts, splits = prepared(texts, recipe_of(tokenizer))
    whole = "".join([texts] if isinstance(texts, str) else texts)
    test = whole[int(0.9 * len(whole)) :]
    found = scores(facts, splits["test"])
    documents = 1
    count = len(task.tokens.encode(facts["tokenizer"], [test]).values) + documents - 1
    nats = count * math.log(facts["vocabulary"])
    assert found["loss"] == pytest.approx(math.log(facts["vocabulary"]))
    assert found["perplexity"] == pytest.approx(facts["vocabulary"], rel=1e-4)
    assert found["nats_per_character"] == pytest.approx(nats / len(test))
    assert found["bits_per_character"] == pytest.approx(nats / len(test) / math.log(2))
    assert found["bits_per_byte"] == pytest.approx(nats / len(test.encode()) / math.log(2))
    assert found["far_nats_per_character"] == pytest.approx(nats / len(test))
    assert found["unknown"] == 0
    assert scores(facts, splits["test"], 100) == pytest.approx(found)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 17, 40, 131])
def test_windows_that_overlap_score_each_token_once_from_far(length: int) -> None:
    class Places(nn.Module):
        """Its cost for a token is large exactly when the window before it is short."""

        def forward(self, tokens: Tensor) -> Tensor:
            logits = torch.zeros(*tokens.shape, 300)
            logits[..., 299] = torch.arange(tokens.shape[1], 0, -1.0)
            return logits

    text = "x" * length
    facts = {**task.TASK.toy, "context": 16, "tokenizer": "", "start": 2}
    columns = {
        "tokens": Ragged.of([[5] * length]),
        "characters": torch.tensor([length]),
        "bytes": torch.tensor([length]),
    }
    split = task.arrange(Split(columns), facts)  # type: ignore[arg-type]
    outputs = task.scored(LanguageModel(Places(), 16, start=2), split.columns, overlapping=True)  # type: ignore[arg-type]
    assert outputs["far_tokens"].sum() == len(text)
    assert outputs["scored"].sum() == len(text)
    seen = [16 - place for place in range(16)]
    cost = [math.log(299 + math.exp(value)) for value in seen]
    far = sum(cost[place] if place < 16 else cost[8 + (place - 16) % 8] for place in range(length))
    assert outputs["far_nats"].sum().item() == pytest.approx(far, rel=1e-5)
    assert outputs["nats"].sum().item() == pytest.approx(sum(cost[place % 16] for place in range(length)), rel=1e-5)


def test_one_document_begins_after_a_line_and_several_apart() -> None:
    one, _ = prepared(made_up(300), recipe_of())
    line = task.tokens.encode(one["tokenizer"], ["\n"]).values.tolist()
    assert (one["start"], one["end"], one["never"]) == (line[0], None, [0, 1, 2])
    several, splits = prepared([made_up(300), made_up(300, 1)], recipe_of())
    assert (several["start"], several["end"], several["never"]) == (2, 2, [0, 1])
    assert (splits["train"].tensor("window")[:, :16] == 2).sum() == 2
    unbroken, _ = prepared("x y " * 200, recipe_of())
    assert unbroken["start"] == 2
    json.dumps(one)


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
def test_reading_many_texts_gives_what_reading_each_gives(tokenizer: str) -> None:
    facts, _ = prepared(made_up(300), recipe_of(tokenizer))
    texts = [made_up(12_000, 2), "", "the cat", "\n\n the dog"]
    together = task.read({"text": texts}, facts)
    tokens = together["tokens"]
    assert isinstance(tokens, Ragged)
    for number, text in enumerate(texts):
        alone = task.read({"text": [text]}, facts)
        assert tokens.row(number).equal(alone["tokens"].values)  # type: ignore[union-attr]
    assert task.tokens.decode(facts["tokenizer"], tokens) == texts
    assert together["characters"].tolist() == [len(text) for text in texts]  # type: ignore[union-attr]
    with pytest.raises(BadRows, match="no text"):
        task.read({"text": [3]}, facts)


def test_characters_that_training_never_saw_are_told() -> None:
    facts, splits = prepared({"train": made_up(300), "test": "the c\u00e4t\n"}, recipe_of())
    assert scores(facts, splits["test"])["unknown"] == pytest.approx(1 / 8)
    batch = task.collate(task.read({"text": ["the cat", "the c\u00e4t"]}, facts))
    assert task.doubts(batch, facts) == [None, "1 of its 7 tokens never occur in the training text"]
    model = LanguageModel(Uniform(facts["vocabulary"]), 16, start=facts["start"])
    with pytest.raises(UsageError, match="never occur"):
        list(task.sample(model, facts, SampleRequest(prompt="\u00e4")))


def test_mistakes_in_a_recipe_are_named() -> None:
    raw: dict[str, Any] = {"text": {"tokenizer": "words", "max_length": 5}, "model": {"name": "gpt2"}}
    found = task.checks(Recipe(task="language-model", **raw))
    assert [mistake.partition(":")[0] for mistake in found] == [
        "text.tokenizer",
        "text.max_length",
        "options.pretrained",
    ]
    assert not task.checks(recipe_of())
    for name in ("language-model", "tiny-shakespeare"):
        assert not task.checks(catalog.recipe(name))


def test_curves_put_neighbours_together_and_marks_are_bounded() -> None:
    nats, tokens = torch.arange(256.0), torch.ones(256, dtype=torch.int64)
    points = by_place(nats, tokens)
    assert points[0] == (1.0, 0.0)
    assert len(points) <= 40
    assert points[-1][1] == pytest.approx(nats[-(256 - round(256 ** (39 / 40)) + 1) :].mean().item())
    assert [shade(cost) for cost in (-1.0, 0.0, 5.0, 99.0, math.inf)] == [0, 0, 0.45, 0.9, 0.9]


SMALL = (
    "model.layers=1",
    "model.width=32",
    "model.heads=2",
    "options.context=32",
    "train.batch_size=8",
    "train.eval_batch_size=16",
    "log.tensorboard=false",
)
"""Settings of a ``gpt`` that trains in a second or two."""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(made_up(3000))
    return path


@pytest.fixture(scope="module")
def trained_text(book: Path) -> Path:
    out = book.parent / "run"
    settings = (*SMALL, "text.tokenizer=characters", "optimizer.lr=0.01", "schedule.warmup=0.1")
    flambeau.train(str(book), epochs=6, settings=settings, device="cpu", out=out, quiet=True)
    return out


def test_a_text_file_trains_a_model_that_learns_words(trained_text: Path) -> None:
    run = json.loads((trained_text / "run.json").read_text())
    # Letters alone cost about 2.5 nats; words, given their beginnings, less than half of that.
    assert run["scores"]["test/nats_per_character"] < 1.3
    page = (trained_text / "report.html").read_text()
    assert all(title in page for title in ("Loss by place in the context", "Most surprising passages", "Samples"))
    assert "tokenizer" not in page.partition("<h2>Data")[2].partition("<h2>")[0]


def test_predict_sample_and_evaluate(trained_text: Path, book: Path, call: Command) -> None:
    model = flambeau.load(trained_text)
    cat, odd, none = model.predict(["the cat sat", "zzzz", ""])
    assert set(cat["continuation"].split()[1:-1]) <= set(WORDS)
    assert none["nats_per_character"] is None
    assert model.predict(["the cat sat"])[0] == cat
    told = call("predict", trained_text, "the cat sat")
    assert told.code == 0
    assert "nats a character" in told.out
    one = call("sample", trained_text, "--prompt", "the dog", "--length", 40, "--temperature", 0.5)
    assert one.out.startswith("the dog")
    assert call("sample", trained_text, "--prompt", "the dog", "--length", 40, "--temperature", 0.5).out == one.out
    assert call("sample", trained_text, "--prompt", "the dog", "--length", 40, "--seed", 1).out != one.out
    own = call("evaluate", trained_text, "--json").json["scores"]
    stored = json.loads((trained_text / "run.json").read_text())["scores"]
    assert own["loss"] == pytest.approx(stored["test/loss"], abs=1e-6)
    other = call("evaluate", trained_text, book, "--json").json["scores"]
    assert other["loss"] == pytest.approx(own["loss"], abs=0.3)
    assert odd["tokens"] == 4


def interrupt(run: Path, step: int) -> threading.Thread:
    """Presses Ctrl-C once a run has come to a step."""

    def watch() -> None:
        journal = run / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if journal.exists() and f'"step": {step},' in journal.read_text():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_a_run_that_was_interrupted_ends_in_the_same_bits(model: str, book: Path, tmp_path: Path) -> None:
    shape = SMALL[0:3] if model == "gpt" else SMALL[0:2]
    settings = (*shape, *SMALL[3:], "log.every=1", "text.vocabulary=300", "model.dropout=0.2")
    whole, part = tmp_path / "a" / "run", tmp_path / "b" / "run"
    wanted = {"model": model, "epochs": 3, "settings": settings, "device": "cpu", "quiet": True}
    flambeau.train(str(book), out=whole, **wanted)
    thread = interrupt(part, 14)
    with pytest.raises(Interrupted):
        flambeau.train(str(book), out=part, **wanted)
    thread.join()
    flambeau.resume(part, quiet=True)
    assert (whole / "metrics.jsonl").read_bytes() == (part / "metrics.jsonl").read_bytes()
    one, two = (flambeau.load(run).network.state_dict() for run in (whole, part))
    assert all(one[name].equal(two[name]) for name in one)


def test_a_text_that_is_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="too short"):
        flambeau.train(str(tmp_path / "a.txt"), settings=SMALL, device="cpu", out=tmp_path / "run", quiet=True)


def test_a_text_shorter_than_a_window_works(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be, that is the question\n")
    settings = (*SMALL, "text.tokenizer=characters", "options.context=64")
    run = flambeau.train(
        str(tmp_path / "a.txt"), epochs=1, settings=settings, device="cpu", out=tmp_path / "run", quiet=True
    )
    assert math.isfinite(run.scores["test/loss"])


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("FLAMBEAU_DATA"), reason="FLAMBEAU_DATA names no folder with published data")
def test_tiny_shakespeare_by_the_recipe_for_a_moment(tmp_path: Path) -> None:
    settings = (
        "train.epochs=1",
        "model.width=64",
        "options.context=64",
        "train.batch_size=16",
        "log.tensorboard=false",
    )
    run = flambeau.train(
        "tiny-shakespeare", model="gpt", settings=settings, device="cpu", out=tmp_path / "r", quiet=True
    )
    assert run.scores["test/nats_per_character"] < 2.3
