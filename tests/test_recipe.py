"""The recipe: what is accepted, how mistakes are said, and how names, files, settings and flags are put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flambeau import catalog
from flambeau.errors import RecipeError, UsageError
from flambeau.recipe import Recipe, contradictions, from_toml, parse, with_settings
from flambeau.workflow.planning import default_recipe, resolve


@pytest.mark.parametrize("name", catalog.recipe_names())
def test_named_recipe_survives_toml(name: str) -> None:
    recipe = catalog.recipe(name)
    assert from_toml(recipe.to_toml()) == recipe
    assert parse(recipe.to_dict()) == recipe
    assert recipe.description


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**62),
            "name": st.text(max_size=20),
            "train": st.fixed_dictionaries({"epochs": st.integers(1, 999)}, optional={"clip": st.floats(1e-6, 1e6)}),
            "images": st.fixed_dictionaries({"size": st.one_of(st.just("auto"), st.integers(1, 500))}),
            "loss": st.fixed_dictionaries({"class_weights": st.lists(st.floats(0, 10), max_size=4)}),
        },
    )
)
def test_any_recipe_survives_toml(raw: dict[str, Any]) -> None:
    recipe = parse(raw)
    assert from_toml(recipe.to_toml()) == recipe


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"train": {"epochs": 0}}, "train.epochs: expected at least 1, received 0"),
        ({"train": {"epochs": 1.5}}, "train.epochs: expected a whole number, received 1.5"),
        ({"train": 3}, "train: expected a table, received 3"),
        ({"train": {"epoch": 3}}, "train.epoch: there is no such setting. Did you mean epochs?"),
        ({"optimizer": {"lr": 0}}, "optimizer.lr: expected 'auto' or more than 0, received 0"),
        ({"optimizer": {"lr": float("inf")}}, "optimizer.lr: expected 'auto' or a finite number, received inf"),
        ({"optimizer": {"name": "sgdd"}}, "optimizer.name: expected 'sgd', 'adam', 'adamw', 'adagrad'"),
        ({"augment": {"crop": 2}}, "augment.crop: expected at most 1, received 2"),
        ({"augment": {"mirror": "x"}}, "augment.mirror: expected 'auto' or true or false, received 'x'"),
        ({"data": {"validation": "tset"}}, "data.validation: expected 'auto', 'test' or 'none' or a number"),
        ({"images": {"channels": 2}}, "images.channels: expected 'auto', 1 or 3, received 2"),
        ({"loss": {"label_smoothing": 1}}, "loss.label_smoothing: expected less than 1, received 1"),
        ({"show": {"step": "{los}"}}, "Did you mean loss?"),
        ({"data": {"root": "x"}}, "data.root: expected a list, received 'x'"),
    ],
)
def test_mistakes_are_said_in_words(raw: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse(raw)
    assert len(error.value.mistakes) == 1
    assert sentence in error.value.mistakes[0]
    assert "Input should" not in str(error.value)


def test_momentum_and_nesterov_are_forms_of_sgd() -> None:
    plain, nesterov = (parse({"optimizer": {"name": name}}).optimizer for name in ("momentum", "nesterov"))
    assert (plain.name, plain.momentum, plain.nesterov) == ("sgd", 0.9, False)
    assert (nesterov.name, nesterov.momentum, nesterov.nesterov) == ("sgd", 0.9, True)
    assert parse({"optimizer": {"name": "momentum", "momentum": 0.5}}).optimizer.momentum == 0.5


def test_all_mistakes_are_reported_together() -> None:
    raw = {"train": {"epochs": 0, "batch": 3}, "seed": -1, "model": {"name": "compct"}, "audio": {}}
    with pytest.raises(RecipeError) as error:
        parse(raw, where="mine.toml", checks=catalog.CHECKS)
    assert len(error.value.mistakes) == 5
    assert str(error.value).startswith("mine.toml: The recipe has 5 mistakes:")
    assert error.value.as_dict()["mistakes"] == error.value.mistakes


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("train.epochs=5", {"train": {"epochs": 5}}),
        ("model.name=mlp", {"model": {"name": "mlp"}}),
        ("model.widths=[3, 4]", {"model": {"widths": [3, 4]}}),
        ("augment.mirror=false", {"augment": {"mirror": False}}),
        ("data.source=C:/pictures=1", {"data": {"source": "C:/pictures=1"}}),
        ("optimizer.lr=1e-3", {"optimizer": {"lr": 1e-3}}),
        ("name='quoted'", {"name": "quoted"}),
        ("description=", {"description": ""}),
    ],
)
def test_settings_are_read_as_toml_else_as_text(setting: str, expected: dict[str, Any]) -> None:
    assert with_settings({}, [setting]) == expected


def test_settings_leave_what_they_are_given_untouched() -> None:
    raw = {"train": {"epochs": 1}}
    with_settings(raw, ["train.epochs=2"])
    assert raw == {"train": {"epochs": 1}}


def test_precedence_is_recipe_then_settings_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('seed = 1\n[train]\nepochs = 1\nbatch_size = 1\n[data]\nsource = "digits"\n')
    resolved = resolve("mnist", file, settings=["train.epochs=2", "train.batch_size=2", "seed=2"], epochs=3)
    assert (resolved.train.epochs, resolved.train.batch_size, resolved.seed) == (3, 2, 2)
    assert resolved.data.source == "mnist"
    assert resolve(None, file).data.source == "digits"
    assert resolve(None, file).name == "mine"


@pytest.mark.parametrize("recipe", [{"model": {"name": "compact", "width": 8}}, "digits"])
def test_another_model_comes_without_the_recipes_arguments(recipe: Any) -> None:
    by_flag = resolve(None, recipe, model="mlp", settings=["model.widths=[7]"])
    by_setting = resolve(None, recipe, settings=["model.widths=[7]", "model.name=mlp"])
    for resolved in (by_flag, by_setting):
        assert (resolved.model.name, resolved.model.arguments()) == ("mlp", {"widths": [7]})


def test_the_same_model_keeps_the_recipes_arguments() -> None:
    resolved = resolve(None, {"model": {"name": "compact", "width": 8}}, model="compact", settings=["model.depth=1"])
    assert resolved.model.arguments() == {"width": 8, "depth": 1}


def test_a_source_of_the_same_name_brings_its_recipe() -> None:
    assert default_recipe("digits", None)["name"] == "digits"
    assert default_recipe("some/folder", None)["name"] == default_recipe(None, None)["name"] == "pictures"
    assert resolve("digits", None).name == "digits"


def test_a_recipe_object_and_tables_are_taken() -> None:
    recipe = Recipe(seed=5)
    assert resolve("digits", recipe).seed == 5
    assert resolve("digits", {"seed": 6}).seed == 6
    assert recipe.data.source is None


def test_unknown_recipe_is_suggested() -> None:
    with pytest.raises(UsageError, match="Did you mean digits"):
        resolve(None, "digts")


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        (["loss.name=nll", "loss.label_smoothing=0.1"], "loss.label_smoothing"),
        (["optimizer.name=sgd", "optimizer.nesterov=true"], "optimizer.nesterov"),
        (["optimizer.name=adam", "optimizer.momentum=0.9"], "optimizer.momentum"),
    ],
)
def test_contradictions_are_found_before_data_is_read(settings: list[str], mistake: str) -> None:
    with pytest.raises(RecipeError, match=mistake):
        resolve("no-such-data", {}, settings=settings)


def test_what_waits_for_validation_needs_one() -> None:
    waiting = {"schedule": {"name": "plateau"}, "train": {"patience": 3}}
    assert contradictions(parse(waiting)) == []
    found = contradictions(parse({**waiting, "data": {"validation": "none"}}))
    assert [text.partition(":")[0] for text in found] == ["schedule.name", "train.patience"]
