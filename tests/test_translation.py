"""Translation from end to end: what is counted, what is learnt, asked, saved, resumed and shown."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from killing import differences, fingerprint
from torch.nn import functional as F

import flambeau
from flambeau.columns import Split
from flambeau.core import Record, State
from flambeau.data import loader, prepare
from flambeau.errors import BadRows, DataError, Interrupted, RecipeError
from flambeau.metrics.translation import bleu_interval, bleu_of, bytes_of, signature, statistics, texts_of, translation
from flambeau.models.search import END, PAD, START
from flambeau.models.seq2seq import seq2seq
from flambeau.recipe import parse
from flambeau.report.translation import heat
from flambeau.tasks.translation import TASK

ENGLISH = "the a small big red old dog cat man woman house tree sees likes finds runs sleeps near under"
GERMAN = "der ein kleiner großer roter alter Hund Kater Mann Mensch Hof Baum sieht mag findet läuft schläft bei unter"


def phrase(draw: random.Random) -> list[int]:
    return [draw.choice([0, 1]), *draw.sample([2, 3, 4, 5], draw.randint(0, 2)), draw.choice(range(6, 12))]


def made(rows: int, seed: int = 1) -> list[tuple[str, str]]:
    """Sentences and their translation word by word, except that the verb goes to the end."""
    draw, english, german = random.Random(seed), ENGLISH.split(), GERMAN.split()
    pairs = []
    for _ in range(rows):
        first, verb = phrase(draw), draw.choice([12, 13, 14, 15, 16])
        rest = phrase(draw) if verb < 15 else [draw.choice([17, 18]), *phrase(draw)]
        source = " ".join(english[word] for word in [*first, verb, *rest])
        target = " ".join(german[word] for word in [*first, *rest, verb])
        pairs.append((f"{source}.", f"{target}."))
    return pairs


SMALL = (
    "text.vocabulary=330",
    "train.batch_size=16",
    "train.epochs=10",
    "optimizer.lr=0.005",
    "schedule.warmup=0.5",
    "loss.label_smoothing=0.0",
    "log.every=10",
    "log.tensorboard=false",
)
SEQ2SEQ = ("model.embedding=48", "model.hidden=64")
TRANSFORMER = ("model.width=32", "model.inner=64", "model.layers=1", "model.heads=2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small seq2seq that has learnt the made-up language from a table."""
    folder = tmp_path_factory.mktemp("translation")
    lines = ["en\tde", *("\t".join(pair) for pair in made(800))]
    (folder / "pairs.tsv").write_text("\n".join(lines), encoding="utf-8")
    # Enough that the score of another kind of processor, which rounds otherwise, is far above what the tests want too.
    settings = (*SMALL, *SEQ2SEQ, "train.epochs=16")
    flambeau.train(
        folder / "pairs.tsv", model="seq2seq", settings=settings, out=folder / "run", device="cpu", quiet=True
    )
    return folder / "run"


def test_bleu_adds_up_to_what_sacrebleu_says() -> None:
    import sacrebleu

    draw = random.Random(2)
    references = [target for _, target in made(60)]
    hypotheses = [" ".join(draw.sample(text.split(), len(text.split()))[: draw.randint(2, 9)]) for text in references]
    whole = sacrebleu.corpus_bleu(hypotheses, [references])
    parts = [statistics(hypotheses[first : first + 7], references[first : first + 7]) for first in range(0, 60, 7)]
    total = torch.stack(parts).sum(0)
    assert bleu_of(total) == pytest.approx(whole.score, abs=1e-9)
    assert torch.equal(total, statistics(hypotheses, references))
    low, high = bleu_interval(hypotheses, references, resamples=200)
    assert low < whole.score < high
    assert signature() == str(sacrebleu.metrics.BLEU(references=[[""]]).get_signature())
    assert bleu_of(statistics(references, references)) == pytest.approx(100)
    assert bleu_of(statistics([], [])) != bleu_of(statistics([], []))  # NaN


def test_scores_are_those_of_all_tokens_however_batched() -> None:
    metrics = translation(lambda tokens: ["a b c d" for _ in tokens])
    references = ["a b c d", "a b c d e f", "ä"]
    target = torch.tensor([[2, 5, 3, 0], [2, 5, 6, 3], [2, 3, 0, 0]])
    outputs = {
        "tokens": torch.zeros(3, 2),
        "nll": torch.tensor([1.0, 2.5, 0.5]),
        "hits": torch.tensor([2, 1, 0]),
    }
    results = []
    for parts in ([slice(0, 3)], [slice(0, 1), slice(1, 3)]):
        sums = metrics.start(torch.device("cpu"))
        for part in parts:
            batch = {"target": target[part], "reference": bytes_of(references)[part]}
            metrics.add(sums, {name: value[part] for name, value in outputs.items()}, batch)
        results.append(metrics.result(sums))
    assert results[0] == results[1]
    assert results[0]["loss"] == pytest.approx(4.0 / 6) and results[0]["token_accuracy"] == pytest.approx(0.5)
    assert results[0]["length_ratio"] == pytest.approx(12 / 11)
    assert texts_of(bytes_of(references)) == references


