from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import pickle
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from flambeau.data.datasets import (
    cifar10,
    cifar100,
    digits,
    download,
    fashion_mnist,
    fashion_mnist_mini,
    idx,
    kmnist,
    locate,
    mnist,
)
from flambeau.errors import DataError

NAMES = list(mnist.SUMS)
REAL = os.environ.get("FLAMBEAU_DATA", "")
needs_real_data = pytest.mark.skipif(not REAL, reason="FLAMBEAU_DATA names no folder with the published data sets")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def small_files(seed: int = 0) -> dict[str, bytes]:
    generator = torch.Generator().manual_seed(seed)
    files = {}
    for part, n in (("train", 6), ("t10k", 4)):
        pixels = torch.randint(0, 256, (n, 28, 28), generator=generator, dtype=torch.uint8)
        files[f"{part}-images-idx3-ubyte"] = idx.dump(pixels)
        files[f"{part}-labels-idx1-ubyte"] = idx.dump(torch.arange(n, dtype=torch.uint8))
    return {name: files[name] for name in NAMES}


FILES = small_files()
LAYOUT = mnist.layout(
    "mnist",
    {name: md5(content) for name, content in FILES.items()},
    mnist.LAYOUT.folders,
    others=frozenset(md5(content) for content in small_files(1).values()),
)


