"""The HTTP application: the Open Inference Protocol (v2), the plain ways to ask, health, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from flambeau import __version__
from flambeau.errors import UsageError
from flambeau.serve.describing import health, models
from flambeau.serve.gate import Gate
from flambeau.serve.operations import operations
from flambeau.serve.page import page
from flambeau.serve.sampling import samples
from flambeau.serve.server import Server, problem_response


def make_app(server: Server, gate: Gate) -> FastAPI:
    """The application.

    Args:
        server: What it answers with.
        gate: Whom it answers.
    """
    app = FastAPI(
        title="Flambeau",
        version=__version__,
        description="Models trained with Flambeau, by the Open Inference Protocol (v2) and by plain requests.",
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
    )
    app.add_middleware(gate.middleware)
    app.add_exception_handler(RequestValidationError, _invalid)
    for routes in (health, models, operations, samples, page):
        app.include_router(routes(server))
    return app


async def _invalid(request: Request, error: Any) -> Response:
    """A parameter of the address that is none, as an error of ours."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return problem_response(
        UsageError(
            "A parameter is not valid.", where=where, expected=first["msg"], received=str(first.get("input"))[:80]
        )
    )
