"""Sets a test part and a validation part aside: by class, by seed, and with identical rows kept together.

Which rows go where depends on their content and the seed alone, not on their order, their names or the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flambeau.columns import Column, Dataset, Split
from flambeau.data.hashing import key, keys, row_hashes, text_key
from flambeau.errors import DataError

if TYPE_CHECKING:
    from flambeau.recipe import Data

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names that mean a split, wherever they lie at the top."""

SPLIT_NAMES = {**SPLIT_FOLDERS, "dev": "val"}
"""Names of tables, and cells in them, that mean a split."""

GROUP = "group"
"""The column of content hashes that a source may supply; rows with the same value stay together."""

TOGETHER = "together"
"""The column, int64, of what else keeps rows together: the pictures of one object, the recordings of one voice."""

MOST_VALIDATION = 5000
"""Rows beyond which an automatic validation split does not grow: its accuracy is then known to about 1 %."""

_SHOWN = 20


def with_test_and_validation(dataset: Dataset, data: Data, *, noun: str = "pictures") -> Dataset:
    """The data set with its ``test`` and ``val`` splits made where the recipe asks for them.

    Args:
        dataset: At least a ``train`` split. With an int64 column ``label`` it is divided class by class.
        data: ``test`` (a fraction), ``validation``, ``split_seed``.
        noun: What a row holds, for the notes.

    Returns:
        The data set without its ``group`` columns. ``info`` has notes that say what was done, ``validation`` (where
        the validation rows come from: ``none``, ``test``, ``source`` or ``train``) and ``duplicates``.

    Raises:
        DataError: A class has too few rows to be divided, or the recipe's wish does not suit the data.
    """
    splits = dict(dataset.splits)
    if "train" not in splits:
        raise DataError("The data has no training split.", where=dataset.name, received=", ".join(splits) or "nothing")
    classes: Sequence[str] = dataset.info.get("classes", ())
    notes: list[str] = []
    splits = {name: with_groups(split) for name, split in splits.items()}
    found = dataset.info.get("duplicates")
    duplicates: list[str] = leaks(splits) if found is None else list(found)
    if found is None and duplicates:
        notes.append(leak_note(splits, noun))
    grouped = TOGETHER in splits["train"].columns
    notes += [_group_note(splits)] if grouped else []
    kept = f"identical {noun}{' and groups' if grouped else ''} kept together"
    manner = f"{'class by class, ' if 'label' in splits['train'].columns else ''}with {kept}"
    if data.fold is not None:
        splits, note = _with_fold(splits, data, classes, dataset.name, kept)
        notes.append(note)
    if "test" not in splits:
        splits["train"], splits["test"] = divide(splits["train"], data.test, key(data.split_seed, 1), classes)
        rows = len(splits["test"])
        aside = f"{rows:,} rows ({rows / (rows + len(splits['train'])):.0%})"
        note = f"The data has no test split: {aside} were set aside as one, {manner}."
        notes.append(note + _absent(splits, "test", classes))
    splits, origin, note = _with_validation(splits, data, classes, dataset.name, manner)
    info = {
        **dataset.info,
        "notes": [*dataset.info.get("notes", ()), *notes, note],
        "validation": origin,
        "duplicates": duplicates,
        "fold": data.fold,
    }
    # The same rows serve as two splits when validation is on test; they stay one object, to be read once.
    bare = {id(split): without_groups(split) for split in splits.values()}
    return Dataset(dataset.name, {name: bare[id(split)] for name, split in splits.items()}, info, dataset.hash)


def _with_fold(
    splits: dict[str, Split], data: Data, classes: Sequence[str], name: str, kept: str
) -> tuple[dict[str, Split], str]:
    """The splits with one fold of the training split as the test split."""
    if len(splits) > 1:
        raise DataError(
            "The data comes with splits of its own, so it cannot be divided into folds.",
            where=name,
            received=", ".join(splits),
            remedy="Leave the folds out, or give the data as one split.",
        )
    number, count = map(int, str(data.fold).split("/"))
    fold = folds(splits["train"], count, key(data.split_seed, 3), classes)
    train, test = _parted(splits["train"], fold == number - 1)
    parts = {"train": train, "test": test}
    note = f"Fold {number} of {count} is the test split: {len(parts['test']):,} rows, with {kept}."
    return parts, note + _absent(parts, "test", classes)


