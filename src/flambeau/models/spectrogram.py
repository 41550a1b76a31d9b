"""Log-mel spectrograms as the first layer of a network, so that sounds become pictures on the device, in batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flambeau.core import Facts
from flambeau.errors import ModelError

FLOOR = 1e-6
"""Added to energies before the logarithm: a full-scale sine has about 0.1, the last bit of 16 some 1e-10."""

_CHUNK = 256


class LogMel(nn.Module):
    """The logarithm of the energy in mel bands over time: ``(N, L)`` to ``(N, 1, mels, frames)`` float32.

    Frames are cut out under a Hann window, centred every ``hop`` samples from the first one on (silence lies beyond
    both ends), and their power spectra are summed by triangular bands whose centres are evenly spaced in mel. Mel is
    HTK's, ``2595 log10(1 + f / 700)``, and every triangle has the height 1. Quantities are divided by the window's
    energy, so that they do not depend on its length.

    Args:
        rate: Samples a second.
        mels: Bands.
        window: Samples in a frame.
        hop: Samples between two frames.

    Attributes:
        window: The window, float32 ``(window,)``.
        bands: The weight of each frequency in each band, float32 ``(mels, bins)``.

    Example:
        >>> LogMel(8000, mels=40, window=256, hop=80)(torch.zeros(2, 8000, dtype=torch.int16)).shape
        torch.Size([2, 1, 40, 101])
    """

    window: Tensor
    bands: Tensor

    def __init__(self, rate: int, *, mels: int, window: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.size = points(window)
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.register_buffer("bands", mel_bands(rate, self.size, mels), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        """The spectrograms of sounds ``(N, L)``, int16 or, in [-1, 1], floating point."""
        values = sound.float() / 32768 if sound.dtype == torch.int16 else sound.float()
        spectrum = torch.stft(
            values,
            self.size,
            hop_length=self.hop,
            win_length=len(self.window),
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(-1) / self.window.square().sum()
        return (self.bands @ power + FLOOR).log().unsqueeze(1)


def points(window: int) -> int:
    """The points of the Fourier transform for a window of so many samples: a power of two, at least twice as many.

    The lowest mel bands are narrower than the frequencies of a transform no longer than the window lie apart.
    """
    return 2 << max(1, window - 1).bit_length()


def frames(length: int, hop: int) -> int:
    """How many frames a sound of so many samples has."""
    return length // hop + 1


def mel_bands(rate: int, size: int, mels: int) -> Tensor:
    """Triangles evenly spaced in mel from 0 Hz to half the rate, float32 ``(mels, size // 2 + 1)``.

    Args:
        rate: Samples a second.
        size: Points of the Fourier transform.
        mels: Bands.

    Raises:
        ModelError: A band is so narrow that no frequency falls into it.

    Example:
        >>> bands = mel_bands(8000, 256, 10)
        >>> bands.shape, bool((bands.sum(0)[4:-20] > 0).all())
        (torch.Size([10, 129]), True)
    """
    top = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700, dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(0, 1, mels + 2, dtype=torch.float64) * top / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    bands = torch.minimum(rising, falling).clamp(min=0).float()
    if bool((bands.sum(1) == 0).any()):
        raise ModelError(
            "The mel bands are so narrow that some of them hold no frequency.",
            where="audio.mels",
            received=f"{mels} bands at {rate:,} samples a second and a transform of {size} points",
            remedy="Take fewer bands (audio.mels) or a longer window (audio.window).",
        )
    return bands


class SoundClassifier(nn.Module):
    """A picture network on log-mel spectrograms, which it makes and normalises itself.

    Args:
        network: From float32 ``(N, 1, mels, frames)`` to logits ``(N, K)``.
        facts: ``rate``, ``window`` and ``hop`` in samples, ``size`` ``[mels, frames]``, and ``normalize``.

    Attributes:
        normalised: Whether bands are to be normalised.
        mean: Of each band over the training split, float32 ``(mels, 1)``; 0 until :meth:`normalise` is called.
        std: The standard deviation, as ``mean``; 1 until then.
        temperature: Divides the logits when probabilities are wanted; ``forward`` leaves it alone.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(self, network: nn.Module, facts: Facts) -> None:
        super().__init__()
        mels = facts["size"][0]
        self.spectrogram = LogMel(facts["rate"], mels=mels, window=facts["window"], hop=facts["hop"])
        self.network = network
        self.normalised = bool(facts.get("normalize", True))
        self.register_buffer("mean", torch.zeros(mels, 1))
        self.register_buffer("std", torch.ones(mels, 1))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, sound: Tensor, masks: Tensor | None = None) -> Tensor:
        """Logits ``(N, K)`` of sounds ``(N, L)``.

        Args:
            sound: int16, or float32 in [-1, 1].
            masks: int64 ``(N, M, 4)``: bands from, to, frames from, to of rectangles that are set to the mean, as
                SpecAugment does (Park et al. 2019, arXiv 1904.08779).
        """
        pictures = (self.spectrogram(sound) - self.mean) / self.std
        if masks is not None:
            pictures = masked(pictures, masks)
        logits: Tensor = self.network(pictures)
        return logits

    @torch.no_grad()
    def normalise(self, sound: Tensor) -> None:
        """Takes mean and standard deviation of each band from sounds ``(N, L)`` of the training split."""
        mels = len(self.mean)
        total, squares, count = torch.zeros(mels).double(), torch.zeros(mels).double(), 0
        for part in torch.split(sound, _CHUNK):
            values = self.spectrogram(part.to(self.mean.device)).squeeze(1).cpu().double()
            total += values.sum((0, 2))
            squares += values.square().sum((0, 2))
            count += values.shape[0] * values.shape[2]
        mean = total / max(1, count)
        # A band that is always silent would otherwise be divided by nothing.
        std = (squares / max(1, count) - mean.square()).clamp(min=1e-4).sqrt()
        self.mean.copy_(mean.unsqueeze(1))
        self.std.copy_(std.unsqueeze(1))


def masked(pictures: Tensor, masks: Tensor) -> Tensor:
    """Spectrograms ``(N, 1, H, W)`` with rectangles ``(N, M, 4)`` (rows from, to, columns from, to) set to 0."""
    rows = torch.arange(pictures.shape[2], device=pictures.device).view(1, 1, -1, 1)
    columns = torch.arange(pictures.shape[3], device=pictures.device).view(1, 1, 1, -1)
    top, bottom, left, right = masks.to(pictures.device)[..., None, None].unbind(2)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return pictures.masked_fill(inside.any(1, keepdim=True), 0.0)
