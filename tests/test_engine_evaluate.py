"""Evaluation leaves no trace in what training depends on."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from engine_toys import accuracy, batch, classification, equal, network, predict, state_of, weights_of
from torch import nn

from flambeau.engine.evaluate import averaged_weights, evaluate, evaluating, evaluation_mode

BATCHES = [batch(rows, seed=rows) for rows in (7, 7, 3)]


def test_scores_and_kept_outputs_cover_every_row() -> None:
    model = network()
    found = evaluate(model, BATCHES, predict, accuracy(), keep=("logits", "label"))
    labels = torch.cat([part["label"] for part in BATCHES])
    logits = model.eval()(torch.cat([part["x"] for part in BATCHES]))
    torch.testing.assert_close(found.outputs["logits"], logits.detach())
    assert torch.equal(found.outputs["label"], labels)
    assert found.scores["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_modes_weights_statistics_and_generators_stay_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    model.train()
    model[1].eval()  # somebody froze it
    before = weights_of(model)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    evaluate(model, BATCHES, predict, accuracy())
    assert [module.training for module in model] == [True, False, True, True]
    assert equal(before, weights_of(model))
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_modes_come_back_when_a_pass_is_given_up() -> None:
    model = network(dropout=0.5).train()
    steps = evaluating(model, BATCHES, predict, accuracy())
    assert next(steps) == 1 and not model.training
    steps.close()
    assert all(module.training for module in model.modules())
    with pytest.raises(ZeroDivisionError), evaluation_mode(model):
        raise ZeroDivisionError
    assert model.training


def test_averaged_weights_are_borrowed_only() -> None:
    state = state_of(network(), classification(), ema=True)
    assert state.ema is not None
    for value in state.ema.values():
        value.mul_(0.5)
    before = weights_of(state.model)
    with averaged_weights(state):
        assert equal(weights_of(state.model), state.ema)
    assert equal(weights_of(state.model), before)
