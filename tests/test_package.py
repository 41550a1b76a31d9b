"""What an installed Flambeau is: its version and names, what importing it costs, and the files that it brings."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import zipfile
from importlib import import_module, metadata, resources
from pathlib import Path

import pytest

import flambeau

REPOSITORY = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "numpy", "pydantic", "matplotlib", "PIL", "sklearn", "rich")

PACKAGE_FILES = [
    "py.typed",
    "recipes/fashion-mnist-mini.toml",
    "recipes/tutorial/fashion-mnist.toml",
    "recipes/tutorial/cifar10.toml",
    "report/page.html.j2",
    "report/page.css",
    "serve/static/index.html",
    "serve/static/page.css",
    "serve/static/page.js",
    "serve/static/answers.js",
    "serve/static/card.js",
    "serve/static/icon.svg",
    "container/templates/Dockerfile.j2",
    "data/datasets/files/digits/NOTICE",
    "data/datasets/files/digits/images-idx3-ubyte.gz",
    "data/datasets/files/digits/labels-idx1-ubyte.gz",
    "data/datasets/files/fashion-mnist-mini/NOTICE",
    "data/datasets/files/fashion-mnist-mini/train-images-idx3-ubyte.gz",
    "data/datasets/files/fashion-mnist-mini/train-labels-idx1-ubyte.gz",
    "data/datasets/files/fashion-mnist-mini/t10k-images-idx3-ubyte.gz",
    "data/datasets/files/fashion-mnist-mini/t10k-labels-idx1-ubyte.gz",
]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_version_is_the_distributions() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(a|b|rc|dev)\d+)?", flambeau.__version__)
    assert metadata.version("flambeau") == flambeau.__version__


def test_changelog_knows_the_version() -> None:
    assert f"[{flambeau.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_public_names_are_sorted_and_complete() -> None:
    assert flambeau.__all__ == sorted(flambeau.__all__)
    assert set(flambeau.__all__) <= set(dir(flambeau))


@pytest.mark.parametrize("name", flambeau.__all__)
def test_public_name_resolves_and_is_documented(name: str) -> None:
    found = getattr(flambeau, name)
    assert found.__doc__, f"flambeau.{name} has no docstring."


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="flambeau"):
        getattr(flambeau, "trian")  # noqa: B009 - the type checker would object to the attribute


@pytest.mark.parametrize(
    "action",
    ["import flambeau", "import flambeau.errors", "from flambeau.cli.main import main; main(['--help'])"],
    ids=["package", "errors", "help"],
)
def test_importing_costs_nothing_heavy(action: str) -> None:
    code = f"""
import sys
try:
    {action}
except SystemExit as done:
    assert not done.code
print('loaded:', *sorted(set(sys.modules) & set({HEAVY!r})))
"""
    assert run_python(code).splitlines()[-1].strip() == "loaded:"


def test_installed_command_answers() -> None:
    command = Path(sysconfig.get_path("scripts")) / "flambeau"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    for name in ("train", "resume", "evaluate", "predict", "inspect", "export", "import"):
        assert re.search(rf"^\s+{name}\s", done.stdout, re.MULTILINE), f"--help does not list {name}."
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert flambeau.__version__ in version.stdout


def test_every_module_can_be_imported() -> None:
    package = REPOSITORY / "src" / "flambeau"
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        import_module(".".join(part for part in parts if part != "__init__"))


@pytest.mark.parametrize("name", PACKAGE_FILES)
def test_package_data_is_there(name: str) -> None:
    assert resources.files("flambeau").joinpath(name).is_file()


def test_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("flambeau-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name.removeprefix("flambeau/") for name in archive.namelist() if name.startswith("flambeau/")}
        info = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
    package = REPOSITORY / "src" / "flambeau"
    expected = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert set(PACKAGE_FILES) <= held
    assert held == expected
    assert {"LICENSE", "NOTICE", "entry_points.txt"} <= info
    assert wheel.stat().st_size < 6_000_000


def test_constraints_are_exact_versions_without_addresses() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    names = [pin.split("==")[0].lower() for pin in pins]
    assert len(set(names)) == len(names)


def test_constraints_cover_every_requirement() -> None:
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    pinned = {normal(line.split("==")[0]) for line in text.splitlines() if "==" in line}
    required = {normal(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in metadata.requires("flambeau") or []}
    assert required - {"flambeau"} <= pinned


def normal(name: str) -> str:
    """A distribution's name as the packaging standard compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.slow
def test_demonstration_trains_well_and_predicts_the_boot(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "demo.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    accuracy = re.search(r"accuracy\s+([\d.]+)%", done.stdout)
    assert accuracy, done.stdout
    assert float(accuracy[1]) >= 89
    assert "the first test picture: Ankle boot" in done.stdout
    report = re.search(r"report\s+(\S+)", done.stdout)
    assert report, done.stdout
    assert (tmp_path / report[1]).is_file()
