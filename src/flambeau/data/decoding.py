"""Picture files to pixels, by Pillow and NumPy alone.

Training reads its pictures through here, and so does what runs an exported model without PyTorch: a picture has the
same pixels in both.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flambeau.data.opening import (
    DEFAULT_RULES,
    PictureRules,
    check_size,
    decoded_channels,
    open_picture,
    opened,
    orientation,
    printable,
    quiet,
)
from flambeau.errors import DataError, one_line

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of each EXIF orientation upright (Exif 2.32, tag 274)."""

Warn = Callable[[str], None]
"""Takes a sentence about something that was read, but is not as it should be."""

Made = TypeVar("Made")


def decode(raw: Any, rules: PictureRules = DEFAULT_RULES, *, warn: Warn | None = None) -> NDArray[np.uint8]:
    """One picture as uint8 ``(H, W, C)`` with 1 or 3 channels, whatever form it comes in. It may be read-only.

    16-bit grey is rescaled, transparency is composited on the background, EXIF orientation is applied, and of several
    frames the first is taken.

    Args:
        raw: A path, the bytes of a file, a picture of Pillow, or a uint8 array ``(H, W)`` or ``(H, W, C)``.
        rules: What is refused, and the background.
        warn: Told of what was read although something is odd about it.

    Raises:
        DataError: It cannot be read, or the rules refuse it.

    Example:
        >>> decode(Image.new("RGB", (4, 2), "white")).shape
        (2, 4, 3)
    """
    with quiet():
        return decode_quietly(raw, rules, warn or ignore)


def decode_quietly(raw: Any, rules: PictureRules, warn: Warn) -> NDArray[np.uint8]:
    """:func:`decode` for callers that are inside :func:`~flambeau.data.opening.quiet` already."""
    if isinstance(raw, np.ndarray):
        return _from_array(raw, rules)
    if isinstance(raw, Image.Image):
        check_size(*raw.size, rules, where="picture")
        return _pixels(raw, rules, "picture")
    if isinstance(raw, bytes | bytearray | memoryview):
        return _from_file(io.BytesIO(raw), "the given bytes", rules, warn)
    if isinstance(raw, str | os.PathLike):
        with opened(raw) as file:
            return _from_file(file, raw, rules, warn)
    raise DataError(
        "This is not a picture.",
        expected="a path, bytes, a picture of Pillow, a uint8 array or a uint8 tensor",
        received=type(raw).__name__,
    )


def each(rows: Sequence[Any], decode_row: Callable[[Any], Made]) -> Iterator[Made | DataError]:
    """Every row decoded, or the error of it, in order; on several threads, since Pillow lets others run meanwhile."""

    def attempt(raw: Any) -> Made | DataError:
        try:
            return decode_row(raw)
        except DataError as error:
            return error

    if len(rows) == 1:  # a thread would take longer to start than a small picture to read
        with quiet():
            yield attempt(rows[0])
        return
    workers = min(8, os.cpu_count() or 1)
    with quiet(), ThreadPoolExecutor(workers) as pool:
        # A few at a time, since decoded pictures can be large.
        for start in range(0, len(rows), 8 * workers):
            yield from pool.map(attempt, rows[start : start + 8 * workers])