def _parted(split: Split, aside: Tensor) -> tuple[Split, Split]:
    """A split in two: what stays, and the rows of a mask bool ``(n,)``; both in their old order."""
    return split.take((~aside).nonzero().flatten()), split.take(aside.nonzero().flatten())


def folds(split: Split, count: int, seed: int, classes: Sequence[str] = ()) -> Tensor:
    """The fold of each row, ``(n,)`` int64 from 0: folds of nearly equal size, in each class and as a whole.

    Args:
        split: As for :func:`divide`.
        count: How many folds.
        seed: Decides which row is in which.
        classes: Their names, for messages.

    Raises:
        DataError: A class has fewer rows than there are folds, or would be missing in all but one of them.
    """
    groups, labels = bound(split), _labels(split)
    counts = torch.bincount(labels, minlength=len(classes))
    _require_rows(counts, count, classes)
    found = torch.full((len(split),), count - 1, dtype=torch.int64)
    rest = torch.arange(len(split))
    for fold in range(count - 1):
        targets = _targets(torch.bincount(labels[rest], minlength=len(counts)), 1 / (count - fold))
        aside = _chosen(groups[rest], labels[rest], targets, key(seed, fold))
        found[rest[aside]] = fold
        rest = rest[~aside]
    for fold in range(count):
        lost = (torch.bincount(labels[found != fold], minlength=len(counts)) == 0) & (counts > 0)
        if lost.any():
            raise DataError(
                f"All rows of {_class_names(classes, lost)} are identical or in one group, so with that fold none is "
                "left to learn from.",
                remedy="Choose other groups, or leave the class out.",
            )
    return found


def _labels(split: Split) -> Tensor:
    labels = split.columns.get("label", torch.zeros(len(split), dtype=torch.int64))
    if not isinstance(labels, Tensor):
        raise DataError("Rows can only be divided by a column of labels that is a tensor.")
    return labels


def _require_rows(counts: Tensor, least: int, classes: Sequence[str]) -> None:
    scarce = [number for number, count in enumerate(counts.tolist()) if 0 < count < least]
    if scarce:
        names = [f"{_class_name(classes, number)} ({counts[number]})" for number in scarce]
        raise DataError(
            f"Too few rows to set some aside in {len(names)} of the classes: {', '.join(names[:_SHOWN])}.",
            expected=f"at least {least} rows a class",
            remedy="Add rows of these classes, remove the classes, or lay the data out in train, val and test."
            + (" Numbers that are no classes are learnt by --task image-regression." if _measured(classes) else ""),
        )


def _measured(classes: Sequence[str]) -> bool:
    """Whether the classes look like measurements: all are numbers, and some have a fraction."""
    try:
        return any(not float(name).is_integer() for name in classes)
    except (ValueError, OverflowError):
        return False


def _group_note(splits: Mapping[str, Split]) -> str:
    """How many groups there are, and how many of them the source itself has put on several sides."""
    known = {name: set(split.tensor(TOGETHER).tolist()) for name, split in splits.items() if TOGETHER in split.columns}
    rows = sum(len(splits[name]) for name in known)
    note = f"The {rows:,} rows form {len(set().union(*known.values())):,} groups."
    shared = {name: len(groups & known["train"]) for name, groups in known.items() if name != "train"}
    told = [f"{count:,} of {name}" for name, count in shared.items() if count]
    if not told:
        return note
    return (
        f"{note} The data's own splits part some of them: {' and '.join(told)} are in train too, which flatters scores."
    )


def _with_validation(
    splits: dict[str, Split], data: Data, classes: Sequence[str], name: str, manner: str
) -> tuple[dict[str, Split], str, str]:
    wish = data.validation
    own = splits.get("val")
    rest = {title: split for title, split in splits.items() if title != "val"}
    unused = "" if own is None else " The validation split that the data comes with is not used."
    if wish == "none":
        return rest, "none", "There is no validation split, as the recipe asks: the last state is kept." + unused
    if wish == "test":
        note = (
            "The test split serves as the validation split too, as the recipe asks. The last state is kept; whatever "
            "is chosen by these scores is flattered by them." + unused
        )
        return {**rest, "val": rest["test"]}, "test", note
    if own is not None:
        if wish != "auto":
            raise DataError(
                f"The data has a validation split of its own ({len(own):,} rows), and the recipe asks for another.",
                where=name,
                received=f"data.validation = {wish}",
                remedy="Leave data.validation at auto to use the data's own.",
            )
        return splits, "source", f"Validation uses the {len(own):,} rows that the data comes with for it."
    fraction = min(0.2, MOST_VALIDATION / max(1, len(rest["train"]))) if wish == "auto" else float(wish)
    train, val = divide(rest["train"], fraction, key(data.split_seed, 2), classes)
    note = (
        f"{len(val):,} rows of the training split were set aside for validation, {manner}; {len(train):,} are left for "
        "training."
    )
    made = {**rest, "train": train, "val": val}
    return made, "train", note + _absent(made, "val", classes)


