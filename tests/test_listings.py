"""Tables of pictures: paths, labels, splits and groups from CSV, JSON lines and Parquet, and what can be wrong."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flambeau import recipe as recipes
from flambeau.columns import Dataset
from flambeau.data.pictures import claims_pictures, open_pictures
from flambeau.data.prepare import prepare
from flambeau.data.splits import TOGETHER
from flambeau.datasets import task_of
from flambeau.errors import BadRows, DataError, MissingExtra, RecipeError
from flambeau.tasks.image_classification import TASK
from flambeau.tasks.image_classification import checks as picture_checks


def encoded(seed: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def drawn(root: Path, count: int = 12) -> list[str]:
    (root / "pics").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (root / "pics" / f"{number:02}.png").write_bytes(encoded(number))
    return [f"pics/{number:02}.png" for number in range(count)]


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes a table in the form that its name says."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def opened(path: Path, **data: object) -> Dataset:
    return open_pictures(path, recipes.parse({"data": data}))


def errors_of(path: Path, **data: object) -> list[str]:
    with pytest.raises(BadRows) as caught:
        opened(path, **data)
    return [f"{str(error.where).rpartition('/')[2]} {error.problem}" for error in caught.value.rows.values()]


ANIMALS = ["cat", "dog", "cat", "dog"] * 3


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels.jsonl", "labels.parquet"])
def test_every_form_of_table_gives_the_same_data(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow")
    files = drawn(tmp_path)
    splits = ["train"] * 8 + ["Validation"] * 2 + ["test"] * 2
    rows = [
        {"file_name": file, "label": label, "split": split, "width": 10}
        for file, label, split in zip(files, ANIMALS, splits, strict=True)
    ]
    path = table(tmp_path / name, rows)
    assert claims_pictures(path) and task_of(str(path)) == "image-classification"
    data = opened(path)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 8, "val": 2, "test": 2}
    assert data.name == "labels" and data.info["classes"] == ["cat", "dog"]
    assert (
        data.splits["train"]["name"] == files[:8] and data.splits["train"]["image"][0] == tmp_path / "pics" / "00.png"
    )
    assert data.splits["test"].tensor("label").tolist() == [0, 1]
    assert data.info["notes"] == [f"Read from {name}: image from 'file_name', label from 'label', split from 'split'."]
    other = table(tmp_path / f"again{path.suffix}", rows)
    assert opened(other).hash == data.hash
    facts, read = prepare(data, TASK, recipes.parse({}))
    assert read.splits["train"].tensor("image").shape == (8, 3, 12, 10) and facts["classes"] == ["cat", "dog"]


def test_a_column_called_split_that_holds_none_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    files = drawn(tmp_path)
    rows = [
        {"file": f, "label": a, "split": place % 3} for place, (f, a) in enumerate(zip(files, ANIMALS, strict=True))
    ]
    notes = opened(table(tmp_path / "t.csv", rows)).info["notes"]
    assert any("'split' was not used" in note and "0, 1, 2" in note for note in notes)


def test_columns_are_named_and_numbers_are_in_their_order(tmp_path: Path) -> None:
    files = drawn(tmp_path)
    rows = [{"foto": file, "nr": 10 - place % 2 * 8} for place, file in enumerate(files)]
    path = table(tmp_path / "t.csv", rows)
    data = opened(path, columns={"image": "foto", "label": "nr"})
    assert data.info["classes"] == ["2", "10"] and data.splits["train"].tensor("label").tolist()[:2] == [1, 0]
    with pytest.raises(DataError, match="not clear which column holds the image") as caught:
        opened(path)
    assert "data.columns.image=NAME" in str(caught.value) and "foto, nr" in str(caught.value.received)
    with pytest.raises(DataError, match="Did you mean foto"):
        opened(path, columns={"image": "fote", "label": "nr"})


def test_a_table_without_a_heading(tmp_path: Path) -> None:
    lines = [f"{label};{file}" for file, label in zip(drawn(tmp_path), ANIMALS, strict=True)]
    path = tmp_path / "plain.csv"
    path.write_text("\n".join(lines))
    assert claims_pictures(path)
    assert opened(path).info["classes"] == ["cat", "dog"]


def test_a_folder_is_read_by_its_table(tmp_path: Path) -> None:
    files = drawn(tmp_path)
    rows = [{"image": file, "label": label} for file, label in zip(files, ANIMALS, strict=True)]
    path = table(tmp_path / "metadata.csv", rows)
    data = opened(tmp_path)
    assert len(data.splits["train"]) == 12 and data.info["source"] == str(tmp_path)
    path.unlink()
    table(tmp_path / "train.csv", rows[:8])
    table(tmp_path / "test.csv", rows[8:])
    assert {split: len(part) for split, part in opened(tmp_path).splits.items()} == {"train": 8, "test": 4}
    table(tmp_path / "test.jsonl", rows[8:])
    with pytest.raises(DataError, match=r"same split: test.csv and test.jsonl"):
        opened(tmp_path)


def test_a_list_of_predictions_does_not_take_the_place_of_class_folders(tmp_path: Path, pictures: Path) -> None:
    shutil.copytree(pictures, tmp_path / "photos")
    (tmp_path / "photos" / "predictions.csv").write_text("input,class1,probability1\nbright/00.png,bright,0.9\n")
    assert opened(tmp_path / "photos").hash == opened(pictures).hash
    path = tmp_path / "photos" / "labels.csv"
    table(path, [{"file": f"{name}/{number:02}.png", "kind": name} for name in ("bright", "dark") for number in (0, 2)])
    assert opened(tmp_path / "photos").hash == opened(pictures).hash, "it has no column of labels"
    by_table = opened(tmp_path / "photos", columns={"label": "kind"})
    assert len(by_table.splits["train"]) == 4 and "Read from labels.csv" in by_table.info["notes"][0]


def test_mistakes_are_told_together_with_their_lines(tmp_path: Path) -> None:
    root = tmp_path / "data"
    files = drawn(root)
    (tmp_path / "outside.png").write_bytes(encoded(99))
    rows = [{"image": file, "label": label, "split": "train"} for file, label in zip(files, ANIMALS, strict=True)]
    rows[1]["label"] = " "
    rows[2]["image"] = "pics/gone.png"
    rows[3]["split"] = "tran"
    rows[4]["image"] = "../outside.png"
    rows[6]["image"] = "pics/./05.png"
    rows[7]["image"] = ""
    rows += [{**rows[8], "label": "dog"}, {"image": "x" * 5000, "label": "cat", "split": "test"}]
    path = table(root / "labels.csv", rows)
    with path.open("a") as file:
        file.write("pics/00.png,cat\n")
    assert errors_of(path) == [
        "labels.csv:3 The label is empty.",
        "labels.csv:4 There is no file pics/gone.png.",
        "labels.csv:5 'tran' is not the name of a split. Did you mean train or training?",
        "labels.csv:6 The path leads out of the table's folder: ../outside.png",
        "labels.csv:8 The file pics/./05.png is in line 7 already and is 'dog' there.",
        "labels.csv:9 The image is empty.",
        "labels.csv:14 The file pics/08.png is in line 10 already and is 'cat' there.",
        f"labels.csv:15 There is no file {'x' * 200}.",
        "labels.csv:16 The row has another number of fields than the first one.",
    ]
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    table(path, [*rows[8:12], {**rows[0], "image": "link.png"}])
    assert errors_of(path) == ["labels.csv:6 The path leads out of the table's folder: link.png"]
    assert len(opened(path, follow_links=True).splits["train"]) == 5


def test_rows_that_are_skipped_are_counted_and_listed(tmp_path: Path) -> None:
    files = drawn(tmp_path, 120)
    rows = [{"image": file, "label": ANIMALS[place % 12]} for place, file in enumerate(files)]
    rows[5]["image"] = "gone.png"
    path = table(tmp_path / "labels.csv", rows)
    data = opened(path, on_bad="skip")
    assert len(data.splits["train"]) == 119 and data.info["skipped"] == [f"{path}:7"]
    assert any("labels.csv:7 (There is no file gone.png)" in note for note in data.info["notes"])
    for row in rows[6:8]:
        row["label"] = ""
    with pytest.raises(DataError, match="more than 1 %"):
        opened(table(path, rows), on_bad="skip")


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["cat"] * 12, "only one class"),
        (["Cat", "cat"] * 6, "differ only in case"),
        (["cat", "dog"] * 5 + ["cat", "owl"], "labels that the training split does not have: owl"),
    ],
)
def test_labels_that_are_no_classes(tmp_path: Path, labels: list[str], problem: str) -> None:
    files, splits = drawn(tmp_path), ["train"] * 10 + ["test"] * 2
    rows = [{"image": f, "label": c, "split": s} for f, c, s in zip(files, labels, splits, strict=True)]
    with pytest.raises(DataError, match=problem):
        opened(table(tmp_path / "t.csv", rows))


def test_a_column_of_names_is_not_taken_for_classes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(0))
    hard_links = []
    for number in range(1100):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "a.png")
        hard_links.append({"image": f"{number}.png", "label": f"name {number}"})
    with pytest.raises(DataError, match="1,100 different values in 1,100 rows") as caught:
        opened(table(tmp_path / "t.csv", hard_links))
    assert caught.value.where == str(tmp_path / "t.csv") and "data.columns.label" in str(caught.value.remedy)


def test_parquet_with_pictures_inside_as_hugging_face_writes_them(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    images = [{"bytes": encoded(number), "path": f"{number}.png" if number else None} for number in range(12)]
    features = {"label": {"names": ["owl", "cat"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    schema = pyarrow.schema(
        {"image": kind, "label": pyarrow.int64(), "boxes": pyarrow.list_(pyarrow.int64())},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    columns = {"image": images, "label": [number % 2 for number in range(12)], "boxes": [[1]] * 12}
    path = tmp_path / "train-00000.parquet"
    parquet.write_table(pyarrow.table(columns, schema=schema), path)
    assert claims_pictures(path)
    data = opened(path)
    assert data.info["classes"] == ["cat", "owl"] and data.splits["train"]["name"][:2] == ["row 1", "1.png"]
    assert data.splits["train"].tensor("label").tolist()[:2] == [1, 0]
    read = prepare(data, TASK, recipes.parse({}))[1]
    assert sum(map(len, read.splits.values())) == 12
    columns["image"][3] = {"bytes": b"<html>", "path": None}
    columns["label"][4] = -1
    columns["image"][5] = {"bytes": None, "path": None}
    parquet.write_table(pyarrow.table(columns, schema=schema), path)
    assert errors_of(path) == [
        "train-00000.parquet:5 The label is empty.",
        "train-00000.parquet:6 The image is empty.",
    ]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="no Parquet table, or is damaged"):
        opened(path)


def test_without_pyarrow_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtra) as caught:
        opened(tmp_path / "a.parquet")
    assert caught.value.remedy == "pip install 'flambeau[parquet]'"


def test_unknown_roles_are_mistakes_of_the_recipe() -> None:
    recipe = recipes.parse({"data": {"columns": {"imag": "x", "group": "a"}, "group": "b"}})
    assert picture_checks(recipe) == [
        "data.columns.imag: there is no such setting. Did you mean image?",
        "data.group: says the same as data.columns.group; give one of the two",
    ]


def bursts(root: Path) -> Path:
    """60 pictures in 20 bursts of three, and two single ones; one is a copy of a picture in another burst."""
    files = drawn(root, 62)
    (root / files[0]).write_bytes((root / files[5]).read_bytes())
    rows = [
        {"image": file, "label": ("cat", "dog")[place // 3 % 2], "burst": f"b{place // 3}" if place < 60 else ""}
        for place, file in enumerate(files)
    ]
    return table(root / "labels.csv", rows)


def sides(data: Dataset, recipe: recipes.Recipe) -> dict[str, str]:
    """The split of each picture by its name."""
    _, made = prepare(data, TASK, recipe)
    assert all(TOGETHER not in split.columns for split in made.splits.values())
    return {name: split for split, part in made.splits.items() for name in part["name"]}


@pytest.mark.parametrize("data", [{"group": "burst"}, {"columns": {"group": "burst"}}])
def test_groups_and_copies_stay_on_one_side(tmp_path: Path, data: dict[str, Any]) -> None:
    path = bursts(tmp_path)
    recipe = recipes.parse({"data": data})
    found = opened(path, **data)
    side = sides(found, recipe)
    names = [f"pics/{number:02}.png" for number in range(62)]
    assert all(len({side[name] for name in names[first : first + 3]}) == 1 for first in range(0, 60, 3))
    assert side[names[0]] == side[names[5]], "a copy ties two bursts together"
    assert set(side.values()) == {"train", "val", "test"}
    _, made = prepare(found, TASK, recipe)
    told = "\n".join(made.info["notes"])
    assert "The 62 rows form 22 groups." in told and "identical pictures and groups kept together" in told


def test_folders_have_groups_by_an_expression(tmp_path: Path, call: Command) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(30):
            (tmp_path / "photos" / name / f"{name}{number // 3:02}_{number}.png").write_bytes(
                encoded(number + 50 * (name == "dog"))
            )
    data = {"group": r"([a-z]+\d+)_\d+\.png$"}
    side = sides(opened(tmp_path / "photos", **data), recipes.parse({"data": data}))
    bursts_of: dict[str, set[str]] = {}
    for name, split in side.items():
        bursts_of.setdefault(name.partition("_")[0], set()).add(split)
    assert len(bursts_of) == 20 and all(len(splits) == 1 for splits in bursts_of.values())
    with pytest.raises(DataError, match="no regular expression"):
        opened(tmp_path / "photos", group="(")
    told = call("train", tmp_path / "photos", "--group", "7", "--set", "train.epochs=0")
    assert told.code == 2 and "has a mistake" in told.err, (
        "a number is a text here, and the epochs are the only mistake"
    )
    told = call("train", tmp_path / "photos", "--group", "nowhere", "--out", "b")
    assert told.code == 2 and "Groups are asked for, and the data comes without any" in told.err


def test_groups_that_the_data_itself_parts_are_told(tmp_path: Path) -> None:
    files = drawn(tmp_path)
    splits = ["train"] * 8 + ["test"] * 4
    rows = [
        {"image": file, "label": label, "split": split, "patient": place // 3}
        for place, (file, label, split) in enumerate(zip(files, ANIMALS, splits, strict=True))
    ]
    data = opened(table(tmp_path / "t.csv", rows))
    made = prepare(data, TASK, recipes.parse({"data": {"validation": "none"}}))[1]
    assert any("1 of test are in train too" in note for note in made.info["notes"])


def test_groups_are_refused_where_the_source_has_none() -> None:
    from flambeau.data.datasets import digits

    with pytest.raises(DataError, match="comes without any"):
        prepare(digits.load(), TASK, recipes.parse({"data": {"group": "writer"}}))


def test_training_on_a_table_and_resuming_it(tmp_path: Path, call: Command) -> None:
    path = table(
        tmp_path / "labels.csv",
        [{"image": f, "label": ANIMALS[place % 12]} for place, f in enumerate(drawn(tmp_path, 40))],
    )
    told = call("train", path, "--epochs", "1", "--model", "mlp", "--out", "run", "--json", "--quiet")
    assert told.code == 0, told.err
    assert (tmp_path / "run" / "report.html").is_file()
    assert call("evaluate", "run", "--json", "-q").json["examples"] == 8
    assert call("inspect", path, "--json", "-q").json["rows"] == {"train": 40}
    path.write_text(path.read_text().replace("pics/03.png,dog", "pics/03.png,cat"))
    told = call("evaluate", "run")
    assert told.code == 2 and "not what it was" in told.err


def test_a_mistake_in_the_recipe_is_found_before_the_table_is_read(tmp_path: Path) -> None:
    import flambeau

    with pytest.raises(RecipeError, match=r"data\.columns\.imge"):
        flambeau.train(tmp_path / "gone.csv", task="image-classification", settings=["data.columns.imge=a"], quiet=True)


def test_text_tables_may_be_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from flambeau.data.texts import open_texts

    rows = [{"text": f"word {number}", "label": number % 2, "score": 0.5} for number in range(6)]
    path = table(tmp_path / "reviews.parquet", rows)
    assert task_of(str(path)) == "text-classification"
    data = open_texts(path, recipes.parse({}).data)
    assert data.info["classes"] == ["0", "1"] and torch.equal(data.splits["train"].tensor("label"), torch.arange(6) % 2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_a_parquet_file_ends_in_one_error(tmp_path: Path, data: st.DataObject) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.parquet"
    if not path.exists():
        rows = [{"image": file, "label": number % 2} for number, file in enumerate(drawn(tmp_path))]
        (tmp_path / "whole").write_bytes(table(path, rows).read_bytes())
    content = bytearray((tmp_path / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    claims_pictures(path)
    with contextlib.suppress(DataError):
        opened(path)
