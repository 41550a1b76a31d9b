"""Exported files are asked as their models are: the same answers, without PyTorch where the file is ONNX."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

import flambeau
from flambeau.data import images
from flambeau.errors import BadRows, FlambeauError, ModelError
from flambeau.export.portable.card import VERSION, Card, format_of, read
from flambeau.export.portable.exported import Exported, open_exported
from flambeau.export.portable.pictures import PIXELS, pictures
from flambeau.export.portable.texts import texts
from flambeau.tasks import text_classification

FORMATS = {"onnx": ".onnx", "pt2": ".pt2", "torchscript": ".pt"}
FORMATS |= {"openvino": ".xml"} if importlib.util.find_spec("openvino") else {}
BLOCKED = "import sys\nfor name in {names}: sys.modules[name] = None\n"
EMPTY = {"card": 1, "task": "of-noise", "graph": "model", "inputs": {}, "outputs": {}, "preprocessing": {}}
RULES = {"background": [255, 255, 255], "max_megapixels": 25.0, "min_side": 2, "max_aspect": 20.0}


@pytest.fixture(scope="module")
def files(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run exported to each format."""
    folder = tmp_path_factory.mktemp("exported")
    made = {name: folder / f"model{suffix}" for name, suffix in FORMATS.items()}
    for name, path in made.items():
        flambeau.export_model(trained, path, name)
    return made


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of several sizes and modes."""
    folder = tmp_path_factory.mktemp("shots")
    random = np.random.default_rng(0)
    kinds = [(8, 8), (31, 17), (8, 8), (12, 40, 3), (20, 20, 4), (5, 6, 3), (12, 40, 3)]
    for number, shape in enumerate(kinds):
        suffix = "jpg" if number == 3 else "png"
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{number}.{suffix}")
    return sorted(folder.iterdir())


def run_python(code: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, which has the package and whatever else the tests have."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
    )


@pytest.mark.parametrize("form", FORMATS)
def test_answers_are_those_of_the_run(form: str, trained: Path, files: dict[str, Path], shots: list[Path]) -> None:
    wanted = flambeau.load(trained).predict(shots)
    found = open_exported(files[form], form).predict(shots)
    assert len(found) == len(shots)
    for mine, theirs in zip(found, wanted, strict=True):
        assert [entry["class"] for entry in mine["classes"]] == [entry["class"] for entry in theirs["classes"]]
        probabilities = [[entry["probability"] for entry in row["classes"]] for row in (mine, theirs)]
        assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-5)
        assert mine.get("doubt") == theirs.get("doubt")


@pytest.mark.parametrize("form", FORMATS)
def test_the_format_is_found_from_the_content(form: str, files: dict[str, Path], tmp_path: Path) -> None:
    disguised = tmp_path / "model.bin"
    disguised.write_bytes(files[form].read_bytes())
    assert format_of(disguised) == form


def test_runs_model_files_and_whatever_else_are_no_exported_files(trained: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.pth"
    flambeau.export_model(trained, plain)
    (tmp_path / "empty").touch()
    for path in (trained, trained / "model.safetensors", plain, tmp_path / "empty", tmp_path / "absent"):
        assert format_of(path) is None


def test_a_model_file_is_none_even_where_its_length_reads_like_the_beginning_of_onnx(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {}}).ljust(0x0308).encode()
    for name in ("model.safetensors", "model.onnx"):
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header)
        assert format_of(tmp_path / name) is None


@pytest.mark.parametrize("options", [[], ["--top", "1", "--abstain-below", "0.9"], ["--format", "csv"]])
def test_the_command_prints_the_same(
    call: Command, trained: Path, files: dict[str, Path], shots: list[Path], options: list[str]
) -> None:
    wanted, found = (call("predict", model, *shots, *options) for model in (trained, files["onnx"]))
    assert (found.code, found.out.splitlines()[0]) == (0, wanted.out.splitlines()[0])
    if "csv" not in options:
        assert found.out == wanted.out


def test_json_has_what_that_of_a_run_has(
    call: Command, trained: Path, files: dict[str, Path], shots: list[Path]
) -> None:
    wanted, found = (call("predict", m, shots[0].parent, "--json", "--top", "2").json for m in (trained, files["onnx"]))
    assert found.keys() == wanted.keys()
    assert [row.keys() for row in found["predictions"]] == [row.keys() for row in wanted["predictions"]]
    assert [row["path"] for row in found["predictions"]] == [row["path"] for row in wanted["predictions"]]


def test_the_command_never_imports_torch(files: dict[str, Path], shots: list[Path], tmp_path: Path) -> None:
    code = BLOCKED.format(names=["torch", "torchvision"]) + "from flambeau.cli.main import main; main()"
    done = run_python(code, "predict", files["onnx"], shots[0], shots[3], "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["predictions"]) == 2
    shown = run_python(code, "inspect", files["onnx"], cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "input    image: uint8 N x H x W x 1" in shown.stdout


@pytest.mark.skipif("openvino" not in FORMATS, reason="OpenVINO is not installed")
def test_openvino_needs_no_torch_and_both_of_its_files(
    call: Command, files: dict[str, Path], shots: list[Path], tmp_path: Path
) -> None:
    code = BLOCKED.format(names=["torch", "onnxruntime"]) + "from flambeau.cli.main import main; main()"
    done = run_python(code, "predict", files["openvino"], shots[0], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shutil.copy(files["openvino"], tmp_path / "alone.xml")
    alone = call("predict", "alone.xml", shots[0])
    assert alone.code == 2
    assert "alone.bin" in alone.err
    missing = BLOCKED.format(names=["torch", "openvino"]) + "from flambeau.cli.main import main; main()"
    assert (
        "pip install 'flambeau[openvino]'"
        in run_python(missing, "predict", files["openvino"], "a", cwd=tmp_path).stderr
    )


def test_xml_of_other_programs_is_refused(call: Command, shots: list[Path], tmp_path: Path) -> None:
    (tmp_path / "page.xml").write_text("<html><body/></html>")
    (tmp_path / "net.xml").write_text('<?xml version="1.0"?>\n<net name="other"><layers/></net>')
    assert format_of(tmp_path / "page.xml") is None
    assert call("predict", "page.xml", shots[0]).code == 2
    done = call("predict", "net.xml", shots[0])
    assert done.code == 2
    assert "was not written by `flambeau export`" in done.err


def test_a_picture_unlike_the_training_data_is_doubted_as_by_the_run(
    call: Command, trained: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for number, shape in enumerate([(8, 8), (31, 40), (9, 64, 3), (5, 6)]):
        pixels = random.integers(200 - 60 * (number % 2), 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    Image.fromarray(flambeau.datasets.load("digits").splits["train"]["image"][0, 0].numpy()).save("digit.png")
    shown = sorted(tmp_path.glob("*.png"))
    wanted, found = (call("predict", model, *shown) for model in (trained, files["onnx"]))
    assert found.err == wanted.err
    assert found.err.count("brighter") == 4 and "digit" not in found.err
    assert call("predict", files["onnx"], *shown, "--quiet").err == ""


def test_nothing_but_numpy_pillow_and_onnxruntime_is_needed(
    files: dict[str, Path], shots: list[Path], tmp_path: Path
) -> None:
    code = BLOCKED.format(names=["torch", "torchvision", "pydantic", "typer", "safetensors", "rich", "tokenizers"]) + (
        "from pathlib import Path\nfrom flambeau.export.portable.exported import open_exported\n"
        "print(open_exported(Path(sys.argv[1]), 'onnx').predict([Path(sys.argv[2])], top=1))"
    )
    done = run_python(code, files["onnx"], shots[0], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "'probability'" in done.stdout


def test_a_missing_runtime_is_named_with_what_to_install(
    files: dict[str, Path], shots: list[Path], tmp_path: Path
) -> None:
    code = BLOCKED.format(names=["torch", "onnxruntime"]) + "from flambeau.cli.main import main; main()"
    done = run_python(code, "predict", files["onnx"], shots[0], cwd=tmp_path)
    assert done.returncode == 2
    assert "onnxruntime is not installed" in done.stderr
    assert "pip install 'flambeau[onnx]'" in done.stderr


def test_unreadable_inputs_are_named_and_the_rest_is_answered(
    call: Command, files: dict[str, Path], shots: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    done = call("predict", files["onnx"], shots[0], "broken.png", "absent.png", shots[1])
    assert done.code == 2
    assert len(done.out.splitlines()) == 2
    assert "error: absent.png: There is no such file." in done.err
    assert "error: broken.png: The file is not a picture that can be read. It is text." in done.err


@pytest.mark.parametrize(
    ("options", "told"),
    [("--gallery g.html", "--gallery"), ("--device cuda", "--device"), ("--network x.py:N", "--network")],
)
def test_what_only_models_can_do_is_refused(
    call: Command, files: dict[str, Path], shots: list[Path], options: str, told: str
) -> None:
    done = call("predict", files["onnx"], shots[0], *options.split())
    assert done.code == 2
    assert told in done.err
    assert "give the run" in done.err


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("part", [0.1, 0.6, 0.97])
def test_a_damaged_file_is_refused(
    call: Command, files: dict[str, Path], shots: list[Path], form: str, part: float, tmp_path: Path
) -> None:
    content = files[form].read_bytes()
    path = tmp_path / f"cut{FORMATS[form]}"
    path.write_bytes(content[: int(part * len(content))])
    done = call("predict", path, shots[0])
    assert done.code == 2
    assert str(path) in done.err
    assert "bug" not in done.err


def test_a_foreign_onnx_file_is_refused_with_what_it_takes(call: Command, shots: list[Path], tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("features", "doubled")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["features", "features"], ["doubled"])], "g", ports[:1], ports[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "foreign.onnx")
    done = call("predict", "foreign.onnx", shots[0])
    assert done.code == 2
    assert "was not written by `flambeau export`" in done.err
    assert "features tensor(float)['N', 3]" in done.err


def test_a_graph_of_torchs_without_a_card_is_refused(call: Command, shots: list[Path], tmp_path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / "foreign.pt2")
    done = call("predict", "foreign.pt2", shots[0])
    assert done.code == 2
    assert "was not written by `flambeau export`" in done.err


def test_compiled_code_is_not_run_unasked(
    call: Command, files: dict[str, Path], shots: list[Path], tmp_path: Path
) -> None:
    with zipfile.ZipFile(files["pt2"]) as archive:
        name = next(name for name in archive.namelist() if name.endswith("flambeau.json"))
        card = archive.read(name).decode()
    with zipfile.ZipFile(tmp_path / "compiled.pt2", "w") as archive:
        archive.writestr("m/data/aotinductor/model/a.wrapper_metadata.json", json.dumps({"flambeau": card}))
    done = call("predict", "compiled.pt2", shots[0])
    assert done.code == 2
    assert "--trust-code" in done.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "damaged"),
        ("[1]", "damaged"),
        ("{}", "damaged"),
        (json.dumps({**EMPTY, "card": VERSION + 1}), "newer"),
        (json.dumps({**EMPTY, "task": 3}), "damaged"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused(text: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        read(text, Path("m.onnx"))


def card_of(about: dict[str, Any], **more: Any) -> Card:
    return Card(Path("m.onnx"), {**EMPTY, "inputs": {"x": {}}, "preprocessing": about, **more})


def test_a_task_whose_inputs_nothing_here_makes_is_said() -> None:
    told = {"noise": "flambeau sample", "graph": "features and edges", "picture": "of-noise", "novel": "of-noise"}
    for front, text in told.items():
        card = card_of({"front": front, "answer": {"kind": "novel"}})
        with pytest.raises(FlambeauError, match=text):
            Exported(card, lambda: lambda inputs: inputs)


def test_labels_and_numbers_are_answered_too() -> None:
    about = {"rules": RULES, "channels": 1, "size": [2, 2], "front": "picture"}
    picture = np.zeros((2, 2), dtype=np.uint8)
    labels = card_of({**about, "answer": {"kind": "labels"}}, classes=["old", "red"])
    [row] = Exported(labels, lambda: lambda inputs: {"probabilities": np.array([[0.25, 0.75]])}).predict([picture])
    assert row["labels"] == ["red"]
    numbers = card_of({**about, "answer": {"kind": "numbers", "targets": ["age"]}})
    assert Exported(numbers, lambda: lambda inputs: {"values": np.array([[31.5]])}).predict([picture]) == [
        {"value": 31.5, "values": {"age": 31.5}}
    ]


def test_pictures_are_decoded_as_training_does(shots: list[Path]) -> None:
    for channels in (1, 3):
        bad: dict[int, FlambeauError] = {}
        about = {"rules": RULES, "channels": channels, "size": [8, 8]}
        found = [picture for rows in pictures(shots, about, bad) for picture in rows.inputs["image"]]
        wanted = [images.in_channels(images.decode(path), channels).permute(1, 2, 0) for path in shots]
        assert bad == {}
        assert all(np.array_equal(mine, theirs.numpy()) for mine, theirs in zip(found, wanted, strict=True))


def test_large_pictures_do_not_go_together() -> None:
    side = int((PIXELS / 2) ** 0.5)
    large = [np.zeros((side, side), dtype=np.uint8)] * 5
    about = {"rules": RULES, "channels": 1, "size": [8, 8]}
    assert [len(rows.inputs["image"]) for rows in pictures(large, about, {})] == [2, 2, 1]


def test_a_static_file_takes_pictures_of_its_size(trained: Path, shots: list[Path], tmp_path: Path) -> None:
    flambeau.export_model(trained, tmp_path / "static.pt2", "pt2", static=True)
    exported = open_exported(tmp_path / "static.pt2", "pt2")
    fits = [shots[0], shots[2]]
    wanted = flambeau.load(trained).predict(fits)
    assert [row["class"] for row in exported.predict(fits)] == [row["class"] for row in wanted]
    with pytest.raises(BadRows, match="one size"):
        exported.predict(shots)


@pytest.mark.parametrize("tokenizer", ["words", "bpe", "characters"])
@pytest.mark.parametrize(("before", "after", "shift", "longest"), [([], [], 0, None), ([2], [3], 5, 4)])
def test_texts_become_the_same_numbers_as_in_training(
    tokenizer: str, before: list[int], after: list[int], shift: int, longest: int | None
) -> None:
    from flambeau.data.tokens import train_tokenizer
    from flambeau.recipe import Text

    given = ["The cat sat on the mat.", "  —  ", "a", "naïve café – 3.5 €", "the the the"]
    json_text = train_tokenizer(given[:1], Text(tokenizer=tokenizer, vocabulary=300))
    about = {
        "tokenizer": json_text,
        "before": before,
        "after": after,
        "shift": shift,
        "unknown": 1,
        "max_length": longest,
    }
    [found] = texts(given, about, {})
    wanted = text_classification.collate(text_classification.read({"text": given}, about))["tokens"]
    assert np.array_equal(found.inputs["tokens"], wanted.numpy())
    assert list(found.doubts) == text_classification.doubts({"tokens": wanted}, about)


def tone(frequency: float, rate: int, seconds: float) -> tuple[np.ndarray[Any, Any], int]:
    """A sine wave and its rate."""
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32), rate


@pytest.mark.slow
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_recordings_are_answered_as_by_the_run(call: Command, form: str, static: bool, tmp_path: Path) -> None:
    data = ([tone(300 + 20 * n + 900 * (n % 2), 8000, 0.2) for n in range(40)], ["low", "high"] * 20)
    settings = ["audio.mels=16", "train.epochs=2", "train.batch_size=8", "model.width=4", "log.tensorboard=false"]
    flambeau.train(data, task="sound-classification", settings=settings, device="cpu", out="run", quiet=True)
    path = tmp_path / f"sounds{FORMATS[form]}"
    flambeau.export_model("run", path, form, static=static)
    asked = [tone(400, 8000, 0.1), tone(1500, 16000, 0.5), (np.zeros(900, dtype=np.float32), 8000)]
    wanted, found = flambeau.load("run").predict(asked), open_exported(path, form).predict(asked)
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine["class"], mine.get("doubt")) == (theirs["class"], theirs.get("doubt"))
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-5)
    assert [row.get("doubt") for row in found] == [None, None, "the recording is silent"]
    with wave.open("a.wav", "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes((asked[1][0] * 32767).astype("<i2").tobytes())
    (tmp_path / "broken.wav").write_text("no recording")
    assert call("predict", path, "a.wav").out == call("predict", "run", "a.wav").out
    done = call("predict", path, "a.wav", "broken.wav")
    assert done.code == 2
    assert "error: broken.wav: The file is not a .wav recording." in done.err


def test_what_is_no_text_is_an_error_of_its_row() -> None:
    bad: dict[int, FlambeauError] = {}
    about = {"tokenizer": "", "before": [], "after": [], "shift": 0, "unknown": 1, "max_length": None}
    assert list(texts(["", 3], about, bad)) == []
    assert sorted(bad) == [0, 1]


def test_inspect_tells_what_a_file_says_of_itself(call: Command, files: dict[str, Path]) -> None:
    for form, path in files.items():
        told = call("inspect", path, "--json").json
        assert (told["kind"], told["format"], told["task"]) == ("exported", form, "image-classification")
        assert told["classes"] == [str(number) for number in range(10)]
        assert told["preprocessing"]["front"] == "picture"
    assert "provenance" in told


@pytest.mark.parametrize("form", [pytest.param("onnx", marks=pytest.mark.slow), "torchscript"])
def test_texts_are_answered_as_by_the_run(call: Command, form: str, tmp_path: Path) -> None:
    words = {"food": "bread soup cheese", "sport": "goal match team"}
    given = [
        (f"we saw {word} {number}", name) for number in range(12) for name in words for word in words[name].split()
    ]
    data = ([text for text, _ in given], [name for _, name in given])
    settings = ["model.embedding=8", "model.hidden=8", "train.epochs=4", "train.batch_size=16", "log.tensorboard=false"]
    flambeau.train(data, task="text-classification", settings=settings, device="cpu", out="run", quiet=True)
    path = tmp_path / f"texts{FORMATS[form]}"
    flambeau.export_model("run", path, form)
    asked = ["we saw a goal", "soup", "— ? —", "entirely unknown words of which there are many more"]
    wanted, found = flambeau.load("run").predict(asked), open_exported(path, form).predict(asked)
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine["class"], mine.get("doubt")) == (theirs["class"], theirs.get("doubt"))
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-5)
    assert "doubt" in found[3] and "doubt" not in found[0]
    (tmp_path / "asked.txt").write_text("we saw a goal")
    assert call("predict", path, "asked.txt", asked[1]).out == call("predict", "run", "asked.txt", asked[1]).out
    assert call("predict", path, "").code == 2


@pytest.mark.slow
@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_sentences_are_translated_as_by_the_run(call: Command, form: str, beam: int, tmp_path: Path) -> None:
    english, german = (
        ["the", "a", "dog", "cat", "man", "sees", "likes"],
        ["der", "ein", "Hund", "Kater", "Mann", "sieht", "mag"],
    )
    orders = [[a, b, c, d, e] for a in (0, 1) for b in (2, 3, 4) for c in (5, 6) for d in (0, 1) for e in (2, 3)]
    pairs = [(" ".join(english[k] for k in row), " ".join(german[k] for k in row)) for row in orders * 6]
    settings = ["text.vocabulary=290", "train.epochs=3", "train.batch_size=16", "model.embedding=16", "model.hidden=16"]
    settings += ["log.tensorboard=false", f"options.beam={beam}", "optimizer.lr=0.01", "schedule.warmup=0"]
    flambeau.train(pairs, task="translation", model="seq2seq", settings=settings, device="cpu", out="run", quiet=True)
    flambeau.export_model("run", tmp_path / f"m{FORMATS[form]}", form)
    asked = ["the dog sees a cat", "man", "a a a the the the cat", "dogs ! ?", " the cat likes the dog "]
    wanted = flambeau.load("run").predict(asked)
    for graph in ("encoder", "step"):
        found = open_exported(tmp_path / f"m.{graph}{FORMATS[form]}", form).predict(asked)
        assert [row["translation"] for row in found] == [row["translation"] for row in wanted]
        assert [row["complete"] for row in found] == [row["complete"] for row in wanted]
        assert [row.get("doubt") for row in found] == [row.get("doubt") for row in wanted]
        assert any("doubt" in row for row in found) and not all("doubt" in row for row in found)
        assert [row["score"] for row in found] == pytest.approx([row["score"] for row in wanted], abs=1e-4)
    path = tmp_path / f"m.encoder{FORMATS[form]}"
    assert call("predict", path, asked[0]).out == call("predict", "run", asked[0]).out
    assert call("predict", path, asked[0], "").code == 2
    (tmp_path / f"m.step{FORMATS[form]}").rename(tmp_path / "elsewhere")
    done = call("predict", path, asked[0])
    assert done.code == 2
    assert f"m.step{FORMATS[form]}" in done.err