def lay(folder: Path, files: dict[str, bytes], *, packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def refuse(folder: Path) -> None:
    raise AssertionError("nothing should have been downloaded")


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Looks for data in places of the test's own, except where the test is about the real data."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOCALAPPDATA", str(home / "local"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.chdir(home)
    if "real" not in request.node.name:
        monkeypatch.delenv("FLAMBEAU_DATA", raising=False)


def test_mini_is_the_beginning_of_fashion_mnist() -> None:
    data = fashion_mnist_mini.load()
    assert {name: tuple(split["image"].shape) for name, split in data.splits.items()} == {
        "train": (5000, 1, 28, 28),
        "test": (1000, 1, 28, 28),
    }
    image = data.splits["test"].tensor("image")
    assert image.dtype == torch.uint8 and data.splits["train"].tensor("label").dtype == torch.int64
    # The first labels of both parts, as published.
    assert data.splits["train"].tensor("label")[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert data.splits["test"].tensor("label")[:5].tolist() == [9, 2, 1, 1, 6]
    assert data.info["classes"][9] == "Ankle boot"
    assert data.hash == fashion_mnist_mini.load().hash and len(data.hash) == 64


@needs_real_data
def test_mini_equals_the_real_set() -> None:
    mini, real = fashion_mnist_mini.load(), fashion_mnist.load()
    for name, n in (("train", 5000), ("test", 1000)):
        for column in ("image", "label"):
            assert torch.equal(mini.splits[name].tensor(column), real.splits[name].tensor(column)[:n])


def test_digits_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    theirs, ours = sklearn.load_digits(), digits.load().splits["train"]
    assert np.array_equal(ours.tensor("image")[:, 0].numpy(), np.rint(theirs.images * 255 / 16))
    assert ours.tensor("label").tolist() == theirs.target.tolist()
    assert digits.load().info["mirror"] is False


@needs_real_data
@pytest.mark.parametrize(
    ("module", "shape", "counts"),
    [
        (mnist, (1, 28, 28), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        (fashion_mnist, (1, 28, 28), [6000] * 10),
        (cifar10, (3, 32, 32), [5000] * 10),
    ],
)
def test_real_sets(module: object, shape: tuple[int, ...], counts: list[int]) -> None:
    data = module.load()  # type: ignore[attr-defined]
    train, test = data.splits["train"], data.splits["test"]
    assert tuple(train.tensor("image").shape) == (sum(counts), *shape) and train.tensor("image").dtype == torch.uint8
    assert len(test) == 10_000
    assert train.tensor("label").bincount().tolist() == counts
    assert len(data.info["classes"]) == 10 and data.info["mirror"] is (module is not mnist)


@needs_real_data
def test_real_cifar10_equals_what_torchvision_reads() -> None:
    from torchvision.datasets import CIFAR10

    root = next(part for part in REAL.split(os.pathsep) if (Path(part) / "cifar-10-batches-py").is_dir())
    theirs = CIFAR10(root, train=False)
    ours = cifar10.load().splits["test"]
    assert np.array_equal(ours.tensor("image").permute(0, 2, 3, 1).numpy(), theirs.data)
    assert ours.tensor("label").tolist() == theirs.targets


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "MNIST/raw", "MNIST", "mnist"])
def test_every_layout_is_found(tmp_path: Path, below: str, packed: bool) -> None:
    root = tmp_path / "somewhere"
    folder = lay(root / below, FILES, packed=packed)
    content, source = locate.obtain(LAYOUT, [root], refuse)
    assert content == FILES and source == folder
    data = mnist.assemble(LAYOUT, mnist.INFO, [root], refuse)
    assert data.splits["test"].tensor("label").tolist() == [0, 1, 2, 3]
    assert tuple(data.splits["train"].tensor("image").shape) == (6, 1, 28, 28)


def test_places_are_searched_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = [tmp_path / "one", tmp_path / "two"]
    monkeypatch.setenv("FLAMBEAU_DATA", os.pathsep.join(map(str, stated)))
    given = tmp_path / "given"
    given.mkdir()
    places = [given, *stated, Path("data"), locate.cache_folder(), Path("/usr/share/datasets")]
    assert locate.roots([given]) == places
    for place in reversed(places[:-1]):
        folder = lay(place / "mnist", FILES)
        assert locate.obtain(LAYOUT, [given], refuse)[1] == folder


def test_given_root_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist") as caught:
        mnist.load([tmp_path / "mistyped"])
    assert caught.value.where == str(tmp_path / "mistyped")


def test_files_of_the_other_set_with_the_same_names_are_passed_over(tmp_path: Path) -> None:
    lay(tmp_path, small_files(1))
    right = lay(tmp_path / "mnist", FILES, packed=True)
    assert locate.obtain(LAYOUT, [tmp_path], refuse)[1] == right


@pytest.mark.parametrize("damage", ["flipped", "cut", "not gzip"])
def test_damaged_files_are_named_and_not_downloaded_over(tmp_path: Path, damage: str) -> None:
    folder = lay(tmp_path / "mnist", FILES, packed=True)
    file = folder / f"{NAMES[0]}.gz"
    content = file.read_bytes()
    flipped = bytearray(FILES[NAMES[0]])
    flipped[-1] ^= 1
    broken = {"flipped": gzip.compress(bytes(flipped)), "cut": content[:-40], "not gzip": b"<html>"}
    file.write_bytes(broken[damage])
    with pytest.raises(DataError, match="damaged") as caught:
        locate.obtain(LAYOUT, [tmp_path], refuse)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\0\0\x09\x01\0\0\0\1\0", b"\0\0\x08\x01\0\0\0\2\0", b"\0\0\x08\x03\0\0"])
def test_idx_refuses_what_does_not_fit_its_header(content: bytes) -> None:
    with pytest.raises(DataError, match="IDX"):
        idx.parse(content, where="file")


def test_idx_round_trip() -> None:
    array = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    assert torch.equal(idx.parse(idx.dump(array)), array)


def batch(seed: int) -> bytes:
    return pickle.dumps({"batch_label": f"batch {seed}", "data": bytes(99), "labels": [3, 1, 4, 1]}, protocol=4)


def test_cifar10_from_its_archive_read_member_by_member(tmp_path: Path) -> None:
    batches = {name: batch(number) for number, name in enumerate(cifar10.SUMS)}
    layout = locate.Layout(
        "cifar10", {name: md5(content) for name, content in batches.items()}, cifar10.LAYOUT.folders, "pack.tar.gz"
    )
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "pack.tar.gz", "w:gz") as archive:
        evil = tarfile.TarInfo("../../escaped")
        evil.size = 4
        archive.addfile(evil, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    content, source = locate.obtain(layout, [root], refuse)
    assert content == batches and source == root / "pack.tar.gz"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["home", "pack.tar.gz", "root"]
    assert cifar10.unpickle(content["test_batch"])["labels"] == [3, 1, 4, 1]


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("content", [pickle.dumps({"data": Hostile()}), pickle.dumps(np.dtype), pickle.dumps(eval)])
def test_restricted_unpickler_runs_nothing(tmp_path: Path, content: bytes) -> None:
    try:
        assert cifar10.unpickle(content, where="batch") is np.dtype
    except DataError as error:
        assert error.where == "batch" and "was not loaded" in error.problem
    assert not Path("hacked").exists()


def test_damaged_pickle_is_a_data_error() -> None:
    with pytest.raises(DataError, match="damaged"):
        cifar10.unpickle(batch(0)[:-20])


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    """A web server on this machine with the small files, packed."""
    lay(tmp_path / "www", FILES, packed=True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "www")) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetcher(server: http.server.ThreadingHTTPServer, tmp_path: Path, *before: str) -> object:
    sums = [(path.name, md5(path.read_bytes())) for path in sorted((tmp_path / "www").iterdir())]
    here = f"http://127.0.0.1:{server.server_address[1]}/"
    return download.mnist_like("MNIST", mirrors=[*before, here], resources=sums)


