"""A run as a script: it runs where Flambeau cannot be imported, and gives the run's losses and weights bit for bit."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import Command
from torch import nn

import flambeau
from flambeau.eject.copying import Copier
from flambeau.eject.network import GENERATOR, held, recorded
from flambeau.eject.published import Published, definition, noting_builders
from flambeau.errors import RunError
from flambeau.models import torchvision_networks
from flambeau.run import Run

QUICK = ("log.every=1", "log.tensorboard=false", "train.threads=1")

RUNNER = """
import os, runpy, sys
sys.modules["flambeau"] = None  # whoever imports it now gets an ImportError
for path in sys.argv[1:]:
    runpy.run_path(path, run_name="__main__")
"""


@dataclass(frozen=True)
class Case:
    """A run to be ejected: what it trains on, by which recipe, with which settings."""

    source: str
    recipe: str | None
    settings: tuple[str, ...]


FAST = {
    "walk": Case("digits", "tutorial/mnist", ("train.epochs=1", "train.batch_size=500")),
    "rich": Case(
        "digits",
        None,
        (
            "model.name=mlp",
            "model.widths=[16]",
            "model.dropout=0.1",
            "augment.preset=strong",
            "schedule.name=step",
            "schedule.every=0.5",
            "schedule.warmup=0.2",
            "train.batch_size=256",
            "train.epochs=3",
            "train.accumulate=3",
            "train.clip=0.5",
            "train.ema=0.9",
            "train.patience=2",
            "initial.name=kaiming-normal",
            "optimizer.name=muon",
            "loss.class_weights=balanced",
        ),
    ),
}


def made(case: Case, folder: Path) -> Run:
    """The run of a case, and its script beside it."""
    settings = (*QUICK, *case.settings)
    run = flambeau.train(case.source, recipe=case.recipe, settings=settings, out=folder / "run", quiet=True)
    flambeau.eject_run(run, folder / "train.py")
    return run


def execute(scripts: Iterable[Path]) -> str:
    """Runs scripts in a process that cannot import Flambeau; what they print."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *map(str, scripts)],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def require_equal(run: Run, folder: Path) -> None:
    """Compares what a script left in a folder with the run."""
    losses = [float(line) for line in (folder / "train-losses.txt").read_text(encoding="utf-8").split()]
    assert losses == [line["loss"] for line in run.metrics() if "loss" in line]
    weights = torch.load(folder / "train-selected.pt", weights_only=True)
    kept = safetensors.torch.load_file(run.path / "model.safetensors")
    assert kept.keys() <= weights.keys()
    assert [name for name in kept if name != "temperature" and not torch.equal(kept[name], weights[name])] == []


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("ejected")
    runs = {name: made(case, folder / name) for name, case in FAST.items()}
    execute(folder / name / "train.py" for name in FAST)
    return runs


@pytest.mark.parametrize("name", FAST)
def test_a_script_gives_the_losses_and_weights_of_its_run(fast: dict[str, Run], name: str) -> None:
    require_equal(fast[name], fast[name].path.parent)


@pytest.mark.parametrize("name", FAST)
def test_a_script_is_plain_and_short(fast: dict[str, Run], name: str) -> None:
    text = (fast[name].path.parent / "train.py").read_text(encoding="utf-8")
    modules = {
        getattr(node, "module", None) or node.names[0].name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names) <= {"numpy", "torch"}
    assert max(map(len, text.splitlines())) <= 120
    assert "REF" not in text and lines_of(fast[name].path.parent / "train.py") <= {"walk": 125, "rich": 480}[name]


def test_what_a_recipe_does_not_use_is_not_in_its_script(fast: dict[str, Run]) -> None:
    walk = (fast["walk"].path.parent / "train.py").read_text(encoding="utf-8")
    assert not any(word in walk for word in ("mixup", "cosine", "accumulate", "average", "clip", "augment"))
    rich = (fast["rich"].path.parent / "train.py").read_text(encoding="utf-8")
    assert all(
        word in rich for word in ("MIXUP = 0.2", "def after_warmup", "class Muon", "kaiming_normal_", "CLIP = 0.5")
    )
    assert "xavier" not in rich


