"""New examples over HTTP: pictures from a GAN, texts from a language model."""

from __future__ import annotations

import base64
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from flambeau.errors import UsageError
from flambeau.serve import documents
from flambeau.serve.bodies import Refused
from flambeau.serve.repository import Served
from flambeau.serve.server import JSON, Server, measured, while_connected
from flambeau.serve.tensors import to_json

if TYPE_CHECKING:
    from flambeau.model import Model

TOKENS = 4000
"""The most tokens of all texts of a request together."""


def model_of(served: Served, wanted: str) -> Model:
    """The model in PyTorch.

    Raises:
        UsageError: An exported file is served, which cannot do what is wanted.
    """
    model = served.engine.model
    if model is None:
        raise UsageError(
            f"An exported file answers, but {wanted} it cannot.",
            where=served.source.name,
            remedy="Serve the run or its model.safetensors with --engine torch.",
        )
    return model


async def _sample(server: Server, request: Request, served: Served) -> Response:
    async with server.bodies.of(request.headers, request.receive) as body:
        asked = _asked(body, request.headers.get("content-type", ""))
    model = model_of(served, "make new examples")
    if served.engine.wire.text and asked.n * asked.length > TOKENS:
        raise UsageError(
            "These are too many tokens for one request.",
            where="length",
            expected=f"n times length at most {TOKENS:,}",
            received=f"{asked.n * asked.length:,}",
        )
    made = await while_connected(request, server.aside.run(partial(_made, model, asked)))
    source = served.source
    return Response(
        to_json({"model_name": source.name, "model_version": source.version, "samples": made}), media_type=JSON
    )


def _made(model: Model, asked: documents.SampleRequest) -> list[dict[str, str]]:
    from flambeau.workflow.sampling import sample

    return [
        {"text": made} if isinstance(made, str) else {"name": made.name, "png": base64.b64encode(made.png).decode()}
        for made in sample(model, **asked.model_dump())
    ]


def _asked(body: bytes, kind: str) -> documents.SampleRequest:
    """The wish in a body, every field of which has a default."""
    if kind.partition(";")[0].strip().lower() != JSON:
        raise Refused(415, "The wish is no JSON.", where="Content-Type", expected=JSON, received=kind[:80] or "none")
    try:
        return documents.SampleRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsageError(
            "A wish cannot be met.",
            where=".".join(str(part) for part in first["loc"]) or "body",
            expected=first["msg"],
            received=str(first["input"])[:80],
        ) from error


def samples(server: Server) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["inference"])
    docs: dict[str, Any] = {
        "response_model": documents.Samples,
        "responses": documents.problems(*documents.COMPUTED),
        "openapi_extra": {"requestBody": documents.SAMPLE_REQUEST},
    }

    @router.post("/v2/models/{model}/sample", **docs)
    async def sample(model: str, request: Request) -> Response:
        """New examples: texts, or one picture with a grid."""
        return await measured(server, "sample", model, None, partial(_sample, server, request))

    @router.post("/v2/models/{model}/versions/{version}/sample", **docs)
    async def version_sample(model: str, version: str, request: Request) -> Response:
        """The same from a version."""
        return await measured(server, "sample", model, version, partial(_sample, server, request))

    return router
