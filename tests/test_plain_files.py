"""PyTorch's own files, in and out: exact, and never run."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import flambeau
from flambeau.errors import FlambeauError, ModelError
from flambeau.export.importing import import_weights, read_weights
from flambeau.export.state_dict import export

NAMES = ["cat", "dog", "bird"]
SIZES = ["images.size=8", "images.channels=1"]

relaxed = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def state_dict(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, 3))
    return layers.state_dict()


@pytest.mark.parametrize("form", ["bare", "dictionary", "DataParallel", "both"])
def test_plain_files_come_in_and_go_out_bit_for_bit(tmp_path: Path, form: str) -> None:
    weights = state_dict()
    prefixed = {f"module.{name}": value for name, value in weights.items()}
    extra = {"epoch": 4, "loss": 0.25, "optimizer_state_dict": {"state": {}, "param_groups": []}}
    content = {
        "bare": weights,
        "dictionary": {"model_state_dict": weights, **extra},
        "DataParallel": prefixed,
        "both": {"model_state_dict": prefixed, **extra},
    }[form]
    torch.save(content, tmp_path / "in.pth")
    model = import_weights(tmp_path / "in.pth", model="mlp", classes=NAMES, settings=[*SIZES, "model.widths=[7]"])
    if "model_state_dict" in content:
        assert model.description.provenance["imported epoch"] == "4"
    told = export(flambeau.load(model.save(tmp_path / "m.safetensors")), tmp_path / "out.pth")
    assert told["tensors"] == 4 and told["preprocessing"]["size"] == [8, 8]
    out = torch.load(tmp_path / "out.pth", weights_only=True)
    for ours, theirs in zip(out.values(), weights.values(), strict=True):
        assert torch.equal(ours, theirs)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, 3))
    plain.load_state_dict(dict(zip(plain.state_dict(), out.values(), strict=True)))
    pictures = torch.randint(0, 256, (4, 1, 8, 8), generator=torch.Generator().manual_seed(3))
    predicted = [row["class"] for row in model.predict(pictures.to(torch.uint8))]
    assert [NAMES[n] for n in plain(pictures / 255).argmax(1).tolist()] == predicted


class Executes:
    """Unpickled, this would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {tempfile.gettempdir()}/flambeau-was-here",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (Executes(), "would run code"),
        ({"model_state_dict": Executes()}, "would run code"),
        (nn.Linear(2, 2), "would run code"),
        ([1, 2], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"a": 1}, "holds no state dict"),
        ({"a": torch.zeros(2), "b": "text"}, "holds no state dict"),
    ],
)
def test_what_is_not_a_state_dict_is_refused_and_never_run(tmp_path: Path, content: Any, problem: str) -> None:
    torch.save(content, tmp_path / "in.pth")
    with pytest.raises(ModelError, match=problem):
        read_weights(tmp_path / "in.pth")
    assert not (Path(tempfile.gettempdir()) / "flambeau-was-here").exists()


@settings(relaxed, max_examples=150)
@given(st.data())
def test_plain_files_with_changed_bytes_raise_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    torch.save(state_dict(), tmp_path / "in.pth")
    content = bytearray((tmp_path / "in.pth").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "in.pth").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(FlambeauError):
        read_weights(tmp_path / "in.pth")