def in_channels(picture: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """A picture uint8 ``(H, W, C)`` with 1 or 3 channels in the number asked for, grey as :func:`luma` makes it."""
    if picture.shape[2] == channels:
        return picture
    if channels == 3:
        return np.repeat(picture, 3, axis=2)
    red, green, blue = np.moveaxis(picture.astype(np.int32), 2, 0)
    grey: NDArray[np.uint8] = luma(red, green, blue).astype(np.uint8)
    return grey[:, :, None]


def luma(red: Any, green: Any, blue: Any) -> Any:
    """The grey of a colour, with the weights of ITU-R BT.601 in the integer arithmetic of Pillow's mode L.

    Takes whole numbers, and arrays or tensors of them.

    Example:
        >>> luma(255, 255, 255), luma(255, 0, 0)
        (255, 76)
    """
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _from_file(file: BinaryIO, where: Any, rules: PictureRules, warn: Warn) -> NDArray[np.uint8]:
    with open_picture(file, where, rules) as picture:
        try:
            if getattr(picture, "is_animated", False):
                warn(f"{printable(where)}: The file has several frames; the first was taken.")
            picture.load()
            return _pixels(picture, rules, where)
        except DataError:
            raise
        except Exception as error:
            repaired = _without_end_marker(file) if picture.format == "JPEG" else None
            if repaired is None:
                raise DataError(
                    "The picture is damaged or cut short; its header can be read, its pixels cannot.",
                    where=printable(where),
                    received=one_line(error),
                    remedy="Replace or remove the file, or leave such files out with --on-bad skip.",
                ) from error
        warn(f"{printable(where)}: The JPEG has no end marker; its pixels are complete.")
        return _pixels(repaired, rules, where)


def _without_end_marker(file: BinaryIO) -> Image.Image | None:
    """The picture of a JPEG that lacks nothing but its end marker, or None when pixels are missing too.

    It is decoded twice, with different data before the marker that is put in: where pixels are missing, the two differ.
    """
    file.seek(0)
    content = file.read()
    pictures = []
    for filling in (b"", b"\x5a\xc3\x3c\x96" * 64):
        picture = Image.open(io.BytesIO(content + filling + b"\xff\xd9"), formats=["JPEG"])
        try:
            picture.load()
        except Exception:
            return None
        pictures.append(picture)
    return pictures[0] if pictures[0].tobytes() == pictures[1].tobytes() else None


def _pixels(picture: Image.Image, rules: PictureRules, where: Any) -> NDArray[np.uint8]:
    """The pixels of a loaded picture in any mode of Pillow, upright, uint8 ``(H, W, C)``."""
    turn = orientation(picture)
    if turn in _UPRIGHT:
        information = picture.info
        picture = picture.transpose(_UPRIGHT[turn])
        picture.info = information
    mode = picture.mode
    if mode.startswith("I"):
        return _from_wide(picture, where)
    if mode == "F":
        raise DataError(
            "The picture holds floating-point values, whose range is not known.",
            where=printable(where),
            expected="8 or 16 bits a channel",
            remedy="Save it with 8 or 16 bits a channel.",
        )
    if mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in picture.info:
        return _composited(picture, rules)
    if mode not in {"L", "RGB"}:
        picture = picture.convert("L" if mode == "1" else "RGB")
    return _with_channels(np.asarray(picture))


def _from_wide(picture: Image.Image, where: Any) -> NDArray[np.uint8]:
    values = np.asarray(picture).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise DataError(
            "The picture holds 32-bit values beyond the range of 16 bits.",
            where=printable(where),
            expected="values from 0 to 65535",
            received=f"values from {values.min()} to {values.max()}",
            remedy="Save it with 8 or 16 bits a channel.",
        )
    return _with_channels(((values * 255 + 32767) // 65535).astype(np.uint8))


def _composited(picture: Image.Image, rules: PictureRules) -> NDArray[np.uint8]:
    grey = decoded_channels(picture, rules) == 1
    values = np.asarray(picture.convert("LA" if grey else "RGBA")).astype(np.int32)
    background = np.array(rules.background[:1] if grey else rules.background, dtype=np.int32)
    colour, alpha = values[..., :-1], values[..., -1:]
    return _with_channels(((colour * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8))


def _with_channels(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return array[:, :, None] if array.ndim == 2 else array


def _from_array(array: NDArray[Any], rules: PictureRules) -> NDArray[np.uint8]:
    shape_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not shape_fits:
        raise DataError(
            "This array is not a picture.",
            expected="uint8 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
            received=f"{array.dtype} of shape {array.shape}",
            remedy=remedy_for(array.dtype != np.uint8, array.ndim == 3 and array.shape[0] in (1, 3, 4), "array"),
        )
    check_size(array.shape[1], array.shape[0], rules, where="array")
    if array.ndim == 3 and array.shape[2] == 4:
        return _composited(Image.fromarray(np.ascontiguousarray(array)), rules)
    return _with_channels(array)


def remedy_for(wrong_type: bool, turned: bool, what: str) -> str:
    """What to do about an array or tensor that is no picture."""
    if wrong_type:
        return "Give whole numbers from 0 to 255; for values from 0 to 1, multiply by 255, round and cast to uint8."
    if turned:
        order = "(H, W, C)" if what == "array" else "(C, H, W)"
        return f"The channels seem to be in the wrong place: bring the {what} into the order {order}."
    return f"Give one picture, as a two- or three-dimensional {what}."


def ignore(sentence: str) -> None:
    """Tells nobody."""
