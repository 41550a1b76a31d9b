"""What each task says there is to see, on the page of a server and elsewhere."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from conduct import inputs, raw, trained
from PIL import Image
from small_data import case

from flambeau import catalog
from flambeau.model import Model, load


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


def model_of(task: str, base: Path) -> Model:
    found = load(trained(task, base).path)
    assert isinstance(found, Model)
    return found


@pytest.mark.parametrize("name", catalog.task_names())
def test_every_row_of_the_test_set_has_its_truth_in_words(name: str, base: Path) -> None:
    task = catalog.task(name)
    if task.view.truth is None:
        pytest.skip(f"rows of {name} are no inputs with an answer")
    model = model_of(name, base)
    rows = raw(name, base).splits["test"]
    truths = task.view.truth(rows, model.facts)
    assert len(truths) == len(rows)
    assert all(isinstance(truth, str) and truth for truth in truths)
    # A row is what the model is asked with, so that it can be asked about the row.
    assert task.input in rows.columns


@pytest.mark.parametrize("name", catalog.task_names())
def test_an_insight_shows_an_input_and_leaves_the_model_as_it_was(name: str, base: Path) -> None:
    task = catalog.task(name)
    if task.view.insight is None:
        pytest.skip(f"{name} shows nothing of how an input was taken")
    model = model_of(name, base)
    before = copy.deepcopy(model.network.state_dict())
    for value in inputs(task, case(name), base):
        answers = model.predict([value])
        insights = task.view.insight(model.network, model.facts, value)
        assert insights
        for insight in insights:
            assert insight.about
            if insight.png:
                Image.open(io.BytesIO(insight.png)).verify()
            else:
                weights = np.array(insight.weights)
                assert weights.shape == (len(insight.rows), len(insight.columns))
                assert weights.min() >= 0
                assert weights.max() <= 1 + 1e-6
        assert model.predict([value]) == answers
    after = model.network.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not model.network.training
    assert all(parameter.grad is None for parameter in model.network.parameters())
