"""A sample of what is written anew for each run, its choices and its network, for the other parts to refer to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flambeau.eject.numpy_parts.layers import linear
from flambeau.eject.numpy_parts.tensor import Array, Tensor

SEED = 0
EPOCHS = 5
BATCH_SIZE = 64
STEPS = 4690
EVERY = 100

LEARNING_RATE = 0.001
WARMUP = 0
STEP_EVERY = 938
STEP_FACTOR = 0.1
MOMENTUM = 0.9
BETA1, BETA2 = 0.9, 0.999
WEIGHT_DECAY = 0.05
CLIP = 1.0
SMOOTHING = 0.1
SHIFT = 1

MEAN = np.reshape([0.5], (-1, 1, 1))
STD = np.reshape([0.5], (-1, 1, 1))

WEIGHTS = Path(__file__).with_name("train-weights.npz")
DATA = Path(__file__).with_name("train-data.npz")
FOLDER = Path("data")


def network(x: Tensor, p: dict[str, Tensor], training: bool = False) -> Tensor:
    """The scores of a batch; ``training`` is for layers that behave otherwise while the network learns."""
    return linear(x, p["weight"], p["bias"])


RUNNING: dict[str, tuple[Array, Array]] = {}
