"""What an evaluation keeps is in the rows' own order, whatever order and width the batches had."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from flambeau.columns import Columns, Ragged, Split
from flambeau.core import Batch, Metrics, Scores
from flambeau.data.loader import batches
from flambeau.engine.evaluate import evaluate, evaluating


def counted() -> Metrics:
    """How many rows there were, and the sum of their values."""

    def start(device: torch.device) -> dict[str, Tensor]:
        return {"rows": torch.zeros((), dtype=torch.int64), "values": torch.zeros((), dtype=torch.int64)}

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        sums["rows"] += len(batch["row"])
        sums["values"] += outputs["doubled"].sum()

    def result(sums: Mapping[str, Tensor]) -> Scores:
        return {name: float(value) for name, value in sums.items()}

    return Metrics(start, add, result, "values", "max")


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    doubled = 2 * batch["tokens"].long()
    return {"doubled": doubled, "first": doubled[:, 0], "deep": doubled.unsqueeze(2).expand(-1, -1, 3)}


def collate(columns: Columns) -> Batch:
    tokens = columns["tokens"]
    assert isinstance(tokens, Ragged)
    return {"tokens": tokens.padded()}


def rows_of(lengths: list[int]) -> list[list[int]]:
    return [[100 * number + place + 1 for place in range(length)] for number, length in enumerate(lengths)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 8))
def test_rows_met_by_length_come_back_in_order_and_padded(lengths: list[int], size: int) -> None:
    rows = rows_of(lengths)
    split = Split({"tokens": Ragged.of(rows)})
    made = batches(split, collate, size, lengths=torch.tensor(lengths))
    found = evaluate(nn.Identity(), made, predict, counted(), ("doubled", "first", "deep", "tokens"))
    wide = max(lengths)
    assert found.outputs["tokens"].tolist() == [row + [0] * (wide - len(row)) for row in rows]
    assert torch.equal(found.outputs["doubled"], 2 * found.outputs["tokens"].long())
    assert torch.equal(found.outputs["first"], found.outputs["doubled"][:, 0])
    assert found.outputs["deep"].shape == (len(rows), wide, 3)
    assert torch.equal(found.outputs["deep"][:, :, 1], found.outputs["doubled"])
    assert found.scores == {"rows": len(rows), "values": float(found.outputs["doubled"].sum())}


def test_only_what_is_wanted_is_kept() -> None:
    split = Split({"tokens": Ragged.of(rows_of([3, 1, 2]))})
    kept = evaluate(nn.Identity(), batches(split, collate, 2), predict, counted(), ("first", "no such output"))
    assert kept.outputs.keys() == {"first"}
    assert evaluate(nn.Identity(), batches(split, collate, 2), predict, counted()).outputs == {}


def test_an_output_comes_before_a_column_of_its_name() -> None:
    def renamed(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"doubled": batch["tokens"], "tokens": -batch["tokens"]}

    split = Split({"tokens": Ragged.of([[1], [2]])})
    found = evaluate(nn.Identity(), batches(split, collate, 1), renamed, counted(), ("tokens",))
    assert found.outputs["tokens"].tolist() == [[-1], [-2]]


def test_batches_without_row_numbers_stay_as_they_come() -> None:
    def numberless() -> Metrics:
        made = counted()
        return Metrics(made.start, lambda sums, outputs, batch: None, made.result, made.select, made.mode)

    given_batches = [{"tokens": torch.tensor([[9, 9]])}, {"tokens": torch.tensor([[1]])}]
    found = evaluate(nn.Identity(), given_batches, predict, numberless(), ("tokens",))
    assert found.outputs["tokens"].tolist() == [[9, 9], [1, 0]]


@pytest.mark.parametrize("training", [True, False])
def test_modes_are_put_back_and_steps_are_counted(training: bool) -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 1)).train(training)
    split = Split({"tokens": Ragged.of(rows_of([1, 2, 3, 4, 5]))})
    steps = evaluating(model, batches(split, collate, 2), predict, counted())
    assert list(steps) == [1, 2, 3]
    assert model.training is training and model[0].training is training
