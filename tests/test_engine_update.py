"""One update: the arithmetic is that of a plain PyTorch step."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from engine_toys import PLAIN, batch, classification, equal, network, state_of, weights_of
from torch import nn
from torch.nn import functional as F

from flambeau.core import Batch, Loss, Phase
from flambeau.engine.optim import optimizer
from flambeau.engine.schedule import constant, cosine
from flambeau.engine.update import Rules, micro_batches, update
from flambeau.errors import TrainingError


@pytest.mark.parametrize("rows", [1, 3, 7, 12, 64, 97])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_an_update_is_a_plain_step_on_the_mean_loss_bit_for_bit(rows: int, smoothing: float, name: str) -> None:
    ours, plain = network(), network()
    state = state_of(ours, classification(smoothing=smoothing, name=name))
    step = {
        "sgd": lambda: torch.optim.SGD(plain.parameters(), 0.1),
        "adam": lambda: torch.optim.Adam(plain.parameters(), 0.1, fused=True),
        "adamw": lambda: torch.optim.AdamW(plain.parameters(), 0.1, weight_decay=0.0, fused=True),
    }[name]()
    for number in range(4):
        data = batch(rows, seed=number)
        done = update(state, data, PLAIN)
        step.zero_grad()
        loss = F.cross_entropy(plain(data["x"]), data["label"], label_smoothing=smoothing)
        loss.backward()
        step.step()
        if not smoothing:
            # The smoothed mean is composed of two means inside, which round apart from one quotient.
            assert done.losses["loss"].item() == loss.item()
        assert done.losses["loss"].item() == pytest.approx(loss.item(), rel=1e-6)
        for (title, value), reference in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
            if smoothing:
                torch.testing.assert_close(value, reference, rtol=1e-5, atol=1e-6)
            else:
                assert torch.equal(value, reference), (number, title)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.5])])
@pytest.mark.parametrize("parts", [2, 3, 5, 12, 100])
def test_micro_batches_of_unequal_counts_give_the_gradient_of_the_whole_batch(
    weights: torch.Tensor | None, parts: int
) -> None:
    data = batch(13)
    whole, cut = network(), network()
    update(state_of(whole, classification(weights)), data, PLAIN)
    done = update(state_of(cut, classification(weights)), data, replace(PLAIN, accumulate=parts))
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    reference = F.cross_entropy(network()(data["x"]), data["label"], weights)
    assert done.losses["loss"].item() == pytest.approx(reference.item(), rel=1e-5)


def test_a_batch_is_cut_into_parts_that_cover_it_once() -> None:
    data = batch(10)
    parts = micro_batches(data, 4)
    assert [len(part["label"]) for part in parts] == [3, 3, 2, 2]
    assert torch.equal(torch.cat([part["x"] for part in parts]), data["x"])
    assert len(micro_batches(batch(2), 5)) == 2


def test_a_batch_that_counts_for_nothing_is_refused() -> None:
    data = {**batch(4), "label": torch.zeros(4, dtype=torch.int64)}
    state = state_of(network(), classification(torch.tensor([0.0, 1.0, 1.0])))
    with pytest.raises(TrainingError, match="counts for nothing"):
        update(state, data, PLAIN)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_loss_that_does_not_add_up_is_never_accumulated(accumulate: int) -> None:
    phase = classification()
    mean = replace(phase, loss=lambda model, data: replace(phase.loss(model, data), additive=False))
    rules = replace(PLAIN, accumulate=accumulate)
    if accumulate == 1:
        update(state_of(network(), mean), batch(), rules)
        return
    state = state_of(network(), mean)
    before = weights_of(state.model)
    with pytest.raises(TrainingError, match="does not add up") as caught:
        update(state, batch(), rules)
    assert caught.value.remedy is not None and "accumulate = 1" in caught.value.remedy
    assert equal(before, weights_of(state.model)) and state.step == 0


def test_the_gradient_is_clipped_to_the_norm_and_its_true_norm_is_told() -> None:
    free, clipped = network(), network()
    norm = update(state_of(free, classification()), batch(), PLAIN, measure_gradient=True).gradient_norm
    assert norm is not None
    told = update(state_of(clipped, classification()), batch(), replace(PLAIN, clip=norm.item() / 10)).gradient_norm
    assert told is not None and told.item() == norm.item()
    after = math.sqrt(sum(float(p.grad.square().sum()) for p in clipped.parameters() if p.grad is not None))
    assert after == pytest.approx(norm.item() / 10, rel=1e-3)


def test_measuring_the_gradient_changes_nothing() -> None:
    one, other = network(), network()
    update(state_of(one, classification()), batch(), PLAIN, measure_gradient=True)
    update(state_of(other, classification()), batch(), PLAIN)
    assert equal(weights_of(one), weights_of(other))


@pytest.mark.parametrize("rules", [replace(PLAIN, clip=1.0), PLAIN])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(rules: Rules) -> None:
    data = batch()
    data["x"][3, 2] = math.inf
    state = state_of(network(), classification())
    before = weights_of(state.model)
    with pytest.raises(TrainingError, match="gradient's norm is nan"):
        update(state, data, rules, measure_gradient=True)
    assert equal(before, weights_of(state.model)) and state.step == 0


def test_averaged_weights_follow_at_the_stated_pace() -> None:
    state = state_of(network(), classification(), ema=True)
    rules = replace(PLAIN, ema=0.5)
    expected = weights_of(state.model)
    for number in range(8):
        update(state, batch(seed=number), rules)
        decay = min(0.5, (1 + number) / (10 + number))
        expected = {name: v.lerp(state.model.state_dict()[name], 1 - decay) for name, v in expected.items()}
    assert state.ema is not None and equal(state.ema, expected)


def test_counters_are_copied_into_the_average_not_averaged() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    state = state_of(model, classification(), ema=True)
    for number in range(5):
        update(state, batch(seed=number), replace(PLAIN, ema=0.9))
    assert state.ema is not None and state.ema["1.num_batches_tracked"].item() == 5


def test_the_rate_is_the_base_rate_times_the_schedule() -> None:
    state = state_of(network(), classification(lr=0.4))
    rates = []
    for number in range(10):
        update(state, batch(seed=number), Rules(cosine(10)))
        rates.append(state.optimizers["loss"].param_groups[0]["lr"])
    assert rates == [0.4 * cosine(10)(step) for step in range(10)]


def gan() -> tuple[nn.ModuleDict, Phase, Phase, dict[str, set[str]]]:
    """A generator and a discriminator, and what got a gradient in each phase."""
    torch.manual_seed(1)
    model = nn.ModuleDict({"generator": nn.Linear(2, 5), "discriminator": nn.Linear(5, 1)})
    seen: dict[str, set[str]] = {}

    def phase(name: str, every: int = 1) -> Phase:
        def loss(net: nn.Module, data: Batch) -> Loss:
            assert isinstance(net, nn.ModuleDict)
            judged = net["discriminator"](net["generator"](data["x"][:, :2]))
            real = net["discriminator"](data["x"])
            seen[name] = {title for title, p in net.named_parameters() if p.requires_grad}
            total = (judged - real).sum() if name == "discriminator" else -judged.sum()
            return Loss(total, {"judged": judged.sum()})

        make = optimizer("sgd", lr=0.1)
        return Phase(name, loss, lambda data: len(data["x"]), make, lambda title: title.startswith(name), every)

    return model, phase("discriminator"), phase("generator", every=2), seen


def test_two_phases_keep_their_gradients_apart() -> None:
    model, first, second, seen = gan()
    state = state_of(model, first, second)
    before = weights_of(model)
    done = update(state, batch(), PLAIN)
    assert seen == {
        "discriminator": {"discriminator.weight", "discriminator.bias"},
        "generator": {"generator.weight", "generator.bias"},
    }
    assert set(done.losses) == {"discriminator", "discriminator/judged", "generator", "generator/judged"}
    # The generator's phase comes second and goes through the discriminator; its gradient there must be that of the
    # first phase alone.
    alone = gan()[0]
    rows = batch()["x"]
    (alone["discriminator"](alone["generator"](rows[:, :2]).detach()) - alone["discriminator"](rows)).mean().backward()
    theirs = alone["discriminator"].weight.grad
    assert theirs is not None
    torch.testing.assert_close(model["discriminator"].weight.grad, theirs)
    assert not torch.equal(before["generator.weight"], model["generator"].weight)


def test_a_phase_rests_between_its_turns() -> None:
    model, first, second, _ = gan()
    state = state_of(model, first, second)
    update(state, batch(), PLAIN)
    generator = model["generator"].weight.clone()
    done = update(state, batch(seed=1), Rules(constant(1)))
    assert "generator" not in done.losses and torch.equal(generator, model["generator"].weight)
