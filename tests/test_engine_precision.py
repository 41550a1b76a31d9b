"""Training in 16 bits: what is rounded, what is not, and what happens when gradients overflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_toys import PLAIN, accuracy, batch, classification, equal, network, state_of, stream, weights_of
from torch import nn

from flambeau.core import State
from flambeau.engine import checkpoint
from flambeau.engine.loop import Plan, train
from flambeau.engine.precision import choose, scaler_for
from flambeau.engine.update import update
from flambeau.errors import TrainingError, UsageError

HALF = replace(PLAIN, autocast=torch.float16)
CPU = torch.device("cpu")


def in_half(model: nn.Module | None = None, *, ema: bool = False, scale: float = 2.0**16) -> State:
    """A state that trains in float16; processors can, if slowly, so the arithmetic is tested here."""
    state = state_of(model or network(), classification(), ema=ema)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    return state


def test_bfloat16_rounds_products_and_nothing_else() -> None:
    full, short = state_of(network(), classification()), state_of(network(), classification())
    seen: list[torch.dtype] = []
    short.model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    one = update(full, batch(), PLAIN, measure_gradient=True)
    other = update(short, batch(), replace(PLAIN, autocast=torch.bfloat16), measure_gradient=True)
    assert seen == [torch.bfloat16]
    assert {value.dtype for value in weights_of(short.model).values()} == {torch.float32}
    assert not equal(weights_of(full.model), weights_of(short.model))
    for name, value in weights_of(full.model).items():
        torch.testing.assert_close(weights_of(short.model)[name], value, atol=3e-3, rtol=0)
    assert other.losses["loss"].dtype == torch.float32
    torch.testing.assert_close(other.gradient_norm, one.gradient_norm, rtol=0.02, atol=0)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_scale_is_taken_back_before_anybody_sees_the_gradient(accumulate: int) -> None:
    """Powers of two round nothing, so the scaled step is the unscaled one wherever nothing vanishes or overflows."""
    scaled, plain = in_half(), state_of(network(), classification())
    rules = replace(HALF, clip=0.05, accumulate=accumulate)
    for number in range(3):
        one = update(scaled, batch(seed=number), rules)
        other = update(plain, batch(seed=number), rules)
        torch.testing.assert_close(one.gradient_norm, other.gradient_norm, rtol=1e-3, atol=0)
    for name, value in weights_of(plain.model).items():
        torch.testing.assert_close(weights_of(scaled.model)[name], value, atol=1e-4, rtol=0)


def test_a_step_whose_gradients_overflow_is_skipped_counted_and_halves_the_scale() -> None:
    state = in_half(ema=True, scale=2.0**40)
    before = weights_of(state.model)
    done = update(state, batch(), replace(HALF, clip=1.0, ema=0.5), measure_gradient=True)
    assert state.skipped == 1 and state.step == 1 and equal(before, weights_of(state.model))
    assert state.ema is not None and equal(before, state.ema)
    assert done.gradient_norm is None and done.losses["loss"].isfinite()
    assert state.scaler is not None and state.scaler.get_scale() == 2.0**39
    while state.skipped == state.step:
        update(state, batch(), replace(HALF, ema=0.5))
    assert not equal(before, weights_of(state.model)) and state.ema is not None and not equal(before, state.ema)


def test_gradients_that_always_overflow_end_training() -> None:
    state = in_half()
    data = batch()
    data["x"] *= 1e9
    with pytest.raises(TrainingError, match="overflow float16 however they are scaled") as caught:
        for _ in range(40):
            update(state, data, HALF)
    assert caught.value.remedy is not None and "bfloat16" in caught.value.remedy


def test_training_in_float16_resumes_with_its_scale_to_the_same_bits(tmp_path: Path) -> None:
    batches = [batch(seed=number) for number in range(8)]
    plan = Plan(stream(batches), 2, HALF, accuracy())

    def run(stop: int) -> State:
        state = in_half(scale=2.0**40)
        checkpoint.load(tmp_path, state)
        for record in train(state, plan):
            if record.kind == "step" and record.step == stop:
                checkpoint.save(tmp_path, state, {})
                break
        return state

    whole = run(99)
    run(11)
    resumed = run(98)
    assert whole.skipped > 0 and resumed.skipped == whole.skipped and resumed.step == whole.step == 16
    assert equal(weights_of(whole.model), weights_of(resumed.model))
    assert whole.scaler is not None and resumed.scaler is not None
    assert whole.scaler.state_dict() == resumed.scaler.state_dict()


def test_the_rule_of_auto_and_what_a_device_cannot_do() -> None:
    assert choose("auto", CPU) == "float32" and choose("bfloat16", CPU) == "bfloat16"
    assert scaler_for("bfloat16", CPU) is None and scaler_for("float32", CPU) is None
    with pytest.raises(UsageError, match="float16 is for CUDA devices") as caught:
        choose("float16", CPU)
    assert caught.value.remedy is not None and "bfloat16" in caught.value.remedy
