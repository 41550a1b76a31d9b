"""Names: everything that has one can be found by it, and a misspelt one gets a suggestion."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch

import flambeau
from flambeau import catalog
from flambeau.errors import FlambeauError, MissingExtra, UsageError
from flambeau.export.formats import Format
from flambeau.models.published import TORCHVISION
from flambeau.task import Task
from flambeau.workflow import listing

KINDS = ("tasks", *(f"models.{family}" for family in catalog.MODELS), "datasets", "formats")
FACTS = {"classes": ["a", "b", "c"], "size": [32, 32], "channels": 3}

NEEDY = ("sequential", "bert", "gpt2")
"""Networks that cannot be built by their defaults: from layers of a recipe, or from a checkpoint."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_is_found_and_documented(kind: str) -> None:
    for name in catalog.names(kind):
        found = catalog.find(kind, name)
        assert isinstance(found, Task | Format) or callable(found)
        assert inspect.getdoc(found), f"{kind} {name} has no docstring"


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_sorted_and_in_lower_case(kind: str) -> None:
    names = list(catalog.names(kind))
    assert names == sorted(names)
    assert all(name == name.lower() and " " not in name for name in names)


@pytest.mark.parametrize(
    ("kind", "name", "suggestion"),
    [
        ("models.pictures", "lenett", "lenet"),
        ("datasets", "cifar-10", "cifar10"),
        ("formats", "statedict", "state-dict"),
        ("tasks", "image-clasification", "image-classification"),
    ],
)
def test_misspelt_names_get_a_suggestion(kind: str, name: str, suggestion: str) -> None:
    with pytest.raises(UsageError) as error:
        catalog.find(kind, name)
    assert repr(name) in error.value.problem
    assert suggestion in str(error.value.remedy)


OURS = [name for name in catalog.names("models.pictures") if name != "sequential" and name not in TORCHVISION]


@pytest.mark.parametrize("name", OURS)
def test_every_model_is_built_by_its_defaults(name: str) -> None:
    network = catalog.network(name, catalog.task("image-classification"))(FACTS)
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("model", "mistake"),
    [
        ({"name": "compact", "width": 0}, "model.width"),
        ({"name": "compact", "depht": 2}, "model.depht: compact has no such argument. Did you mean depth?"),
        ({"name": "mlp", "widths": "many"}, "model.widths"),
        ({"name": 3}, "model.name: expected a name, received 3"),
        ({"name": "net.py"}, "net.py:Net"),
    ],
)
def test_model_arguments_are_checked(model: dict[str, Any], mistake: str) -> None:
    [found] = catalog.check_names({"model": model})
    assert mistake in found
    assert "\n" not in found


def test_a_model_of_the_users_own_is_not_checked_here() -> None:
    assert list(catalog.check_names({"model": {"name": "mine.py:Net", "anything": 1}})) == []


def test_builders_of_files_are_lazy() -> None:
    builder = catalog.builder("absent.py:Net", catalog.task("image-classification"))
    with pytest.raises(FlambeauError, match="no such Python file"):
        builder(FACTS)


def test_listing_the_names_imports_no_entry() -> None:
    code = (
        "import sys; from flambeau import catalog; [catalog.names(kind) for kind in "
        f"{KINDS!r}]; print([n for n in sys.modules if n.startswith(('flambeau.models.', 'flambeau.data.', "
        "'flambeau.tasks.', 'flambeau.export.', 'torchvision', 'timm'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['flambeau.models.published']"


def test_listings_describe_everything() -> None:
    for rows in (listing.tasks(), listing.datasets(), listing.models(), listing.recipes()):
        assert rows
        assert all(row["about"] and "``" not in row["about"] for row in rows)
    assert all(row["parameters"] for row in listing.models() if row["name"] not in NEEDY)


def test_timm_is_an_extra_and_says_so_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"pip install 'flambeau\[timm\]'"):
        list(catalog.check_names({"model": {"name": "timm:resnet18"}}))
    with pytest.raises(MissingExtra, match="timm is not installed"):
        listing.models("timm:resnet")


@pytest.mark.parametrize(
    ("model", "mistake"),
    [
        ({"name": "timm:resnet19"}, "timm has no network called 'resnet19'. Did you mean resnet18"),
        ({"name": "timm:resnet18.a9_in1k"}, "timm has no weights 'a9_in1k' for resnet18. Did you mean a3_in1k"),
        ({"name": "timm:resnet18", "stem": "small"}, "model.stem: timm:resnet18 has no such argument"),
        ({"name": "timm:resnet18", "settings": {"no_such": 1}}, "model.settings: timm cannot build resnet18"),
        ({"name": "tim:resnet18"}, "there is no model called 'tim:resnet18'"),
    ],
)
def test_networks_of_timm_are_checked(model: dict[str, Any], mistake: str) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    [found] = catalog.check_names({"model": model})
    assert mistake in found


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:vit_tiny_patch16_224", "timm:edgenext_xx_small"])
def test_networks_of_timm_take_channels_sizes_and_classes(name: str) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    facts = {"classes": ["a", "b", "c"], "size": [48, 48], "channels": 1}
    assert catalog.network(name, catalog.task("image-classification"))(facts)(torch.zeros(2, 1, 48, 48)).shape == (2, 3)


def test_networks_of_timm_can_be_looked_at() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    assert flambeau.inspect("timm:resnet10t", shape=(1, 32, 32)).facts["layers"][-1]["output"] == (1, 10)


def test_networks_of_timm_are_listed_with_the_licence_of_their_weights() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    [row] = listing.models("timm:resnet10t.")
    assert row["name"] == "timm:resnet10t.c3_in1k" and row["parameters"] == 5_435_488
    assert row["weights"] == {"publisher": "timm", "side": 176, "megabytes": None, "licence": "apache-2.0"}