def test_download_goes_into_the_cache_once(
    server: http.server.ThreadingHTTPServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch = fetcher(server, tmp_path, "http://127.0.0.1:9/")  # the first mirror refuses connections
    content, source = locate.obtain(LAYOUT, [], fetch)  # type: ignore[arg-type]
    assert content == FILES and source == locate.cache_folder() / "MNIST" / "raw"
    out, err = capfd.readouterr()
    assert out == "" and f"Downloading mnist into {locate.cache_folder()}" in err
    assert sorted(path.name for path in source.iterdir()) == sorted(NAMES)
    assert [path.name for path in locate.cache_folder().iterdir() if path.is_dir()] == ["MNIST"]
    assert locate.obtain(LAYOUT, [], refuse)[0] == FILES


def test_download_with_a_wrong_checksum_leaves_nothing(server: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    fetch = fetcher(server, tmp_path)
    (tmp_path / "www" / f"{NAMES[1]}.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match="could not be downloaded"):
        locate.obtain(LAYOUT, [], fetch)  # type: ignore[arg-type]
    assert [path for path in locate.cache_folder().rglob("*") if not path.name.endswith(".lock")] == []


def test_without_a_network_the_error_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fashion_mnist.load([tmp_path], mirrors=["http://127.0.0.1:9/"])
    text = str(caught.value)
    for part in ("FLAMBEAU_DATA", "train-images-idx3-ubyte[.gz]", str(tmp_path), str(locate.cache_folder()), "data"):
        assert part in text
    with pytest.raises(DataError, match=r"cifar10 is not on this machine") as caught:
        cifar10.load(url="http://127.0.0.1:9/cifar-10-python.tar.gz")
    assert "cifar-10-python.tar.gz" in str(caught.value.expected)


def test_cifar10_archive_is_downloaded_whole(server: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    content = batch(1)
    with tarfile.open(tmp_path / "www" / "cifar.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    layout = locate.Layout("cifar10", {"test_batch": md5(content)}, cifar10.LAYOUT.folders, "cifar-10-python.tar.gz")
    url = f"http://127.0.0.1:{server.server_address[1]}/cifar.tgz"
    fetch = download.cifar("CIFAR10", url=url, md5=md5((tmp_path / "www" / "cifar.tgz").read_bytes()))
    found, source = locate.obtain(layout, [], fetch)
    assert found == {"test_batch": content} and source == locate.cache_folder() / "cifar-10-python.tar.gz"


def test_kmnist_is_downloaded_and_known_by_the_sums_of_its_packed_files(
    server: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    packed = {path.name: path.read_bytes() for path in (tmp_path / "www").iterdir()}
    sums = {name: md5(packed[name]) for name in kmnist.SUMS}
    layout = mnist.layout("kmnist", sums, kmnist.LAYOUT.folders)
    here = f"http://127.0.0.1:{server.server_address[1]}/"
    fetch = download.mnist_like("KMNIST", mirrors=[here], resources=list(sums.items()))
    data = mnist.assemble(layout, kmnist.INFO, [], fetch)
    folder = locate.cache_folder() / "KMNIST" / "raw"
    assert data.info["source"] == str(folder) and sorted(path.name for path in folder.iterdir()) == sorted(sums)
    assert data.splits["test"].tensor("label").tolist() == [0, 1, 2, 3] and data.info["classes"][9] == "wo"
    assert torch.equal(data.splits["train"].tensor("image"), mnist_of(FILES)) and data.info["mirror"] is False
    assert locate.seen(layout, [locate.cache_folder()]) == folder
    assert mnist.assemble(layout, kmnist.INFO, [], refuse).hash == data.hash
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(DataError, match="damaged"):
        mnist.assemble(layout, kmnist.INFO, [], refuse)
    with pytest.raises(DataError) as caught:
        kmnist.load(mirrors=["http://127.0.0.1:9/"])
    assert "damaged" in str(caught.value)


def mnist_of(files: dict[str, bytes]) -> torch.Tensor:
    return idx.parse(files["train-images-idx3-ubyte"]).unsqueeze(1)


def test_the_sums_are_those_that_torchvision_states() -> None:
    from torchvision.datasets import CIFAR100, KMNIST

    assert dict(KMNIST.resources) == kmnist.SUMS and KMNIST.classes == kmnist.INFO["classes"]
    listed = dict([*CIFAR100.train_list, *CIFAR100.test_list])
    assert listed | {"meta": CIFAR100.meta["md5"]} == cifar100.SUMS
    assert CIFAR100.filename == cifar100.LAYOUT.archive


def test_cifar100_is_downloaded_and_read(server: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
    made = {
        "train": {"data": pixels[:4], "fine_labels": [3, 0, 99, 0], "coarse_labels": [1, 1, 1, 1]},
        "test": {"data": pixels[4:], "fine_labels": [7, 7], "coarse_labels": [1, 1]},
        "meta": {"fine_label_names": [f"thing {number}" for number in range(100)], "coarse_label_names": ["all"]},
    }
    content = {name: pickle.dumps(value, protocol=4) for name, value in made.items()}
    with tarfile.open(tmp_path / "www" / "cifar.tgz", "w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    sums = {name: md5(data) for name, data in content.items()}
    layout = locate.Layout("cifar100", sums, cifar100.LAYOUT.folders, cifar100.LAYOUT.archive)
    url = f"http://127.0.0.1:{server.server_address[1]}/cifar.tgz"
    fetch = download.cifar("CIFAR100", url=url, md5=md5((tmp_path / "www" / "cifar.tgz").read_bytes()))
    data = cifar100.assemble(*locate.obtain(layout, [], fetch))
    assert data.info["source"] == str(locate.cache_folder() / "cifar-100-python.tar.gz")
    assert data.info["classes"][3] == "thing 3" and len(data.info["classes"]) == 100
    train = data.splits["train"]
    assert train.tensor("label").tolist() == [3, 0, 99, 0] and train.tensor("image").dtype == torch.uint8
    assert np.array_equal(train.tensor("image").numpy().reshape(4, -1), pixels[:4])
    lay(tmp_path / "own" / "cifar-100-python", content)
    assert cifar100.assemble(*locate.obtain(layout, [tmp_path / "own"], refuse)).hash == data.hash
    (locate.cache_folder() / "cifar-100-python.tar.gz").unlink()
    with pytest.raises(DataError, match=r"cifar100 is not on this machine") as caught:
        cifar100.load(url="http://127.0.0.1:9/cifar-100-python.tar.gz")
    assert "cifar-100-python.tar.gz" in str(caught.value.expected)


def test_second_downloader_waits_for_the_first(
    server: http.server.ThreadingHTTPServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch = fetcher(server, tmp_path)
    found: list[dict[str, bytes]] = []
    threads = [
        threading.Thread(target=lambda: found.append(locate.obtain(LAYOUT, [], fetch)[0]))  # type: ignore[arg-type]
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [FILES] * 3
    assert capfd.readouterr().err.count("Downloading mnist") == 1


@pytest.mark.slow
def test_second_process_waits_for_the_first(server: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    sums = [(path.name, md5(path.read_bytes())) for path in sorted((tmp_path / "www").iterdir())]
    script = f"""
from flambeau.data.datasets import download, locate, mnist
layout = mnist.layout("mnist", {dict(LAYOUT.sums)!r}, mnist.LAYOUT.folders)
fetch = download.mnist_like("MNIST", mirrors=["http://127.0.0.1:{server.server_address[1]}/"], resources={sums!r})
print(sum(map(len, locate.obtain(layout, [], fetch)[0].values())))
"""
    pipe = subprocess.PIPE
    running = [subprocess.Popen([sys.executable, "-c", script], stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    outputs, errors = zip(*(process.communicate() for process in running), strict=True)
    assert outputs == (f"{sum(map(len, FILES.values()))}\n",) * 3
    assert "".join(errors).count("Downloading mnist") == 1
