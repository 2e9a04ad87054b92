"""What the monitor measures about itself, for Prometheus. One `Metrics` for each daemon; there are no globals.

Label values come from closed lists or from the configuration, never from telemetry, so the number of series is bounded.
Durations are in seconds; `*_timestamp_seconds` are Unix seconds.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from monitor import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST
_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)


class Metrics:
    """Counters, gauges and histograms, all named `runwarden_*`, and `process_*` of this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)

        self.rows = self._counter("rows", "Rows of metrics that went through the engine.")
        self.dropped = self._counter("dropped", "Input or output that could not be used, by reason.", "reason")
        self.batches = self._counter("batches", "Batches that a source yielded, empty ones included.", "source")
        self.source_up = self._gauge("source_up", "1: the source could be read at its last poll.", "source")
        self.source_last_batch = self._gauge(
            "source_last_batch_timestamp_seconds", "When the source yielded its last batch.", "source"
        )

        self.findings = self._counter("findings", "Findings of the detectors.", "kind", "severity")
        self.incidents_open = self._gauge("incidents_open", "Incidents that are not resolved.")
        self.predictions = self._counter("predictions", "Predictions of hypotheses, scored.", "outcome")

        self.pages = self._counter("pages", "Attempts to deliver a page, by result.", "sink", "result")
        self.outbox_pending = self._gauge("outbox_pending", "Pages that are not delivered yet.")
        self.outbox_oldest = self._gauge("outbox_oldest_seconds", "Age of the oldest undelivered page, 0 if none.")
        self.delivery = self._histogram("delivery_seconds", "Duration of one attempt to deliver.", _SLOW, "sink")
        self.row_to_page = self._histogram(
            "row_to_page_seconds", "From reading the row that paged to its page delivered, hold included.", _SLOW
        )

        self.analysis = self._histogram("analysis_seconds", "Duration of one analysis.", _SLOW, "analyst")
        self.analyses = self._counter("analysis", "Analyses, by result.", "analyst", "result")

        self.commit = self._histogram(
            "commit_seconds", "Duration of understanding and committing one batch with rows.", _FAST
        )
        self._gauge("build_info", "1, with the version.", "version").labels(version=__version__).set(1)

    def render(self) -> bytes:
        """All metrics in the text format; `CONTENT_TYPE` belongs to it."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"runwarden_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"runwarden_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"runwarden_{name}", text, labels, registry=self.registry, buckets=buckets)