def lines_of(script: Path) -> int:
    """How many lines of a script are not empty."""
    return sum(bool(line.strip()) for line in script.read_text(encoding="utf-8").splitlines())


RECIPES = ("fashion-mnist-mini", "fashion-mnist", "cifar10", "mnist", "pictures", "tutorial/cifar10",
           "tutorial/fashion-mnist", "tutorial/fashion-mnist-relu", "tutorial/mnist")  # fmt: skip


@pytest.mark.slow
def test_every_recipe_of_pictures_is_reproduced(tmp_path: Path) -> None:
    settings = ("train.epochs=1", "train.batch_size=300", "images.size=16")
    runs = {name: made(Case("digits", name, settings), tmp_path / name) for name in RECIPES}
    execute(tmp_path / name / "train.py" for name in RECIPES)
    for name, run in runs.items():
        require_equal(run, tmp_path / name)
        assert lines_of(tmp_path / name / "train.py") <= (130 if name.startswith("tutorial/") else 200)


@pytest.mark.slow
def test_what_nobody_has_written_down_is_copied_too(tmp_path: Path) -> None:
    """A network from the user's own file: its class, its helpers and its constants come along."""
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\nSLOPE = 0.3\n\n\n"
        "def bend(x):\n    return torch.where(x > 0, x, SLOPE * x)\n\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes, width=8, deep=False):\n        super().__init__()\n"
        "        self.inner = nn.Linear(64, width)\n        self.more = nn.Linear(width, width) if deep else None\n"
        "        self.outer = nn.Linear(width, classes)\n\n"
        "    def forward(self, x):\n        x = bend(self.inner(x.flatten(1)))\n"
        "        if self.more is not None:\n            x = bend(self.more(x))\n        return self.outer(x)\n",
        encoding="utf-8",
    )
    settings = (*QUICK, "train.epochs=1", "train.batch_size=500")
    model = f"{tmp_path / 'net.py'}:Net"
    run = flambeau.train("digits", model=model, settings=settings, out=tmp_path / "run", quiet=True)
    flambeau.eject_run(run, tmp_path / "train.py")
    text = (tmp_path / "train.py").read_text(encoding="utf-8")
    assert "def bend(x)" in text and "SLOPE = 0.3" in text and "self.more" not in text
    execute([tmp_path / "train.py"])
    require_equal(run, tmp_path)


def test_numbers_that_a_builder_draws_afterwards_lie_beside_the_script(tmp_path: Path) -> None:
    class Later(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

    def build() -> nn.Module:
        made = Later()
        nn.init.normal_(made.weight)
        return made

    torch.manual_seed(0)
    copier = Copier()
    making = recorded(copier, build)
    assert making.model is not None and making.changed == {"weight"} and making.drawn
    assert set(held(copier, making, making.model, torch.get_rng_state())) == {"weight", GENERATOR}


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        ({"mode": "sum"}, "def f(x, scale):\n    return (x * scale).sum()"),
        (
            {"mode": "mean"},
            "def f(x, scale):\n    # So that rows count alike.\n    return (x * scale).mean()",
        ),
    ],
)
def test_branches_that_are_not_taken_are_left_out(known: dict[str, str], wanted: str) -> None:
    copier = Copier()
    item = copier.specialised(reduced, known, name="f")
    assert item.text.replace(item.place, "f").strip() == wanted


def reduced(x: torch.Tensor, scale: float, mode: str) -> torch.Tensor:
    if mode == "sum":
        return (x * scale).sum()
    # So that rows count alike.
    return (x * scale).mean()


def test_the_command_writes_a_script_and_says_how_to_run_it(trained: Path, call: Command) -> None:
    told = call("eject", trained, "--out", "walk.py")
    assert told.code == 0 and "walk.py" in told.out and "python" in told.out
    found = call("eject", trained, "--json").json
    assert found["lines"] > 100 and Path(found["out"]).name == "train.py" and len(found["files"]) == 2


