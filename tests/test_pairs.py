"""Pairs of sentences out of tables, files beside each other, folders and objects, and the set multi30k."""

from __future__ import annotations

import gzip
import http.server
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flambeau.columns import Dataset
from flambeau.data.datasets import locate, multi30k, textfiles
from flambeau.data.pairs import claims_pairs, divide_pairs, open_pairs, pairs_of_python
from flambeau.errors import BadRows, DataError
from flambeau.recipe import Recipe, parse

EN = ["A cat, asleep.", "Two dogs.", 'She says "no".']
DE = ["Eine Katze, schlafend.", "Zwei Hunde.", 'Sie sagt „nein".']


def recipe(**data: Any) -> Recipe:
    return parse({"task": "translation", "data": data})


def sides(dataset: Dataset, split: str = "train") -> tuple[Any, Any]:
    return dataset.splits[split]["source"], dataset.splits[split]["target"]


def write(path: Path, lines: list[str], packed: bool = False, end: str = "\n") -> Path:
    content = "".join(line + end for line in lines).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


CSV = ['"A cat, asleep.","Eine Katze, schlafend."', "Two dogs.,Zwei Hunde.", '"She says ""no"".","Sie sagt „nein""."']
TSV = [f"{a}\t{b}" for a, b in zip(EN, DE, strict=True)]


@pytest.mark.parametrize(
    ("name", "lines", "languages"),
    [
        ("a.csv", ["source,target", *CSV], []),
        ("a.csv", ["en,de", *CSV], ["en", "de"]),
        ("a.csv", ["English,German", *CSV], ["English", "German"]),
        ("a.tsv", ["en\tde", *TSV], ["en", "de"]),
        ("a.txt", TSV, []),
        ("a.txt", [f"{row}\tCC-BY 2.0, somebody" for row in TSV], []),
    ],
)
def test_tables(tmp_path: Path, name: str, lines: list[str], languages: list[str]) -> None:
    for packed in (False, True):
        path = write(tmp_path / (f"{name}.gz" if packed else name), lines, packed)
        assert claims_pairs(path)
        found = open_pairs(path, recipe())
        assert sides(found) == (EN, DE)
        assert found.info["languages"] == languages and found.name == "a"


def test_json_lines_and_columns_by_name(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        [f'{{"id": {n}, "titel": "{a}", "text": "{b}"}}' for n, (a, b) in enumerate(zip("abc", "xyz", strict=True))],
    )
    assert not claims_pairs(path)
    found = open_pairs(path, recipe(columns={"source": "titel", "target": "text"}))
    assert sides(found) == (["a", "b", "c"], ["x", "y", "z"])
    with pytest.raises(DataError, match="not clear which column") as caught:
        open_pairs(path, recipe())
    assert "data.columns.source" in str(caught.value)
    with pytest.raises(DataError, match="no column called 'txt'"):
        open_pairs(path, recipe(columns={"source": "titel", "target": "txt"}))


def test_tables_of_other_tasks_are_not_claimed(tmp_path: Path) -> None:
    for name, lines in (
        ("reviews.csv", ["text,label", "Good.,1"]),
        ("numbers.csv", ["id,no,value", "1,2,3"]),
        ("reviews.tsv", ["text\ttarget", "Good.\tpos"]),
        ("book.txt", ["It was a dark night.", "It rained."]),
        ("notes.txt", ["a\tb", "no tab here"]),
        ("spam.txt", ["ham\tSee you soon.", "spam\tWin a prize!"]),
        ("photo.en", ["alone"]),
    ):
        assert not claims_pairs(write(tmp_path / name, lines)), name
    (tmp_path / "empty").mkdir()
    assert not claims_pairs(tmp_path / "empty")


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_files_beside_each_other(tmp_path: Path, packed: bool) -> None:
    end = ".gz" if packed else ""
    for stem, count in (("train", 3), ("valid", 2), ("test", 1), ("test_2017", 1)):
        write(tmp_path / f"{stem}.en{end}", EN[:count], packed, "\r\n")
        write(tmp_path / f"{stem}.de{end}", DE[:count], packed)
    write(tmp_path / "README.md", ["nothing"])
    assert claims_pairs(tmp_path)
    found = open_pairs(tmp_path, recipe())
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 3, "val": 2, "test": 1}
    assert sides(found) == (EN, DE) and found.info["languages"] == ["en", "de"]
    assert any("from en to de" in note for note in found.info["notes"])
    turned = open_pairs(tmp_path, recipe(columns={"source": "de"}))
    assert sides(turned) == (DE, EN) and turned.info["languages"] == ["de", "en"]
    with pytest.raises(DataError, match=r"no file ending in \.fr"):
        open_pairs(tmp_path, recipe(columns={"target": "fr"}))


