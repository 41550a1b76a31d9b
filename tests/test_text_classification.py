"""The task text-classification from data to report, through every command, and the same bits after an interruption."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from killing import differences, fingerprint

import flambeau
from flambeau import catalog
from flambeau.columns import Ragged
from flambeau.core import Draw, Record, State
from flambeau.engine import checkpoint
from flambeau.errors import BadRows, RecipeError
from flambeau.recipe import Recipe
from flambeau.report.texts import log_odds
from flambeau.tasks import text_classification as task

REAL = os.environ.get("FLAMBEAU_DATA", "")
WORDS = {
    "food": "bread soup cheese apple salt",
    "sport": "goal match team ball race",
    "sky": "rain cloud sun wind snow",
}
SMALL = (
    "model.embedding=16", "model.hidden=16", "model.dropout=0.1", "optimizer.lr=0.02", "train.epochs=14",
    "train.batch_size=16", "log.tensorboard=false",
)  # fmt: skip


def sentences(n: int = 180, seed: int = 0) -> tuple[list[str], list[str]]:
    generator = torch.Generator().manual_seed(seed)
    filler = ["the", "a", "of", "and", "we", "they", "saw", "had", "some", "more"]
    texts, labels = [], []
    for number in range(n):
        name = list(WORDS)[number % 3]
        length = int(torch.randint(2, 9, (1,), generator=generator))
        chosen = [filler[i] for i in torch.randint(0, 10, (length,), generator=generator).tolist()]
        place = int(torch.randint(0, length, (1,), generator=generator))
        word = WORDS[name].split()[int(torch.randint(0, 5, (1,), generator=generator))]
        texts.append(f"{' '.join([*chosen[:place], word, *chosen[place:]])} {number}")
        labels.append(name)
    return texts, labels


def train(out: Path, *settings: str, **more: Any) -> flambeau.Run:
    return flambeau.train(
        sentences(), task="text-classification", settings=[*SMALL, *settings], out=out, quiet=True, **more
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> flambeau.Run:
    return train(tmp_path_factory.mktemp("texts") / "run")


def test_it_learns(run: flambeau.Run) -> None:
    assert run.scores["test/accuracy"] > 0.9
    assert run.scores["baseline/accuracy"] > 0.9
    assert "test/f1" not in run.scores


def test_the_saved_model_predicts_as_training_did(run: flambeau.Run) -> None:
    model = flambeau.load(run.path / "model.safetensors")
    decoded = model.predict(["we saw some bread", "the match", "snow and rain 77"])
    assert [row["class"] for row in decoded] == ["food", "sport", "sky"]
    alone = [model.predict([text])[0] for text in ("we saw some bread", "the match")]
    for one, row in zip(alone, decoded, strict=False):
        assert one["probability"] == pytest.approx(row["probability"], abs=1e-6)


def test_a_strange_text_is_doubted(run: flambeau.Run) -> None:
    facts = run.model.facts
    batch = task.collate(task.read({"text": ["xyz zyx", "we saw bread", "!!"]}, facts))
    found = task.doubts(batch, facts)
    assert found[0] == "2 of its 2 words occur in no training text"
    assert found[1] is None


def test_reading_many_gives_what_reading_each_alone_gives(run: flambeau.Run) -> None:
    texts = [*sentences(40, 5)[0], "!?", "\u2028 x"]
    together = task.read({"text": texts}, run.model.facts)["tokens"]
    assert isinstance(together, Ragged)
    for row, text in enumerate(texts):
        alone = task.read({"text": [text]}, run.model.facts)["tokens"]
        assert isinstance(alone, Ragged) and torch.equal(alone.values, together.row(row))
    assert int(together.lengths.min()) >= 1


def test_what_is_no_text_is_named(run: flambeau.Run) -> None:
    with pytest.raises(BadRows) as caught:
        task.read({"text": ["fine", "", None, "  "]}, run.model.facts)
    assert list(caught.value.rows) == [1, 2, 3]


def test_word_dropout_depends_on_seed_epoch_row_and_place_alone() -> None:
    drop = task.word_dropout(0.4, 1)
    tokens = torch.full((50, 40), 5, dtype=torch.int32)
    tokens[:, 30:] = 0
    whole = drop({"tokens": tokens}, Draw(3, 1, torch.arange(50)))["tokens"]
    part = drop({"tokens": tokens[[7, 2], :35]}, Draw(3, 1, torch.tensor([7, 2])))["tokens"]
    assert torch.equal(part, whole[[7, 2], :35])
    assert 0.35 < float((whole[:, :30] == 1).float().mean()) < 0.45
    assert not whole[:, 30:].any()
    assert not torch.equal(whole, drop({"tokens": tokens}, Draw(3, 2, torch.arange(50)))["tokens"])


@pytest.mark.parametrize("model", ["rnn", "lstm", "text-transformer", "ngrams"])
def test_every_model_trains(tmp_path: Path, model: str) -> None:
    size = [] if model in ("rnn", "lstm") else ["model.width=16"]
    made = flambeau.train(
        sentences(90),
        task="text-classification",
        model=model,
        settings=[*size, "train.epochs=1", "log.tensorboard=false"],
        out=tmp_path / "run",
        quiet=True,
    )
    assert made.model.predict(["bread"])[0]["class"] in WORDS


@pytest.mark.slow
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("options.word_dropout=0.3", "train.epochs=3", "train.ema=0.9")
    monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 0.0)
    reference = fingerprint(train(tmp_path / "a" / "run", *settings).path)

    def stop(record: Record, state: State) -> None:
        if record.kind == "step" and record.step == 11:
            raise RuntimeError("stopped")

    broken = tmp_path / "b" / "run"
    with pytest.raises(RuntimeError, match="stopped"):
        train(broken, *settings, observers=[stop])
    flambeau.resume(broken, source=sentences(), quiet=True)
    assert not differences(broken, reference)


def test_two_classes_have_the_f1_of_the_rarer_one(tmp_path: Path) -> None:
    texts, labels = sentences(120)
    two = ["spam" if label == "food" else "ham" for label in labels]
    made = flambeau.train(
        (texts, two), task="text-classification", settings=SMALL, out=tmp_path / "run", quiet=True
    )  # fmt: skip
    facts = made.model.facts
    assert task.positive(facts) == facts["classes"].index("spam")
    assert task.positive({"counts": [50, 51]}) == 1 and task.positive({"counts": [3, 30]}) == 0
    metrics = task.metrics(Recipe(), {"classes": ["a", "b"], "counts": [9, 1]})
    sums = metrics.start(torch.device("cpu"))
    logits = torch.tensor([[1.0, 0], [0, 1], [0, 1], [1, 0]])
    metrics.add(sums, {"logits": logits, "probabilities": logits.softmax(1)}, {"label": torch.tensor([0, 1, 0, 1])})
    assert metrics.result(sums)["f1"] == pytest.approx(0.5)
    assert 0 <= made.scores["test/f1"] <= 1


def test_the_commands(call: Command, tmp_path: Path) -> None:
    texts, labels = sentences(150)
    rows = "".join(f'"{text}",{label}\n' for text, label in zip(texts, labels, strict=True))
    (tmp_path / "news.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    assert call("train", "news.csv", *settings, "--out", "run").code == 0
    inspected = call("inspect", "news.csv", "--json").json
    assert inspected["counts"]["train"] == {"food": 50, "sky": 50, "sport": 50}
    assert "words" in call("inspect", "news.csv").out
    assert call("inspect", "run").code == 0
    predicted = call("predict", "run", "more cheese", "the wind").out
    assert "food" in predicted.splitlines()[0] and "sky" in predicted.splitlines()[1]
    Path("mail.txt").write_text("a race\n")
    assert "sport" in call("predict", "run", "mail.txt").out
    assert call("evaluate", "run", "--json").json
    assert call("evaluate", "run", "news.csv").code == 0
    page = Path("run/report.html").read_text(encoding="utf-8")
    for part in ("Telling words", "Mistakes", "By length", "of the test split", "softmax regression"):
        assert part in page
    assert "pictures" not in page
    missing = call("predict", "run", "missing.txt")
    assert missing.code == 2 and "cannot be read" in missing.err


def test_a_table_of_other_classes_is_refused(call: Command, tmp_path: Path, run: flambeau.Run) -> None:
    (tmp_path / "other.csv").write_text("text,label\na,food\nb,war\n")
    told = call("evaluate", run.path, "other.csv")
    assert told.code == 2 and "war" in told.err


def test_a_mistaken_column_role_is_refused() -> None:
    raw = {"task": "text-classification", "data": {"columns": {"txt": "a"}}}
    assert task.checks(Recipe.model_validate(raw)) == ["data.columns.txt: there is no such setting. Did you mean text?"]
    with pytest.raises(RecipeError, match="bert"):
        flambeau.train((["a", "b"], ["x", "y"]), task="text-classification", model="bert", quiet=True)


def test_telling_words_are_those_of_the_class() -> None:
    rows = Ragged.of([[2, 5, 5], [2, 6, 6, 2], [2, 5]])
    scores = log_odds(rows, torch.tensor([0, 1, 0]), 2, 8)
    assert scores[0].argmax() == 5 and scores[1].argmax() == 6
    assert abs(float(scores[0][2])) < 1


@pytest.mark.parametrize("name", ["text", "trec", "sst2", "rt-polarity", "sms-spam"])
def test_the_recipes_are_valid(name: str) -> None:
    recipe = catalog.recipe(name)
    assert recipe.task == "text-classification"
    task.Options.model_validate(recipe.options)


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="FLAMBEAU_DATA names no folder with the published data sets")
@pytest.mark.parametrize(
    ("data", "model", "score", "least"),
    [
        ("trec", "lstm", "accuracy", 0.88),
        ("trec", "gru", "accuracy", 0.88),
        ("trec", "text-transformer", "accuracy", 0.88),
        ("sst2", "gru", "accuracy", 0.79),
        ("rt-polarity", "gru", "accuracy", 0.75),
        ("sms-spam", "gru", "f1", 0.94),
    ],
)
def test_real_scores(tmp_path: Path, data: str, model: str, score: str, least: float) -> None:
    made = flambeau.train(data, model=model, out=tmp_path / "run", quiet=True)
    assert made.scores[f"test/{score}"] >= least