BUILDERS = {
    "shufflenet_v2_x0_5": ("torchvision.models.shufflenet_v2_x0_5(num_classes=10)", "set_submodule('conv1.0'"),
    "mobilenet_v3_small": ("torchvision.models.mobilenet_v3_small(num_classes=10)", "'features.0.0', nn.Conv2d(1,"),
    "timm:test_resnet": ('timm.create_model("test_resnet", num_classes=10, in_chans=1, drop_rate=0.0)',),
}


@pytest.mark.slow
def test_a_published_network_comes_from_its_builder(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    runs = {}
    for number, (name, words) in enumerate(BUILDERS.items()):
        size = "images.size=32" if name.startswith("timm:") else "images.size=8"
        case = Case("digits", None, (f"model.name={name}", "train.epochs=1", "train.batch_size=700", size))
        folder = tmp_path / str(number)
        runs[folder] = made(case, folder)
        text = (folder / "train.py").read_text(encoding="utf-8")
        assert all(word in text for word in words)
    execute(folder / "train.py" for folder in runs)
    for folder, run in runs.items():
        require_equal(run, folder)


@pytest.mark.slow
def test_the_builder_of_a_large_network_is_called_as_the_run_called_it() -> None:
    import torchvision

    found: dict[int, Published] = {}
    facts = {"classes": ["a", "b", "c"], "size": [8, 8], "channels": 1}
    with noting_builders(found):
        network = torchvision_networks.Network("vit_b_16")(facts)
    names = {"torchvision": torchvision, "nn": nn}
    exec(definition(found[id(network)], "again"), names)
    again = names["again"]()
    again.load_state_dict(network.state_dict())
    pictures = torch.rand(2, 1, 8, 8)
    assert torch.equal(again.eval()(pictures), network.eval()(pictures))


FROZEN = {
    "all but the last layer": ("model.freeze=true",),
    "a part": ('model.freeze=["stem"]', "augment.preset=light", "optimizer.name=muon"),
}


@pytest.mark.slow
def test_frozen_layers_stand_still_in_the_script_too(tmp_path: Path) -> None:
    settings = (*QUICK, "train.epochs=2", "train.batch_size=300")
    narrow = (*settings, "model.width=4", "train.epochs=1")
    first = flambeau.train("digits", model="compact", settings=narrow, out=tmp_path / "first", quiet=True)
    runs = {}
    for name, more in FROZEN.items():
        folder = tmp_path / name
        runs[name] = flambeau.train(
            "digits", init=first.path, settings=(*settings, *more), out=folder / "run", quiet=True
        )
        flambeau.eject_run(runs[name], folder / "train.py")
    condensed, partly = [(tmp_path / name / "train.py").read_text(encoding="utf-8") for name in FROZEN]
    assert "computed once" in condensed and "augment" not in condensed and ".features(" in condensed
    assert "computed once" not in partly and ".features(" not in partly
    execute(tmp_path / name / "train.py" for name in FROZEN)
    for name, run in runs.items():
        require_equal(run, tmp_path / name)


def test_a_run_that_no_script_can_say_is_refused(tmp_path: Path) -> None:
    class Net(nn.Sequential):
        def __init__(self, classes: int) -> None:
            super().__init__(nn.Flatten(), nn.Linear(64, classes))

    settings = (*QUICK, "train.epochs=1", "train.batch_size=700")
    run = flambeau.train("digits", model=Net, settings=settings, out=tmp_path / "run", quiet=True)
    with pytest.raises(RunError, match="objects that no file holds"):
        flambeau.eject_run(run, tmp_path / "train.py")
    assert not (tmp_path / "train.py").exists()


def test_misuse_is_answered_with_what_to_do(trained: Path, call: Command) -> None:
    told = call("eject", trained, "--out", "walk.txt")
    assert told.code == 2 and ".py" in told.err
    told = call("eject", "nowhere")
    assert told.code == 2 and "no such run" in told.err