def test_one_of_two_files_is_the_source(tmp_path: Path) -> None:
    write(tmp_path / "news.fr", ["un", "deux"])
    with pytest.raises(DataError, match="no file beside it"):
        open_pairs(tmp_path / "news.fr", recipe())
    write(tmp_path / "news.es", ["uno", "dos"])
    assert claims_pairs(tmp_path / "news.fr")
    assert sides(open_pairs(tmp_path / "news.fr", recipe())) == (["un", "deux"], ["uno", "dos"])
    assert sides(open_pairs(tmp_path / "news.es", recipe())) == (["uno", "dos"], ["un", "deux"])
    assert sides(open_pairs(tmp_path, recipe())) == (["uno", "dos"], ["un", "deux"])
    write(tmp_path / "news.pt", ["um", "dois"])
    with pytest.raises(DataError, match="several translations"):
        open_pairs(tmp_path / "news.fr", recipe())
    with pytest.raises(DataError, match="not clear which language"):
        open_pairs(tmp_path, recipe())
    found = open_pairs(tmp_path / "news.fr", recipe(columns={"target": "pt"}))
    assert sides(found) == (["un", "deux"], ["um", "dois"])
    write(tmp_path / "news.pt", ["um"])
    with pytest.raises(DataError, match="same number of lines") as caught:
        open_pairs(tmp_path / "news.fr", recipe(columns={"target": "pt"}))
    assert caught.value.received == "1"


def test_a_folder_of_tables(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", ["en,de", *CSV])
    write(tmp_path / "dev.tsv", ["en\tde", TSV[1]])
    assert claims_pairs(tmp_path)
    found = open_pairs(tmp_path, recipe())
    assert sides(found) == (EN, DE) and sides(found, "val") == (EN[1:2], DE[1:2])
    (tmp_path / "train.csv").unlink()
    with pytest.raises(DataError, match="no table for training"):
        open_pairs(tmp_path, recipe())


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    lines = [f"word {number}\tWort {number}" for number in range(400)]
    lines[7], lines[30] = "word 7\t ", "word 30"
    path = write(tmp_path / "a.tsv", lines)
    with pytest.raises(BadRows) as caught:
        open_pairs(path, recipe())
    assert len(caught.value.rows) == 2
    found = open_pairs(path, recipe(on_bad="skip"))
    assert len(found.splits["train"]) == 398 and len(found.info["skipped"]) == 2
    assert any("2 of 400 pairs were left out" in note for note in found.info["notes"])
    write(path, lines[:50])
    with pytest.raises(DataError, match="more than 1 %"):
        open_pairs(path, recipe(on_bad="skip"))


def test_objects_of_python() -> None:
    pairs = list(zip(EN, DE, strict=True))
    for value in (pairs, (EN, DE), {"source": EN, "target": DE}, {"train": pairs, "test": (EN, DE)}):
        found = pairs_of_python(value, None, None, recipe())
        assert sides(found) == (EN, DE)
    assert sides(found, "test") == (EN, DE)
    same = pairs_of_python(pairs, "other", None, recipe())
    assert same.hash == pairs_of_python((EN, DE), None, None, recipe()).hash != found.hash
    for wrong, said in (
        ("a text", "not pairs"),
        ([("a", "b", "c")], "not pairs"),
        ((EN, DE[:2]), "not as many"),
        ([("a", 1)], "not a text"),
        ({"train": pairs, "dev": pairs}, "names of splits"),
        ([], "no pairs"),
    ):
        with pytest.raises(DataError, match=said):
            pairs_of_python(wrong, None, None, recipe())


def test_the_translations_of_a_sentence_stay_together_in_either_direction() -> None:
    pairs = [(f"word {number // 3}", f"Wort {number % 40}") for number in range(120)]
    dataset = pairs_of_python(pairs, None, None, recipe())
    for reverse in (False, True):
        asked = parse({"task": "translation", "options": {"reverse": reverse}})
        divided = divide_pairs(dataset, asked)
        parts = [set(sides(divided, name)[0]) for name in ("train", "val", "test")]
        assert sum(map(len, parts)) == len(set().union(*parts))
        assert all(parts) and next(iter(parts[0])).startswith("Wort" if reverse else "word")
        assert divided.info["reversed"] is reverse
        assert sorted(
            (a, b)[:: -1 if reverse else 1]
            for name in divided.splits
            for a, b in zip(*sides(divided, name), strict=True)
        ) == sorted(pairs)
        again = divide_pairs(divided, asked)
        assert sides(again) == sides(divided)


def data_roots() -> list[Path]:
    return [Path(part) for part in os.environ.get("FLAMBEAU_DATA", "").split(os.pathsep) if part]


def test_multi30k_as_it_is_published() -> None:
    if locate.seen(multi30k.LAYOUT, data_roots()) is None:
        pytest.skip("multi30k is not in the folders of FLAMBEAU_DATA")
    found = multi30k.load()
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 29000, "val": 1014, "test": 1000}
    source, target = sides(found)
    assert source[0] == "Two young, White males are outside near many bushes."
    assert target[0] == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
    assert sides(found, "test")[1][0] == "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt."


