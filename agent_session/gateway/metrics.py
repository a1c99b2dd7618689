"""What a gateway process counts, for Prometheus. A registry of its own; no label names a session, a token or a
person."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agent_session.telemetry.metrics import FURTHER

CLIENT_LEFT = 499  #: counted where the client went before it was answered
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """One a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        FURTHER.add(self.registry)  # so that it goes over OTLP, too
        labels = ["route", "method", "status"]
        self._requests = Counter(
            "agent_session_http_requests", "Requests that were answered.", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "agent_session_http_request_duration_seconds",
            "From a request to the end of its answer; streams are left out.",
            ["route", "method"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.streams = Gauge("agent_session_streams_open", "Streams of events that are open.", registry=self.registry)
        self.dropped = Counter(
            "agent_session_streams_dropped", "Streams ended because their client was too slow.", registry=self.registry
        )

    def answered(self, route: str, method: str, status: int, took_s: float | None) -> None:
        """`route` with its placeholders; `took_s`: None for a stream."""
        self._requests.labels(route, method, str(status)).inc()
        if took_s is not None:
            self._seconds.labels(route, method).observe(took_s)

    def text(self) -> bytes:
        """In Prometheus's own format."""
        return generate_latest(self.registry)
