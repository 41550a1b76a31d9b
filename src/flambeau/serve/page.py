"""The page at ``/``: its files, and what it asks for beside the answers. What is under ``/page/`` may change."""

from __future__ import annotations

import hashlib
from functools import partial
from importlib.resources import files
from math import isfinite
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from flambeau.errors import FlambeauError
from flambeau.serve.asking import inputs_of
from flambeau.serve.bodies import Refused
from flambeau.serve.repository import Served
from flambeau.serve.sampling import model_of
from flambeau.serve.server import JSON, Server, measured, while_connected
from flambeau.serve.showcase import Showcases, file_of, told, told_examples, told_insight
from flambeau.serve.tensors import to_json
from flambeau.tasks.answers import LEAST

if TYPE_CHECKING:
    from flambeau.model import Model

OPEN = ("/", "/page/static/")
"""What is answered without a token: the page has to be there to ask for one."""

KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing is loaded from elsewhere, nothing in the page's text is run, and no other page may hold this one."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def _static() -> dict[str, tuple[bytes, dict[str, str]]]:
    """The page's files by name, with their headers."""
    found = {}
    for file in files("flambeau.serve").joinpath("static").iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            found[file.name] = content, {**HEADERS, "etag": etag, "content-type": f"{kind}; charset=utf-8"}
    return found


def _file(request: Request, found: tuple[bytes, dict[str, str]] | None) -> Response:
    if found is None:
        return Response(to_json({"error": "There is no such file.", "details": {}}), 404, media_type=JSON)
    content, headers = found
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers)


def page(server: Server) -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)
    static = _static()
    showcases = Showcases(lambda: server.draining)

    @router.get("/")
    async def index(request: Request) -> Response:
        return _file(request, static["index.html"])

    @router.get("/page/static/{name}")
    async def file(name: str, request: Request) -> Response:
        return _file(request, static.get(name))

    @router.get("/page/models")
    async def models() -> Response:
        return _json({"models": [described(server.find(name, None)) for name in server.repository.names]})

    @router.get("/page/models/{model}/examples")
    async def examples(model: str) -> Response:
        async def handle(served: Served) -> Response:
            showcase = showcases.of(served, model_of(served, "show examples"))
            return _json(told(showcase.examples, told_examples))

        return await measured(server, "examples", model, None, handle)

    @router.get("/page/models/{model}/examples/{number}")
    async def example(model: str, number: int) -> Response:
        return await measured(server, "example", model, None, partial(_example, server, showcases, number))

    @router.get("/page/models/{model}/confusion")
    async def confusion(model: str) -> Response:
        async def handle(served: Served) -> Response:
            showcase = showcases.of(served, model_of(served, "be scored"))
            return _json(told(showcase.confusion, lambda found: found))

        return await measured(server, "confusion", model, None, handle)

    @router.post("/page/models/{model}/look")
    async def look(model: str, request: Request) -> Response:
        return await measured(server, "look", model, None, partial(_look, server, showcases, request))

    return router


def _json(value: Any) -> Response:
    return Response(to_json(value), headers={"cache-control": "no-store"}, media_type=JSON)


async def _example(server: Server, showcases: Showcases, number: int, served: Served) -> Response:
    model = model_of(served, "show examples")
    work = showcases.of(served, model).examples
    if not work.done() or work.exception() is not None or not 0 <= number < len(work.result()):
        raise Refused(404, "There is no such example.", where=number)
    call = partial(file_of, model, work.result()[number], served.engine.wire.form)
    content, kind = await server.in_thread(call)
    return Response(content, headers={"x-content-type-options": "nosniff"}, media_type=kind)


async def _look(server: Server, showcases: Showcases, request: Request, served: Served) -> Response:
    showcase = showcases.of(served, model_of(served, "show how it looks at inputs"))
    async with server.bodies.of(request.headers, request.receive) as body:
        [(_, raw)] = await inputs_of(body, request.headers, served.engine.wire, 1)
        made = await while_connected(request, server.aside.run(partial(showcase.insights, raw)))
    return _json({"insights": [told_insight(insight) for insight in made]})


def described(served: Served) -> dict[str, Any]:
    """What the page is told of a model."""
    engine, about = served.engine, served.engine.about
    model = engine.model
    task = None if model is None else model.task
    select, counts = (None, False) if model is None else _scored(model)
    return {
        "name": served.source.name,
        "version": served.source.version,
        "form": engine.wire.form,
        "asks": engine.wire.input.about,
        "task": about.get("task"),
        "about": "" if task is None else task.about,
        "noun": "examples" if task is None else task.view.noun,
        "classes": list(about.get("classes") or ()),
        "least": LEAST,
        "select": select,
        "shows": {
            "examples": task is not None and task.view.truth is not None,
            "looks": task is not None and task.view.insight is not None,
            "samples": task is not None and task.sample is not None,
            "confusion": counts,
        },
        "exported": model is None,
        "card": {
            "platform": engine.platform,
            "architecture": about.get("architecture"),
            "parameters": about.get("parameters"),
            "scores": {name: value for name, value in (about.get("scores") or {}).items() if isfinite(value)},
            "data": {name: value for name, value in (about.get("data") or {}).items() if value not in (None, {}, [])},
            "provenance": about.get("provenance") or {},
            "recipe": None if model is None else _recipe(model.description.recipe),
        },
    }


def _scored(model: Model) -> tuple[str | None, bool]:
    """The score that models of this kind are selected by, and whether answers are counted by class."""
    import torch

    from flambeau.recipe import parse

    try:
        metrics = model.task.metrics(parse(model.description.recipe), model.facts)
    except FlambeauError:  # such as a package for scoring that is not installed where models only answer
        return None, False
    return metrics.select, "confusion" in metrics.start(torch.device("cpu"))


def _recipe(values: dict[str, Any]) -> str | None:
    from flambeau.recipe import parse

    try:
        return parse(values).to_toml()
    except FlambeauError:
        return None