def _absent(splits: Mapping[str, Split], name: str, classes: Sequence[str]) -> str:
    """A sentence about classes of which no row could be set aside."""
    if not classes or "label" not in splits[name].columns:
        return ""
    counts = torch.bincount(splits[name].tensor("label"), minlength=len(classes))
    none = _class_names(classes, counts == 0)
    return f" It has no rows of {none}, for all of them are identical or in one group." if none else ""


def divide(split: Split, fraction: float, seed: int, classes: Sequence[str] = ()) -> tuple[Split, Split]:
    """A split in two: what stays, and a fraction of every class that is set aside; both in their old order.

    Args:
        split: Rows with the same ``group`` or the same ``together`` are not parted; a column ``label``, int64, says
            the class.
        fraction: Of the rows, between 0 and 1.
        seed: Decides which.
        classes: Their names, for messages.

    Raises:
        DataError: A class has fewer than three rows, or would have none left.
    """
    groups, labels = bound(split), _labels(split)
    counts = torch.bincount(labels, minlength=len(classes))
    _require_rows(counts, 3, classes)
    aside = _chosen(groups, labels, _targets(counts, fraction), seed)
    if bool(torch.bincount(labels[~aside], minlength=len(counts)).lt(counts.clamp(max=1)).any()) or not aside.any():
        raise DataError(
            "Setting rows aside would leave a class without any, since most of its rows are identical or in one group.",
            expected="rows of each class in at least two groups",
            received=", ".join(_spread(groups, labels, classes)[:_SHOWN]),
            remedy="Remove copies, choose other groups, or lay the data out in train, val and test.",
        )
    return _parted(split, aside)


def _spread(groups: Tensor, labels: Tensor, classes: Sequence[str]) -> list[str]:
    """Each class with the number of groups that its rows are in, the fewest first."""
    counts = {number: len(set(groups[labels == number].tolist())) for number in sorted(set(labels.tolist()))}
    ordered = sorted(counts.items(), key=lambda pair: pair[1])
    return [f"{_class_name(classes, number)} in {count:,}" for number, count in ordered]


def together(groups: Sequence[str | None], content: Sequence[int]) -> dict[str, Column]:
    """The column ``together`` of rows whose groups are known, or nothing where none has one.

    Args:
        groups: What each row shares with others. None belongs to no group: it stays with its copies alone.
        content: The content hash of each row.
    """
    if all(group is None for group in groups):
        return {}
    keys = [own if group is None else text_key(group) for group, own in zip(groups, content, strict=True)]
    return {TOGETHER: torch.tensor(keys, dtype=torch.int64)}


def bound(split: Split) -> Tensor:
    """For each row an int64 that rows share when they must not be parted, in one step or through others.

    It is the least content hash of them all, so it depends neither on the order of the rows nor on what the groups are
    called.
    """
    value = split.tensor(GROUP)
    if TOGETHER not in split.columns:
        return value
    links = [torch.unique(split.tensor(name), return_inverse=True)[1] for name in (TOGETHER, GROUP)]
    while True:
        before = value
        for link in links:
            value = _least(value, link, int(link.max()) + 1 if len(link) else 0)
        if torch.equal(value, before):
            return value


