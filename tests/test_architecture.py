"""The shape of the source: which part may import which, how long things may get, where files of pickles may be read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "flambeau"

BASE = {"columns", "core", "program", "recipe", "files", "userfile", "errors"}
BUILDING = {"models", "data", "metrics", "report"}
NAMED = {"task", "catalog", "datasets", "modelfile", "model", "run"}

# What each part may import besides itself. A name with a dot allows that module alone.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "userfile": {"errors"},
    "wording": {"errors"},
    "recipe": {"errors", "files", "userfile", "wording"},
    "columns": set(),
    "core": {"columns", "errors", "files", "userfile", "recipe"},
    "program": {"columns", "core", "errors"},
    "wire": set(),
    "task": BASE | {"wire"},
    "engine": {"columns", "core", "files", "errors"},
    "models": BASE,
    # How a data set is prepared is for its task to say, in the functions of its record.
    "data": BASE | {"task"},
    "metrics": BASE,
    "report": BASE | {"metrics", "data"},
    "tasks": BASE | BUILDING | {"task", "wire", "engine.optim"},
    # Everything else that the catalog names, it names in strings, so that looking up costs no import.
    "catalog": BASE | {"task", "wording", "models.custom", "models.published"},
    "datasets": BASE | {"task", "catalog", "data"},
    "modelfile": BASE,
    "model": BASE | BUILDING | NAMED | {"engine", "tasks"},
    "run": BASE | BUILDING | NAMED | {"engine", "tasks"},
    "workflow": BASE | BUILDING | NAMED | {"engine", "tasks"},
    "export": BASE | BUILDING | NAMED | {"engine", "tasks", "workflow"},
    "eject": BASE | BUILDING | NAMED | {"engine", "tasks", "workflow"},
    # A server of exported files has no PyTorch; what needs it is imported when a model of PyTorch is loaded.
    "serve": BASE | BUILDING | NAMED | {"engine", "tasks", "workflow", "export", "wire"},
    "container": BASE | BUILDING | NAMED | {"export", "serve"},
    "cli": BASE | BUILDING | NAMED | {"engine", "tasks", "workflow", "export", "eject", "serve", "container"},
    "__main__": {"cli"},
}

# Imports against the arrows that are meant: (module, what it imports) and the reason.
EXCEPTIONS = {
    ("columns", "report.notebook"): "a Dataset shows itself in a notebook; imported inside the method that draws it",
}


class Import(NamedTuple):
    """One module imported by another, both without the leading ``flambeau.``; line for the message."""

    importer: str
    imported: str
    line: int


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def module_name(path: Path) -> str:
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    return module.split(".")[0]


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in python_files("src/flambeau")}


def running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one, without what stands under ``if TYPE_CHECKING:``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from running_nodes(other)
            continue
        yield child
        yield from running_nodes(child)


def imports_of(module: str, path: Path) -> Iterator[Import]:
    for node in running_nodes(tree(path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; the package's imports are absolute."
            home = node.module or ""
            # `from flambeau import catalog` names a module, `from flambeau.errors import DataError` does not.
            names = [
                name if name.removeprefix("flambeau.") in modules() else home
                for name in (f"{home}.{alias.name}" for alias in node.names)
            ]
        for name in names:
            if name.startswith("flambeau."):
                yield Import(module, name.removeprefix("flambeau."), node.lineno)
            elif name == "flambeau":
                asked = {alias.name for alias in node.names}
                assert asked == {"__version__"}, (
                    f"{path}:{node.lineno}: a module imports {asked} from the package root."
                )


@cache
def all_imports() -> list[Import]:
    return [found for module, path in modules().items() if module for found in imports_of(module, path)]


def permitted(found: Import) -> bool:
    importer, imported = part_of(found.importer), part_of(found.imported)
    return importer == imported or any(
        found.imported == allowed or found.imported.startswith(f"{allowed}.") for allowed in ALLOWED[importer]
    )


def test_every_part_has_its_place() -> None:
    parts = {part_of(module) for module in modules() if module}
    # Folders of data files hold no code that could import anything.
    assert parts - {"recipes"} == set(ALLOWED)


def test_arrows_point_down() -> None:
    wrong = [
        f"{found.importer}:{found.line} imports {found.imported}"
        for found in all_imports()
        if not permitted(found) and (found.importer, found.imported) not in EXCEPTIONS
    ]
    assert not wrong, "\n".join(wrong)


def test_no_exception_is_stale() -> None:
    against = {(found.importer, found.imported) for found in all_imports() if not permitted(found)}
    assert set(EXCEPTIONS) <= against


def test_allowed_arrows_form_no_circle() -> None:
    below = {part: {part_of(name) for name in allowed} for part, allowed in ALLOWED.items()}
    # A run knows its model and a model the run that it came from.
    below["model"] -= {"run", "model"}
    below["run"] -= {"run"}
    placed: set[str] = set()
    while len(placed) < len(below):
        ready = {part for part, needs in below.items() if part not in placed and needs <= placed}
        assert ready, f"These import each other in a circle: {sorted(set(below) - placed)}"
        placed |= ready


def test_the_reader_of_imports_sees_what_it_should(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "from flambeau import catalog\n"
        "from flambeau.data.images import fit\n"
        "if TYPE_CHECKING:\n    from flambeau.run import Run\n"
        "else:\n    import flambeau.files\n"
        "def f():\n    from flambeau.engine import loop\n",
        encoding="utf-8",
    )
    found = [imported for _, imported, _ in imports_of("sample", path)]
    assert found == ["catalog", "data.images", "files", "engine.loop"]


@pytest.mark.parametrize(
    ("importer", "imported", "fine"),
    [
        ("engine.loop", "data.images", False),
        ("engine.loop", "core", True),
        ("tasks.x", "engine.optim", True),
        ("tasks.x", "engine.loop", False),
        ("data.images", "metrics.tables", False),
        ("models.x", "models.fit", True),
        ("workflow.job", "cli.main", False),
        ("model", "modelfile", True),
        ("files", "core", False),
    ],
)
def test_rule(importer: str, imported: str, fine: bool) -> None:
    assert permitted(Import(importer, imported, 1)) is fine


def asks_for_the_task(node: ast.AST) -> bool:
    if isinstance(node, ast.Match):
        return re.search(r"\btask(\.name)?$", ast.unparse(node.subject)) is not None
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    texts = any(isinstance(side, ast.Constant | ast.Tuple | ast.Set | ast.List) and not is_none(side) for side in sides)
    return texts and any(re.search(r"\btask(\.name)?$", ast.unparse(side)) for side in sides)


def is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def test_only_tasks_know_which_task_it_is() -> None:
    found = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for module, path in modules().items()
        if part_of(module) != "tasks"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Compare | ast.Match) and asks_for_the_task(node)
    ]
    assert not found, "What differs by task belongs into the Task's record:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("task == 'image-classification'", True),
        ("recipe.task in ('a', 'b')", True),
        ("job.task.name == 'a'", True),
        ("task is None", False),
        ("name == 'a'", False),
        ("task != before", False),
    ],
)
def test_asking_for_the_task_is_noticed(code: str, caught: bool) -> None:
    assert asks_for_the_task(ast.parse(code, mode="eval").body) is caught


def test_no_file_is_too_long() -> None:
    lengths = {
        path.relative_to(REPOSITORY): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files("src", "tests", "scripts", "examples", "benchmarks")
    }
    assert not {path: lines for path, lines in lengths.items() if lines > 500}


def test_every_function_fits_a_screen() -> None:
    found = [
        f"{path}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in python_files("src")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 70
    ]
    assert not found, "\n".join(found)


def calls(name: str) -> list[tuple[str, ast.Call]]:
    """All calls of a dotted name in the package, with the module that they stand in."""
    return [
        (module, node)
        for module, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name
    ]


def test_torch_load_is_called_in_one_place_and_for_weights_only() -> None:
    found = calls("torch.load")
    assert [module for module, _ in found] == ["models.weights"]
    for _, call in found:
        options = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert options["weights_only"] == "True"


def test_pickles_are_read_by_the_restricted_reader_alone() -> None:
    uses = {
        (module, node.attr)
        for module, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("pickle", "_pickle", "cPickle", "dill")
    }
    # torch.load reports a refused file by pickle's exception; naming it reads nothing.
    # The scripts of eject --numpy read CIFAR-10 by themselves, with a restricted reader of their own.
    readers = {"data.datasets.cifar10", "eject.numpy_parts.reading"}
    assert uses == {*((module, "Unpickler") for module in readers), ("models.weights", "UnpicklingError")}
    importers = {
        module
        for module, path in modules().items()
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Import) and any(alias.name == "pickle" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "pickle")
    }
    assert importers == {*readers, "models.weights"}


def test_numpy_reads_no_pickles() -> None:
    allowed = [
        f"{path}:{node.value.lineno}"
        for path in python_files("src")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
    ]
    assert not allowed


def test_source_text_is_executed_for_the_users_own_file_alone() -> None:
    assert {module for name in ("eval", "exec") for module, _ in calls(name)} <= {"userfile"}
