"""Spectrograms as pictures to look at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RANGE = 11.0
"""How far below a recording's loudest place its spectrogram is black: 11 in natural logarithms of energy are 48 dB."""

WIDEST = 160
"""Frames beyond which a picture of a spectrogram is made narrower."""


def spectrogram_pictures(spectrograms: Tensor) -> Tensor:
    """Log-mel spectrograms as pictures: uint8 ``(N, 1, mels, frames)``, low frequencies below, loud places bright.

    Args:
        spectrograms: Natural logarithms of energies, float32 ``(N, 1, mels, frames)``, low frequencies first.
    """
    values = spectrograms
    if values.shape[3] > WIDEST:
        values = F.adaptive_avg_pool2d(values, (values.shape[2], WIDEST))
    lightness = (values - values.amax((2, 3), keepdim=True)) / RANGE + 1
    return lightness.clamp(0, 1).mul(255).round().to(torch.uint8).flip(2)