def prepared(**changes: Any) -> tuple[Any, Any, Any]:
    recipe = parse({"task": "translation", "text": {"tokenizer": "bpe", "vocabulary": 330}, **changes})
    dataset = TASK.intake.of_python(made(120), None, None, recipe)
    facts, read = prepare.prepare(dataset, TASK, recipe)
    return recipe, facts, read


def test_reading_is_row_by_row_and_loses_nothing() -> None:
    _, facts, read = prepared()
    json.dumps(facts)
    train = read.splits["train"]
    raw = {"source": ["the small dog runs near a tree.", "Ærø 漢字 <pad>"], "target": ["der Hund läuft.", "ä  b"]}
    together = TASK.read(raw, facts)
    for row in range(2):
        alone = TASK.read({name: column[row : row + 1] for name, column in raw.items()}, facts)
        for name in ("source", "target", "reference"):
            assert torch.equal(Split(alone).ragged(name).row(0), Split(together).ragged(name).row(row))
    batch = TASK.collate(together)
    assert batch["target"][:, 0].tolist() == [START, START]
    assert [row[row != PAD][-1].item() for row in batch["source"]] == [END, END]
    assert texts_of(batch["reference"]) == raw["target"]
    outputs = {"tokens": batch["target"], "score": torch.zeros(2), "complete": torch.ones(2, dtype=torch.bool)}
    assert [row["translation"] for row in TASK.decode(outputs, facts)] == raw["target"]
    assert TASK.lengths is not None
    longer = torch.maximum(train.ragged("source").lengths, train.ragged("target").lengths)
    assert torch.equal(TASK.lengths(train), longer)
    for wrong in ([""], ["  "], [3]):
        with pytest.raises(BadRows):
            TASK.read({"source": wrong}, facts)


def test_facts_are_the_same_each_time() -> None:
    assert prepared()[1] == prepared()[1]


@pytest.mark.parametrize("tokenizer", ["words", "characters"])
def test_the_reference_is_compared_as_it_is_written(tokenizer: str) -> None:
    text = {"tokenizer": tokenizer, "lower": True, "max_length": 6}
    _, _, read = prepared(text=text)
    batch = TASK.collate(read.splits["train"].slice(0, 1).columns)
    assert batch["target"].shape[1] <= 6
    assert texts_of(batch["reference"])[0] in {target for _, target in made(120)}


def test_the_loss_is_a_sum_over_tokens() -> None:
    recipe, facts, read = prepared(loss={"label_smoothing": 0.1})
    torch.manual_seed(0)
    model = TASK.build(recipe, facts, lambda facts, **_: seq2seq(facts, embedding=16, hidden=16)).eval()
    (phase,) = TASK.phases(recipe, facts)
    stream = loader.stream(read.splits["train"], TASK.collate, batch_size=8, lengths=None)
    batch = next(iter(stream.epoch(0, 0)))
    count = phase.count(batch)
    assert count == int((batch["target"] != PAD).sum()) - 8
    logits = model.network(batch["source"], batch["target"][:, :-1])  # type: ignore[operator]
    expected = F.cross_entropy(
        logits.flatten(0, 1), batch["target"][:, 1:].flatten(), ignore_index=PAD, reduction="sum", label_smoothing=0.1
    )
    assert phase.loss(model, batch).total.item() == pytest.approx(expected.item(), rel=1e-5)
    outputs = TASK.predict(model, batch)
    plain = F.cross_entropy(
        logits.flatten(0, 1), batch["target"][:, 1:].flatten(), ignore_index=PAD, reduction="none"
    ).view(8, -1)
    assert torch.allclose(outputs["nll"], plain.sum(1), rtol=1e-4)
    assert set(TASK.keep) <= {*outputs, *batch}


