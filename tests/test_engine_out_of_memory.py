"""Memory that is too small for a batch: it goes through in parts, and counts for the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engine_toys import PLAIN, accuracy, batch, classification, network, state_of, stream, weights_of
from torch import Tensor, nn

import flambeau
from flambeau.core import Batch, Loss, State
from flambeau.engine import checkpoint
from flambeau.engine.loop import Plan, train
from flambeau.engine.update import update
from flambeau.errors import TrainingError


class Narrow(nn.Module):
    """A network that runs out of memory on more than so many rows, in training."""

    def __init__(self, network: nn.Module, rows: int) -> None:
        super().__init__()
        self.network, self.rows, self.asked = network, rows, list[int]()

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked.append(len(inputs))
        if len(inputs) > self.rows and self.training:
            raise torch.OutOfMemoryError(f"Tried to allocate {len(inputs)} rows.")
        output: Tensor = self.network(inputs)
        return output


def narrow(rows: int) -> tuple[Narrow, State]:
    model = Narrow(network(), rows)
    return model, state_of(model, classification(torch.tensor([0.2, 1.0, 3.5])))


def test_a_batch_that_does_not_fit_goes_through_in_halves_with_the_same_gradient() -> None:
    model, state = narrow(rows=4)
    plain = state_of(network(), classification(torch.tensor([0.2, 1.0, 3.5])))
    for number in range(3):
        one, other = update(state, batch(13, seed=number), PLAIN), update(plain, batch(13, seed=number), PLAIN)
        torch.testing.assert_close(one.losses["loss"], other.losses["loss"])
    assert state.halvings == 2 and state.step == 3
    assert model.asked[:6] == [13, 7, 4, 3, 3, 3] and max(model.asked[2:]) == 4, "it does not try in vain again"
    for name, value in weights_of(model.network).items():
        torch.testing.assert_close(value, weights_of(plain.model)[name])


def test_what_was_found_out_is_in_the_checkpoint(tmp_path: Path) -> None:
    _, state = narrow(rows=4)
    for _ in train(state, Plan(stream([batch(13)]), 1, PLAIN, accuracy())):
        pass
    checkpoint.save(tmp_path, state, {})
    again, resumed = narrow(rows=4)
    checkpoint.load(tmp_path, resumed)
    update(resumed, batch(13), PLAIN)
    assert resumed.halvings == 2 and max(again.asked) == 4


def test_a_single_row_that_does_not_fit_is_an_error() -> None:
    _, state = narrow(rows=0)
    with pytest.raises(TrainingError, match="too small for a single row of a batch"):
        update(state, batch(5), PLAIN)


def test_a_loss_that_does_not_add_up_is_not_cut_in_parts() -> None:
    model = Narrow(network(), 4)
    phase = classification()

    def loss(net: nn.Module, data: Batch) -> Loss:
        return Loss(phase.loss(net, data).total, additive=False)

    state = state_of(model, type(phase)("loss", loss, phase.count, phase.optimizer))
    with pytest.raises(TrainingError, match="does not add up") as caught:
        update(state, batch(7), PLAIN)
    assert caught.value.remedy is not None and "Lower train.batch_size" in caught.value.remedy


class Net(nn.Module):
    """A class as a user has it, on a small device."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.narrow = Narrow(nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)), 20)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.narrow(images)
        return output


def test_a_run_says_and_records_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["log.tensorboard=false", "train.batch_size=64"]
    run = flambeau.train("digits", model=Net, epochs=1, settings=settings, device="cpu", out=tmp_path / "run")
    told = capsys.readouterr().out
    assert "note: out of memory at step 1: batches go through in 4 parts from here on" in told
    assert "batch normalisation alone saw the parts" in told
    assert run.info["halvings"] == 2 and "went through in 4 parts" in run.report.read_text()


def test_memory_that_ends_elsewhere_is_explained(tmp_path: Path) -> None:
    class Broken(Net):
        def forward(self, images: Tensor) -> Tensor:
            if not self.training and len(images) > 20:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
            return super().forward(images)

    with pytest.raises(TrainingError, match="Memory is too small: CUDA out of memory") as caught:
        flambeau.train(
            "digits", model=Broken, epochs=1, settings=["train.batch_size=16"], out=tmp_path / "run", quiet=True
        )
    assert caught.value.remedy is not None and "train.eval_batch_size" in caught.value.remedy
