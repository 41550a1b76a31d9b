"""Classifying sounds: the spectrogram, the augmentation, and runs from end to end."""

from __future__ import annotations

import io
import math
import os
import wave
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import flambeau
from flambeau import catalog
from flambeau.core import Draw, Record, State
from flambeau.data.datasets import fsdd, locate
from flambeau.engine import checkpoint
from flambeau.errors import ModelError
from flambeau.models.mlp import mlp
from flambeau.models.spectrogram import LogMel, SoundClassifier, frames, masked, mel_bands
from flambeau.tasks import sound_classification as task

RATE = 4000
FACTS: dict[str, Any] = {
    "classes": ["high", "low"],
    "rate": RATE,
    "length": 1200,
    "window": 128,
    "hop": 64,
    "size": [24, 19],
    "channels": 1,
    "normalize": True,
}
SMALL = ("model.width=4", "audio.mels=24", "audio.hop=0.02", "log.tensorboard=false", "train.batch_size=16")


def tone(frequency: float, seed: int, rate: int = RATE, seconds: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(rate * seconds)) / rate
    return 0.4 * torch.sin(2 * math.pi * frequency * time) + 0.02 * torch.randn(len(time), generator=generator)


def write(path: Path, samples: Tensor, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clamp(-1, 1) * 32767).to(torch.int16).numpy().tobytes())
    path.write_bytes(buffer.getvalue())


