"""`eject --numpy`: the script takes the run's steps without torch, to 1e-8 in float64; its gradients are right."""

from __future__ import annotations

import ast
import gzip
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import flambeau
from flambeau.core import Record, State
from flambeau.data.datasets import idx
from flambeau.eject.numpy_parts import activations, layers, losses, reading
from flambeau.eject.numpy_parts.tensor import Tensor
from flambeau.eject.plain_numpy import eject_numpy
from flambeau.engine.loop import train as train_loop
from flambeau.errors import UsageError
from flambeau.run import Run
from flambeau.workflow.job import assemble
from flambeau.workflow.segments import first
from flambeau.workflow.telling import Teller
from flambeau.workflow.training import plan_of

STEPS = 200

ALONE = (
    "import runpy, sys\n"
    "sys.modules['flambeau'] = sys.modules['torch'] = sys.modules['PIL'] = None\n"
    "sys.argv = sys.argv[1:]\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n"
)
"""Runs a script in a process that can import neither Flambeau nor PyTorch."""


class Enough(Exception):
    """Ends a training after its first step: a run can be ejected as soon as it has begun."""


def begun(path: Path, source: Any, *settings: str, **arguments: Any) -> Run:
    """A run that has made one step."""

    def stop(record: Record, state: State) -> None:
        if record.kind == "step":
            raise Enough

    with pytest.raises(Enough):
        flambeau.train(
            source, settings=["log.tensorboard=false", *settings], out=path, quiet=True, observers=[stop], **arguments
        )
    return Run(path)


def alone(script: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(script), *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Exact(nn.Module):
    """A run's network in float64, its pixels scaled in float64 too."""

    def __init__(self, network: nn.Module, facts: dict[str, Any]) -> None:
        super().__init__()
        self.network = network.double()
        self.scale = [torch.tensor(facts[name], dtype=torch.float64) for name in ("mean", "std") if facts[name]]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.double() / 255
        if self.scale:
            mean, std = (value.view(-1, 1, 1) for value in self.scale)
            x = (x - mean) / std
        scores: torch.Tensor = self.network(x)
        return scores


def by_pytorch(run: Run, steps: int) -> list[float]:
    """The losses of a run's first steps, by the engine in float64."""
    job = assemble(run.recipe, None, None, Teller(None, run.recipe), device="cpu")
    state = job.state_of(Exact(job.fresh_model().network, job.facts))  # type: ignore[arg-type]
    plan = replace(plan_of(job, [first(job.recipe)]), validate=None)
    found = []
    for record in train_loop(state, plan):
        if record.kind == "step":
            assert isinstance(record.loss, float)
            found.append(record.loss)
        if len(found) == steps:
            break
    return found


def compare(run: Run, folder: Path) -> str:
    """Ejects a run, lets the script take 200 steps by itself, and holds its losses against PyTorch's."""
    result = eject_numpy(run, folder / "train.py")
    assert result["out"] == str(folder / "train.py")
    assert [Path(name).exists() for name in result["files"]] == [True] * len(result["files"])
    alone(folder / "train.py", "--steps", STEPS, "--losses", folder / "losses.txt")
    written = [float(line) for line in (folder / "losses.txt").read_text().split()]
    expected = by_pytorch(run, STEPS)
    assert len(written) == len(expected) == STEPS
    assert max(abs(ours - theirs) for ours, theirs in zip(written, expected, strict=True)) <= 1e-8
    assert expected[-1] != expected[0]
    text = (folder / "train.py").read_text(encoding="utf-8")
    assert result["lines"] == len(text.splitlines())
    assert_tidy(folder / "train.py")
    return text


def assert_tidy(script: Path) -> None:
    """Nothing is undefined, imported in vain or too long, and every function is called by some other."""
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=120", "--select=E,F,I,W", str(script)],
        capture_output=True,
        encoding="utf-8",
    )
    assert checked.returncode == 0, checked.stdout
    text = script.read_text(encoding="utf-8")
    assert "only:" not in text
    tree = ast.parse(text)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)} <= used


DIGITS = ("model.widths=[24]", "train.batch_size=16", "train.epochs=3")

