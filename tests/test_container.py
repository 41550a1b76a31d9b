"""The folder that a container is built from: what is in it, and that its server needs no more than that."""

from __future__ import annotations

import base64
import csv
import hashlib
import http.client
import importlib.metadata
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Command
from dockerfiles import Instruction, instructions
from packaging.requirements import Requirement
from PIL import Image

import flambeau
from flambeau import files
from flambeau.container import requirements
from flambeau.container.wheel import wheel
from flambeau.container.writing import write_container
from flambeau.errors import MissingExtra, RunError, UsageError

sys.path.insert(0, str(Path(__file__).parent / "contracts"))
from small_data import case

NOT_NEEDED = {"torch", "torchvision", "matplotlib", "safetensors", "jinja2", "onnx", "onnxscript", "tokenizers"}


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as an ONNX file."""
    path = tmp_path_factory.mktemp("exported") / "digits.onnx"
    flambeau.export_model(trained, path, "onnx")
    return path


@pytest.fixture(scope="module")
def folder(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A container's folder. Not to be changed."""
    out = tmp_path_factory.mktemp("container") / "box"
    write_container([exported], out)
    return out


def test_the_folder_holds_what_a_container_needs(folder: Path, exported: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    package = f"flambeau-{flambeau.__version__}-py3-none-any.whl"
    assert names == {
        *(".dockerignore", "Dockerfile", "README.md", "compose.yaml", "requirements.txt"),
        *("digits.onnx", package),
    }
    assert (folder / "digits.onnx").read_bytes() == exported.read_bytes()
    sent = {line[1:] for line in (folder / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == {"requirements.txt", "digits.onnx", package}


def test_the_dockerfile_keeps_to_what_linters_ask(folder: Path) -> None:
    found = instructions(folder / "Dockerfile")
    names = [each.name for each in found]
    assert found[0] == Instruction("FROM", f"python:{sys.version_info.major}.{sys.version_info.minor}-slim")
    assert names.count("FROM") == names.count("ENTRYPOINT") == names.count("CMD") == names.count("HEALTHCHECK") == 1
    for each in found:
        if each.name in ("RUN", "ENTRYPOINT", "CMD", "HEALTHCHECK"):
            assert each.words, each  # the exec form
    assert [each.rest for each in found if each.name == "USER"] == ["10001"]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "RUN" not in names[names.index("USER") :]
    assert "ADD" not in names
    copied = {name for each in found if each.name == "COPY" for name in each.rest.split()[:-1]}
    assert copied == {path.name for path in folder.iterdir() if path.suffix in (".txt", ".whl", ".onnx")}
    installs = [each.words for each in found if each.name == "RUN" and each.words[0] == "pip"]
    assert all("--no-deps" in words for words in installs)
    assert not [word for words in installs for word in words[2:] if re.fullmatch(r"[a-z-]+", word) and word[0] != "-"]


def test_compose_refuses_to_go_without_a_token_and_publishes_to_this_machine(folder: Path) -> None:
    service = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["flambeau"]
    assert re.match(r"\$\{FLAMBEAU_TOKEN:\?.+\}$", service["environment"]["FLAMBEAU_TOKEN"])
    assert [port.split(":")[0] for port in service["ports"]] == ["127.0.0.1"]
    assert service["read_only"] is True


def test_a_model_comes_as_it_is_for_torch(trained: Path, tmp_path: Path) -> None:
    told = write_container([f"mine={trained}"], tmp_path / "box", engine="torch")
    assert (tmp_path / "box" / "mine.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    runs = [each.words for each in instructions(tmp_path / "box" / "Dockerfile") if each.name == "RUN"]
    torch = importlib.metadata.version("torch").partition("+")[0]
    assert any(f"torch=={torch}" in words and any("cpu" in word for word in words) for words in runs)
    assert {"safetensors", "matplotlib", "fastapi"} <= set(told["requirements"])
    assert not {"torch", "torchvision", "onnxruntime"} & set(told["requirements"])
    assert not [name for name in told["requirements"] if name.startswith(("nvidia", "triton"))]


@pytest.mark.parametrize("more", [(), ("tokenizers",)])
def test_everything_that_the_pinned_packages_need_is_pinned(more: tuple[str, ...]) -> None:
    pins = requirements.pinned("onnx", more)
    assert not (NOT_NEEDED - set(more)) & set(pins)
    assert {"numpy", "pillow", "onnxruntime", "typer", "fastapi", "uvicorn", "uvloop", *more} <= set(pins)
    for name, version in pins.items():
        assert version == importlib.metadata.version(name)
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert needed.specifier.contains(pins[needed.name.lower().replace("_", "-")]), (name, line)


def test_markers_are_read_as_linux_reads_them() -> None:
    tree = {
        "a": ["b[more]", "windows; sys_platform == 'win32'", "linux; platform_system == 'Linux'"],
        "b": ["plain", "extra; extra == 'more'", "other; extra == 'other'"],
        **{name: [] for name in ("plain", "extra", "linux")},
    }
    assert requirements.closure(["a"], tree.__getitem__) == ["a", "b", "extra", "linux", "plain"]
    assert requirements.closure(["a"], tree.__getitem__, leave=["b"]) == ["a", "linux"]


def test_what_is_not_installed_here_has_no_version_to_pin() -> None:
    with pytest.raises(MissingExtra, match="no-such-package is not installed"):
        requirements.closure(["no-such-package"], requirements.requires)


def test_the_wheel_is_the_package_with_a_true_record_and_always_the_same() -> None:
    name, data = wheel()
    assert (name, data) == wheel()
    package = Path(flambeau.__file__).parent
    wanted = {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        held = {each: archive.read(each) for each in archive.namelist()}
    record = next(each for each in held if each.endswith(".dist-info/RECORD"))
    assert {each: content for each, content in held.items() if ".dist-info/" not in each} == wanted
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(held.pop(record).decode()))}
    assert rows.pop(record) == ["", ""]
    assert rows.keys() == held.keys()
    for each, content in held.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        assert rows[each] == [f"sha256={digest}", str(len(content))]
    info = record.removesuffix("RECORD")
    assert b"flambeau = flambeau.cli.main:main" in held[f"{info}entry_points.txt"]
    assert f"{info}licenses/LICENSE" in held


def test_a_folder_with_something_in_it_is_left_alone(call: Command, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "notes.txt").write_text("mine")
    found = call("container", exported, "--out", "box")
    assert found.code == 2
    assert "box: There is something already." in found.err
    assert [path.name for path in (tmp_path / "box").iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(call: Command, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    found = call("container", f"one={exported}", "--out", "box", "--json")
    assert found.code == 0, found.err
    assert found.json["models"] == {"one": ["one.onnx"]}
    assert found.json["files"] == {path.name: path.stat().st_size for path in (tmp_path / "box").iterdir()}


def test_a_full_disk_leaves_nothing_behind(exported: Path, tmp_path: Path) -> None:
    class Full(files.Disk):
        def write(self, descriptor: int, data: memoryview) -> int:
            if len(data) > 1_000_000:
                raise OSError(28, "No space left on device")
            return super().write(descriptor, data)

    with files.using(Full()), pytest.raises(RunError, match="No space left"):
        write_container([exported], tmp_path / "box")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nowhere", "--out", "box"], "nowhere: There is no such run or model."),
        (["note.txt", "--out", "box"], "note.txt"),
        (["note.txt", "--out", "note.txt"], "note.txt: There is something already."),
    ],
)
def test_what_cannot_be_packed_is_said(call: Command, tmp_path: Path, options: list[str], told: str) -> None:
    (tmp_path / "note.txt").write_text("no model")
    found = call("container", *options)
    assert found.code == 2
    assert told in found.err
    assert "bug" not in found.err
    assert not (tmp_path / "box").exists()


def test_an_exported_file_is_refused_for_torch(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a run or a model file"):
        write_container([exported], tmp_path / "box", engine="torch")


def test_a_server_of_an_onnx_file_runs_with_the_pinned_packages_alone(folder: Path, tmp_path: Path) -> None:
    pins = [line.partition("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()]
    code = (
        "import os, signal, sys\n"
        "from importlib.metadata import packages_distributions\n"
        "kept = {'flambeau', *sys.argv[2:]}\n"
        "for top, names in packages_distributions().items():\n"
        "    if not kept & {name.lower().replace('_', '-') for name in names}: sys.modules[top] = None\n"
        "from flambeau.serve import running\n"
        "end = lambda address, sources: (print(address), os.kill(os.getpid(), signal.SIGTERM))\n"
        "running.run([sys.argv[1]], running.Settings(port=0), print, end)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder / "digits.onnx", *pins],
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://127.0.0.1:")


@dataclass
class Built:
    """What the Dockerfile's steps made, without a container.

    Attributes:
        path: The folder that stands for ``/app``.
        bin: Of the virtual environment.
        port: In place of the container's.
    """

    path: Path
    bin: Path
    port: int

    def words(self, name: str) -> list[str]:
        """The exec form of an instruction, with this folder and port."""
        found = next(each.words for each in instructions(self.path / "Dockerfile") if each.name == name)
        here = [word.replace("/app/", f"{self.path}/").replace("8000", str(self.port)) for word in found]
        return [str(self.bin / here[0]), *here[1:]] if (self.bin / here[0]).exists() else here

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1", **more}

    def healthy(self) -> bool:
        return (
            subprocess.run(self.words("HEALTHCHECK"), env=self.environment(), stderr=subprocess.DEVNULL).returncode == 0
        )

    def size(self) -> int:
        """Bytes of what was installed, without pip and setuptools, which the base has."""
        (packages,) = (self.bin.parent / "lib").glob("python*/site-packages")
        parts = [
            path for path in packages.iterdir() if not re.match(r"pip|setuptools|pkg_resources|_distutils", path.name)
        ]
        return sum(path.stat().st_size for part in parts for path in [part, *part.rglob("*")] if path.is_file())


@pytest.fixture(scope="module")
def asked(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[str]]]:
    """Runs by name, with what to ask each: of pictures, of texts, of sentences to translate."""
    base = tmp_path_factory.mktemp("asked")
    (base / "data").mkdir()
    image = base / "digit.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 20), dtype=np.uint8)).save(image)
    made = {"digits": (trained, [str(image)])}
    for task in ("text-classification", "translation"):
        its = case(task)
        source = its.write(base / "data")
        flambeau.train(source, task=task, settings=its.all_settings(), device="cpu", out=base / task, quiet=True)
        made[task] = (base / task, its.asks(source))
    return made


@pytest.fixture(scope="module")
def built(asked: dict[str, tuple[Path, list[str]]], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Everything that the Dockerfile does, in a fresh virtual environment. The only test that asks a package index."""
    base = tmp_path_factory.mktemp("built")
    write_container([f"{name}={run}" for name, (run, _) in asked.items()], base / "app")
    venv.create(base / "venv", with_pip=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Built(base / "app", base / "venv" / "bin", port)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for each in instructions(made.path / "Dockerfile"):
        if each.name == "RUN" and each.words[0] == "pip":
            command = [str(made.bin / "python"), "-m", *each.words]
            done = subprocess.run(command, cwd=made.path, env=clean, capture_output=True, text=True)
            if re.search("NewConnectionError|NameResolutionError|Temporary failure in name resolution", done.stderr):
                pytest.skip("There is no package index here.")
            assert done.returncode == 0, done.stderr
    return made


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_make_a_server_that_answers_as_predict(
    built: Built, asked: dict[str, tuple[Path, list[str]]]
) -> None:
    assert built.size() < 300e6
    assert not built.healthy()
    command = [*built.words("ENTRYPOINT"), *built.words("CMD")]
    refused = subprocess.run(command, env=built.environment(), capture_output=True, text=True)
    assert refused.returncode == 2
    assert "FLAMBEAU_TOKEN" in refused.stderr
    server = subprocess.Popen(command, env=built.environment(FLAMBEAU_TOKEN="seven"), cwd=built.path)
    try:
        wait_until(built.healthy)
        for name, (run, raws) in asked.items():
            wanted = flambeau.load(run).predict([Path(raw) if raw.endswith(".png") else raw for raw in raws])
            for raw, its in zip(raws, wanted, strict=True):
                body, kind = (
                    (Path(raw).read_bytes(), "image/png") if raw.endswith(".png") else (raw.encode(), "text/plain")
                )
                (found,) = ask(built.port, name, body, kind)["predictions"]
                assert close(found, its), name
        page = http.client.HTTPConnection("127.0.0.1", built.port, timeout=30)
        page.request("GET", "/")
        assert b"<title>" in page.getresponse().read()
        page.close()
        assert_drains(server, built.port)
    finally:
        server.kill()
        server.wait()


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.2)


def ask(port: int, name: str, body: bytes, kind: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    told = {"authorization": "Bearer seven", "content-type": kind}
    connection.request("POST", f"/v2/models/{name}/predict", body, told)
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    assert reply.status == 200, text
    return json.loads(text)


def close(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether two answers are the same but for the last digits of their numbers."""
    if "translation" in wanted:
        return bool(found["translation"] == wanted["translation"])
    mine, theirs = ({each["class"]: each["probability"] for each in row["classes"]} for row in (found, wanted))
    return mine == pytest.approx(theirs, abs=1e-5)


def assert_drains(server: subprocess.Popen[bytes], port: int) -> None:
    """A request that has begun when the server is told to end is answered, and then the server ends."""
    body = b"we saw the cheese"
    head = (
        "POST /v2/models/text-classification/predict HTTP/1.1\r\nhost: x\r\nauthorization: Bearer seven\r\n"
        f"content-type: text/plain\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(head.encode() + body[:5])
        time.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.poll() is None
        line.sendall(body[5:])
        assert line.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert server.wait(30) == 128 + signal.SIGTERM
