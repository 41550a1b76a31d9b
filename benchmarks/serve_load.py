"""Our server under load, beside LitServe and a FastAPI server written by hand, with the same small network (`lenet`).

Claims, for JSON and for pictures as files:
- at least 1.5 times the requests a second of LitServe with its best settings;
- with one client, half of the answers within 1.5 ms more than the bare forward pass;
- at twice the load that saturates it, at least 90 % of its peak are still answered, and refusals take under 10 ms;
- no request is lost; and with `--long` memory stays flat over 100,000 requests.

Run it on an idle machine: `python benchmarks/serve_load.py [--quick] [--long] [--model RUN]`. It takes a quarter of an
hour.

Each server is a process of its own, or several; all have one thread for the network. So is the generator of load
(`serving/load.py`). Closed loops have 1, 16 and 64 clients. Open loops send at even times whatever the server does, and
latency counts from the time when a request was due. Each is measured in several rounds, one after the other, and
figures are the medians over the rounds: of single ones the best would be the luckiest. The bare forward pass is
measured in each round too, and so is the peak, right before and after twice the load, for machines have faster and
slower minutes. Against LitServe the peak is the most that any of the loops gets answered. All listen at loopback alone.
The same run checks that all give the same answers.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from made import small
from PIL import Image

HERE = Path(__file__).parent / "serving"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

BODIES = ("json", "picture")
NAME = "lenet"


@dataclass(frozen=True)
class Way:
    """How a server is started and asked.

    Attributes:
        name: As the table has it.
        command: What starts it; ```{port}`` is put in.
        kind: Whose requests it understands: ``ours``, ``litserve``, ``fastapi``.
    """

    name: str
    command: tuple[str, ...]
    kind: str


def ways_of(model: str) -> tuple[list[Way], list[Way]]:
    """Ours and FastAPI; and LitServe with each of the settings that are tried."""
    own = (sys.executable, "-m", "flambeau", "serve", f"{NAME}={model}", "--port", "{port}", "--threads", "1")
    listed = [
        Way("flambeau torch", own, "ours"),
        Way("flambeau onnx", (*own, "--engine", "onnx"), "ours"),
        Way("fastapi", (sys.executable, str(HERE / "fastapi_server.py"), model, "{port}"), "fastapi"),
    ]
    lit = (sys.executable, str(HERE / "litserve_server.py"), model, "{port}")
    settings = [
        ("", ()),
        ("fast queue", ("--fast-queue",)),
        ("batch 16", ("--batch", "16", "--wait", "0.001", "--fast-queue")),
        ("2 workers", ("--workers", "2", "--fast-queue")),
        ("2 workers, 2 API servers, batch 16",
         ("--workers", "2", "--servers", "2", "--batch", "16", "--wait", "0.001", "--fast-queue")),
    ]  # fmt: skip
    return listed, [Way(f"litserve {name}".strip(), (*lit, *more), "litserve") for name, more in settings]


def request_of(kind: str, body: str, picture: np.ndarray) -> tuple[str, bytes, str]:
    """Path, body and content type of a request about a picture ``(H, W)``."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    if kind == "ours" and body == "json":
        tensor = {
            "name": "image",
            "datatype": "UINT8",
            "shape": [1, *picture.shape, 1],
            "data": picture.ravel().tolist(),
        }
        return f"/v2/models/{NAME}/infer", json.dumps({"inputs": [tensor]}).encode(), "application/json"
    if kind == "ours":
        return f"/v2/models/{NAME}/predict", file.getvalue(), "image/png"
    if kind == "fastapi" and body == "picture":
        return "/picture", file.getvalue(), "image/png"
    sent = picture.tolist() if body == "json" else base64.b64encode(file.getvalue()).decode()
    return "/predict", json.dumps({"image": sent}).encode(), "application/json"


def answer_of(reply: dict[str, Any], classes: Sequence[str]) -> tuple[str, list[float]]:
    """The class and the probabilities in the order of the classes, from any of the servers."""
    if "outputs" in reply:
        values = {output["name"]: output["data"] for output in reply["outputs"]}
        return values["class"][0], values["probabilities"]
    if "predictions" in reply:
        (row,) = reply["predictions"]
        by_name = {entry["class"]: entry["probability"] for entry in row["classes"]}
        return row["class"], [by_name[name] for name in classes]
    return reply["class"], reply["probabilities"]


@contextlib.contextmanager
def running(way: Way) -> Iterator[tuple[int, int]]:
    """A server for the ``with`` block: its port and the process that was started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [word.format(port=port) for word in way.command]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)
        try:
            until = time.monotonic() + 90
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    sys.exit(f"error: {way.name} did not start:\n{log.read().decode()[-2000:]}")
                time.sleep(0.1)
            yield port, process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def ask(port: int, request: tuple[str, bytes, str]) -> dict[str, Any]:
    """One answer; a server that listens before its network is loaded is waited for."""
    path, content, kind = request
    for _ in range(300):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", path, content, {"content-type": kind})
            reply = connection.getresponse()
            text = reply.read()
            if reply.status == 200:
                return dict(json.loads(text))
            problem = f"{reply.status}: {text[:300]!r}"
        except OSError as error:
            problem = str(error)
        finally:
            connection.close()
        time.sleep(0.1)
    sys.exit(f"error: no answer from {path}: {problem}")


def load(port: int, request: tuple[str, bytes, str], seconds: float, **plan: Any) -> dict[str, Any]:
    """What the generator of load measures; see ``serving/load.py``."""
    path, content, kind = request
    lines = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}", f"content-type: {kind}"]
    head = "\r\n".join([*lines, f"content-length: {len(content)}", "", ""])
    told = {"port": port, "seconds": seconds, "head": _base64(head.encode()), "body": _base64(content), **plan}
    command = [sys.executable, str(HERE / "load.py")]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: the generator of load failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def bare_forward(model: str, picture: np.ndarray) -> float:
    """The median milliseconds of the network alone, on one picture, in a process of its own."""
    code = (
        "import sys, time, json, numpy as np\n"
        f"sys.path.insert(0, {str(HERE)!r})\nfrom network import Network\n"
        "network = Network(sys.argv[1]); picture = np.array(json.loads(sys.stdin.read()), dtype=np.uint8)\n"
        "spent = []\n"
        "for _ in range(600):\n"
        "    begun = time.perf_counter(); network.answers([picture]); spent.append(time.perf_counter() - begun)\n"
        "print(1000 * sorted(spent[100:])[250])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, model],
        input=json.dumps(picture.tolist()),
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    return float(done.stdout)


def check(
    port: int, way: Way, body: str, pictures: np.ndarray, wanted: list[dict[str, Any]], classes: list[str]
) -> None:
    """Ends the program when a server answers otherwise than the model."""
    for picture, right in zip(pictures, wanted, strict=True):
        best, found = answer_of(ask(port, request_of(way.kind, body, picture)), classes)
        by_name = {entry["class"]: entry["probability"] for entry in right["classes"]}
        apart = max(abs(one - by_name[name]) for one, name in zip(found, classes, strict=True))
        if best != right["class"] or apart > 1e-4:
            sys.exit(f"error: {way.name}, {body}: {best}, apart by {apart:.1e}; the model says {right['class']}")


@dataclass
class Measured:
    """What a server did with one kind of body.

    Attributes:
        closed: By the number of clients.
        opened: By the share of the saturating rate.
    """

    way: Way
    closed: dict[int, dict[str, Any]]
    opened: dict[float, dict[str, Any]]

    @property
    def peak(self) -> float:
        return max(each["goodput"] for each in [*self.closed.values(), *self.opened.values()])

    @property
    def lost(self) -> int:
        return sum(int(each["lost"]) for each in [*self.closed.values(), *self.opened.values()])


def measure(way: Way, body: str, options: argparse.Namespace, asked: dict[str, Any]) -> Measured:
    """Closed loops and open ones, in turn.

    Twice the load comes between two closed loops that saturate the server, and what it keeps is a part of the mean of
    theirs: on a machine with faster and slower minutes, figures of different ones say nothing of each other.
    """
    request = request_of(way.kind, body, asked["pictures"][0])
    closed: dict[int, list[dict[str, Any]]] = {}
    opened: dict[float, list[dict[str, Any]]] = {}
    with running(way) as (port, _):
        check(port, way, body, asked["pictures"], asked["answers"], asked["classes"])
        load(port, request, options.seconds / 2, clients=16)

        def looped(clients: int) -> None:
            closed.setdefault(clients, []).append(load(port, request, options.seconds, clients=clients))

        def offered(share: float) -> None:
            full = max(middle(each)["goodput"] for each in closed.values())
            opened.setdefault(share, []).append(load(port, request, options.seconds, rate=share * full))

        for _ in range(options.rounds):
            looped(1)
            if way.kind == "ours":
                bare = bare_forward(asked["model"], asked["pictures"][0])
                closed[1][-1]["beyond"] = closed[1][-1]["p50"] - bare
            looped(16)
            looped(64)
            offered(2.0)
            looped(64)
            offered(0.8)
            around = statistics.mean(each["goodput"] for each in closed[64][-2:])
            opened[2.0][-1]["kept"] = opened[2.0][-1]["goodput"] / around
    late = max(each["late"] for rounds in opened.values() for each in rounds)
    if late > 0.05 * options.seconds:
        print(
            f"  note: {way.name}, {body}: the generator of load was {late:.2f} s late; this machine is too busy",
            flush=True,
        )
    return Measured(way, *({name: middle(each) for name, each in loops.items()} for loops in (closed, opened)))


def middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure over the rounds, and all requests that were lost."""
    figures = {}
    for name in ("goodput", "p50", "p99", "refused_p99", "beyond", "kept"):
        found = [each[name] for each in rounds if each.get(name) is not None]
        figures[name] = statistics.median(found) if found else None
    return {**figures, "lost": sum(each["lost"] for each in rounds)}


def best_of(ways: list[Way], body: str, options: argparse.Namespace, asked: dict[str, Any]) -> Way:
    """The one that answers most with 16 clients, by a short look at each."""
    rates: dict[str, float] = {}
    for way in ways:
        request = request_of(way.kind, body, asked["pictures"][0])
        with running(way) as (port, _):
            ask(port, request)
            load(port, request, options.seconds / 3, clients=16)
            rates[way.name] = load(port, request, options.seconds / 2, clients=16)["goodput"]
        print(f"  {body}, {way.name}: {rates[way.name]:,.0f} requests a second with 16 clients", flush=True)
    return max(ways, key=lambda way: rates[way.name])


def memory(way: Way, options: argparse.Namespace, asked: dict[str, Any]) -> list[float]:
    """MiB that our server holds in memory after each tenth of the requests; the first tenth warms it up."""
    request = request_of("ours", "picture", asked["pictures"][0])
    held = []
    with running(way) as (port, process):
        ask(port, request)
        for _ in range(11):
            told = load(port, request, 600.0, clients=16, requests=options.requests // 10)
            if told["lost"] or set(told["answered"]) != {"200"}:
                sys.exit(f"error: {way.name}: {told['lost']} lost, answered {told['answered']}")
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
            held.append(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20))
    return held[1:]


def told(measured: Measured, body: str) -> str:
    """A line of the table."""
    one, many = measured.closed[1], measured.closed[16]
    most, twice = measured.opened[0.8], measured.opened[2.0]
    refused = "" if twice["refused_p99"] is None else f"{twice['refused_p99']:.1f}"
    cells = [
        measured.way.name, body, f"{one['p50']:.2f}", f"{many['goodput']:,.0f}", f"{many['p99']:.1f}",
        f"{measured.peak:,.0f}", f"{most['p50']:.1f}", f"{most['p99']:.1f}", f"{twice['goodput']:,.0f}",
        f"{(twice['p50'] or 0):.0f}", refused, str(measured.lost),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def judged(name: str, value: float, limit: float, least: bool, unit: str) -> bool:
    """Prints whether a claim holds."""
    holds = value >= limit if least else value <= limit
    print(
        f"{'holds ' if holds else 'FAILS '} {name}: {value:.2f}{unit} ({'at least' if least else 'at most'} {limit:g})"
    )
    return holds


def claims(found: dict[str, dict[str, Measured]], generator: float) -> bool:
    """Prints each claim with what was found, and returns whether all hold."""
    held = []
    for body, measured in found.items():
        lit = next(each for name, each in measured.items() if name.startswith("litserve"))
        for each in (one for one in measured.values() if one.way.kind == "ours"):
            about, twice = f"{body}, {each.way.name}", each.opened[2.0]
            held += [
                judged(f"{about}: times LitServe's requests a second", each.peak / lit.peak, 1.5, True, ""),
                judged(f"{about}: p50 of one client beyond the bare pass", each.closed[1]["beyond"], 1.5, False, " ms"),
                judged(f"{about}: goodput at twice the load, of the peak", twice["kept"], 0.9, True, ""),
                judged(f"{about}: p99 of refusals", twice["refused_p99"] or 0.0, 10.0, False, " ms"),
                judged(f"{about}: requests lost", each.lost, 0, False, ""),
            ]
        fastest = max(each.peak for each in measured.values())
        held.append(
            judged(f"{body}: what the generator can do, of the fastest server", generator / fastest, 1.5, True, "")
        )
    return all(held)


def prepared(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The model, pictures of the test set, and the model's own answers."""
    import torch

    import flambeau

    torch.set_num_threads(1)
    run = options.model or small.run(folder, "lenet")
    model = flambeau.load(run)
    pictures = flambeau.datasets.load("fashion-mnist-mini").splits["test"].tensor("image")[:8, 0].numpy()
    return {
        "model": str(Path(run) / "model.safetensors"),
        "pictures": pictures,
        "answers": model.predict(list(pictures)),
        "classes": model.classes,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="A run of pictures of 28x28; by default one is trained.")
    parser.add_argument("--seconds", type=float, default=4.0, help="Of each measurement.")
    parser.add_argument("--rounds", type=int, default=3, help="Of which medians are taken.")
    parser.add_argument("--quick", action="store_true", help="A tenth of that: only to see that it works.")
    parser.add_argument("--long", action="store_true", help="Memory over many requests as well.")
    parser.add_argument("--requests", type=int, default=100_000, help="Of --long.")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="Servers whose names begin so.")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = options.seconds / 10, 1
    with tempfile.TemporaryDirectory() as folder:
        return compare(options, prepared(options, Path(folder)))


def compare(options: argparse.Namespace, asked: dict[str, Any]) -> int:
    """Everything that is measured, in order."""
    listed, lit = ways_of(asked["model"])
    bare = bare_forward(asked["model"], asked["pictures"][0])
    echo = Way("trivial", (sys.executable, str(HERE / "trivial_server.py"), "{port}"), "ours")
    with running(echo) as (port, _):
        generator = load(port, request_of("ours", "json", asked["pictures"][0]), options.seconds, clients=16)["goodput"]
    print(f"bare forward pass: {bare:.3f} ms; the generator of load: {generator:,.0f} requests a second", flush=True)
    found: dict[str, dict[str, Measured]] = {}
    lines = []
    for body in BODIES:
        ways = [way for way in listed if not options.only or way.name.startswith(tuple(options.only))]
        if not options.only or "litserve" in options.only:
            ways.append(best_of(lit[:2] if options.quick else lit, body, options, asked))
        found[body] = {}
        for way in ways:
            found[body][way.name] = measure(way, body, options, asked)
            lines.append(told(found[body][way.name], body))
            print(lines[-1], flush=True)
    print(HEAD, *lines, sep="\n")
    fine = bool(options.only) or claims(found, generator)
    if options.long:
        for way in (each for each in listed if each.kind == "ours"):
            held = memory(way, options, asked)
            print(f"{way.name}: MiB, every {options.requests // 10:,} requests:", *(f"{each:.1f}" for each in held))
            fine &= judged(f"{way.name}: MiB more at the end", held[-1] - statistics.median(held[:3]), 5.0, False, "")
    return 0 if fine else 1


HEAD = (
    "| server | body | 1 client, p50 ms | 16 clients, requests/s | p99 ms | peak/s | at 80 % of it, p50 ms | p99 ms |"
    " at 200 %, answered/s | p50 ms | refusals, p99 ms | lost |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)

if __name__ == "__main__":
    sys.exit(main())
