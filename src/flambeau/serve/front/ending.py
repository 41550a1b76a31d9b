"""The end of a connection whose other side has not finished sending."""

from __future__ import annotations

import asyncio


class Ending:
    """Ends what is sent, and takes and drops what comes until the other side closes too, or the time is over.

    A socket that is closed while bytes wait in it, or still come, is reset, and the other side may lose the answer
    that it has not read yet: one that sends a body that is too large would never learn so.

    Args:
        transport: Of the connection; its protocol must ignore what comes from now on.
        loop: Its event loop.
        patience: Seconds.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        transport.write_eof()
        transport.resume_reading()
        self._timer = loop.call_later(patience, transport.close)

    def over(self) -> None:
        """The connection is gone."""
        self._timer.cancel()
