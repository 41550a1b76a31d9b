"""What a server counts, for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flambeau.serve.batching import Watch
from flambeau.serve.repository import Repository

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Telemetry:
    """The counters of one server; a process may have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        given: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter("flambeau_requests", "Requests answered.", ["model", "operation", "status"], **given)
        self._turned_away = self._requests.labels("unknown", "unknown", "503")
        self._late = self._requests.labels("unknown", "unknown", "504")
        self._seconds = Histogram(
            "flambeau_request_seconds",
            "Seconds from the head of a request to its answer.",
            ["model", "operation"],
            buckets=SECONDS,
            **given,
        )
        self._known: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._gone = Counter("flambeau_clients_gone", "Requests whose client left before the answer.", **given)
        self._rows = Histogram(
            "flambeau_batch_rows", "Rows that were computed together.", ["model", "version"], buckets=ROWS, **given
        )
        self._compute = Histogram(
            "flambeau_batch_seconds", "Seconds of a batch.", ["model", "version"], buckets=SECONDS, **given
        )
        self._in_front = Gauge("flambeau_front_waiting_requests", "Requests that wait in front of the server.", **given)
        self._draining = Gauge(
            "flambeau_draining", "1 while the server finishes what it has and takes no more.", **given
        )

    def request(self, model: str, operation: str, status: int, seconds: float) -> None:
        """Counts an answer."""
        labels = (model, operation, str(status))
        if labels not in self._known:
            self._known[labels] = self._requests.labels(*labels), self._seconds.labels(model, operation)
        count, times = self._known[labels]
        count.inc()
        times.observe(seconds)

    def turned_away(self) -> None:
        """Counts a request that was refused before it was known which model it is for."""
        self._turned_away.inc()

    def front(self, refused: int, late: int, waiting: int) -> None:
        """Counts what the process in front has refused and given up since it last told, and what waits there."""
        self._turned_away.inc(refused)
        self._late.inc(late)
        self._in_front.set(waiting)

    def gone(self) -> None:
        """Counts a client that left."""
        self._gone.inc()

    def draining(self) -> None:
        """Says that the end has begun."""
        self._draining.set(1)

    def watch(self, model: str, version: str) -> Watch:
        """What counts the batches of a model."""
        rows, seconds = self._rows.labels(model, version), self._compute.labels(model, version)

        def batch(count: int, took: float) -> None:
            rows.observe(count)
            seconds.observe(took)

        return batch

    def follow(self, repository: Repository) -> None:
        """Reports what waits and what was reloaded, read when it is asked for."""

        class Waiting(Collector):
            def collect(self):  # type: ignore[no-untyped-def]
                waiting = GaugeMetricFamily(
                    "flambeau_waiting_requests", "Requests that wait or are computed.", labels=["model", "version"]
                )
                for served in repository:
                    waiting.add_metric([served.source.name, served.source.version], served.batcher.waiting)
                reloads = GaugeMetricFamily("flambeau_reloads", "Models loaded anew, or refused.", labels=["result"])
                for result, count in repository.reloads.items():
                    reloads.add_metric([result], count)
                return [waiting, reloads]

        self.registry.register(Waiting())

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self.registry)
