"""``flambeau tasks``: what can be learnt, from which data, by which networks."""

from __future__ import annotations

from conftest import Command

from flambeau import catalog


def test_every_task_is_told_with_its_data_and_networks(call: Command) -> None:
    rows = {row["name"]: row for row in call("tasks", "--json").json["tasks"]}
    assert list(rows) == catalog.task_names()
    for name, row in rows.items():
        assert row["about"].endswith(".") and row["data"], name
        assert row["models"] == catalog.networks(catalog.task(name)) != []
        assert row["recipe"]
        assert set(row["datasets"]) <= set(catalog.names("datasets"))
    assert {"digits", "fashion-mnist"} <= set(rows["image-classification"]["datasets"])


def test_every_data_set_belongs_to_a_task(call: Command) -> None:
    told = [name for row in call("tasks", "--json").json["tasks"] for name in row["datasets"]]
    assert sorted(set(told)) == sorted(catalog.DATASETS)


def test_people_get_names_first(call: Command) -> None:
    done = call("tasks")
    assert done.code == 0
    assert [line for line in done.out.splitlines() if line and not line.startswith(" ")] == catalog.task_names()
    assert call("tasks", "--quiet").out.split() == catalog.task_names()
