"""The examples of docs/commands/export.md run where Flambeau is not installed.

Tests need no network, so nothing is installed: a new virtual environment gets a folder of links to the packages that
an example needs, and to those that these need, out of the environment that the tests run in. Flambeau is not among
them, and for ONNX and OpenVINO neither is PyTorch.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flambeau
from flambeau.engine.compiling import require_compiler
from flambeau.errors import FlambeauError

PAGE = Path(__file__).parents[1] / "docs" / "commands" / "export.md"
CALLS = {
    "onnxruntime": "onnx",
    "torch.export.load": "pt2",
    "aoti_load_package": "aoti",
    "torch.jit.load": "torchscript",
    "openvino": "openvino",
}
"""What tells the examples apart, and the format that each is for."""

FILES = {
    "onnx": "model.onnx",
    "pt2": "model.pt2",
    "aoti": "compiled.pt2",
    "torchscript": "model.pt",
    "openvino": "model.xml",
}

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""What runs a file of these formats; the others are run by PyTorch."""


def examples() -> dict[str, str]:
    """The Python examples that use an exported file without Flambeau, by format."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    plain = [block for block in blocks if "flambeau\n" not in block.split("\n\n")[0]]
    return {form: block for call, form in CALLS.items() for block in plain if call in block}


def needed(names: list[str]) -> dict[str, metadata.Distribution]:
    """The installed packages of these names and all that they need."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another system, or optional
            continue
        requirements = [text for text in found[name].requires or [] if "extra ==" not in text]
        waiting += [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in requirements]
    return found


def bare(folder: Path, names: list[str]) -> Path:
    """The Python of a new virtual environment that has these packages and what they need."""
    packages = folder / "packages"
    packages.mkdir(parents=True)
    for package in needed(names).values():
        for top in {path.parts[0] for path in package.files or [] if not path.parts[0].startswith(".")}:
            source, link = Path(str(package.locate_file(top))), packages / top
            if source.exists() and not link.exists():
                link.symlink_to(source)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    [site] = (folder / "venv").glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    return folder / "venv" / "bin" / "python"


def test_there_is_a_short_example_for_each_format() -> None:
    found = examples()
    assert set(found) == set(FILES)
    for form, block in found.items():
        lines = [line for line in block.splitlines() if line.strip()]
        assert len(lines) <= 10, form
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(block))
            for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [])
            + ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        }
        assert imported <= {"json", "numpy", "PIL", RUNTIMES.get(form, "torch")}
        assert FILES[form] in block


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the environment is made of symbolic links")
@pytest.mark.parametrize("form", FILES)
def test_examples_run_in_a_bare_environment(form: str, trained: Path, tmp_path: Path) -> None:
    if form == "aoti":
        import torch

        try:
            require_compiler(torch.device("cpu"))
        except FlambeauError as error:
            pytest.skip(error.problem)
    if form == "openvino":
        pytest.importorskip("openvino")
    python = bare(tmp_path / "bare", ["numpy", "pillow", RUNTIMES.get(form, "torch")])
    here = tmp_path / "here"
    (here / "somewhere").mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 256, (15, 21), dtype=np.uint8)
    Image.fromarray(values).save(here / "somewhere" / "IMG_0001.jpg")
    flambeau.export_model(trained, here / FILES[form], form)
    absent = ["flambeau", *(["torch"] if form in RUNTIMES else [])]
    check = f"import importlib.util as u; assert not any(map(u.find_spec, {absent})), 'this is no bare environment'\n"
    done = subprocess.run(
        [python, "-I", "-W", "ignore", "-c", check + examples()[form]],
        capture_output=True, encoding="utf-8", cwd=here, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wanted = flambeau.load(trained).predict(here / "somewhere" / "IMG_0001.jpg")
    name, probability = done.stdout.split()
    assert name == wanted["class"]
    assert float(probability) == pytest.approx(wanted["probability"], abs=1e-5)


@pytest.mark.slow
def test_compiling_for_the_processor_says_nothing_of_graphics_cards(tmp_path: Path) -> None:
    code = "import torch; from flambeau.engine.compiling import require_compiler; require_compiler(torch.device('cpu'))"
    # CUDA's compiler is there, and no card: PyTorch would say so.
    environment = {**os.environ, "CUDA_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment, timeout=300
    )
    if done.returncode:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.stderr == ""