def as_file(samples: Tensor, rate: int = RATE) -> bytes:
    path = io.BytesIO()
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clamp(-1, 1) * 32767).to(torch.int16).numpy().tobytes())
    return path.getvalue()


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of high and low tones, each of its own pitch and length."""
    root = tmp_path_factory.mktemp("tones")
    for number in range(60):
        seconds = 0.2 + 0.002 * number
        write(root / "high" / f"{number:02}.wav", tone(1100 + 7 * number, number, seconds=seconds))
        write(root / "low" / f"{number:02}.wav", tone(300 + 5 * number, 100 + number, seconds=seconds))
    return root


@pytest.fixture(scope="module")
def run(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> flambeau.Run:
    out = tmp_path_factory.mktemp("sound") / "run"
    return flambeau.train(tones, epochs=8, settings=SMALL, device="cpu", out=out, quiet=True)


def test_a_sine_lights_the_band_of_its_pitch() -> None:
    front = LogMel(8000, mels=40, window=256, hop=80)
    edges = 700 * (10 ** (torch.linspace(0, 2595 * math.log10(1 + 4000 / 700), 42) / 2595) - 1)
    for frequency in (300.0, 900.0, 2500.0):
        made = front(torch.sin(2 * math.pi * frequency * torch.arange(8000) / 8000).unsqueeze(0))
        band = int(made[0, 0, :, 50].argmax())
        assert edges[band] < frequency < edges[band + 2]


def test_spectrogram_is_that_of_a_plain_fourier_transform() -> None:
    sound = tone(440, 0).unsqueeze(0)
    front = LogMel(RATE, mels=24, window=128, hop=64)
    padded = torch.nn.functional.pad(sound[0], (front.size // 2, front.size // 2))
    window = torch.nn.functional.pad(torch.hann_window(128), ((front.size - 128) // 2,) * 2)
    frame = padded[5 * 64 : 5 * 64 + front.size] * window
    places = torch.arange(front.size).double()
    angle = -2 * math.pi * torch.outer(torch.arange(front.size // 2 + 1).double(), places) / front.size
    power = (angle.cos() @ frame.double()).square() + (angle.sin() @ frame.double()).square()
    wanted = (mel_bands(RATE, front.size, 24).double() @ power / window.double().square().sum() + 1e-6).log()
    torch.testing.assert_close(front(sound)[0, 0, :, 5].double(), wanted, rtol=1e-4, atol=1e-4)
    assert front(sound).shape[-1] == frames(1200, 64)


def test_whole_numbers_and_reals_are_the_same_sound() -> None:
    front = LogMel(RATE, mels=24, window=128, hop=64)
    whole = (tone(440, 1) * 32768).to(torch.int16).unsqueeze(0)
    torch.testing.assert_close(front(whole), front(whole.float() / 32768))


def test_too_many_bands_are_refused() -> None:
    with pytest.raises(ModelError, match=r"audio\.mels"):
        mel_bands(8000, 128, 80)


def test_bands_are_normalised_by_the_training_split() -> None:
    model = SoundClassifier(mlp(FACTS, widths=[4]), FACTS)
    sound = torch.stack([(tone(200 + 20 * n, n) * 32768).to(torch.int16) for n in range(40)])
    model.normalise(sound)
    values = (model.spectrogram(sound) - model.mean) / model.std
    torch.testing.assert_close(values.mean((0, 1, 3)), torch.zeros(24), rtol=0, atol=1e-3)
    torch.testing.assert_close(values.std((0, 1, 3)), torch.ones(24), rtol=0, atol=1e-2)
    model.normalise(torch.zeros(3, 1200, dtype=torch.int16))
    assert model(torch.zeros(3, 1200, dtype=torch.int16)).isfinite().all()


def test_augmentation_is_a_function_of_the_row() -> None:
    vary = task.transform(catalog.recipe("sounds"), FACTS)
    assert vary is not None
    sound = torch.stack([(tone(300, n) * 32768).to(torch.int16) for n in range(8)])
    whole = vary({"sound": sound}, Draw(1, 2, torch.arange(8)))
    part = vary({"sound": sound[[5, 2]]}, Draw(1, 2, torch.tensor([5, 2])))
    assert all(part[name].equal(whole[name][[5, 2]]) for name in ("sound", "masks"))
    other = vary({"sound": sound}, Draw(1, 3, torch.arange(8)))
    assert not other["sound"].equal(whole["sound"]) and whole["sound"].dtype == torch.float32


def test_moved_sounds_and_masks_stay_within_what_is_asked() -> None:
    sound = torch.arange(1, 7).repeat(3, 1)
    made = task.moved(sound, torch.tensor([0, 2, -3]))
    assert made.tolist() == [[1, 2, 3, 4, 5, 6], [0, 0, 1, 2, 3, 4], [4, 5, 6, 0, 0, 0]]
    uniform = torch.rand(500, 4, generator=torch.Generator().manual_seed(0))
    masks = task.masks_of(uniform, [24, 19], [4, 3])
    breadth = masks[:, :, 1] - masks[:, :, 0], masks[:, :, 3] - masks[:, :, 2]
    assert set(breadth[0][:, 0].tolist()) == set(range(5)) and set(breadth[1][:, 1].tolist()) == set(range(4))
    assert int(masks.min()) == 0 and int(masks[:, :, 1].max()) == 24 and int(masks[:, :, 3].max()) == 19
    picture = masked(torch.ones(1, 1, 4, 5), torch.tensor([[[1, 3, 0, 5], [0, 4, 2, 3]]]))
    assert picture[0, 0].tolist() == [[1, 1, 0, 1, 1], [0] * 5, [0] * 5, [1, 1, 0, 1, 1]]


def test_a_run_from_end_to_end(run: flambeau.Run) -> None:
    assert run.scores["test/accuracy"] > 0.9
    facts = run.model.facts
    assert facts["rate"] == RATE and facts["size"][0] == 24 and 0.30 * RATE < facts["length"] < 0.32 * RATE
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "recordings" in page and "pictures of the test split" not in page


def test_predictions_from_files_bytes_and_samples_agree(run: flambeau.Run, tones: Path) -> None:
    model = flambeau.load(run.path)
    path = tones / "low" / "07.wav"
    by_path, by_bytes = model.predict(path), model.predict(path.read_bytes())
    assert by_path["class"] == "low" and by_path == by_bytes
    assert model.predict(as_file(tone(1300, 9, rate=16000), 16000))["class"] == "high"
    assert model.predict(as_file(torch.zeros(500)))["doubt"] == "the recording is silent"
    again = flambeau.evaluate(run.path)
    assert again.scores["accuracy"] == pytest.approx(run.scores["test/accuracy"])


def test_a_single_request_gives_what_the_data_set_gives(run: flambeau.Run, tones: Path) -> None:
    model = flambeau.load(run.path)
    paths = sorted(tones.rglob("*.wav"))[:5]
    together = model.predict(list(paths))
    for row, path in zip(together, paths, strict=True):
        assert model.predict(path)["probability"] == pytest.approx(row["probability"], abs=1e-5)


class _StopError(Exception):
    pass


def test_an_interrupted_run_resumes_to_the_same_bits(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {"settings": SMALL, "device": "cpu", "quiet": True, "epochs": 2}
    whole = flambeau.train(tones, out=tmp_path / "whole" / "run", **arguments)

    def stop(record: Record, state: State) -> None:
        if record.kind == "step" and record.step == 7:
            raise _StopError

    monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 0.0)
    with pytest.raises(_StopError):
        flambeau.train(tones, out=tmp_path / "parted" / "run", observers=[stop], **arguments)
    parted = flambeau.resume(tmp_path / "parted" / "run", quiet=True)
    one, other = (safetensors.torch.load((made.path / "model.safetensors").read_bytes()) for made in (whole, parted))
    assert one.keys() == other.keys() and all(value.equal(other[name]) for name, value in one.items())
    assert (whole.path / "metrics.jsonl").read_bytes() == (parted.path / "metrics.jsonl").read_bytes()


def test_pictures_of_spectrograms() -> None:
    silent_then_loud = torch.cat([torch.zeros(600), 0.5 * torch.sin(torch.arange(600) * 2.0)])
    made = task.pictures_of((silent_then_loud * 32767).to(torch.int16).unsqueeze(0), FACTS)
    assert made.shape == (1, 1, 24, 19) and made.dtype == torch.uint8
    assert int(made[0, 0, :, :8].max()) == 0 and int(made.max()) == 255
    # 2 radians a sample are 1273 Hz, in the upper half of the mel scale up to 2000 Hz: above the middle.
    assert int(made[0, 0, :, 14].argmax()) < 12
    long = {**FACTS, "length": 64 * 999, "size": [24, 1000]}
    assert task.pictures_of(torch.zeros(1, 64 * 999, dtype=torch.int16), long).shape == (1, 1, 24, 160)


@pytest.mark.slow
def test_spoken_digits_are_recognised(tmp_path: Path) -> None:
    if fsdd.search([Path(part) for part in os.environ.get(locate.VARIABLE, "").split(os.pathsep) if part]) is None:
        pytest.skip("fsdd is not in $FLAMBEAU_DATA")
    run = flambeau.train("fsdd", epochs=3, device="cpu", out=tmp_path / "run", quiet=True)
    assert run.scores["test/accuracy"] >= 0.95