@pytest.mark.slow
def test_it_learns_a_small_language(run: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    assert info["scores"]["test/bleu"] > 50
    page = (run / "report.html").read_text()
    for part in ("nrefs:1|case:mixed", "Quality against length", "Samples", "Attention", "&lt;/s&gt;"):
        assert part in page


@pytest.mark.slow
def test_a_saved_model_translates_as_it_did(run: Path) -> None:
    model = flambeau.load(run)
    source, target = made(1)[0]
    first = model.predict([source])[0]
    again = flambeau.load(run / "model.safetensors").predict([source, "a cat sleeps under the tree."])[0]
    assert first["translation"] == again["translation"] and first["complete"]
    assert first["score"] == pytest.approx(again["score"], abs=1e-4)
    words = set(first["translation"].rstrip(".").split())
    assert len(words & set(target.rstrip(".").split())) >= len(words) // 2


@pytest.mark.slow
def test_commands(run: Path, call: Command, tmp_path: Path) -> None:
    told = call("predict", run, "the dog sees a cat.", "the dog sees Æ.")
    assert told.code == 0 and "characters that occur in no training sentence: Æ" in told.out + told.err
    (tmp_path / "two.txt").write_text("a man runs near the house.\n\nthe red cat sleeps under a tree.\n")
    answers = call("predict", run, "two.txt", "--json").json["predictions"]
    assert [answer["path"] for answer in answers] == ["two.txt:1", "two.txt:3"]
    assert call("predict", run, "missing.txt").code == 2
    found = call("evaluate", run, "--json").json
    assert found["scores"]["bleu"] > 50 and "signature" in json.dumps(found)
    table = call("evaluate", run)
    assert "7-9" in table.out and "95 % interval" in table.out
    (tmp_path / "other.csv").write_text("de,en\nder Hund schläft bei ein Kater.,the dog sleeps near a cat.\n" * 4)
    turned = call("evaluate", run, "other.csv", "--json")
    assert turned.code == 0, turned.err
    (tmp_path / "french.csv").write_text("en,fr\na,b\n" * 4)
    assert call("evaluate", run, "french.csv").code == 2
    shown = call("inspect", run.parent / "pairs.tsv")
    assert "en to de" in shown.out and "->" in shown.out


@pytest.mark.slow
@pytest.mark.parametrize("settings", [("model.name=transformer", *TRANSFORMER), ("model.name=seq2seq", *SEQ2SEQ)])
def test_an_interrupted_run_goes_on_to_the_same_bits(settings: tuple[str, ...], tmp_path: Path) -> None:
    pairs = made(200)
    arguments: dict[str, Any] = {
        "task": "translation",
        "settings": (*SMALL, *settings, "train.epochs=3", "train.eval_batch_size=16"),
        "device": "cpu",
        "quiet": True,
    }
    flambeau.train(pairs, **arguments, out=tmp_path / "whole" / "run")

    def stop(record: Record, state: State) -> None:
        if record.kind == "step" and record.step == 13:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        flambeau.train(pairs, **arguments, out=tmp_path / "broken" / "run", observers=[stop])
    flambeau.resume(tmp_path / "broken" / "run", source=pairs, quiet=True)
    assert not differences(tmp_path / "broken" / "run", fingerprint(tmp_path / "whole" / "run"))


OWN = """
from torch import nn

class Own(nn.Module):
    def __init__(self, vocabulary=330):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 16)
        self.head = nn.Linear(16, vocabulary)

    def forward(self, source, target):
        return self.head(self.embedding(target) + self.embedding(source).mean(1, keepdim=True))
"""


def test_a_network_of_ones_own_needs_forward_alone(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    settings = (*SMALL, "train.epochs=1", "options.beam=2")
    out = tmp_path / "run"
    run = flambeau.train(
        made(80), task="translation", model=f"{tmp_path}/own.py:Own", settings=settings, out=out, quiet=True
    )
    assert 0 <= run.scores["test/bleu"] <= 100 and run.scores["test/loss"] > 0
    assert "Attention" not in (out / "report.html").read_text()


@pytest.mark.slow
def test_a_transformer_learns_in_either_direction(tmp_path: Path) -> None:
    settings = (*SMALL, *TRANSFORMER, "model.name=transformer", "options.reverse=true", "options.beam=1")
    run = flambeau.train(
        made(900), task="translation", settings=(*settings, "train.epochs=20"), out=tmp_path / "run", quiet=True
    )
    assert run.scores["test/bleu"] > 40
    assert set(run.model.predict(["der Hund schläft bei ein Baum."])[0]["translation"].split()) & set(ENGLISH.split())


def test_options_and_settings_that_cannot_be() -> None:
    for setting, said in (
        ("options.beam=0", "beam"),
        ("options.beems=2", "beems"),
        ("text.max_length=2", "max_length"),
        ("loss.class_weights=balanced", "class_weights"),
    ):
        with pytest.raises(RecipeError, match=said):
            flambeau.train(made(40), task="translation", settings=[*SMALL, setting], quiet=True)


def test_other_data_is_turned_into_the_direction_of_the_model() -> None:
    split = Split({"source": ["a"], "target": ["b"]})
    facts = {"languages": ["en", "de"], "reverse": False}
    assert TASK.intake.align(split, {"languages": ["en", "de"]}, facts)["source"] == ["a"]
    assert TASK.intake.align(split, {"languages": ["de", "en"]}, facts)["source"] == ["b"]
    assert TASK.intake.align(split, {"languages": []}, facts)["source"] == ["a"]
    turned = {"languages": ["de", "en"], "reverse": True}
    assert TASK.intake.align(split, {"languages": ["en", "de"]}, turned)["source"] == ["b"]
    assert TASK.intake.align(split, {"languages": ["de", "en"], "reversed": True}, turned)["source"] == ["a"]
    with pytest.raises(DataError, match="other languages"):
        TASK.intake.align(split, {"languages": ["en", "fr"]}, facts)


def test_attention_is_drawn_with_its_words() -> None:
    drawn = heat(["a<b", "·c"], ["x"], torch.tensor([[0.75, 0.25]]))
    assert 'fill-opacity="0.750"' in drawn and "a&lt;b" in drawn and "<b" not in drawn.replace("&lt;b", "")
