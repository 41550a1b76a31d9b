"""Whom a server answers: those with the token, under the names that it is meant to be addressed by."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from flambeau.serve.tensors import to_json

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

LOOPBACK = frozenset(["127.0.0.1", "localhost", "::1"])

OPEN = ("/v2/health/live", "/v2/health/ready")
"""Paths that are answered without a token: a probe has none."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Who may come in.

    Attributes:
        token: What ``Authorization: Bearer`` must say; None lets everybody in.
        hosts: Names that ``Host`` may have; None for any. On loopback this keeps out web pages of other sites, whose
            names may be made to point here (DNS rebinding).
        open: Further paths, or folders of them that end in a slash, that need no token, as those of the page.
    """

    token: str | None = None
    hosts: frozenset[str] | None = None
    open: tuple[str, ...] = ()

    def before(self, app: App) -> App:
        """The application behind the gate."""

        async def behind(scope: Scope, receive: Any, send: Any) -> None:
            refusal = self._refusal(scope) if scope["type"] == "http" else None
            if refusal is None:
                await app(scope, receive, send)
            else:
                await _refuse(send, *refusal)

        return behind

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        headers = dict(scope["headers"])
        if self.hosts is not None and _host(headers.get(b"host", b"")) not in self.hosts:
            return 421, "The server does not answer to this name.", {}
        if self.token is None or self._is_open(scope["path"]):
            return None
        told = headers.get(b"authorization", b"")
        if hmac.compare_digest(told, b"Bearer " + self.token.encode()):
            return None
        return 401, "The token is missing or wrong: Authorization: Bearer TOKEN.", {"www-authenticate": "Bearer"}

    def _is_open(self, path: str) -> bool:
        return path in OPEN or any(path.startswith(e) if e.endswith("/") and e != "/" else path == e for e in self.open)


def _host(header: bytes) -> str:
    """The name in ``Host``, without the port."""
    text = header.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if ":" in text else text


async def _refuse(send: Any, status: int, problem: str, headers: dict[str, str]) -> None:
    body = to_json({"error": problem, "details": {}})
    told = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    lines = [(name.encode(), value.encode()) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