RUNS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    # The recipe of digits adds smoothing, AdamW with decay, one cycle.
    "lenet, mirror and shift": (
        "digits",
        ("images.size=14", "augment={mirror=true, shift=1}", "train.batch_size=8"),
        {"model": "lenet"},
    ),
    "log-softmax and nll": ("fashion-mnist-mini", (), {"recipe": "tutorial/mnist"}),
    "convolutions, momentum, batches of 4": (
        "digits",
        ("images.size=[20, 17]", "data.validation=auto"),
        {"recipe": "tutorial/cifar10"},
    ),
    "batch norm, clipping, nesterov, decay, warm cosine": (
        "digits",
        (
            *DIGITS,
            "model.norm=batch",
            "model.activation=gelu",
            "train.clip=0.5",
            "schedule={name='cosine', warmup=1.0}",
            "optimizer={name='sgd', lr=0.05, momentum=0.9, nesterov=true, weight_decay=0.01}",
        ),
        {"model": "mlp"},
    ),
    "layer norm, adam with decay, steps, a batch of one left out": (
        "digits",
        (
            *DIGITS,
            "data.test=0.25",
            "data.validation=none",
            "train.batch_size=3",
            "model.norm=layer",
            "model.activation=mish",
            "schedule={name='step', every=0.2, factor=0.5, warmup=0.1}",
            "optimizer={name='adam', lr=0.002, weight_decay=0.01}",
        ),
        {"model": "mlp"},
    ),
}

OFTEN = ("lenet, mirror and shift", "log-softmax and nll")
"""Those among the fast tests."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in RUNS])
def test_losses_are_those_of_pytorch_in_float64(name: str, tmp_path: Path) -> None:
    source, settings, arguments = RUNS[name]
    text = compare(begun(tmp_path / "run", source, *settings, **arguments), tmp_path)
    assert ("def conv2d" in text) == ("lenet" in name or "convolutions" in name)
    assert ("def mirrored" in text) == ("mirror" in name)
    assert ("def cosine" in text) == ("lenet" in name or "cosine" in name)
    assert ("order[:-1]" in text) == ("left out" in name)


@pytest.mark.slow
def test_lenet_on_pictures_of_28_pixels(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", "fashion-mnist-mini", "augment.mirror=false", "augment.shift=0", model="lenet")
    assert len(compare(run, tmp_path).splitlines()) <= 380


@pytest.mark.slow
def test_the_walk_of_fashion_mnist_at_its_full_width(tmp_path: Path) -> None:
    text = compare(begun(tmp_path / "run", "fashion-mnist-mini", recipe="tutorial/fashion-mnist", epochs=3), tmp_path)
    assert "shuffled" not in text
    assert "MEAN" not in text
    assert len(text.splitlines()) <= 270


@pytest.mark.slow
@pytest.mark.skipif("FLAMBEAU_DATA" not in os.environ, reason="FLAMBEAU_DATA names no folder with the real data sets")
def test_published_files_are_read_as_they_are(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", "mnist", "train.batch_size=4", "data.validation=0.01", recipe="mnist", model="lenet")
    text = compare(run, tmp_path)
    assert "from_idx(folder)" in text
    with np.load(tmp_path / "train-data.npz") as data:
        assert set(data) == {"rows"}
        assert len(data["rows"]) == run.info["data"]["examples"]["train"] < 60_000


def test_the_accuracy_is_that_of_the_run(trained: Path, tmp_path: Path) -> None:
    run = Run(trained)
    eject_numpy(run, tmp_path / "train.py")
    *steps, last = alone(tmp_path / "train.py").splitlines()
    # After two epochs of learning, the last weights are the best ones too.
    assert len(steps) == run.info["selected"]["step"] // 10
    told = float(last.removeprefix("test accuracy ").partition("%")[0]) / 100
    # Single precision may turn a picture or two of the 359 over.
    assert told == pytest.approx(run.scores["test/accuracy"], abs=0.006)
    assert last.endswith(f"of {run.info['data']['examples']['test']} pictures")


def test_dropout_is_drawn_otherwise_and_said_so(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", "digits", *DIGITS, "model.dropout=0.5", model="mlp")
    eject_numpy(run, tmp_path / "train.py")
    assert_tidy(tmp_path / "train.py")
    assert "are like the run's, and not the same" in (tmp_path / "train.py").read_text(encoding="utf-8")
    alone(tmp_path / "train.py", "--losses", tmp_path / "losses.txt")
    written = np.loadtxt(tmp_path / "losses.txt")
    assert written[-20:].mean() < 0.8 * written[:20].mean()


def test_what_it_cannot_follow_is_refused_all_at_once(tmp_path: Path) -> None:
    settings = ("optimizer.name=muon", "augment.mixup=0.2", "augment.rotate=5", "train.ema=0.99", "train.patience=3")
    run = begun(tmp_path / "run", "digits", *settings, "loss={name='kl', label_smoothing=0}")
    with pytest.raises(UsageError) as caught:
        eject_numpy(run, tmp_path / "train.py")
    told = str(caught.value)
    for part in ("'compact'", "'muon'", "rotate, mixup", "train.ema", "train.patience", "'kl'", "without --numpy"):
        assert part in told, part
    assert not (tmp_path / "train.py").exists()


def test_frozen_parts_are_refused(trained: Path, tmp_path: Path) -> None:
    run = begun(tmp_path / "run", "digits", "model.freeze=true", init=trained)
    with pytest.raises(UsageError, match=r"model\.freeze is set"):
        eject_numpy(run, tmp_path / "train.py")


def test_data_given_in_python_is_refused(tmp_path: Path) -> None:
    pictures = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
    data = (pictures, torch.arange(60) % 3)
    run = begun(tmp_path / "run", data, *DIGITS[:1], model="mlp")
    with pytest.raises(UsageError, match="no file holds it"):
        eject_numpy(run, tmp_path / "train.py")


def test_a_task_of_other_targets_is_refused(tmp_path: Path, pictures: Path) -> None:
    rows = "".join(f"bright/{number:02}.png,{number}\n" for number in range(0, 24, 2))
    (pictures / "numbers.csv").write_text(f"image,weight\n{rows}", encoding="utf-8")
    settings = ("data.columns={label='weight'}", "images.size=12", "model.widths=[4]", "loss.name=auto")
    run = begun(tmp_path / "run", str(pictures / "numbers.csv"), *settings, task="image-regression", model="mlp")
    with pytest.raises(UsageError, match="one class for each picture"):
        eject_numpy(run, tmp_path / "train.py")


def test_pictures_of_a_folder_are_written_beside_it(tmp_path: Path, pictures: Path) -> None:
    run = begun(tmp_path / "run", str(pictures), "images.size=12", "augment.mirror=false", model="mlp")
    result = eject_numpy(run, tmp_path / "out" / "mlp.py")
    assert [Path(name).name for name in result["files"]] == ["mlp.py", "mlp-weights.npz", "mlp-data.npz"]
    assert "test accuracy" in alone(tmp_path / "out" / "mlp.py", "--steps", 3)


def test_no_name_gets_out_of_the_text(tmp_path: Path) -> None:
    name = 'a"""b\\n' if os.name == "posix" else "a"
    run = begun(tmp_path / name, "digits", *DIGITS, model="mlp")
    script = tmp_path / f"{name}.py"
    eject_numpy(run, script)
    assert name in (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "")
    assert "test accuracy" in alone(script, "--steps", 1)


