"""Picture files up to their headers: which are opened at all, what the header says, and what the rules refuse.

Nothing here decodes pixels, so that a hostile file costs no more than its header.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from flambeau.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from flambeau.recipe import Images

EXTENSIONS = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm",
    ".heic", ".heif",
])  # fmt: skip
"""Endings of the files that count as pictures in a folder."""

_UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
)
"""What Pillow and its plug-ins raise about files that they cannot open."""

ORIENTATION = 0x0112
_TURNED = {5, 6, 7, 8}


@dataclass(frozen=True, slots=True)
class PictureRules:
    """What a picture must be, and what transparency is laid on.

    Attributes:
        background: Red, green and blue, 0 to 255.
        max_megapixels: Refused above this many million pixels, from the header alone.
        min_side: Refused when a side is shorter than this many pixels.
        max_aspect: Refused when one side is longer than this many times the other.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    max_megapixels: float = 25.0
    min_side: int = 2
    max_aspect: float = 20.0

    @classmethod
    def of(cls, images: Images) -> PictureRules:
        """The rules in a recipe's ``images`` part."""
        return cls(images.background, images.max_megapixels, images.min_side, images.max_aspect)

    @classmethod
    def from_facts(cls, values: Mapping[str, Any]) -> PictureRules:
        """The inverse of :meth:`to_facts`."""
        return cls(**{**values, "background": tuple(values["background"])})

    def to_facts(self) -> dict[str, Any]:
        """The rules as JSON values, to be stored with a model."""
        return {**asdict(self), "background": list(self.background)}


DEFAULT_RULES = PictureRules()


def picture_inputs(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """The pictures that arguments of ``predict`` name: files, and folders with every picture in them.

    Raises:
        DataError: There is no picture in a folder.
    """
    files: list[Path] = []
    for path in map(Path, arguments):
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(entry for entry in path.rglob("*") if entry.suffix.lower() in EXTENSIONS)
        if not inside:
            raise DataError(
                "There is no picture in the folder.",
                where=path,
                expected=f"files ending in {', '.join(sorted(EXTENSIONS))}",
            )
        files += inside
    return [(str(path), path) for path in files]


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a picture says, with the orientation of its EXIF data taken into account.

    Attributes:
        width: Pixels across.
        height: Pixels down.
        channels: 1 or 3, as decoded.
        several: Whether it is an animation or a file of several pages.
    """

    width: int
    height: int
    channels: int
    several: bool = False


def read_header(
    raw: str | os.PathLike[str] | bytes, rules: PictureRules = DEFAULT_RULES, *, where: str = "the given bytes"
) -> Header:
    """What the header of a picture says, a file's or that of its bytes (called so in errors).

    Raises:
        DataError: It is not a picture, or the rules refuse its size.
    """
    if isinstance(raw, bytes):
        with quiet(), open_picture(io.BytesIO(raw), where, rules) as picture:
            return header_of(picture, where, rules)
    with quiet(), opened(raw) as file, open_picture(file, raw, rules) as picture:
        return header_of(picture, raw, rules)


def header_of(picture: Image.Image, where: Any, rules: PictureRules) -> Header:
    """What the header of an opened picture says.

    Raises:
        DataError: The header is damaged.
    """
    try:
        several = bool(getattr(picture, "is_animated", False))
    except Exception as error:
        raise DataError("The header of the picture is damaged.", where=printable(where), received=error) from error
    width, height = picture.size
    # Pillow turns the size of a TIFF itself.
    if orientation(picture) in _TURNED and picture.format != "TIFF":
        width, height = height, width
    return Header(width, height, decoded_channels(picture, rules), several)


def orientation(picture: Image.Image) -> int:
    """The orientation that the EXIF data states, 1 (upright) to 8; damaged EXIF data state nothing."""
    # Pillow would decode a whole PNG to see whether EXIF data come at its end.
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1
    try:
        found = picture.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def check_size(width: int, height: int, rules: PictureRules, *, where: object = None) -> None:
    """Refuses a size that the rules refuse.

    Raises:
        DataError: The picture is too large, too small, or too long for its width.
    """
    if width * height > rules.max_megapixels * 1e6:
        raise DataError(
            f"The picture has {width} x {height} pixels, which is {width * height / 1e6:.4g} megapixels.",
            where=where,
            expected=f"at most {rules.max_megapixels:g} megapixels (images.max_megapixels)",
            remedy="Scale it down, or raise images.max_megapixels if it is what it seems.",
        )
    if min(width, height) < rules.min_side:
        raise DataError(
            f"The picture has only {width} x {height} pixels.",
            where=where,
            expected=f"at least {rules.min_side} pixels a side (images.min_side)",
            remedy="Remove it, or lower images.min_side.",
        )
    if max(width, height) > rules.max_aspect * min(width, height):
        raise DataError(
            f"The picture has {width} x {height} pixels, so one side is many times the other.",
            where=where,
            expected=f"a ratio of at most {rules.max_aspect:g} (images.max_aspect)",
            remedy="Crop it, or raise images.max_aspect.",
        )


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A regular file, open for reading; pipes and devices are never opened."""
    try:
        check_regular(Path(path).stat(), path)
        # Between the two checks the file may have become a pipe, which an open that blocks would wait for.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise DataError(
            "There is no such file; if it was there when the data was scanned, it has vanished since.",
            where=printable(path),
            remedy="Check the path, or put the file back and start again.",
        ) from error
    except OSError as error:
        raise DataError(f"The file cannot be opened: {error.strerror}.", where=printable(path)) from error
    with os.fdopen(number, "rb") as file:
        check_regular(os.fstat(number), path)
        yield file


