"""Downloads published data sets through torchvision's classes into the user cache, safely beside other processes.

Everything arrives in a private folder beside its place, is verified there, and is then renamed; a lock file makes a
second process wait for the first and then use its files.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flambeau.data.cache import lock
from flambeau.data.datasets.locate import VARIABLE, Layout, search
from flambeau.errors import DataError, one_line

_TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as lost."""


def mnist_like(
    kind: str, *, mirrors: Sequence[str] | None = None, resources: Sequence[tuple[str, str]] | None = None
) -> Callable[[Path], None]:
    """A function that downloads MNIST, FashionMNIST or KMNIST below a folder, as torchvision does (checksums, mirrors).

    Args:
        kind: The name of torchvision's class.
        mirrors: Addresses to use in place of torchvision's, each ending in a slash.
        resources: File names and MD5 sums to use in place of torchvision's.
    """

    def fetch(folder: Path) -> None:
        import torchvision.datasets

        base = getattr(torchvision.datasets, kind)
        changes = {name: list(value) for name, value in (("mirrors", mirrors), ("resources", resources)) if value}
        # torchvision takes its mirrors from the class and the folder from the class name: a subclass of the same name
        # changes the one and keeps the other, without touching torchvision.
        type(kind, (base,), changes)(folder, download=True)

    return fetch


def cifar(kind: str, *, url: str | None = None, md5: str | None = None) -> Callable[[Path], None]:
    """A function that downloads CIFAR-10 or CIFAR-100 below a folder, as torchvision does.

    Args:
        kind: The name of torchvision's class.
        url: The address of the archive to use in place of torchvision's.
        md5: The sum of that file to use in place of torchvision's.
    """

    def fetch(folder: Path) -> None:
        import torchvision.datasets
        from torchvision.datasets.utils import download_url

        base = getattr(torchvision.datasets, kind)
        # Only the download is torchvision's: its class would go on to unpickle the files without restrictions.
        download_url(url or base.url, folder, base.filename, md5 or base.tgz_md5)

    return fetch


def into_cache(layout: Layout, cache: Path, fetch: Callable[[Path], None], *, looked_in: Sequence[Path] = ()) -> None:
    """Fetches the files of a data set into the cache folder, or waits for another process that is doing so.

    Raises:
        DataError: The cache cannot be written, or the download failed; it says where was looked and what is wanted.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f".{layout.name}.lock").open("a+b") as file:
            lock(file)
            if search(layout, [cache], []) is not None:
                return
            print(f"Downloading {layout.name} into {cache}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=f".{layout.name}-") as private:
                with _patience(), contextlib.redirect_stdout(sys.stderr):
                    fetch(Path(private))
                _move_in(layout, Path(private), cache)
    except (OSError, RuntimeError, EOFError) as error:
        raise _unavailable(layout, cache, looked_in, error) from error


def _move_in(layout: Layout, private: Path, cache: Path) -> None:
    damaged: list[str] = []
    if search(layout, [private], damaged) is None:
        raise RuntimeError("what arrived does not have the published checksums")
    wanted = {*layout.sums, *([layout.archive] if layout.archive else [])}
    for file in sorted(private.rglob("*")):
        if file.is_file() and file.name in wanted:
            target = cache / file.relative_to(private)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


def _unavailable(layout: Layout, cache: Path, looked_in: Sequence[Path], error: Exception) -> DataError:
    files = [name if name.endswith(".gz") else f"{name}[.gz]" for name in layout.sums]
    names = ", ".join([layout.archive] if layout.archive else files)
    places = ", ".join(str(place) for place in looked_in)
    return DataError(
        f"{layout.name} is not on this machine and could not be downloaded: {one_line(error)}",
        where=layout.name,
        expected=f"{names} in one of: {places or cache}",
        received=f"{type(error).__name__} while downloading into {cache}",
        remedy=f"Put the files into a folder and set {VARIABLE} to it (or data.root), or try again with a network. "
        "fashion-mnist-mini and digits need no download.",
    )


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
