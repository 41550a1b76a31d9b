"""The model file: exact, deterministic, never executed, and refused when it is not what was written."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import flambeau
from flambeau import modelfile
from flambeau.errors import ModelError
from flambeau.export.importing import import_weights
from flambeau.model import Model, load_file

NAMES = ["cat", "dog", "bird"]
SIZES = ["images.size=8", "images.channels=1"]


class Net(nn.Module):
    """A network of the user's own."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(64, num_classes)
        self.tied = nn.Linear(64, num_classes)
        self.tied.weight = self.layer.weight

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        logits: Tensor = self.layer(flat) + self.tied(flat)
        return logits


def state_dict(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, 3))
    return layers.state_dict()


def made(folder: Path, kind: Any = "mlp", seed: int = 0) -> Model:
    """A model of untrained weights, by way of a file of plain PyTorch."""
    torch.manual_seed(seed)
    weights = Net().state_dict() if kind is Net else state_dict(seed)
    torch.save(weights, folder / "plain.pth")
    more = [] if kind is Net else ["model.widths=[7]"]
    return import_weights(folder / "plain.pth", model=kind, classes=NAMES, settings=[*SIZES, *more])


@functools.cache
def good() -> bytes:
    """The bytes of a small model file."""
    with tempfile.TemporaryDirectory() as folder:
        return made(Path(folder)).save(Path(folder) / "model.safetensors").read_bytes()


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return path


