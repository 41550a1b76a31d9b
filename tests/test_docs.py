"""The pages in docs/ are true: their examples run, their links lead somewhere, their tables are complete.

The README has a test of its own in ``make readme``; how blocks are found and run is shared with it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel
from warm import programs

from flambeau import catalog
from flambeau.cli.main import app
from flambeau.models.published import TORCHVISION
from flambeau.recipe import Recipe

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FIRST = re.compile(r"^<!-- readme: first (?P<command>.+?) -->$", re.MULTILINE)
CLASSES = {"bag": 8, "boot": 9, "dress": 3, "trousers": 1}
"""The classes of ``photos/``, and what Fashion-MNIST numbers them."""

ON_PAGE = {"tasks": "lists", "datasets": "lists", "models": "lists", "recipes": "lists"}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def script() -> ModuleType:
    """scripts/readme.py, which finds and runs blocks."""
    definition = importlib.util.spec_from_file_location("readme", ROOT / "scripts" / "readme.py")
    assert definition is not None
    assert definition.loader is not None
    module = importlib.util.module_from_spec(definition)
    sys.modules["readme"] = module
    definition.loader.exec_module(module)
    return module


README = script()


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prepare(text: str, folder: Path, kept: Path) -> None:
    """Makes the folder that a page's examples run in.

    It has ``photos/``, ``somewhere/IMG_0001.jpg``, and what the command makes that the page names in a comment,
    ``<!-- readme: first COMMAND -->``; each such folder is made once under ``kept`` and copied.
    """
    found = FIRST.search(text)
    command = found["command"] if found else ""
    model = kept / hashlib.sha256(command.encode()).hexdigest()[:8]
    if not model.exists():
        make_pictures(model)
        assert not command or README.run(README.Block("sh", command, "", 0), model, programs())
    shutil.copytree(model, folder, symlinks=True)


def make_pictures(folder: Path) -> None:
    """Writes ``photos/``, 40 pictures of different sizes for each class, and ``somewhere/IMG_0001.jpg``, a boot."""
    from PIL import Image

    import flambeau

    splits = flambeau.datasets.load("fashion-mnist-mini").splits
    for name, number in CLASSES.items():
        rows = (splits["train"].tensor("label") == number).nonzero().flatten()[:40].tolist()
        for count, row in enumerate(rows, 1):
            # Dark on white, as photographs of goods are.
            picture = Image.fromarray(255 - splits["train"].tensor("image")[row, 0].numpy())
            path = folder / "photos" / name / f"{count:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.resize((60 + 3 * (count % 10), 64 + 2 * (count % 7)), Image.Resampling.BICUBIC).save(path)
    boot = Image.fromarray(255 - splits["test"].tensor("image")[0, 0].numpy())
    (folder / "somewhere").mkdir()
    boot.resize((90, 72), Image.Resampling.BICUBIC).save(folder / "somewhere" / "IMG_0001.jpg")


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


def runnable(page: Path) -> bool:
    return any(README.script_of(block).strip() for block in README.blocks_of(page.read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [pytest.param(page, id=name_of(page)) for page in [ROOT / "README.md", *PAGES] if runnable(page)]
)
def test_examples_run(page: Path, tmp_path: Path, kept: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folder = tmp_path / "page"
    prepare(text, folder, kept)
    failed = [block.line for block in README.blocks_of(text) if not README.run(block, folder, programs())]
    assert not failed, f"{name_of(page)}: the blocks in lines {failed} failed"


def test_every_command_has_a_page_and_every_page_a_command() -> None:
    assert {ON_PAGE.get(name, name) for name in COMMANDS} == {page.stem for page in (DOCS / "commands").glob("*.md")}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_tables_of_options_are_those_of_the_help(command: str) -> None:
    text = (DOCS / "commands" / f"{ON_PAGE.get(command, command)}.md").read_text(encoding="utf-8")
    rows = [line.replace(r"\|", "/").split("|")[1] for line in text.splitlines() if line.startswith("| `-")]
    told = {option for row in rows for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row)}
    real = {option for parameter in COMMANDS[command].params for option in parameter.opts if option.startswith("-")}
    assert told == real | {"-h", "--help"}
    assert f"flambeau {command}" in text


def documented() -> dict[str, str]:
    """The keys of the recipe that docs/recipes.md tables, with their defaults as written there."""
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| .+? \| (not set|`[^`]+`) \| .+ \|$",
        (DOCS / "recipes.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return {key: default.strip("`") for key, default in rows}


def fields(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every key of a recipe with its default."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= fields(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = field.default
    return found


def test_every_key_of_the_recipe_is_documented_with_its_default() -> None:
    told = {key: None if text == "not set" else tomllib.loads(f"v = {text}")["v"] for key, text in documented().items()}
    real = {key: list(value) if isinstance(value, tuple) else value for key, value in fields(Recipe).items()}
    assert told == real


def of_tasks() -> str:
    """The pages of the tasks, one after the other."""
    return "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "tasks").glob("*.md")))


def test_every_name_of_the_catalog_is_documented() -> None:
    for page, names in {
        "recipes.md": catalog.recipe_names(),
        "models.md": catalog.MODELS["pictures"],
        "data.md": catalog.DATASETS,
        "commands/export.md": catalog.FORMATS,
        "README.md": catalog.TASKS,
    }.items():
        text = (DOCS / page).read_text(encoding="utf-8") + (of_tasks() if page == "data.md" else "")
        assert not [name for name in names if not re.search(rf"(`|^## ){re.escape(name)}\b", text, re.MULTILINE)], page


@pytest.mark.parametrize("family", catalog.MODELS)
def test_the_arguments_of_the_networks_are_documented(family: str) -> None:
    pictures = family == "pictures"
    text = (DOCS / "models.md").read_text(encoding="utf-8") if pictures else pages_of(family)
    marks = "##" if pictures else "###"
    for name in catalog.MODELS[family]:
        heading = "torchvision's networks" if name in TORCHVISION else name
        section = re.search(rf"^{marks} {heading}\b(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, name
        arguments = [key for key in catalog.arguments(catalog.find(f"models.{family}", name)) if key != "layers"]
        assert [key for key in arguments if f"| `{key}` |" not in section[1]] == [], name


def pages_of(family: str) -> str:
    """The pages of the tasks that train a family of networks."""
    tasks = catalog.families()[family]
    return "\n".join((DOCS / "tasks" / f"{task}.md").read_text(encoding="utf-8") for task in tasks)


def test_the_public_names_are_documented() -> None:
    import flambeau

    text = (DOCS / "python.md").read_text(encoding="utf-8")
    assert [name for name in flambeau.__all__ if f"`flambeau.{name}" not in text] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for target in (match["target"] for match in LINK.finditer(text)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        known = anchors(found) if anchor and found.suffix == ".md" and found.is_file() else {anchor}
        if not found.exists() or anchor not in known:
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "README.zh-CN.md"], ids=name_of)
def test_tables_are_whole(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        head, rule, *rows = table.splitlines()
        assert re.fullmatch(r"\|(-+\|)+", rule), head
        assert rows, head
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in [head, *rows]} == {rule.count("|")}, head


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, waiting = set(), [DOCS / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = (match["target"].partition("#")[0] for match in LINK.finditer(page.read_text(encoding="utf-8")))
        waiting += [(page.parent / target).resolve() for target in targets if target and "://" not in target]
    assert set(PAGES) <= reached
