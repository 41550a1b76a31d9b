"""What models are asked to do: infer with tensors, predict from files and texts."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from flambeau.serve import documents
from flambeau.serve.asking import inputs_of
from flambeau.serve.repository import Served
from flambeau.serve.server import JSON, Server, measured
from flambeau.serve.tensors import answered, to_json, understood
from flambeau.tasks.answers import asked

LENGTH = "inference-header-content-length"

DIRECT = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/(infer|predict)")


def around(server: Server, app: Any) -> Any:
    """The application with a way around its routing, which takes longer than a small network, for plain requests.

    What is answered is the same: the routes below document it, and take what has parameters.

    Args:
        server: What is asked.
        app: Takes everything else.
    """

    async def direct(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        plain = scope["type"] == "http" and scope["method"] == "POST" and not scope["query_string"]
        found = DIRECT.fullmatch(scope["path"]) if plain else None
        if found is None:
            await app(scope, receive, send)
            return
        await server.turns.take()
        name, version, operation = found.groups()
        request = Request(scope, receive)
        if operation == "infer":
            response = await measured(server, operation, name, version, partial(_infer, server, request))
        else:
            response = await predicted(server, name, version, request, None, None)
        await response(scope, receive, send)

    return direct


async def _infer(server: Server, request: Request, served: Served) -> Response:
    served.batcher.require_room()
    wire = served.engine.wire
    async with server.bodies.of(request.headers, request.receive) as body:
        inference = understood(body, request.headers.get(LENGTH), wire, server.limits.rows)
        made = await server.answers(served, inference.rows, request, len(body))
    content, length = answered(wire.tensors(made), wire, inference, served.source.name, served.source.version)
    if length is None:
        return Response(content, media_type=JSON)
    return Response(content, headers={LENGTH: str(length)}, media_type="application/octet-stream")


async def _predict(
    server: Server, request: Request, served: Served, top: int | None, abstain_below: float | None
) -> Response:
    served.batcher.require_room()
    async with server.bodies.of(request.headers, request.receive) as body:
        named = await inputs_of(body, request.headers, served.engine.wire, server.limits.rows)
        made = await server.answers(served, [raw for _, raw in named], request, len(body))
    rows = asked(made, top, abstain_below)
    told = [{**({"name": name} if name else {}), **row} for (name, _), row in zip(named, rows, strict=True)]
    source = served.source
    return Response(
        to_json({"model_name": source.name, "model_version": source.version, "predictions": told}), media_type=JSON
    )


async def predicted(
    server: Server, model: str, version: str | None, request: Request, top: int | None, abstain_below: float | None
) -> Response:
    """The answer to a plain request."""
    return await measured(
        server, "predict", model, version, lambda served: _predict(server, request, served, top, abstain_below)
    )


def operations(server: Server) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["inference"])
    computed = documents.problems(*documents.COMPUTED)
    infer_docs: dict[str, Any] = {
        "response_class": Response,
        "responses": {**documents.INFER_ANSWER, **computed},
        "openapi_extra": {"requestBody": documents.INFER_REQUEST},
    }
    predict_docs: dict[str, Any] = {
        "response_model": documents.Predictions,
        "responses": computed,
        "openapi_extra": {"requestBody": documents.PREDICT_REQUEST},
    }
    most = Query(None, ge=1, description="How many classes to list; all by default.")
    least = Query(None, ge=0, le=1, description="Give no answer where no class has this probability.")

    @router.post("/v2/models/{model}/infer", **infer_docs)
    async def infer(model: str, request: Request) -> Response:
        """Tensors in, tensors out, by the Open Inference Protocol."""
        return await measured(server, "infer", model, None, partial(_infer, server, request))

    @router.post("/v2/models/{model}/versions/{version}/infer", **infer_docs)
    async def version_infer(model: str, version: str, request: Request) -> Response:
        """The same from a version."""
        return await measured(server, "infer", model, version, partial(_infer, server, request))

    @router.post("/v2/models/{model}/classify", **predict_docs)
    async def classify(
        model: str, request: Request, top: int | None = most, abstain_below: float | None = least
    ) -> Response:
        """As ``predict``."""
        return await predicted(server, model, None, request, top, abstain_below)

    @router.post("/v2/models/{model}/predict", **predict_docs)
    async def predict(
        model: str, request: Request, top: int | None = most, abstain_below: float | None = least
    ) -> Response:
        """A file, a text, or several of them in; what ``flambeau predict`` says of each out."""
        return await predicted(server, model, None, request, top, abstain_below)

    @router.post("/v2/models/{model}/versions/{version}/predict", **predict_docs)
    async def version_predict(
        model: str, version: str, request: Request, top: int | None = most, abstain_below: float | None = least
    ) -> Response:
        """The same from a version."""
        return await predicted(server, model, version, request, top, abstain_below)

    return router
