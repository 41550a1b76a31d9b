"""Sound as numbers, by NumPy alone: reads .wav files, mixes channels to one, resamples, and cuts to a length.

Training reads its recordings through here, and so does what runs an exported model without PyTorch.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from flambeau.errors import DataError, one_line

ENDINGS = frozenset([".wav", ".wave"])
"""Endings of the files that count as recordings in a folder."""

LARGEST = 1 << 30
"""Bytes of a file beyond which it is not read into memory."""

ZEROS = 16
"""Zero crossings of the resampling filter on each side; more make its edge steeper and the work larger."""

ROLLOFF = 0.95
"""Where the resampling filter ends, as a fraction of the lower of the two Nyquist frequencies."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_READ = {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}
_ENCODINGS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 49: "GSM 6.10", 80: "MPEG", 85: "MP3"}
_KINDS = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"\xff\xfb": "MP3", b"FORM": "AIFF", b"RF64": "RF64"}
_CHUNK = 1 << 15
_MOST_CHANNELS = 64


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a .wav file says.

    Attributes:
        rate: Samples a second.
        frames: Samples of each channel.
        channels: How many there are.
        bits: Of a sample.
        real: Whether samples are floating-point numbers.
        begin: The byte that the samples begin at.
    """

    rate: int
    frames: int
    channels: int
    bits: int
    real: bool
    begin: int


def probe(raw: Any, rate: int | None = None) -> tuple[int, int]:
    """Rate and number of samples of a sound, from the header alone where it is a file; see :func:`decode`.

    Raises:
        DataError: It is no such sound.
    """
    if isinstance(raw, str | os.PathLike):
        with _opened(Path(raw)) as file:
            header = _header(file, raw)
            return header.rate, header.frames
    if isinstance(raw, bytes):
        header = _header(io.BytesIO(raw), _NAMELESS)
        return header.rate, header.frames
    samples, known = decode(raw, rate)
    return known, len(samples)


def sound_inputs(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """The recordings that arguments of ``predict`` name: files, and folders with every recording in them.

    Raises:
        DataError: There is no recording in a folder.
    """
    files: list[Path] = []
    for path in map(Path, arguments):
        inside = sorted(found for found in path.rglob("*") if found.suffix.lower() in ENDINGS) if path.is_dir() else []
        if path.is_dir() and not inside:
            raise DataError("There is no recording in the folder.", where=path, expected="files ending in .wav")
        files += inside or [path]
    return [(str(path), path) for path in files]


def read_sound(raw: Any, rate: int, length: int) -> NDArray[np.int16]:
    """A sound in any form that :func:`decode` takes, at one rate and of one length: int16 ``(length,)``.

    Raises:
        DataError: It cannot be read.
    """
    samples, own = decode(raw, rate)
    return fitted(resample(samples, own, rate), length)


def doubt(sound: NDArray[np.int16]) -> str | None:
    """What there is to doubt about a sound as :func:`read_sound` gives it, in a sentence: that it is silent."""
    return None if sound.any() else "the recording is silent"


def decode(raw: Any, rate: int | None = None) -> tuple[NDArray[np.float32], int]:
    """A sound as float32 samples in [-1, 1], mixed to one channel, ``(n,)``, and their number a second.

    Args:
        raw: The path or the bytes of a .wav file (PCM of 8, 16, 24 or 32 bits, or floating point); samples as an array
            or CPU tensor ``(n,)``, ``(n, channels)`` or ``(channels, n)``, whole numbers or reals in [-1, 1]; or such
            samples and their rate as a pair.
        rate: Of samples that come without one.

    Raises:
        DataError: It is none of these, or it is damaged, and how.
    """
    if isinstance(raw, str | os.PathLike):
        with _opened(Path(raw)) as file:
            return _decoded(file, raw)
    if isinstance(raw, bytes):
        return _decoded(io.BytesIO(raw), _NAMELESS)
    if isinstance(raw, tuple | list) and len(raw) == 2 and isinstance(raw[1], int | np.integer):
        return _mixed(raw[0]), int(raw[1])
    if not hasattr(raw, "__array__"):
        raise DataError(
            "This is not a sound.",
            where=_NAMELESS,
            expected="a path, the bytes of a .wav file, samples, or (samples, rate)",
            received=type(raw).__name__,
        )
    if rate is None:
        raise DataError(
            "Samples come without their rate.",
            where=_NAMELESS,
            expected="(samples, rate), or the recipe's audio.rate",
            remedy="Give pairs, or set audio.rate, such as --set audio.rate=16000.",
        )
    return _mixed(raw), rate


_NAMELESS = "sound"


def _opened(path: Path) -> BinaryIO:
    try:
        size = path.stat().st_size
        file = path.open("rb")
    except OSError as error:
        problem = "There is no such file." if not path.exists() else f"The file cannot be read: {error.strerror}."
        raise DataError(problem, where=path) from error
    if size > LARGEST:
        file.close()
        raise DataError(
            "The file is too large to be read into memory.", where=path, expected=f"at most {LARGEST >> 30} GiB"
        )
    return file


def _header(file: BinaryIO, where: object) -> Header:
    """Walks the chunks of a RIFF file up to its samples; source: Microsoft, "Multimedia Programming Interface", 1991,
    and "Multiple channel audio data and WAVE files", 2001."""
    start = file.read(12)
    if start[:4] != b"RIFF" or start[8:12] != b"WAVE":
        raise _no_wave(start, where)
    form: tuple[int, ...] | None = None
    while len(head := file.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"fmt ":
            body = file.read(size + size % 2)
            if len(body) < 16:
                break
            form = struct.unpack("<HHIIHH", body[:16])
            if form[0] == _EXTENSIBLE and len(body) >= 26:
                form = (int.from_bytes(body[24:26], "little"), *form[1:])
        elif name == b"data":
            return _with_samples(file, form, size, where)
        else:
            file.seek(size + size % 2, os.SEEK_CUR)
    raise DataError("The file is cut short: it holds no samples.", where=where, remedy="Replace or remove it.")


def _with_samples(file: BinaryIO, form: tuple[int, ...] | None, size: int, where: object) -> Header:
    if form is None:
        raise DataError("The file is damaged: nothing says what its samples mean.", where=where)
    kind, channels, rate, _, _, bits = form
    if (kind, bits) not in _READ:
        encoding = {_PCM: "PCM", _FLOAT: "floating point"}.get(kind) or _ENCODINGS.get(kind, f"encoding {kind}")
        raise DataError(
            "The samples are stored in a way that is not read here.",
            where=where,
            expected="PCM of 8, 16, 24 or 32 bits, or floating point",
            received=f"{encoding}, {bits} bits",
            remedy="Convert it: ffmpeg -i OLD.wav -c:a pcm_s16le NEW.wav",
        )
    if not 1 <= channels <= _MOST_CHANNELS or not 1 <= rate <= 1_000_000:
        raise DataError("The header is damaged.", where=where, received=f"{channels} channels, {rate} samples a second")
    begin = file.tell()
    there = file.seek(0, os.SEEK_END) - begin
    # Programs that write into a pipe do not know the size in advance, and say 0 or the largest number.
    stated = there if size in (0, 0xFFFFFFFF, 0x7FFFFFFF) else size
    if stated > there:
        raise DataError(
            "The file is cut short.",
            where=where,
            expected=f"{stated:,} bytes of samples",
            received=f"{there:,}",
            remedy="Replace or remove it, or leave such files out with --on-bad skip.",
        )
    frames = stated // (channels * bits // 8)
    if not frames:
        raise DataError("The recording is empty.", where=where, remedy="Remove it.")
    return Header(rate, frames, channels, bits, kind == _FLOAT, begin)


def _no_wave(start: bytes, where: object) -> DataError:
    kind = next((name for mark, name in _KINDS.items() if start.startswith(mark)), None)
    received = "an empty file" if not start else f"a file of another kind ({kind})" if kind else "unknown data"
    return DataError(
        "The file is not a .wav recording.",
        where=where,
        expected="RIFF WAVE",
        received=received,
        remedy="Convert it (ffmpeg -i OLD NEW.wav), or leave such files out with --on-bad skip.",
    )


def _decoded(file: BinaryIO, where: object) -> tuple[NDArray[np.float32], int]:
    header = _header(file, where)
    file.seek(header.begin)
    width = header.bits // 8
    data = file.read(header.frames * header.channels * width)
    values: NDArray[np.floating[Any]]
    if header.real:
        values = np.frombuffer(data, dtype=f"<f{width}").astype(np.float32)
    elif width == 1:
        values = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    elif width == 3:
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
        # The sign is in the last byte, so the three are shifted to the top of 32 bits.
        values = ((parts[:, 0] << 8) | (parts[:, 1] << 16) | (parts[:, 2] << 24)).astype(np.float32) / 2**31
    else:
        values = np.frombuffer(data, dtype=f"<i{width}").astype(np.float32) / 2 ** (header.bits - 1)
    if not np.isfinite(values).all():
        raise DataError("Some samples are not finite numbers.", where=where, remedy="Replace or remove the file.")
    return values.reshape(-1, header.channels).mean(1, dtype=np.float32), header.rate


def _mixed(samples: Any) -> NDArray[np.float32]:
    try:
        values = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError("The samples are no array.", where=_NAMELESS, received=one_line(error)) from error
    if values.ndim not in (1, 2) or values.size == 0 or values.dtype.kind not in "iuf":
        raise DataError(
            "The samples do not have the shape of a sound.",
            where=_NAMELESS,
            expected="(n,), (n, channels) or (channels, n)",
            received=f"{values.dtype} of shape {values.shape}",
        )
    if values.dtype.kind != "f":
        half = 2.0 ** (8 * values.dtype.itemsize - 1)
        values = (values - half * (values.dtype.kind == "u")) / half
    if values.ndim == 2:
        values = values.mean(int(values.shape[0] > values.shape[1]))
    mixed = values.astype(np.float32)
    if not np.isfinite(mixed).all():
        raise DataError("Some samples are not finite numbers.", where=_NAMELESS)
    return mixed


def resample(samples: NDArray[np.float32], rate: int, new_rate: int) -> NDArray[np.float32]:
    """Samples ``(n,)`` float32 at another rate, ``(ceil(n · new / old),)``: a sinc filter under a Hann window.

    Frequencies above 95 % of the lower Nyquist frequency are taken out. Outside the recording there is silence.

    Args:
        samples: The signal.
        rate: Its samples a second.
        new_rate: Those wanted.

    Example:
        >>> resample(np.ones(8, dtype=np.float32), 8000, 4000).shape
        (4,)
    """
    if rate == new_rate:
        return samples
    divisor = gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    cutoff = ROLLOFF * min(1.0, up / down)
    half = int(np.ceil(ZEROS / cutoff))
    wanted = -(-len(samples) * up // down)
    taps = np.arange(-half, half + 1)
    windows = sliding_window_view(np.pad(samples, (half, half + down + 1)), len(taps))
    made = np.empty(wanted, dtype=np.float32)
    for first in range(0, wanted, _CHUNK):
        # Output i lies at the input's place i · down / up: a whole number, and a part that has only `up` values.
        place = np.arange(first, min(first + _CHUNK, wanted)) * down
        phases, which = np.unique(place % up, return_inverse=True)
        offset = (taps - (phases / up)[:, None]) * cutoff
        window = np.where(np.abs(offset) < ZEROS, np.cos(np.pi * offset / (2 * ZEROS)) ** 2, 0.0)
        filters = (cutoff * np.sinc(offset) * window).astype(np.float32)
        made[first : first + _CHUNK] = (windows[place // up] * filters[which]).sum(1)
    return made


def fitted(samples: NDArray[np.float32], length: int) -> NDArray[np.int16]:
    """Samples ``(n,)`` as int16 ``(length,)``: silence follows what is shorter, and of what is longer the stretch with
    the most energy is taken."""
    if len(samples) > length:
        energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
        begin = int((energy[length:] - energy[:-length]).argmax())
        samples = samples[begin : begin + length]
    whole = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    return np.pad(whole, (0, length - len(whole)))