# The parts, each by itself.

Ours, Theirs = Callable[..., Tensor], Callable[..., torch.Tensor]

ACTIVATIONS: dict[str, Theirs] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "mish": F.mish,
    "tanh": torch.tanh,
}

OPERATIONS: dict[str, tuple[Ours, Theirs, list[tuple[int, ...]]]] = {
    "add, stretched": (lambda a, b: a + b, lambda a, b: a + b, [(4, 3), (3,)]),
    "add, both stretched": (lambda a, b: a + b, lambda a, b: a + b, [(4, 1), (1, 3)]),
    "add a number": (lambda a, b: a + b, lambda a, b: a + b, [(4, 3), ()]),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b, [(2, 4, 3), (4, 1)]),
    "square, one operand twice": (lambda a: a * a, lambda a: a * a, [(4, 3)]),
    "a tensor used in two places": (lambda a: a * a + a * 3.0, lambda a: a * a + a * 3.0, [(4, 3)]),
    "matmul": (lambda a, b: a @ b, lambda a, b: a @ b, [(4, 3), (3, 5)]),
    "transposed": (lambda a, b: a @ b.transposed(), lambda a, b: a @ b.T, [(4, 3), (5, 3)]),
    "reshape": (lambda a: a.reshape(2, 6) * a.reshape(2, 6), lambda a: a.reshape(2, 6) ** 2, [(4, 3)]),
    "sum": (lambda a: (a * a).sum(), lambda a: (a * a).sum(), [(4, 3)]),
    "flatten": (layers.flatten, lambda a: a.flatten(1), [(3, 2, 4, 5)]),
    "linear": (layers.linear, F.linear, [(4, 3), (5, 3), (5,)]),
    "conv2d": (layers.conv2d, F.conv2d, [(2, 3, 7, 8), (4, 3, 3, 3), (4,)]),
    "conv2d, padded": (
        lambda x, w, b: layers.conv2d(x, w, b, padding=2),
        lambda x, w, b: F.conv2d(x, w, b, padding=2),
        [(2, 1, 6, 5), (4, 1, 5, 5), (4,)],
    ),
    "max_pool": (lambda x: layers.max_pool(x, 2), lambda x: F.max_pool2d(x, 2), [(2, 3, 6, 8)]),
    "max_pool, with rows left over": (lambda x: layers.max_pool(x, 2), lambda x: F.max_pool2d(x, 2), [(2, 3, 5, 7)]),
    "max_pool of 3": (lambda x: layers.max_pool(x, 3), lambda x: F.max_pool2d(x, 3), [(2, 3, 9, 11)]),
    "layer_norm": (layers.layer_norm, lambda x, w, b: F.layer_norm(x, (5,), w, b), [(4, 5), (5,), (5,)]),
    "log_softmax": (losses.log_softmax, lambda x: F.log_softmax(x, 1), [(4, 5)]),
    **{name: (getattr(activations, name), theirs, [(6, 7)]) for name, theirs in ACTIVATIONS.items()},
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients_are_those_of_pytorch(name: str) -> None:
    ours, theirs, shapes = OPERATIONS[name]
    random = np.random.default_rng(0)
    values = [3 * random.standard_normal(shape) for shape in shapes]
    mine = [Tensor(np.array(value), learns=True) for value in values]
    others = [torch.tensor(value, requires_grad=True) for value in values]
    out, expected = ours(*mine), theirs(*others)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    upstream = random.standard_normal(out.data.shape)
    (out * upstream).sum().backward()
    (expected * torch.tensor(upstream)).sum().backward()  # type: ignore[no-untyped-call]
    for tensor, other in zip(mine, others, strict=True):
        assert other.grad is not None
        np.testing.assert_allclose(tensor.grad, other.grad.numpy(), rtol=1e-10, atol=1e-10)


