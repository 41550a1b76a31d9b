"""Loggers of other packages that are kept to themselves for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_log(name: str) -> Iterator[None]:
    """Keeps a logger's messages to itself inside the ``with`` block; what matters comes out as an exception."""
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)
