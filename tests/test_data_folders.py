from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flambeau.data.folders import scan
from flambeau.data.images import PictureRules
from flambeau.errors import DataError


def tree(root: Path, *classes: str, count: int = 3) -> Path:
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((8, 9), 10 * place + number, np.uint8)).save(root / name / f"{number}.png")
    return root


def test_classes_rows_and_groups(tmp_path: Path) -> None:
    tree(tmp_path, "b", "a")
    (tmp_path / "a" / "deep").mkdir()
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "deep" / "1.PNG")
    data = scan(tmp_path)
    train = data.splits["train"]
    paths = train["image"]
    assert isinstance(paths, list)
    named = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert named == ["a/0.png", "a/2.png", "a/deep/1.PNG", "b/0.png", "b/1.png", "b/2.png"]
    assert train.tensor("label").tolist() == [0, 0, 0, 1, 1, 1] and data.info["classes"] == ["a", "b"]
    assert len(set(train.tensor("group").tolist())) == 6
    assert data.name == tmp_path.name and data.info["class_order"] == "alphabetic"


def test_hash_depends_on_content_names_and_labels_but_not_on_the_place(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one", "a", "b"), tree(tmp_path / "two", "a", "b")
    assert scan(one).hash == scan(two).hash
    (two / "a" / "0.png").rename(two / "a" / "9.png")
    renamed = scan(two).hash
    (two / "a" / "9.png").rename(two / "b" / "9.png")
    moved = scan(two).hash
    (two / "b" / "9.png").write_bytes((two / "b" / "1.png").read_bytes())
    assert len({scan(one).hash, renamed, moved, scan(two).hash}) == 4


@pytest.mark.parametrize(
    ("classes", "mirror"),
    [(("a", "b"), False), (("0", "1"), False), (("10", "11"), False), (("cat", "x"), True), (("cat", "dog"), True)],
)
def test_letters_and_numbers_are_not_mirrored(tmp_path: Path, classes: tuple[str, ...], mirror: bool) -> None:
    data = scan(tree(tmp_path, *classes))
    assert data.info["mirror"] is mirror
    assert any("not mirrored" in note for note in data.info["notes"]) is not mirror


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda root: root.rmdir(), "There is no such folder."),
        (lambda root: (root.rmdir(), root.write_text("x")), "This is not a folder."),
        (lambda root: None, "There are no class folders here."),
        (lambda root: Image.new("L", (8, 8)).save(root / "a.png"), "There are no class folders here."),
        (lambda root: tree(root, "cat"), "There is only one class"),
        (lambda root: tree(root, "train/cat"), "There is only one class"),
        (lambda root: (root / "train").mkdir(), "There are no class folders here."),
        (lambda root: tree(root, "train/a", "train/b", "val/a", "valid/a"), "Several folders mean the split val."),
    ],
)
def test_trees_that_cannot_be_understood(tmp_path: Path, make: object, problem: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    make(root)  # type: ignore[operator]
    with pytest.raises(DataError) as caught:
        scan(root)
    assert caught.value.problem.startswith(problem) and str(caught.value.where).startswith(str(root))


def test_class_folder_that_is_a_link_to_another_one(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b")
    (tmp_path / "c").symlink_to(tmp_path / "a", target_is_directory=True)
    with pytest.raises(DataError, match="under a second name") as caught:
        scan(tmp_path)
    assert caught.value.where == str(tmp_path / "c")


def test_rules_apply_to_headers(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b")
    with pytest.raises(DataError, match="9 x 8 pixels"):
        scan(tmp_path, rules=PictureRules(min_side=9))


def test_nothing_is_modified(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    scan(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
