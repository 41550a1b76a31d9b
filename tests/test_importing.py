"""PyTorch's own files brought in: what is accepted, and that nothing in such a file is ever executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import flambeau
from flambeau.errors import ModelError, UsageError

NAMES = [str(number) for number in range(10)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )


def checkpoint(made: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    return {
        "epoch": 5,
        "model_state_dict": made.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "loss": 0.25,
    }


FORMS = {
    "state dict": lambda made: made.state_dict(),
    "the introductions' checkpoint": checkpoint,
    "under state_dict": lambda made: {"state_dict": made.state_dict()},
    "from DataParallel": lambda made: {f"module.{name}": value for name, value in made.state_dict().items()},
    "under a class's own names": lambda made: {f"stack.{n}": value for n, value in made.state_dict().items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_arrive_as_they_were(form: str, tmp_path: Path) -> None:
    made = network()
    torch.save(FORMS[form](made), tmp_path / "model.pth")
    model = flambeau.import_weights(tmp_path / "model.pth", model="mlp", classes=NAMES)
    assert (model.facts["size"], model.facts["channels"]) == ([28, 28], 1)
    picture = torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = made(picture[None].float() / 255).softmax(1)[0]
    found = {row["class"]: row["probability"] for row in model.predict(picture)["classes"]}
    assert torch.allclose(torch.tensor([found[name] for name in NAMES]), expected, atol=1e-6)


def test_it_is_saved_loaded_and_says_where_it_came_from(tmp_path: Path) -> None:
    torch.save(checkpoint(network()), tmp_path / "model.pth")
    flambeau.import_weights(tmp_path / "model.pth", model="mlp", classes=NAMES).save(tmp_path / "m.safetensors")
    loaded = flambeau.load(tmp_path / "m.safetensors")
    assert loaded.classes == NAMES
    assert loaded.description.provenance["imported epoch"] == "5"
    assert loaded.description.provenance["imported loss"] == "0.25"


def test_normalisation_is_taken_from_settings(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "model.pth")
    plain = flambeau.import_weights(tmp_path / "model.pth", model="mlp", classes=NAMES)
    half = flambeau.import_weights(
        tmp_path / "model.pth", model="mlp", classes=NAMES, settings=["images.normalize=half"]
    )
    assert (plain.facts["mean"], half.facts["mean"]) == (None, [0.5])


class Harm:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "harm")


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": network().state_dict(), "x": Harm(tmp_path / "harm")}, tmp_path / "model.pth")
    with pytest.raises(ModelError, match="would run code") as error:
        flambeau.import_weights(tmp_path / "model.pth", model="mlp", classes=NAMES)
    assert not (tmp_path / "harm").exists()
    assert "torch.save(model.state_dict()" in str(error.value.remedy)


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "model.pth")
    with pytest.raises(ModelError, match="would run code"):
        flambeau.import_weights(tmp_path / "model.pth", model="mlp", classes=NAMES)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, {"state_dict": {"a": "text"}}, torch.zeros(3)])
def test_what_holds_no_weights(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ModelError, match="no state dict"):
        flambeau.import_weights(tmp_path / "model.pth", model="mlp", classes=NAMES)


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"PK\3\4" + raw[:9]])
def test_damaged_files(damage: Any, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "model.pth")
    (tmp_path / "model.pth").write_bytes(damage((tmp_path / "model.pth").read_bytes()))
    with pytest.raises(ModelError, match="not a file that torch"):
        flambeau.import_weights(tmp_path / "model.pth", model="mlp", classes=NAMES)


def test_wrong_architecture_names_the_first_difference(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "model.pth")
    with pytest.raises(ModelError, match=r"expected: 1.weight \(256") as error:
        flambeau.import_weights(tmp_path / "model.pth", model="mlp", classes=NAMES, settings=["model.widths=[256,512]"])
    assert "(512, 784)" in str(error.value.received)


def test_wrong_number_of_classes(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "model.pth")
    with pytest.raises(ModelError, match=r"5.weight \(3, 512\)"):
        flambeau.import_weights(tmp_path / "model.pth", model="mlp", classes=["a", "b", "c"])
    with pytest.raises(UsageError, match="all different"):
        flambeau.import_weights(tmp_path / "model.pth", model="mlp", classes=["a", "a", *NAMES[:8]])


def test_ambiguous_size_is_asked_for(tmp_path: Path) -> None:
    from flambeau.models.compact import compact

    small = compact({"classes": NAMES, "size": [28, 28], "channels": 1}, width=4)
    torch.save(small.state_dict(), tmp_path / "model.pth")
    with pytest.raises(UsageError, match="several sizes") as error:
        flambeau.import_weights(tmp_path / "model.pth", model="compact", classes=NAMES, settings=["model.width=4"])
    assert "images.size" in str(error.value.remedy)
    model = flambeau.import_weights(
        tmp_path / "model.pth",
        model="compact",
        classes=NAMES,
        settings=["model.width=4", "images.size=28", "images.channels=1"],
    )
    assert model.facts["size"] == [28, 28]