def check_regular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    """Refuses what is not a regular file, and an empty one.

    Raises:
        DataError: It is a folder, a pipe, a socket or a device, or it holds nothing.
    """
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(found.st_mode):
        kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
        raise DataError(
            f"This is {kind}, not a regular file; it was not opened.", where=printable(path), remedy="Remove it."
        )
    if found.st_size == 0:
        raise DataError("The file is empty.", where=printable(path), remedy="Replace or remove it.")


@contextlib.contextmanager
def open_picture(file: BinaryIO, where: Any, rules: PictureRules) -> Iterator[Image.Image]:
    """A picture of which only the header has been read, within the rules."""
    if _is_heif(file):
        _open_heif(where)
    try:
        picture = Image.open(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"The header of the picture declares far too many pixels: {error}",
            where=printable(where),
            expected=f"at most {rules.max_megapixels:g} megapixels (images.max_megapixels)",
            remedy="Remove the file, unless you know where it comes from.",
        ) from error
    except _UNREADABLE as error:
        raise DataError(
            "The file is not a picture that can be read.",
            where=printable(where),
            received=_looks_like(file),
            remedy="Replace or remove it, or leave such files out with --on-bad skip.",
        ) from error
    with picture:
        check_size(*picture.size, rules, where=printable(where))
        yield picture


def _is_heif(file: BinaryIO) -> bool:
    """Whether a file begins as those of phones do (ISO 23008-12: a box ``ftyp`` with one of these brands)."""
    start = file.read(12)
    file.seek(0)
    return start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def _open_heif(where: Any) -> None:
    """Teaches Pillow to read HEIF.

    Raises:
        MissingExtra: pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        missing = MissingExtra("pillow-heif", "heic", "reading .heic and .heif pictures")
        missing.where = printable(where)
        raise missing from error
    if "HEIF" not in Image.OPEN:
        pillow_heif.register_heif_opener()


def _looks_like(file: BinaryIO) -> str:
    file.seek(0)
    start = file.read(512)
    if start.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8")):
        return "the beginning of a picture whose header is damaged or cut short"
    start = start.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg")):
        return "an HTML or XML document"
    return "text" if start and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start) else "unknown data"


_quiet_lock = threading.Lock()
_quiet_users: list[Any] = []


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Pillow's warning about large pictures off the screen: the rules refuse them with an error of their own.

    Warning filters belong to the whole process, so the first user of many at the same time sets them and the last one
    puts them back.
    """
    with _quiet_lock:
        if not _quiet_users:
            catcher = warnings.catch_warnings()
            catcher.__enter__()
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            _quiet_users.append(catcher)
        _quiet_users.append(None)
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users.pop()
            if len(_quiet_users) == 1:
                _quiet_users.pop().__exit__(None, None, None)


def decoded_channels(picture: Image.Image, rules: PictureRules) -> int:
    """The channels that a picture is decoded to: grey on a coloured background is no longer grey."""
    if picture.mode in {"1", "L"} or picture.mode.startswith("I"):
        transparent = "transparency" in picture.info and not picture.mode.startswith("I")
    elif picture.mode in {"LA", "La"}:
        transparent = True
    else:
        return 3
    return 3 if transparent and len(set(rules.background)) > 1 else 1


def printable(where: Any) -> str:
    # A name that is not UTF-8 cannot be printed as it is.
    return (
        os.fsencode(where).decode("utf-8", "backslashreplace") if isinstance(where, str | os.PathLike) else str(where)
    )