def taken_apart(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, description, tensors."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    description = json.loads(header.pop("__metadata__")["flambeau"])
    return header, description, content[8 + length :]


def put_together(header: dict[str, Any], description: Any, data: bytes, *, honest: bool = True) -> bytes:
    """A file with the checksums that belong to it, as an attacker would write it."""
    if honest and isinstance(description, dict):
        layout = json.dumps(header, sort_keys=True).encode()
        description["layout_sha256"] = hashlib.sha256(layout).hexdigest()
        description["tensors_sha256"] = hashlib.sha256(data).hexdigest()
        description["sha256"] = ""
        described = json.dumps(description, ensure_ascii=False)
        description["sha256"] = hashlib.sha256(described.encode("utf-8", "surrogatepass")).hexdigest()
    text = description if isinstance(description, str) else json.dumps(description, ensure_ascii=False)
    packed = json.dumps({"__metadata__": {"flambeau": text}, **header}).encode()
    return struct.pack("<Q", len(packed)) + packed + data


def predictions(model: Model) -> list[Any]:
    pictures = torch.randint(0, 256, (4, 1, 8, 8), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    found: list[Any] = model.predict(pictures)
    return found


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = made(tmp_path)
    model.network.temperature.fill_(1.7)
    again = flambeau.load(model.save(tmp_path / "a.safetensors"))
    theirs = again.network.state_dict()
    for name, value in model.network.state_dict().items():
        assert value.dtype == theirs[name].dtype and torch.equal(value, theirs[name]), name
    assert predictions(again) == predictions(model)
    assert again.classes == NAMES and again.facts == model.facts
    assert again.description.recipe == model.description.recipe


def test_the_bytes_are_a_function_of_the_model(tmp_path: Path) -> None:
    one = made(tmp_path).save(tmp_path / "a.safetensors").read_bytes()
    again = flambeau.load(tmp_path / "a.safetensors").save(tmp_path / "b.safetensors").read_bytes()
    assert one == again == made(tmp_path).save(tmp_path / "c.safetensors").read_bytes()
    assert one != made(tmp_path, seed=1).save(tmp_path / "d.safetensors").read_bytes()


def test_it_is_a_plain_safetensors_file_with_one_description(tmp_path: Path) -> None:
    path = written(tmp_path, good())
    weights = safetensors.torch.load_file(path)
    assert any(torch.equal(value, state_dict()["1.weight"]) for value in weights.values())
    assert weights["temperature"].item() == 1.0
    with safetensors.safe_open(path, "pt") as file:
        assert list(file.metadata()) == ["flambeau"]
    header, description, data = taken_apart(good())
    assert list(description)[:4] == ["format", "sha256", "tensors_sha256", "layout_sha256"]
    assert put_together(header, description, data) == put_together(*taken_apart(good()), honest=False)


@pytest.mark.slow
def test_it_loads_in_another_process_to_the_same_predictions(tmp_path: Path) -> None:
    path = written(tmp_path, good())
    code = (
        "import sys, json, torch, flambeau\n"
        "p = torch.randint(0, 256, (4, 1, 8, 8), generator=torch.Generator().manual_seed(3)).to(torch.uint8)\n"
        "print(json.dumps(flambeau.load(sys.argv[1]).predict(p)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(flambeau.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for one, other in zip(found, predictions(load_file(path)), strict=True):
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], rel=1e-5)


def test_a_shared_weight_is_kept_once_and_comes_back_shared(tmp_path: Path) -> None:
    model = made(tmp_path, Net)
    path = model.save(tmp_path / "m.safetensors")
    assert "network.tied.weight" not in safetensors.torch.load_file(path)
    again = flambeau.load(path, network=Net)
    inner = again.network.network
    assert inner.tied.weight is inner.layer.weight
    assert predictions(again) == predictions(model)


MARK = """
import os
from pathlib import Path
import torch
Path(os.environ["MARK"]).write_text("executed")

class Mine(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layer = torch.nn.Linear(64, num_classes)

    def forward(self, x):
        return self.layer(x.flatten(1))
"""


def test_a_model_of_an_own_class_runs_its_code_only_when_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, source = tmp_path / "mark", tmp_path / "mine.py"
    monkeypatch.setenv("MARK", str(mark))
    source.write_text(MARK)
    torch.save({"layer.weight": torch.zeros(3, 64), "layer.bias": torch.zeros(3)}, tmp_path / "m.pth")
    model = import_weights(tmp_path / "m.pth", model=f"{source}:Mine", classes=NAMES, settings=SIZES)
    path = model.save(tmp_path / "mine.safetensors")
    source.unlink()
    mark.unlink()
    with pytest.raises(ModelError, match="class of its own") as caught:
        flambeau.load(path)
    assert not mark.exists()
    assert caught.value.remedy is not None and "trust_code=True" in caught.value.remedy

    class Same(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.layer = nn.Linear(64, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.layer(x.flatten(1))
            return logits

    assert predictions(flambeau.load(path, network=Same)) == predictions(model)
    assert not mark.exists()
    assert predictions(flambeau.load(path, trust_code=True)) == predictions(model)
    assert mark.exists()


def test_another_class_than_the_one_it_was_made_with_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path, Net).save(tmp_path / "m.safetensors")

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.layer(x.flatten(1))
            return logits

    with pytest.raises(ModelError, match="tensors are not those of the architecture"):
        flambeau.load(path, network=Other)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model = made(tmp_path)
    next(model.network.parameters()).data[0] = float("inf")
    with pytest.raises(ModelError, match="not finite"):
        model.save(tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def refused_or_equal(path: Path) -> None:
    try:
        model = load_file(path)
    except ModelError as error:
        assert str(path) in str(error.where)
        return
    assert model.classes == NAMES
    for name, value in load_good().network.state_dict().items():
        assert torch.equal(value, model.network.state_dict()[name])
    assert model.description.model_dump() == load_good().description.model_dump()


@functools.cache
def load_good() -> Model:
    with tempfile.TemporaryDirectory() as folder:
        return load_file(written(Path(folder), good()))


relaxed = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300
)


@relaxed
@given(st.data())
def test_bytes_that_changed_are_found(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(good())
    # The header is where a change could do harm, so most of the changes are there.
    header = 8 + struct.unpack("<Q", good()[:8])[0]
    end = data.draw(st.sampled_from([9, header, header, header, len(content)]))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    refused_or_equal(written(tmp_path, bytes(content)))


@relaxed
@given(st.integers(0, 1), st.data())
def test_a_file_that_was_cut_or_grew_is_refused(tmp_path: Path, grow: int, data: st.DataObject) -> None:
    content = good() + data.draw(st.binary(min_size=1, max_size=20)) if grow else good()
    kept = len(content) if grow else data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(ModelError):
        load_file(written(tmp_path, content[:kept]))


@pytest.mark.parametrize("name", ["F16", "I32", "U32", "BF16"])
def test_a_type_that_changed_is_found_with_and_without_the_checksums(tmp_path: Path, name: str) -> None:
    header, description, data = taken_apart(good())
    title = next(title for title, entry in header.items() if len(entry["shape"]) == 2)
    header[title]["dtype"] = name
    with pytest.raises(ModelError, match="names, types, shapes or places"):
        load_file(written(tmp_path, put_together(header, description, data, honest=False)))
    with pytest.raises(ModelError):
        load_file(written(tmp_path, put_together(header, description, data)))


def test_tensors_that_changed_places_are_found(tmp_path: Path) -> None:
    header, description, data = taken_apart(good())
    one, other = [title for title, entry in header.items() if entry["dtype"] == "F32"][:2]
    header = {{one: other, other: one}.get(title, title): entry for title, entry in header.items()}
    with pytest.raises(ModelError, match="names, types, shapes or places"):
        load_file(written(tmp_path, put_together(header, description, data, honest=False)))


JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([2**63, -1, 0, 10**9, 10**18, 10**400]),
        st.floats(),
        st.text(max_size=6),
        st.sampled_from(["compact", "mlp", "../../x", "a.py:B", "\x00"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        found += [deeper for key, item in value.items() for deeper in places(item, (*path, key))]
    if isinstance(value, list):
        found += [deeper for key, item in enumerate(value) for deeper in places(item, (*path, key))]
    return found


@settings(relaxed, max_examples=400)
@given(st.data())
def test_a_description_that_lies_with_valid_checksums_raises_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    header, description, tensors = taken_apart(good())
    changed = data.draw(st.sampled_from(["description", "description", "header"]))
    document = description if changed == "description" else header
    *way, last = data.draw(st.sampled_from(places(document)))
    inner = document
    for key in way:
        inner = inner[key]
    if data.draw(st.booleans()) or isinstance(inner, list):
        inner[last] = data.draw(JUNK)
    else:
        del inner[last]
    with contextlib.suppress(ModelError):
        load_file(written(tmp_path, put_together(header, description, tensors)))


HUGE = 2**40


def with_shape(shape: list[int], offsets: list[int]) -> bytes:
    header, description, data = taken_apart(good())
    header[next(iter(header))] |= {"shape": shape, "data_offsets": offsets}
    return put_together(header, description, data)


def many_tensors() -> bytes:
    _, description, _ = taken_apart(good())
    header = {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(60_000)}
    return put_together(header, description, b"")


def wide_network() -> bytes:
    header, description, data = taken_apart(good())
    description["recipe"]["model"]["widths"] = [HUGE, HUGE]
    description["architecture"]["arguments"]["widths"] = [HUGE, HUGE]
    return put_together(header, description, data)


def wide_picture() -> bytes:
    header, description, data = taken_apart(good())
    description["facts"]["size"] = [2**20, 2**20]
    return put_together(header, description, data)


def deep(text: str) -> bytes:
    header, _, data = taken_apart(good())
    return put_together(header, text, data)


HOSTILE = {
    "nothing": lambda: b"",
    "eight zeros": lambda: bytes(8),
    "a header of 2^63 bytes": lambda: struct.pack("<Q", 2**63) + good()[8:],
    "a header longer than the file": lambda: struct.pack("<Q", len(good())) + good()[8:],
    "a deep header": lambda: struct.pack("<Q", 200_000) + b"[" * 200_000,
    "a deep shape": lambda: (lambda t: struct.pack("<Q", len(t)) + t)(b'{"a":{"shape":' + b"[" * 100_000),
    "a deep description": lambda: deep('{"facts":' + '{"a":' * 100_000),
    "a deep but whole description": lambda: deep('{"facts":' + '{"a":' * 900 + "1" + "}" * 901),
    "a lone surrogate": lambda: deep('{"task": "\\ud800"}'),
    "60,000 tensors": many_tensors,
    "a huge shape": lambda: with_shape([HUGE, HUGE], [0, 4]),
    "a shape that overflows": lambda: with_shape([2**63, 2**63, 2**63], [0, 4]),
    "a negative shape": lambda: with_shape([-1, -4], [0, 4]),
    "places beyond the end": lambda: with_shape([4], [0, HUGE]),
    "negative places": lambda: with_shape([4], [-16, 0]),
    "a network wider than any memory": wide_network,
    "a picture larger than any memory": wide_picture,
    "a pickle": lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "a zip": lambda: b"PK\x03\x04" + bytes(200),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, HOSTILE[kind]())
    with pytest.raises(ModelError) as caught:
        flambeau.load(path)
    assert str(path) in str(caught.value.where)


def test_bare_weights_are_told_from_a_model(tmp_path: Path) -> None:
    safetensors.torch.save_file(state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(ModelError, match="carries no description"):
        flambeau.load(tmp_path / "bare.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX's")
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(ModelError, match="not a regular file"):
        flambeau.load(tmp_path / "pipe.safetensors")
    with pytest.raises(ModelError, match="There is no such file"):
        flambeau.load(tmp_path / "none.safetensors")


def test_the_description_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    for change in ({"format": 2}, {"more": 1}):
        header, description, data = taken_apart(good())
        with pytest.raises(ModelError, match="description is not valid"):
            load_file(written(tmp_path, put_together(header, description | change, data)))
    assert modelfile.KEY == "flambeau"
