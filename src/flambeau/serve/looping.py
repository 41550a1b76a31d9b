"""The event loop: uvloop's where it is installed, which is faster; Windows has none."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Made = TypeVar("Made")


def run(main: Coroutine[Any, Any, Made]) -> Made:
    """What the coroutine returns.

    Example:
        >>> run(asyncio.sleep(0, "done"))
        'done'
    """
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    made: Made = uvloop.run(main)
    return made
