"""What a server takes on before it refuses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a server.

    Attributes:
        body: Bytes of a request's body, after decompression.
        megapixels: Million pixels of a picture.
        rows: Rows of a request, and of a batch that the network computes at once.
        queue: Requests to a model that wait or are computed; one more is refused with 503.
        read: Seconds in which the head of a request, and then its body, must arrive.
        deadline: Seconds from the last byte of a request to its answer.
        buffered: Bytes of all bodies that are being received or waiting; one more is refused with 503.
        connections: Open connections; one more is closed.
        head: Bytes of a request's line and headers.
    """

    body: int = 10 << 20
    megapixels: float = 25.0
    rows: int = 64
    queue: int = 128
    read: float = 10.0
    deadline: float = 30.0
    buffered: int = 256 << 20
    connections: int = 1024
    head: int = 32 << 10


def allow_connections(limits: Limits) -> None:
    """Lets this process have the files open that so many connections take, where the system's own limit is lower."""
    try:
        import resource
    except ImportError:  # Windows
        return
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * limits.connections + 512
    if least != resource.RLIM_INFINITY and least < wanted:
        capped = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(least, capped), most))
