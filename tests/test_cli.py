"""What each command prints, to people and to programs."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, Command
from PIL import Image

import flambeau

COMMANDS = [
    "compare",
    "datasets",
    "evaluate",
    "export",
    "import",
    "inspect",
    "models",
    "predict",
    "recipes",
    "resume",
    "sample",
    "tasks",
    "train",
]
SETTINGS = [text for setting in TINY for text in ("--set", setting)]
TRAIN = ["train", "digits", "--model", "mlp", "--epochs", "1", *SETTINGS, "--device", "cpu"]


def test_help_names_every_command(call: Command) -> None:
    done = call("--help")
    assert done.code == 0
    assert all(f"\n  {command} " in done.out for command in COMMANDS)


def test_a_command_imports_no_other(tmp_path: Path) -> None:
    code = "import sys; from flambeau.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, "tasks", "-h"], capture_output=True, encoding="utf-8", cwd=tmp_path
    )
    loaded = {name for name in done.stderr.split() if name.startswith("flambeau.cli.")}
    assert loaded == {"flambeau.cli.main", "flambeau.cli.output", "flambeau.cli.listing"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(call: Command, command: str) -> None:
    done = call(command, "--help")
    assert done.code == 0
    assert f"flambeau {command}" in done.out
    for option in ("--json", "--debug", "--quiet"):
        assert option in done.out


def test_version(call: Command) -> None:
    assert call("--version").out == f"flambeau {flambeau.__version__}\n"


def test_train_in_a_process(process: Command, tmp_path: Path) -> None:
    done = process(*TRAIN, "--out", "run", "--json")
    assert done.code == 0, done.err
    result = done.json
    assert result.keys() >= {"run", "model", "report", "scores", "seconds", "epochs", "resumed_from"}
    assert result["seconds"].keys() >= {"setup", "train", "validate", "test", "report", "total"}
    assert result["seconds"]["total"] >= result["seconds"]["train"] > 0
    assert 0 <= result["scores"]["test/accuracy"] <= 1
    assert result["scores"]["test/loss"] > 0
    assert (result["epochs"], result["resumed_from"]) == (1, None)
    assert (tmp_path / result["model"]).is_file()
    assert (tmp_path / result["report"]).read_text(encoding="utf-8").startswith("<!")
    assert "test accuracy" in done.err


def test_train_tells_the_scores_and_what_comes_next(call: Command) -> None:
    done = call(*TRAIN, "--out", "my run")
    assert done.code == 0
    lines = done.out.splitlines()
    assert any(line.startswith("test accuracy") and "95 % interval" in line for line in lines)
    assert any(line.split()[:4] == ["epoch", "train", "loss", "val"] for line in lines)
    assert "flambeau predict 'my run' PICTURE..." in done.out
    assert "my run/model.safetensors" in done.out
    assert "my run/report.html" in done.out
    assert "mean of batch means" not in done.out


def test_quiet_training_prints_nothing(call: Command) -> None:
    done = call(*TRAIN, "--out", "run", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_quiet_json_is_one_object_alone(call: Command) -> None:
    done = call(*TRAIN, "--out", "run", "--quiet", "--json")
    assert done.err == ""
    assert done.json["epochs"] == 1


def test_validating_on_the_test_split_is_said_in_plain_words(call: Command) -> None:
    done = call(*TRAIN, "--set", "data.validation=test", "--out", "run")
    assert "The test split also served as the validation split" in done.out


def test_set_of_another_model_drops_the_recipes_arguments(call: Command) -> None:
    # The recipe of digits gives compact's width, which mlp has not.
    done = call("train", "digits", "--set", "model.name=mlp", "--epochs", "1", *SETTINGS, "--out", "run", "--json")
    assert done.code == 0, done.err
    assert flambeau.load("run").description.architecture["arguments"] == {"widths": [16]}


def test_default_run_folder_is_named_after_data_and_model(call: Command) -> None:
    done = call(*TRAIN, "--json")
    assert done.json["run"].startswith("runs/digits-mlp-")


def test_resume_of_a_finished_run_and_more_epochs(call: Command) -> None:
    call(*TRAIN, "--out", "run", "--quiet")
    finished = call("resume", "run")
    assert finished.code == 0
    assert "flambeau resume run --epochs N" in finished.out
    longer = call("resume", "run", "--epochs", "1", "--json")
    assert longer.code == 0, longer.err
    assert longer.json["epochs"] == 2
    assert longer.json["resumed_from"] > 0


def test_evaluate(call: Command, trained: Path) -> None:
    done = call("evaluate", trained, "--json")
    result = done.json
    scores = flambeau.load(trained).scores
    assert (done.code, result["split"]) == (0, "test")
    assert result["scores"]["accuracy"] == pytest.approx(scores["test/accuracy"])
    assert result["scores"]["loss"] == pytest.approx(scores["test/loss"])
    assert [row["class"] for row in result["classes"]] == [str(digit) for digit in range(10)]
    assert sum(row["support"] for row in result["classes"]) == result["examples"]
    assert "95 % interval" in call("evaluate", trained).out
    # Data that has no such split is scored whole.
    whole = call("evaluate", trained, "digits", "--json").json
    assert (whole["split"], whole["examples"]) == ("all", 1797)


@pytest.fixture
def digit_files(tmp_path: Path) -> list[Path]:
    images = flambeau.datasets.load("digits").splits["train"]["image"]
    (tmp_path / "files").mkdir()
    paths = [tmp_path / "files" / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.fromarray(images[number, 0].numpy()).save(path)
    return paths


def test_predict_table(call: Command, trained: Path, digit_files: list[Path]) -> None:
    done = call("predict", trained, *digit_files, "--top", "2")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(str(digit_files[0]))
    assert lines[0].count("%") == 2


def test_predict_json_format_is_a_list(call: Command, trained: Path, digit_files: list[Path]) -> None:
    rows = json.loads(call("predict", trained, *digit_files, "--format", "json").out)
    assert [row["path"] for row in rows] == [str(path) for path in digit_files]
    assert rows[0].keys() == {"path", "class", "probability", "classes"}
    assert len(rows[0]["classes"]) == 3
    assert rows[0]["classes"][0] == {"class": rows[0]["class"], "probability": rows[0]["probability"]}


def test_predict_csv_is_exact(call: Command, trained: Path, digit_files: list[Path]) -> None:
    done = call("predict", trained, digit_files[0].parent, "--format", "csv", "--top", "2")
    rows = list(csv.reader(io.StringIO(done.out)))
    assert rows[0] == ["path", "class1", "probability1", "class2", "probability2"]
    assert [row[0] for row in rows[1:]] == [str(path) for path in digit_files]
    expected = flambeau.load(trained).predict(digit_files[0], top=2)
    shown = [expected["class"], f"{expected['probability']:.6f}"]
    assert rows[1][1:3] == shown


def test_predict_json_object(call: Command, trained: Path, digit_files: list[Path]) -> None:
    result = call("predict", trained, *digit_files, "--json").json
    assert result.keys() == {"predictions", "errors"}
    assert len(result["predictions"]) == 3
    assert result["errors"] == []


def test_predict_abstains_below_a_probability(call: Command, trained: Path, digit_files: list[Path]) -> None:
    sure = [row["probability"] for row in call("predict", trained, *digit_files, "--json").json["predictions"]]
    least = sorted(sure)[1]
    done = call("predict", trained, *digit_files, "--abstain-below", f"{least}", "--json")
    rows = done.json["predictions"]
    assert [row["abstains"] for row in rows] == [value < least for value in sure]
    assert [row["class"] is None for row in rows] == [value < least for value in sure]
    assert all(len(row["classes"]) == 3 for row in rows)
    assert "no answer to 1 of 3" in done.err
    text = call("predict", trained, *digit_files, "--abstain-below", "1", "--format", "csv").out.splitlines()
    assert text[0].startswith("path,answer,class1")
    assert text[1].split(",")[1] == ""
    assert "abstains (" in call("predict", trained, digit_files[0], "--abstain-below", "1").out
    assert call("predict", trained, digit_files[0], "--abstain-below", "90").code == 2


def test_predict_writes_a_gallery(call: Command, trained: Path, digit_files: list[Path], tmp_path: Path) -> None:
    bad = digit_files[0].with_name("bad<b>.png")
    bad.write_bytes(b"not a picture")
    page = tmp_path / "made" / "answers.html"
    done = call("predict", trained, *digit_files, bad, "--gallery", page, "--json")
    text = page.read_text(encoding="utf-8")
    assert done.json["gallery"] == str(page)
    assert text.count("<img") == 3
    assert all(f">{path.name}</span>" in text for path in digit_files)
    assert "bad&lt;b&gt;.png" in text
    assert "bad<b>" not in text
    answers = {row["class"] for row in done.json["predictions"]}
    assert set(re.findall(r"<h2>(\d)</h2>", text)) == answers


def test_bad_pictures_are_named_and_good_ones_answered(call: Command, trained: Path, digit_files: list[Path]) -> None:
    bad, absent = digit_files[0].with_name("bad.png"), digit_files[0].with_name("absent.png")
    bad.write_bytes(b"not a picture")
    done = call("predict", trained, digit_files[0], bad, absent, digit_files[1], "--json")
    assert done.code == 2
    assert [row["path"] for row in done.json["predictions"]] == [str(path) for path in digit_files[:2]]
    assert {error["path"] for error in done.json["errors"]} == {str(bad), str(absent)}
    assert all(error["problem"] for error in done.json["errors"])
    assert "--on-bad" not in done.err


def test_a_picture_unlike_the_training_data_is_doubted(call: Command, trained: Path, tmp_path: Path) -> None:
    digit = flambeau.datasets.load("digits").splits["train"]["image"][0, 0].numpy()
    Image.fromarray(255 - digit).convert("RGB").save(tmp_path / "white.png")
    done = call("predict", trained, "white.png")
    assert done.code == 0
    assert done.out.count("\n") == 1
    assert "note: white.png: Its border is brighter" in done.err
    assert "invert" in done.err
    assert call("predict", trained, "white.png", "--quiet").err == ""
    assert "doubt" in call("predict", trained, "white.png", "--json").json["predictions"][0]


def test_inspect_data(call: Command, tmp_path: Path) -> None:
    done = call("inspect", "digits")
    assert done.code == 0
    assert "digits: 1,797 train" in done.out
    assert "1,797 grey" in done.out
    with Image.open(tmp_path / "digits-samples.png") as grid:
        assert grid.width > 200
    result = call("inspect", "digits", "--json", "--samples", "0").json
    assert (result["kind"], sum(result["counts"]["train"].values())) == ("data", 1797)
    assert "samples" not in result


def test_inspect_folder(call: Command, pictures: Path, tmp_path: Path) -> None:
    done = call("inspect", pictures, "--png", "grid.png")
    assert done.code == 0
    assert "24x20 (16)" in done.out
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 200


def test_inspect_network_shows_shapes_and_formulas(call: Command) -> None:
    done = call("inspect", "lenet")
    assert "(28 + 2·2 − 5) / 1 + 1 = 28" in done.out
    assert "61,706" in done.out
    heads = next(line for line in done.out.splitlines() if "parameters" in line)
    rows = [line for line in done.out.splitlines() if "Conv2d" in line]
    place = heads.index("parameters") + len("parameters")
    assert all(row[place - 1].isdigit() and row[place] == " " for row in rows), "the numbers end below their heading"
    assert call("inspect", "mlp", "--set", "model.widths=[4]", "--json").json["parameters"] == 784 * 4 + 4 + 50


def test_inspect_run_shows_scores_and_layers(call: Command, trained: Path) -> None:
    done = call("inspect", trained)
    assert done.code == 0
    scores = flambeau.load(trained).scores
    [accuracy] = [line.split() for line in done.out.splitlines() if line.startswith("accuracy")]
    assert accuracy == ["accuracy", f"{scores['val/accuracy']:.4f}", f"{scores['test/accuracy']:.4f}"]
    assert "Linear" in done.out
    result = call("inspect", trained, "--json").json
    assert (result["kind"], result["status"], len(result["metrics"])) == ("run", "finished", 2)
    assert result["layers"][0]["type"] == "Flatten"


def test_inspect_model_file(call: Command, trained: Path) -> None:
    result = call("inspect", trained / "model.safetensors", "--json").json
    assert (result["kind"], result["architecture"], result["parameters"]) == ("model", "mlp", 64 * 16 + 16 + 170)
    assert "trained on digits" in call("inspect", trained / "model.safetensors").out


def test_export_and_import_give_the_same_predictions(call: Command, trained: Path, digit_files: list[Path]) -> None:
    exported = call("export", trained, "--out", "plain.pth")
    assert exported.code == 0
    assert "mean 0.3" in exported.out
    Path("classes.txt").write_text("\n".join(str(digit) for digit in range(10)), encoding="utf-8")
    preprocessing = call("export", trained, "--out", "plain.pth", "--json").json["preprocessing"]
    imported = call("import", "plain.pth", "--model", "mlp", "--classes", "classes.txt", "--set", "model.widths=[16]")
    assert imported.code == 0, imported.err
    assert "plain.safetensors" in imported.out
    before, after = flambeau.load(trained), flambeau.load("plain.safetensors")
    for name, value in before.network.network.state_dict().items():
        assert after.network.network.state_dict()[name].equal(value)
    assert (preprocessing["size"], preprocessing["channels"]) == ([8, 8], 1)
    assert after.predict(digit_files[0])["class"] in before.classes


def test_datasets_tells_classes_licence_and_place(
    call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.delenv("FLAMBEAU_DATA", raising=False)
    rows = {row["name"]: row for row in call("datasets", "--json").json["datasets"]}
    assert rows["digits"]["found"] == "flambeau (in the package)"
    assert rows["cifar10"]["classes"][0] == "airplane"
    assert all(row["licence"] for row in rows.values())
    if rows["cifar10"]["found"] is None:
        assert rows["cifar10"]["download"] == 170_498_071
        assert "170 MB to download" in call("datasets").out


def test_datasets_believes_no_file_name(call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The four files of every MNIST-like set have the same names; the sum of the smallest tells which they are.
    from importlib import resources

    files = resources.files("flambeau.data.datasets") / "files" / "fashion-mnist-mini"
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / f"{part}-ubyte.gz").write_bytes((files / f"{part}-ubyte.gz").read_bytes())
    monkeypatch.setenv("FLAMBEAU_DATA", str(tmp_path))
    rows = {row["name"]: row for row in call("datasets", "--json").json["datasets"]}
    assert rows["mnist"]["found"] != str(tmp_path)
    assert rows["fashion-mnist"]["found"] != str(tmp_path)


def test_datasets_finds_what_training_finds(call: Command) -> None:
    if not os.environ.get("FLAMBEAU_DATA"):
        pytest.skip("FLAMBEAU_DATA names no folder with the published data sets")
    for row in call("datasets", "--json").json["datasets"]:
        if row["found"]:
            assert flambeau.datasets.load(row["name"]).info["source"] == row["found"]


def test_models_and_recipes(call: Command) -> None:
    rows = call("models", "--json").json["models"]
    models = {row["name"]: row for row in rows if "image-classification" in row["tasks"]}
    assert models["mlp"]["parameters"] == 669_706
    assert models["compact"]["arguments"]["width"] == 24
    assert models["resnet50"]["weights"] == {
        "publisher": "torchvision",
        "side": 224,
        "megabytes": 98,
        "licence": "not stated",
    }
    printed = call("models").out
    assert 'activation = "relu"' in printed and re.search(
        r"^resnet50 +25,557,032 +224x224 +98 MB +not st", printed, re.M
    )
    recipes = call("recipes", "--json").json["recipes"]
    assert all(row["about"] for row in recipes)
    assert call("recipes", "--quiet").out.split() == [row["name"] for row in recipes]


def test_models_are_listed_by_a_part_of_their_names(call: Command) -> None:
    assert call("models", "ResNeXt", "--quiet").out.split() == [
        "resnext101_32x8d",
        "resnext101_64x4d",
        "resnext50_32x4d",
    ]
    assert "4x4" not in call("models", "lstm").out and "for text-classification:" in call("models", "lstm").out
    missed = call("models", "resnett")
    assert missed.code == 2 and "'resnett'" in missed.err and "Did you mean resnet" in missed.err


@pytest.mark.parametrize("command", ["datasets", "models", "recipes", "tasks"])
def test_lists_fit_the_terminal(call: Command, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    wide = [line for line in call(command).out.splitlines() if len(line) > 80 and "found:" not in line]
    meant = ("`flambeau", "--model", "A folder of", "https://")
    assert all(any(part in line for part in meant) for line in wide), wide
