"""Requests begin a few at a time, so that in between answers go out and refusals are quick."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """A queue at the door. For the event loop's thread.

    Args:
        most: How many begin between two looks at the network.
    """

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ticking = False

    async def take(self) -> None:
        """Returns when it is one's turn."""
        loop = asyncio.get_running_loop()
        if not self._ticking:
            self._ticking = True
            loop.call_soon(self._tick, loop)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Once in each round of the loop, for as long as anybody comes."""
        idle = self._left == self._most and not self._waiting
        self._left = self._most
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        self._ticking = not idle
        if not idle:
            loop.call_soon(self._tick, loop)
