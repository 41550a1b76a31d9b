"""``flambeau serve``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from flambeau.cli.output import Debug, Device, Json, Network, Quiet, TrustCode, output, own_network


class Engine(StrEnum):
    """What computes."""

    TORCH = "torch"
    ONNX = "onnx"


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Runs, model files or exported files, each with a name if wanted.", metavar="[NAME=]MODEL..."
        ),
    ],
    host: Annotated[str, typer.Option(help="The address to listen at; any but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes one that is free.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="FLAMBEAU_TOKEN", help="What clients must show.", show_envvar=True)
    ] = None,
    engine: Annotated[Engine, typer.Option(help="What computes: torch, or onnx with less overhead.")] = Engine.TORCH,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that compute; all processors but one by default.")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Requests to a model that may wait; more get a 503.")] = 128,
    max_body: Annotated[float, typer.Option(min=0.001, help="MiB of a request.", metavar="MIB")] = 10.0,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Million pixels of a picture.", metavar="MP")] = 25.0,
    max_rows: Annotated[int, typer.Option(min=1, help="Inputs of a request, and of a batch.")] = 64,
    read_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for a request to arrive.", metavar="S")] = 10.0,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.", metavar="S")] = 30.0,
    no_reload: Annotated[bool, typer.Option("--no-reload", help="Keep to a model though its file changes.")] = False,
    device: Device = None,
    network: Network = None,
    trust_code: TrustCode = False,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Answer over HTTP: the Open Inference Protocol, plain requests, and a page to try the models."""
    with output(json, debug, quiet) as to:
        from flambeau.serve.limits import Limits
        from flambeau.serve.repository import Source
        from flambeau.serve.running import Settings, run, told_of

        limits = Limits(
            body=int(max_body * (1 << 20)),
            megapixels=max_megapixels,
            rows=max_rows,
            queue=queue,
            read=read_timeout,
            deadline=deadline,
        )
        settings = Settings(
            host=host,
            port=port,
            token=token,
            engine=str(engine),
            device=device or "auto",
            threads=threads,
            reload=0.0 if no_reload else 2.0,
            limits=limits,
            network=own_network(network),
            trust_code=trust_code,
        )

        def started(address: str, sources: list[Source]) -> None:
            told: dict[str, Any] = {source.name: str(source.path) for source in sources}
            to.result({"address": address, "models": told})
            if not to.json:
                to.text(told_of(address, sources))

        code = run(models, settings, to.note, started)
    raise typer.Exit(128 + code if code else 0)
