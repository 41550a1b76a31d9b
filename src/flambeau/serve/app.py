"""The HTTP application: the Open Inference Protocol (v2), the plain ways to ask, health, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from flambeau import __version__
from flambeau.errors import UsageError
from flambeau.serve.bodies import Refused
from flambeau.serve.describing import health, models
from flambeau.serve.operations import operations
from flambeau.serve.page import page
from flambeau.serve.sampling import samples
from flambeau.serve.server import Server, problem_response


def make_app(server: Server) -> FastAPI:
    """The application.

    Args:
        server: What it answers with.
    """
    app = FastAPI(
        title="Flambeau",
        version=__version__,
        description="Models trained with Flambeau, by the Open Inference Protocol (v2) and by plain requests.",
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _nowhere)
    for routes in (health, models, operations, samples, page):
        app.include_router(routes(server))
    plain = app.openapi
    app.openapi = lambda: _with_names(plain(), server)  # type: ignore[method-assign]
    return app


def _with_names(document: dict[str, Any], server: Server) -> dict[str, Any]:
    """The OpenAPI document with the models that there are, which their routes cannot know."""
    versions = sorted({version for name in server.repository.names for version in server.repository.versions(name)})
    known = {"model": server.repository.names, "version": versions}
    for operations_ in document["paths"].values():
        for operation in operations_.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in known:
                    parameter["schema"]["enum"] = known[parameter["name"]]
    return document


async def _nowhere(request: Request, error: Any) -> Response:
    """An address or a method that there is not, in the form of all errors."""
    problem = {404: "There is nothing at this address.", 405: "This address does not take this method."}
    told = problem.get(error.status_code, str(error.detail))
    return problem_response(
        Refused(error.status_code, told, error.headers, where=f"{request.method} {request.url.path}"[:200])
    )


async def _invalid(request: Request, error: Any) -> Response:
    """A parameter of the address that is none, as an error of ours."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return problem_response(
        UsageError(
            "A parameter is not valid.", where=where, expected=first["msg"], received=str(first.get("input"))[:80]
        )
    )
