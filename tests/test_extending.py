"""A task of the user's own, in one file: the example of docs/extending.md, trained, resumed and asked for real."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

import flambeau
from flambeau.core import Record, State
from flambeau.errors import BadRows, DataError, Interrupted, ModelError, RecipeError, UsageError

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "table_regression.py"
TINY = ("train.batch_size=16", "model.widths=[16]", "log.every=1", "log.tensorboard=false")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``house.py`` and ``prices.csv``: 160 rows in which 2 a - 3 b + 5 is the price."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copy(EXAMPLE, folder / "house.py")
    draw = random.Random(1)
    write(
        folder / "prices.csv",
        [(a := draw.uniform(0, 9), b := draw.uniform(0, 9), 2 * a - 3 * b + 5) for _ in range(160)],
    )
    return folder


def write(path: Path, rows: list[tuple[Any, ...]], heading: tuple[str, ...] = ("a", "b", "price")) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([heading, *rows])


def fit(house: Path, out: Path, **given: Any) -> flambeau.Run:
    settings = [*TINY, "options.target=price", *given.pop("settings", ())]
    source = given.pop("source", str(house / "prices.csv"))
    wanted = {"epochs": 3, "settings": settings, "out": out, "device": "cpu", "quiet": True}
    run = flambeau.train(source, task=f"{house / 'house.py'}:TASK", **{**wanted, **given})
    assert isinstance(run, flambeau.Run)
    return run


@pytest.fixture(scope="module")
def run(house: Path) -> flambeau.Run:
    return fit(house, house / "runs" / "run", epochs=25, settings=["optimizer.lr=0.02"])


def load(run: flambeau.Run) -> Any:
    return flambeau.load(run, trust_code=True)


def bits(run: Path) -> dict[str, bytes]:
    """What must come out the same: weights, the optimiser's state, metrics."""
    newest = max((run / "checkpoints").glob("step-*"))
    state = json.loads((newest / "state.json").read_bytes())
    del state["notes"]["seconds"]
    return {
        "state": json.dumps(state).encode(),
        **{name: (newest / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")},
        "metrics": (run / "metrics.jsonl").read_bytes(),
        "selected": (run / "model.safetensors").read_bytes(),
    }


def test_the_page_shows_the_example_whole() -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    shown = "\n".join(re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    lines = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line]
    assert [line for line in shown.splitlines() if line] == lines
    assert f"{len(EXAMPLE.read_text(encoding='utf-8').splitlines())} lines" in page
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 200


def test_it_learns_the_rule(run: flambeau.Run) -> None:
    assert run.finished
    assert run.scores["test/r2"] > 0.98
    assert run.scores["test/mae"] <= run.scores["test/rmse"] < 1.2
    assert run.info["facts"]["columns"] == ["a", "b"]
    assert run.info["scoring"] == {"select": "rmse", "mode": "min", "shown": ["rmse", "r2"]}
    best = min(line["val/rmse"] for line in run.metrics() if line["kind"] == "epoch")
    assert run.scores["val/rmse"] == pytest.approx(best), "less is better"
    assert "rmse" in run.report.read_text(encoding="utf-8")


def test_a_killed_run_goes_on_to_the_same_bits(house: Path, tmp_path: Path) -> None:
    settings = ["model.dropout=0.1"]
    whole = fit(house, tmp_path / "a" / "run", settings=settings)

    def stop(record: Record, state: State) -> None:
        if record.kind == "step" and record.step == 10:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        fit(house, tmp_path / "b" / "run", settings=settings, observers=[stop])
    resumed = flambeau.resume(tmp_path / "b" / "run", quiet=True)
    assert resumed.info["resumed_from"] == 10
    assert bits(resumed.path) == bits(whole.path)


def test_changed_data_is_refused(house: Path, tmp_path: Path) -> None:
    shutil.copytree(house, tmp_path / "copy", ignore=shutil.ignore_patterns("runs"))
    mine = tmp_path / "copy"

    def stop(record: Record, state: State) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        fit(mine, mine / "run", observers=[stop])
    (mine / "prices.csv").write_text((mine / "prices.csv").read_text().replace("5", "6"))
    with pytest.raises(flambeau.FlambeauError, match="not what it was"):
        flambeau.resume(mine / "run", quiet=True)


def test_evaluating_gives_the_scores_of_the_run(run: flambeau.Run, house: Path) -> None:
    scored = flambeau.evaluate(run, trust_code=True)
    assert {f"test/{name}": value for name, value in scored.scores.items()} == pytest.approx(
        {name: value for name, value in run.scores.items() if name.startswith("test/")}
    )
    assert flambeau.evaluate(run, house / "prices.csv", trust_code=True).examples == 160


def test_loading_runs_no_code_unasked(run: flambeau.Run) -> None:
    for call in (lambda: run.model, lambda: flambeau.evaluate(run), lambda: flambeau.load(run.path)):
        with pytest.raises(ModelError, match="trust_code"):
            call()


def test_looking_and_comparing_run_no_code(run: flambeau.Run, house: Path, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "theirs")
    recipe = tmp_path / "theirs" / "recipe.toml"
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nTASK = None\n")
    recipe.write_text(recipe.read_text().replace(str(house / "house.py"), str(tmp_path / "evil.py")))
    found = flambeau.inspect(str(tmp_path / "theirs"))
    assert found.kind == "run" and "trust_code" in str(found.facts["notes"])
    assert flambeau.compare([tmp_path / "theirs", run.path]).runs[0]["scores"] == run.scores
    assert not (tmp_path / "ran").exists()


def test_predicting_takes_one_row_and_several(run: flambeau.Run) -> None:
    model = load(run)
    one = model.predict({"a": 4, "b": 2})
    assert one["target"] == "price" and one["value"] == pytest.approx(7, abs=1.5)
    several = model.predict([{"a": "4", "b": "2"}, {"a": 1.5, "b": 0.5}])
    assert several[0]["value"] == pytest.approx(one["value"], rel=1e-5)
    with pytest.raises(BadRows, match="no number in the column b"):
        model.predict({"a": 4})
    assert "table-regression" in repr(model)


def test_a_saved_model_says_the_same(run: flambeau.Run, tmp_path: Path) -> None:
    model = load(run)
    again = flambeau.load(model.save(tmp_path / "m.safetensors"), trust_code=True)
    rows = [{"a": a, "b": 3} for a in range(9)]
    assert again.predict(rows) == model.predict(rows)


def test_rows_of_python_train_like_those_of_a_file(house: Path, run: flambeau.Run, tmp_path: Path) -> None:
    with (house / "prices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    made = fit(house, tmp_path / "python", source=rows)
    assert made.info["data"]["hash"] == run.info["data"]["hash"]
    other = fit(house, tmp_path / "file")
    assert made.scores == other.scores


def test_a_bad_row_is_named_or_left_out(house: Path, tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [(n, n % 7, 2 * n) for n in range(150)]
    rows[20] = (3, "many", 6)
    write(tmp_path / "bad.csv", rows)
    with pytest.raises(BadRows, match="no number in the column b") as caught:
        fit(house, tmp_path / "run", source=str(tmp_path / "bad.csv"))
    assert str(caught.value.where).endswith("bad.csv:22")
    made = fit(house, tmp_path / "skipped", source=str(tmp_path / "bad.csv"), settings=["data.on_bad=skip"], epochs=1)
    assert sum(made.info["data"]["examples"].values()) == 149


def test_mistakes_are_found_before_any_data_is_read(house: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        fit(
            house, tmp_path / "run", source="nowhere.csv", settings=["options.taget=1", "model.width=3", "text.lower=1"]
        )
    text = str(caught.value)
    assert "options.taget" in text and "model.width" in text and "text: the task table-regression" in text
    with pytest.raises(DataError, match="no such column"):
        fit(house, tmp_path / "run", settings=["options.target=cost"])
    with pytest.raises(UsageError, match="not a task"):
        flambeau.train(str(house / "prices.csv"), task=f"{house / 'house.py'}:mlp", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_network_of_the_users_own(house: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, facts):\n"
        "        super().__init__()\n"
        "        self.line = nn.Linear(len(facts['columns']), 1)\n"
        "    def forward(self, x):\n"
        "        return self.line(x)\n"
    )
    settings = [setting for setting in TINY if not setting.startswith("model")]
    made = flambeau.train(
        str(house / "prices.csv"),
        task=f"{house / 'house.py'}:TASK",
        model=f"{tmp_path / 'net.py'}:Net",
        settings=settings,
        epochs=2,
        out=tmp_path / "run",
        quiet=True,
    )
    assert load(made).predict({"a": 1, "b": 1})["target"] == "price"


def test_the_commands(run: flambeau.Run, house: Path, call: Command, tmp_path: Path) -> None:
    task = f"{house / 'house.py'}:TASK"
    looked = call("inspect", house / "prices.csv", "--task", task, "--samples", "1", "--json").json
    assert (looked["kind"], looked["rows"], looked["columns"]) == ("data", {"train": 160}, ["a", "b"])
    assert len(looked["samples"]) == 1
    layers = call("inspect", "mlp", "--task", task, "--set", "model.widths=[4]", "--json").json
    assert layers["parameters"] == 4 + 4 + 4 + 1
    settings = [text for setting in TINY for text in ("--set", setting)]
    trained = call("train", house / "prices.csv", "--task", task, *settings, "--epochs", "1", "--out", "mine")
    assert trained.code == 0 and "test rmse" in trained.out
    assert "flambeau predict mine COLUMN=NUMBER,... --trust-code" in trained.out
    assert call("evaluate", run.path).code == 2
    assert "rmse" in call("evaluate", run.path, "--trust-code").out
    asked = call("predict", run.path, "a=1,b=1", "a=1,b=x", "--trust-code")
    assert asked.code == 2 and asked.out.startswith("a=1,b=1  price ") and "column b" in asked.err
    table = call("predict", run.path, house / "prices.csv", "--format", "csv", "--trust-code").out.splitlines()
    assert table[0] == "path,price" and len(table) == 161
    assert call("inspect", run.path, "--trust-code", "--json").json["layers"]
    compared = call("compare", run.path, "mine", "--json").json
    assert compared["best"]["test/rmse"] == [0], "less is better"
    exported = call("export", run.path, "--out", "plain.pth", "--trust-code")
    assert exported.code == 0 and exported.out.startswith("plain.pth: 4 tensors")