def test_batch_norm_normalises_and_tracks_as_pytorch_does() -> None:
    random = np.random.default_rng(0)
    x, weight, bias = random.standard_normal((8, 5)), random.standard_normal(5), random.standard_normal(5)
    running = np.zeros(5), np.ones(5)
    theirs = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    for training in (True, True, False):
        mine = [Tensor(value, learns=True) for value in (x, weight, bias)]
        others = [torch.tensor(value, requires_grad=True) for value in (x, weight, bias)]
        out = layers.batch_norm(*mine, running, training)
        expected = F.batch_norm(others[0], *theirs, others[1], others[2], training)
        np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
        (out * out).sum().backward()
        (expected * expected).sum().backward()  # type: ignore[no-untyped-call]
        for tensor, other in zip(mine, others, strict=True):
            assert other.grad is not None
            np.testing.assert_allclose(tensor.grad, other.grad.numpy(), rtol=1e-9, atol=1e-9)
        for tracked, wanted in zip(running, theirs, strict=True):
            np.testing.assert_allclose(tracked, wanted.numpy(), rtol=1e-12)


def test_dropout_keeps_the_mean_and_passes_gradients_of_what_it_kept() -> None:
    x = Tensor(np.ones((200, 50)), learns=True)
    out = layers.dropout(x, 0.25, training=True)
    assert set(np.unique(out.data)) == {0.0, 1 / 0.75}
    assert out.data.mean() == pytest.approx(1, abs=0.02)
    out.sum().backward()
    np.testing.assert_array_equal(x.grad, out.data)
    assert layers.dropout(x, 0.25, training=False) is x


def test_large_scores_overflow_nothing() -> None:
    logs = losses.log_softmax(Tensor(np.array([[1000.0, 0.0, -1000.0]]))).data
    assert logs.tolist() == [[0.0, -1000.0, -2000.0]]


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read(packed: bool, tmp_path: Path) -> None:
    pictures = torch.randint(0, 256, (5, 4, 3), dtype=torch.uint8)
    content = idx.dump(pictures)
    (tmp_path / f"x{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    assert np.array_equal(reading.read_idx(tmp_path / "x"), pictures.numpy())


def test_cifar_files_are_read_and_other_pickles_are_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        batch = {"data": random.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": [1, 2, 3, 4]}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=4))
    (pictures, labels), test = reading.from_cifar(tmp_path)
    assert pictures.shape == (20, 3, 32, 32)
    assert labels.tolist() == [1, 2, 3, 4] * 5
    assert np.array_equal(test[0][3].ravel(), batch["data"][3])
    (tmp_path / "test_batch").write_bytes(pickle.dumps(os.system))
    with pytest.raises(ValueError, match="no use for"):
        reading.from_cifar(tmp_path)