def _least(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """For each row the least value in its group, groups being numbered from 0."""
    most = torch.full((count,), torch.iinfo(torch.int64).max)
    return most.scatter_reduce(0, groups, values, "amin")[groups]


def _class_name(classes: Sequence[str], number: int) -> str:
    return classes[number] if number < len(classes) else str(number)


def _class_names(classes: Sequence[str], which: Tensor) -> str:
    """The first names of the classes of a mask bool ``(K,)``."""
    return ", ".join(_class_name(classes, number) for number in which.nonzero().flatten().tolist()[:_SHOWN])


def _targets(counts: Tensor, fraction: float) -> Tensor:
    """Rows to set aside of each class: the fraction in all, at least one of each class, by largest remainders."""
    exact = counts.double() * fraction
    targets = exact.floor().long()
    spare = int((counts.sum() * fraction).round()) - int(targets.sum())
    for number in torch.argsort(exact - targets, descending=True, stable=True)[: max(0, spare)].tolist():
        targets[number] += 1
    return torch.minimum(targets.clamp(min=1), (counts - 1).clamp(min=0))


def _chosen(groups: Tensor, labels: Tensor, targets: Tensor, seed: int) -> Tensor:
    """The rows to set aside: whole groups, in an order that the seed decides, each when it brings the classes closer to
    their targets (by the sum of squares) and leaves every class some rows.
    """
    unique, inverse = torch.unique(groups, return_inverse=True)
    pairs, counts = torch.unique(inverse * len(targets) + labels, return_counts=True)
    starts = torch.searchsorted(pairs, torch.arange(len(unique) + 1) * len(targets)).tolist()
    held = list(zip((pairs % len(targets)).tolist(), counts.tolist(), strict=True))
    lacking, left = targets.tolist(), torch.bincount(labels, minlength=len(targets)).tolist()
    taken = torch.zeros(len(unique), dtype=torch.bool)

    def parts(number: int) -> list[tuple[int, int]]:
        return held[starts[number] : starts[number + 1]]

    def able(number: int) -> bool:
        return all(left[label] > size for label, size in parts(number))

    def take(number: int) -> None:
        taken[number] = True
        for label, size in parts(number):
            lacking[label] -= size
            left[label] -= size

    places = torch.argsort(keys(seed, unique)).tolist()
    for number in places:
        if sum(size * (2 * lacking[label] - size) for label, size in parts(number)) > 0 and able(number):
            take(number)
            if max(lacking) <= 0:
                break
    # Where every group of a class is larger than twice what is wanted, its smallest one is better than none.
    for label in [label for label, target in enumerate(targets.tolist()) if target and lacking[label] == target]:
        smallest = [number for number in places if label in dict(parts(number)) and able(number)]
        if smallest:
            take(min(smallest, key=lambda number: sum(size for _, size in parts(number))))
    return taken[inverse]


def with_groups(split: Split) -> Split:
    """The split with a column of content hashes, unless it has one."""
    if GROUP in split.columns:
        return split
    content = next(column for name, column in split.columns.items() if name not in ("label", TOGETHER))
    return split.with_columns(**{GROUP: row_hashes(content)})


def without_groups(split: Split) -> Split:
    """The split without the columns that say which rows stay together."""
    return split.without(GROUP, TOGETHER)


def leaks(splits: Mapping[str, Split]) -> list[str]:
    """Rows of other splits whose content is in the training split too, as ``test row 3 = train row 17``: the first 20.

    Rows that are paths of files are named by these.
    """
    rows = _leaked(splits)
    return [f"{_row_name(splits, name, row)} = {_row_name(splits, 'train', twin)}" for name, row, twin in rows[:_SHOWN]]


def leak_note(splits: Mapping[str, Split], noun: str = "pictures") -> str:
    """A sentence that counts the rows of :func:`leaks`, or an empty text."""
    rows = _leaked(splits)
    if not rows:
        return ""
    counts = {name: sum(found == name for found, _, _ in rows) for name in splits if name != "train"}
    told = " and ".join(f"{count:,} of {name}" for name, count in counts.items() if count)
    return f"The same {noun} are in several splits: {told} are in train too, which flatters their scores."


def _leaked(splits: Mapping[str, Split]) -> list[tuple[str, int, int]]:
    train = splits["train"][GROUP]
    if not isinstance(train, Tensor) or len(train) == 0:
        return []
    ordered, order = train.sort(stable=True)
    rows = []
    for name, split in splits.items():
        groups = split[GROUP]
        if name == "train" or split is splits["train"] or not isinstance(groups, Tensor):
            continue
        places = torch.searchsorted(ordered, groups).clamp(max=len(ordered) - 1)
        same = (ordered[places] == groups).nonzero().flatten()
        rows += [(name, row, int(order[places[row]])) for row in same.tolist()]
    return rows


def _row_name(splits: Mapping[str, Split], name: str, row: int) -> str:
    for column in splits[name].columns.values():
        value: Any = column[row] if isinstance(column, list) else None
        if value is not None and hasattr(value, "__fspath__"):
            return str(value)
    return f"{name} row {row}"
