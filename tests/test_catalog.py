"""Names: everything that has one can be found by it, and a misspelt one gets a suggestion."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch

from flambeau import catalog
from flambeau.errors import FlambeauError, UsageError
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
        assert isinstance(found, Task) or callable(found)
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


@pytest.mark.parametrize("name", [name for name in catalog.names("models.pictures") if name != "sequential"])
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
        "'flambeau.tasks.', 'flambeau.export.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_listings_describe_everything() -> None:
    for rows in (listing.tasks(), listing.datasets(), listing.models(), listing.recipes()):
        assert rows
        assert all(row["about"] and "``" not in row["about"] for row in rows)
    assert all(row["parameters"] for row in listing.models() if row["name"] not in NEEDY)
