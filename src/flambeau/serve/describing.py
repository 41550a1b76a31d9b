"""What a server says of itself and its models: health, metadata, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from flambeau import __version__
from flambeau.errors import FlambeauError
from flambeau.serve import documents
from flambeau.serve.repository import Served
from flambeau.serve.server import JSON, Server, problem_response
from flambeau.serve.tensors import to_json

Responses = dict[int | str, dict[str, Any]]

ALWAYS: Responses = documents.problems(*documents.ALWAYS)
LOOKED_UP: Responses = documents.problems(*documents.LOOKED_UP)


def _not_ready(model: Any) -> Responses:
    return {503: {"model": model, "description": "Requests are not answered at present."}}


def health(server: Server) -> APIRouter:
    """Whether the server lives and answers, and what it has counted."""
    router = APIRouter(tags=["health"])

    @router.get("/v2/health/live", response_model=documents.Liveness, responses=ALWAYS)
    async def live() -> Response:
        """Whether the server runs."""
        return Response(to_json({"live": True}), media_type=JSON)

    @router.get(
        "/v2/health/ready",
        response_model=documents.Readiness,
        responses={**ALWAYS, **_not_ready(documents.Readiness)},
    )
    async def ready() -> Response:
        """Whether requests are answered by all models."""
        fine = server.ready
        return Response(to_json({"ready": fine}), 200 if fine else 503, media_type=JSON)

    @router.get("/metrics", response_class=Response, responses=ALWAYS)
    async def metrics() -> Response:
        """What was counted, for Prometheus."""
        return Response(server.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def models(server: Server) -> APIRouter:
    """What there is to ask."""
    router = APIRouter(tags=["models"])

    @router.get("/v2", response_model=documents.ServerMetadata, responses=ALWAYS)
    async def about() -> Response:
        """The server."""
        told = {"name": "flambeau", "version": __version__, "extensions": ["binary_tensor_data"]}
        return Response(to_json(told), media_type=JSON)

    @router.get("/v2/models", response_model=documents.Names, responses=ALWAYS)
    async def names() -> Response:
        """The names of all models."""
        return Response(to_json({"models": server.repository.names}), media_type=JSON)

    described: dict[str, Any] = {"response_model": documents.ModelMetadata, "responses": LOOKED_UP}

    @router.get("/v2/models/{model}", **described)
    async def model_metadata(model: str) -> Response:
        """What a model takes and gives."""
        return _metadata(server, model, None)

    @router.get("/v2/models/{model}/versions/{version}", **described)
    async def version_metadata(model: str, version: str) -> Response:
        """What a version of a model takes and gives."""
        return _metadata(server, model, version)

    told: dict[str, Any] = {
        "response_model": documents.ModelReadiness,
        "responses": {**LOOKED_UP, **_not_ready(documents.ModelReadiness)},
    }

    @router.get("/v2/models/{model}/ready", **told)
    async def model_ready(model: str) -> Response:
        """Whether requests to a model are answered."""
        return _readiness(server, model, None)

    @router.get("/v2/models/{model}/versions/{version}/ready", **told)
    async def version_ready(model: str, version: str) -> Response:
        """Whether requests to a version of a model are answered."""
        return _readiness(server, model, version)

    return router


def _metadata(server: Server, model: str, version: str | None) -> Response:
    try:
        served = server.find(model, version)
    except FlambeauError as error:
        return problem_response(error)
    wire = served.engine.wire
    sides = {"inputs": [wire.input], "outputs": wire.outputs}
    told = {
        "name": model,
        "versions": list(server.repository.versions(model)),
        "platform": served.engine.platform,
        **{
            side: [{"name": slot.name, "datatype": slot.datatype, "shape": list(slot.shape)} for slot in slots]
            for side, slots in sides.items()
        },
    }
    return Response(to_json(told), media_type=JSON)


def _readiness(server: Server, model: str, version: str | None) -> Response:
    try:
        served: Served = server.find(model, version)
    except FlambeauError as error:
        return problem_response(error)
    fine = not server.draining and served.batcher.healthy(server.limits.deadline)
    return Response(to_json({"name": model, "ready": fine}), 200 if fine else 503, media_type=JSON)
