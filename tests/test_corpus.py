"""Running text: how it is read, where it is cut, and how it becomes windows of tokens."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flambeau.columns import Ragged
from flambeau.core import Draw
from flambeau.data import corpus, windows
from flambeau.data.datasets import locate, tiny_shakespeare
from flambeau.data.plain import pieces
from flambeau.errors import BadRows, DataError
from flambeau.recipe import Data

REAL = os.environ.get("FLAMBEAU_DATA", "")
needs_real_data = pytest.mark.skipif(
    locate.seen(tiny_shakespeare.LAYOUT, [Path(part) for part in REAL.split(os.pathsep) if part]) is None,
    reason="FLAMBEAU_DATA names no folder with tiny Shakespeare",
)


def lay(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def texts(dataset: object, split: str = "train") -> list[str]:
    return list(dataset.splits[split]["text"])  # type: ignore[attr-defined]


def test_text_is_claimed_and_nothing_else(tmp_path: Path) -> None:
    lay(tmp_path, {"a.txt": "x", "b.png": "x", "flat/one.md": "x", "deep/class/one.txt": "x", "none/.hidden.txt": "x"})
    lay(tmp_path, {"about/README.md": "x", "about/cat/1.png": "x"})
    names = ("a.txt", "flat", "b.png", "deep", "none", "about", "gone")
    assert [name for name in names if corpus.claims(tmp_path / name)] == ["a.txt", "flat"]


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    files = {"b/2.txt": "four", "b/10.txt": "three", "a.txt": "one", "a/z.rst": "two", "c.bin": b"\0", ".d/e.txt": "no"}
    made = corpus.open_corpus(lay(tmp_path / "book", {**files, "empty.txt": " \n"}), Data())
    assert texts(made) == ["two", "one", "three", "four"]
    assert made.name == "book"
    assert any("1 files that are not named as text" in note for note in made.info["notes"])
    assert any("empty.txt" in note for note in made.info["notes"])
    again = corpus.open_corpus(lay(tmp_path / "copy" / "book", files), Data())
    assert again.hash == made.hash


@pytest.mark.parametrize(
    "names",
    [
        ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
        ("train.txt", "val.txt", "test.txt"),
        ("train/a.txt", "dev/a.txt", "test/a.txt"),
    ],
)
def test_names_say_which_part_a_file_belongs_to(tmp_path: Path, names: tuple[str, ...]) -> None:
    files: dict[str, str | bytes] = dict(zip(names, ("learn", "choose", "judge"), strict=True))
    made = corpus.open_corpus(lay(tmp_path, {**files, "README.md": "about"}), Data())
    assert {name: texts(made, name) for name in made.splits} == {
        "train": ["learn"],
        "val": ["choose"],
        "test": ["judge"],
    }
    assert any("README.md" in note for note in made.info["notes"])
    divided = corpus.divide(made, Data())
    assert texts(divided, "val") == ["choose"]
    assert divided.info["validation"] == "source"
    with pytest.raises(DataError, match="validation part of its own"):
        corpus.divide(made, Data(validation=0.1))


def test_a_file_called_test_alone_is_text_like_any_other(tmp_path: Path) -> None:
    made = corpus.open_corpus(lay(tmp_path, {"test.txt": "one", "other.txt": "two"}), Data())
    assert texts(made) == ["two", "one"]


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfa\r\nb\rc\n", "a\nb\nc\n".encode("utf-16"), b"a\nb\nc\n"],
    ids=["utf-8", "utf-16", "plain"],
)
def test_encodings_and_line_ends_come_out_alike(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.log").write_bytes(content)
    assert texts(corpus.open_corpus(tmp_path / "a.log", Data())) == ["a\nb\nc\n"]


def test_files_that_are_no_text_are_all_named(tmp_path: Path) -> None:
    lay(tmp_path, {"latin.txt": "caf\u00e9".encode("latin-1"), "zero.txt": b"a\0b", "good.txt": "fine"})
    with pytest.raises(BadRows) as caught:
        corpus.open_corpus(tmp_path, Data())
    assert "latin.txt" in str(caught.value)
    assert "zero.txt" in str(caught.value)
    made = corpus.open_corpus(tmp_path, Data(on_bad="skip"))
    assert texts(made) == ["fine"]
    assert any("2 files could not be read" in note for note in made.info["notes"])


def test_links_are_followed_on_wish_and_never_in_circles(tmp_path: Path) -> None:
    root = lay(tmp_path, {"in/a.txt": "one", "out/b.txt": "two"}) / "in"
    (root / "link.txt").symlink_to(tmp_path / "out" / "b.txt")
    (root / "circle").symlink_to(root, target_is_directory=True)
    assert texts(corpus.open_corpus(root, Data())) == ["one"]
    assert texts(corpus.open_corpus(root, Data(follow_links=True))) == ["one", "two"]


def test_where_there_is_no_text_it_is_said(tmp_path: Path) -> None:
    lay(tmp_path, {"a.png": b"x", "empty/e.txt": ""})
    for path in (tmp_path, tmp_path / "empty"):
        with pytest.raises(DataError, match="no text"):
            corpus.open_corpus(path, Data())


def test_texts_of_python() -> None:
    assert texts(corpus.of_python("one", "mine", None)) == ["one"]
    assert texts(corpus.of_python(["one", "", "two"], None, None)) == ["one", "two"]
    made = corpus.of_python({"train": ["one"], "test": "two"}, None, None)
    assert texts(made, "test") == ["two"]
    for wrong in (3, ["one", 2], {"training": "one"}, {"test": "one"}, [""]):
        with pytest.raises(DataError):
            corpus.of_python(wrong, None, None)


def test_the_test_part_is_the_end_of_the_text_and_validation_comes_from_all_over_the_rest() -> None:
    lines = [f"line {number}\n" for number in range(50_000)]
    whole = "".join(lines)
    given = [whole[: whole.index("line 30000")], whole[whole.index("line 30000") :]]
    made = corpus.divide(corpus.of_python(given, None, None), Data(test=0.1))
    train, val, test = (texts(made, name) for name in ("train", "val", "test"))
    assert test == [whole[int(0.9 * len(whole)) :]]
    assert (len(train), len(val)) == (2, 2)
    assert sum(map(len, train + val + test)) == len(whole)
    taken = "".join(val).splitlines(keepends=True)
    assert set(taken) == set(lines) - set("".join(train + test).splitlines(keepends=True))
    assert sum(map(len, val)) == pytest.approx(0.05 * 0.9 * len(whole), rel=0.01)
    # Ten stretches, one in the middle of every tenth.
    numbers = [int(line.split()[1]) for line in taken]
    begins = [number for before, number in zip([-2, *numbers], numbers, strict=False) if number != before + 1]
    assert [number / 45_000 for number in begins] == pytest.approx([0.05 + n / 10 for n in range(10)], abs=0.02)
    assert made.info["validation"] == "train"


@pytest.mark.parametrize("size", [1, 9, 40, 700])
def test_validation_is_cut_out_of_documents_of_any_size(size: int) -> None:
    whole = [chr(0x4E00 + number) * size for number in range(9_000 // size)]
    rest, stretches = corpus.cut_out(whole, 0.3)
    assert sorted("".join(rest + stretches)) == sorted("".join(whole))
    assert sum(map(len, stretches)) == pytest.approx(0.3 * sum(map(len, whole)), abs=2)


def test_validation_follows_the_recipe() -> None:
    given = corpus.of_python("x" * 1000, None, None)
    assert "val" not in corpus.divide(given, Data(validation="none")).splits
    on_test = corpus.divide(given, Data(validation="test", test=0.1))
    assert on_test.splits["val"] is on_test.splits["test"]
    assert len(texts(corpus.divide(given, Data(validation=0.2, test=0.1)), "val")[0]) == 180
    with pytest.raises(DataError, match="too short"):
        corpus.divide(corpus.of_python("a", None, None), Data(test=0.1))


def test_pieces_are_the_text() -> None:
    text = "a line\n" * 100 + "x" * 300 + "\n\n"
    for limit in (1, 7, 64, 10_000):
        cut = list(pieces(text, limit))
        assert "".join(cut) == text
        assert max(map(len, cut)) <= limit
    assert all(piece.endswith("\n") for piece in pieces("a line\n" * 100, 50))
    assert list(pieces("")) == []


# Windows


def stream_of(targets: int) -> Tensor:
    return torch.arange(100, 101 + targets, dtype=torch.int32)


def test_documents_are_joined_with_the_start_token_before_each() -> None:
    assert windows.joined(Ragged.of([[5], [], [6, 7]]), 2).tolist() == [2, 5, 2, 2, 6, 7]
    assert windows.joined(Ragged.of([[]]), 2).tolist() == [2]


@pytest.mark.parametrize("targets", [0, 1, 7, 8, 9, 15, 16, 17, 64, 100])
def test_every_token_is_a_target_of_one_row(targets: int) -> None:
    split, context = windows.windows(stream_of(targets), 8), 8
    cut = windows.cut_at(split.columns, torch.zeros_like(split.tensor("reach")), context)  # type: ignore[arg-type]
    kept = cut["target"] != windows.IGNORED
    assert cut["target"][kept].tolist() == list(range(101, 101 + targets))
    assert cut["tokens"][kept].tolist() == list(range(100, 100 + targets))
    assert windows.shared(1000, split, context).sum().item() == pytest.approx(1000 if targets else 0)


def test_windows_are_views_of_one_stream() -> None:
    split = windows.windows(stream_of(10_000), 100)
    window = split.tensor("window")
    assert window.shape == (100, 201)
    assert window.untyped_storage().nbytes() < 4 * 10_300


def test_training_windows_move_with_the_epoch_and_stay_in_the_text() -> None:
    split = windows.windows(stream_of(1000), 8)
    batch = {**split.columns, "row": torch.arange(len(split))}

    def cut(epoch: int, rows: Tensor) -> dict[str, Tensor]:
        part = {**split.take(rows).columns, "row": rows}
        return windows.cut_anywhere(part, Draw(7, epoch, rows), 8)  # type: ignore[arg-type]

    everything = [cut(epoch, batch["row"]) for epoch in range(60)]  # type: ignore[arg-type]
    for made in everything:
        kept = made["target"] != windows.IGNORED
        assert (made["target"] - made["tokens"])[kept].eq(1).all()
        assert made["target"].max() <= 1100
        assert kept[:-1].all()
    first = torch.stack([made["tokens"][:, 0] for made in everything])
    offsets = first - first.amin(0)
    assert set(offsets[:, :-2].flatten().tolist()) == set(range(9))
    seen = torch.cat([made["target"].flatten() for made in everything])
    counts = torch.bincount(seen[seen > 0], minlength=1101)[120:1080].double()
    assert counts.min() > 0.5 * counts.mean()
    # A row's window does not depend on the batch that it is in.
    some = torch.tensor([40, 3])
    assert cut(5, some)["tokens"].equal(everything[5]["tokens"][some])


def test_micro_rows_of_a_short_text_are_whole() -> None:
    split = windows.windows(stream_of(3), 8)
    made = windows.cut_anywhere({**split.columns, "row": torch.tensor([0])}, Draw(0, 0, torch.tensor([0])), 8)  # type: ignore[arg-type]
    assert made["target"].tolist() == [[101, 102, 103, *[windows.IGNORED] * 5]]


# Tiny Shakespeare


@needs_real_data
def test_tiny_shakespeare_is_found_and_cut_as_usual() -> None:
    made = tiny_shakespeare.load()
    (text,) = texts(made)
    assert len(text) == 1_115_394
    assert len(set(text)) == 65
    divided = corpus.divide(made, Data(test=0.1))
    assert texts(divided, "test") == [text[int(0.9 * len(text)) :]]
    assert corpus.describe(divided)["characters"] == {"train": 953_661, "test": 111_540, "val": 50_193}
    assert corpus.claims(Path(made.info["source"]))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A local server of a folder."""
    root = tmp_path / "served"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", root
    server.shutdown()
    server.server_close()


@needs_real_data
def test_tiny_shakespeare_is_fetched_into_the_cache(
    served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, root = served
    (text,) = texts(tiny_shakespeare.load())
    (root / "input.txt").write_text(text, newline="")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(locate.VARIABLE)
    monkeypatch.chdir(tmp_path)
    made = tiny_shakespeare.load(url=f"{address}/input.txt")
    assert texts(made) == [text]
    assert Path(made.info["source"]) == tmp_path / "cache" / "flambeau" / "data" / "tiny-shakespeare"


def test_another_file_is_not_taken_for_tiny_shakespeare(
    served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, root = served
    (root / "input.txt").write_text("not Shakespeare")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="could not be downloaded"):
        tiny_shakespeare.load(url=f"{address}/input.txt")
    lay(tmp_path, {"data/tiny-shakespeare/input.txt": "changed"})
    with pytest.raises(DataError, match="damaged"):
        tiny_shakespeare.load(url=f"{address}/input.txt")
