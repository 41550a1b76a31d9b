"""How many requests to each model are with the server, and which wait to be passed on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Request = TypeVar("Request")


@dataclass(slots=True)
class _Model(Generic[Request]):
    """The requests to a model."""

    inside: int = 0
    waiting: deque[Request] = field(default_factory=deque)


class Admission(Generic[Request]):
    """Lets in so many requests to a model as are computed at once; a few more wait, the next is refused.

    Those who wait are let in as others are answered. Answers come in batches, and so do requests then: a server that is
    handed one at a time, while it computes, goes to and fro between the two, and gets less done.

    Args:
        most: Requests to a model that are inside or wait.
        abreast: Those of them that are inside.
    """

    def __init__(self, most: int, abreast: int) -> None:
        self._most = most
        self._abreast = abreast
        self._models: dict[bytes, _Model[Request]] = {}

    @property
    def waiting(self) -> int:
        """How many wait, over all models."""
        return sum(len(model.waiting) for model in self._models.values())

    def full(self, name: bytes) -> bool:
        """Whether one more request to the model is too many."""
        model = self._models.get(name)
        return model is not None and model.inside + len(model.waiting) >= self._most

    def enter(self, name: bytes, request: Request) -> bool:
        """Whether the request may go in at once; otherwise it waits."""
        model = self._models.setdefault(name, _Model())
        if model.inside >= self._abreast:
            model.waiting.append(request)
            return False
        model.inside += 1
        return True

    def leave(self, name: bytes) -> Request | None:
        """Counts out a request that was inside; returns the one that goes in for it, if any waits."""
        model = self._models[name]
        if model.waiting and model.inside <= self._abreast:
            return model.waiting.popleft()
        model.inside -= 1
        self._forget(name)
        return None

    def give_up(self, name: bytes, request: Request) -> None:
        """Counts out a request that waits."""
        self._models[name].waiting.remove(request)
        self._forget(name)

    def open(self) -> list[Request]:
        """Lets in all who wait, and whoever comes after them."""
        self._abreast = self._most = 1 << 30
        released = [request for model in self._models.values() for request in model.waiting]
        for model in self._models.values():
            model.inside += len(model.waiting)
            model.waiting.clear()
        return released

    def _forget(self, name: bytes) -> None:
        """Keeps no more models in mind than there are requests: anybody may invent names."""
        model = self._models[name]
        if not model.inside and not model.waiting:
            del self._models[name]