def test_tatoeba_as_it_is_published() -> None:
    path = next((root / "tatoeba-eng-fra/eng-fra.txt" for root in data_roots()), Path("nowhere"))
    if not path.is_file():
        pytest.skip("tatoeba-eng-fra is not in the folders of FLAMBEAU_DATA")
    assert claims_pairs(path)
    divided = divide_pairs(open_pairs(path, recipe()), recipe())
    assert sum(len(split) for split in divided.splits.values()) == 5000
    parts = [set(sides(divided, name)[0]) for name in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 2597


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "www")) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()
        thread.join()


def test_packed_files_are_fetched_checked_and_unpacked(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FLAMBEAU_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    plain = {"train.en": b"A cat.\n", "train.de": b"Eine Katze.\n"}
    packed = {name: gzip.compress(content, mtime=0) for name, content in plain.items()}
    for name, content in packed.items():
        (tmp_path / "www" / f"{name}.gz").write_bytes(content)
    layout = locate.Layout(
        "tiny30k", {name: hashlib.md5(content).hexdigest() for name, content in plain.items()}, ("tiny30k",)
    )
    urls = {name: f"{server}{name}.gz" for name in plain}
    sums = {name: hashlib.md5(content).hexdigest() for name, content in packed.items()}
    wrong = textfiles.fetcher(layout, urls, sums=dict.fromkeys(plain, "0" * 32), repair=gzip.decompress)
    if locate.cache_folder().is_relative_to(tmp_path):
        with pytest.raises(DataError, match="could not be downloaded"):
            locate.obtain(layout, [], wrong)
        content, source = locate.obtain(layout, [], textfiles.fetcher(layout, urls, sums=sums, repair=gzip.decompress))
        assert content == plain and source == locate.cache_folder() / "tiny30k"
        assert (source / "train.de").read_bytes() == plain["train.de"]


def test_damaged_files_are_not_taken_for_multi30k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLAMBEAU_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "multi30k"
    folder.mkdir()
    for name in multi30k.LAYOUT.sums:
        write(folder / f"{name}.gz", ["something else"], True)
    with pytest.raises(DataError, match="damaged or are not the published ones"):
        multi30k.load([tmp_path])
