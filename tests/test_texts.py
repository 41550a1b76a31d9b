"""Labelled texts from tables, folders, Python and the published sets, and what is refused."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from flambeau.data.datasets import locate, rt_polarity, sms_spam, sst2, textfiles, trec
from flambeau.data.inputs import text_inputs
from flambeau.data.texts import describe, from_python, looks_like_texts, open_texts
from flambeau.errors import BadRows, DataError
from flambeau.recipe import Data

REAL = os.environ.get("FLAMBEAU_DATA", "")
needs_real_data = pytest.mark.skipif(not REAL, reason="FLAMBEAU_DATA names no folder with the published data sets")


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Looks for data in places of the test's own, except where the test is about the real data."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(home / "local"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    if "real" not in request.node.name:
        monkeypatch.delenv("FLAMBEAU_DATA", raising=False)


def table(path: Path, rows: list[tuple[str, str]], heading: str = "text,label") -> Path:
    path.write_text("\n".join([heading, *(f"{text},{label}" for text, label in rows)]) + "\n", encoding="utf-8")
    return path


def folder(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_table(tmp_path: Path) -> None:
    path = table(
        tmp_path / "reviews.csv", [("fine film", "pos"), ("dull", "neg"), ("good", " pos ")], "Review,Sentiment"
    )
    data = open_texts(path, Data())
    train = data.splits["train"]
    assert data.name == "reviews"
    assert data.info["classes"] == ["neg", "pos"]
    assert train["text"] == ["fine film", "dull", "good"]
    assert train.tensor("label").tolist() == [1, 0, 1]
    assert train["name"] == ["reviews.csv:2", "reviews.csv:3", "reviews.csv:4"]
    assert looks_like_texts(path)


def test_columns_are_named_in_the_recipe(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [("x y", "1"), ("z", "0")], "Kommentar,Klasse")
    with pytest.raises(DataError, match=r"not clear which column holds the text"):
        open_texts(path, Data())
    data = open_texts(path, Data(columns={"text": "Kommentar", "label": "Klasse"}))
    assert data.splits["train"]["text"] == ["x y", "z"]
    bare = tmp_path / "bare.tsv"
    bare.write_text("ham\tok then\nspam\tWIN\n")
    data = open_texts(bare, Data(columns={"text": "2", "label": "1"}))
    assert data.splits["train"]["text"] == ["ok then", "WIN"]
    assert data.info["classes"] == ["ham", "spam"]


def test_labels_that_are_numbers_are_ordered_as_such(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [(f"t {number}", str(number)) for number in (10, 2, 1)])
    data = open_texts(path, Data())
    assert data.info["classes"] == ["1", "2", "10"]
    assert data.splits["train"].tensor("label").tolist() == [2, 1, 0]
    assert any("are not 0 to 2" in note for note in data.info["notes"])


def test_bad_rows_fail_or_are_skipped(tmp_path: Path) -> None:
    rows = [(f"text {number}", "ab"[number % 2]) for number in range(200)]
    path = table(tmp_path / "a.csv", [*rows, ("no label", "")])
    with pytest.raises(BadRows, match=r"a\.csv:202") as caught:
        open_texts(path, Data())
    assert "The label is empty" in str(caught.value)
    data = open_texts(path, Data(on_bad="skip"))
    assert len(data.splits["train"]) == 200
    assert data.info["skipped"] == [f"{path}:202"]
    worse = table(tmp_path / "b.csv", [*rows, ("x", ""), ("y", ""), ("z", "")])
    with pytest.raises(DataError, match="more than 1 %"):
        open_texts(worse, Data(on_bad="skip"))


def test_a_column_that_holds_no_classes_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [(f"text {number}", f"id{number}") for number in range(1500)])
    with pytest.raises(DataError, match="no classes"):
        open_texts(path, Data())


def test_a_folder_of_text_files(tmp_path: Path) -> None:
    files = {"pos/1.txt": "good", "pos/deep/2.txt": "fine\nreally", "neg/1.txt": "bad", ".git/x.txt": "-", "a.md": "-"}
    root = folder(tmp_path / "films", files)
    assert looks_like_texts(root)
    data = open_texts(root, Data())
    assert data.info["classes"] == ["neg", "pos"]
    assert data.splits["train"]["text"] == ["bad", "good", "fine\nreally"]
    assert data.splits["train"]["name"] == ["neg/1.txt", "pos/1.txt", "pos/deep/2.txt"]


def test_a_folder_with_splits(tmp_path: Path) -> None:
    files = {f"{split}/{name}/1.txt": f"{split} {name}" for split in ("train", "valid", "test") for name in "ab"}
    root = folder(tmp_path / "films", files)
    assert looks_like_texts(root)
    data = open_texts(root, Data())
    assert {name: split["text"] for name, split in data.splits.items()} == {
        "train": ["train a", "train b"],
        "val": ["valid a", "valid b"],
        "test": ["test a", "test b"],
    }
    folder(root, {"train/unsup/1.txt": "?"})
    with pytest.raises(DataError, match="same classes: unsup"):
        open_texts(root, Data())


def test_a_folder_of_tables(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    root.mkdir()
    for split in ("train", "dev", "test"):
        table(root / f"{split}.csv", [(f"{split} a", "a"), (f"{split} b", "b")])
    assert looks_like_texts(root)
    data = open_texts(root, Data())
    assert set(data.splits) == {"train", "val", "test"}
    assert data.splits["val"]["text"] == ["dev a", "dev b"]
    table(root / "val.csv", [("a", "a")])
    with pytest.raises(DataError, match="same split"):
        open_texts(root, Data())


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "films", {"a/1.txt": "x", "b/1.txt": "y"})
    (root / "b" / "2.txt").write_bytes(b"caf\xe9")
    with pytest.raises(BadRows, match="not UTF-8") as caught:
        open_texts(root, Data())
    assert "2.txt" in str(caught.value)


def test_what_is_not_claimed(tmp_path: Path) -> None:
    assert not looks_like_texts(folder(tmp_path / "corpus", {"a.txt": "x", "b.txt": "y"}))
    assert not looks_like_texts(table(tmp_path / "pairs.csv", [("a", "b")], "en,de"))
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    assert not looks_like_texts(tmp_path / "x.csv")
    with pytest.raises(DataError, match="no text files"):
        open_texts(folder(tmp_path / "empty", {"a/b.md": ""}), Data())


def test_python_objects() -> None:
    data = from_python({"train": (["a", "b", "c"], [1, 0, 1]), "test": [("d", 0), ("e", 1)]})
    assert data.info["classes"] == ["0", "1"]
    assert data.splits["test"]["text"] == ["d", "e"]
    assert from_python((["a", "b"], torch.tensor([0, 1]))).splits["train"].tensor("label").tolist() == [0, 1]
    assert from_python(data) is data
    for wrong, message in (
        ({"train": (["a"], [0, 1])}, "one label for each"),
        ((["a", ""], [0, 1]), "empty"),
        ((["a", 3], [0, 1]), "value of type int"),
        ({"trian": (["a"], [0])}, "names of splits"),
        ((["a", "b"], [0, 0]), "only one class"),
        ("text", "cannot serve"),
        ({"train": (["a", "b"], ["x", "y"]), "test": (["c"], ["z"])}, "not that of a class"),
    ):
        with pytest.raises(DataError, match=message):
            from_python(wrong)


def test_description_counts_words_and_leaks() -> None:
    data = from_python({"train": (["a b c", "d"], ["x", "y"]), "test": (["d"], ["y"])})
    found = describe(data)
    assert found["counts"] == {"train": {"x": 1, "y": 1}, "test": {"x": 0, "y": 1}}
    assert found["words"] == {"least": 1, "median": 1, "most": 3, "different": 4}
    assert any("1 of test" in note for note in found["notes"])


def test_inputs_are_texts_or_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("from a file")
    assert text_inputs(["x " * 80, str(path)])[1] == (str(path), "from a file")
    assert len(text_inputs(["x " * 80])[0][0]) <= 60
    with pytest.raises(DataError, match="cannot be read"):
        text_inputs(["missing.txt"])


@needs_real_data
@pytest.mark.parametrize(
    ("module", "rows", "counts"),
    [
        (trec, {"train": 5452, "test": 500}, [86, 1162, 1250, 1223, 835, 896]),
        (sst2, {"train": 6920, "val": 872, "test": 1821}, [3310, 3610]),
        (rt_polarity, {"train": 10662}, [5331, 5331]),
        (sms_spam, {"train": 5574}, [4827, 747]),
    ],
)
def test_real_sets(module: object, rows: dict[str, int], counts: list[int]) -> None:
    data = module.load()  # type: ignore[attr-defined]
    assert {name: len(split) for name, split in data.splits.items()} == rows
    assert data.splits["train"].tensor("label").bincount().tolist() == counts
    assert all(text and "\n" not in text for split in data.splits.values() for text in split["text"])


@needs_real_data
def test_real_polarity_keeps_its_ellipsis() -> None:
    texts = rt_polarity.load().splits["train"]["text"]
    assert sum("…" in text for text in texts) > 0 and not any("\x85" in text for text in texts)


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "www")) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_files_are_downloaded_checked_and_repaired(server: str, tmp_path: Path) -> None:
    published = b"ham\tok\nspam\twin\n"
    (tmp_path / "www" / "SMS").write_bytes(b"Label\tSMS\n" + published)
    layout = locate.Layout("sms-test", {"SMS": md5(published)}, ("sms", ""))
    fetch = textfiles.fetcher(
        layout,
        {"SMS": server + "SMS"},
        sums={"SMS": md5(b"Label\tSMS\n" + published)},
        repair=lambda raw: raw.removeprefix(b"Label\tSMS\n"),
    )
    content, source = textfiles.obtain([layout], [], fetch)
    assert content == [published]
    assert source == locate.cache_folder() / "sms"
    (tmp_path / "www" / "SMS").write_bytes(b"else")
    assert textfiles.obtain([layout], [], fetch)[0] == [published]
    (source / "SMS").unlink()
    with pytest.raises(DataError, match="could not be downloaded"):
        textfiles.obtain([layout], [], fetch)
    assert not list(source.iterdir())


def test_files_under_another_name_are_found(tmp_path: Path) -> None:
    root = folder(tmp_path / "root", {"b.txt": "content"})
    layouts = [locate.Layout("x", {name: md5(b"content")}, ("",)) for name in ("a.txt", "b.txt")]

    def refuse(place: Path) -> None:
        raise AssertionError("nothing should have been downloaded")

    assert textfiles.obtain(layouts, [root], refuse) == ([b"content"], root)


def test_lines_end_at_line_feeds_only() -> None:
    assert textfiles.lines(b"a\x85b\r\nc\x0bd\n\n", "cp1252") == ["a…b", "c\x0bd"]
    with pytest.raises(DataError, match="line 2"):
        textfiles.parted(["a b", "c"], " ", Path("file"))
