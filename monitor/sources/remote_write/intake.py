"""What requests mean: their series are selected, belong to runs, and become batches; and which senders are heard.

No sender, no news: when all have fallen silent, that is an outage of the source and no silence of its runs; when one
has, its runs get a line that says so. Prometheus sends its metadata once a minute even if nothing else is to be told.
Bounds: MAX_CACHED label sets remembered, MAX_SENDERS.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.types import Origin
from monitor.frame import Batch, LogLine, Status
from monitor.sources.hosts import Hosts
from monitor.sources.remote_write.message import Labels, MalformedError, WriteRequest, labels_of
from monitor.sources.remote_write.rows import Place, Runs, Unusable, fingerprint
from monitor.sources.selector import Selector
from monitor.sources.series import Query, Target, Targets

HEAD = "head"
MAX_CACHED = 50_000
MAX_CACHED_BYTES = 2_048
MAX_SENDERS = 10_000
HEARD_MS = 30_000
LOST_MS = 90_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One request, and who sent it."""

    sender: str
    request: WriteRequest


_Meaning = Place | Target | dict[str, str] | Unusable  # a dict: the labels of a host's series


class Intake:
    """Everything that is known of what was pushed, from a set of cursors on. Times are ms since 1970."""

    def __init__(
        self,
        name: str,
        queries: Sequence[Query],
        runs: Runs,
        hosts: Hosts,
        head: str,
        now: int,
        *,
        heartbeat: bool = True,
    ) -> None:
        """head: the cursor HEAD, "" if there is none. heartbeat: whether no word of a sender means that it is lost."""
        self._heartbeat = heartbeat
        self._name = name
        self._queries = [(query, Selector(query.query)) for query in queries]
        self._runs = runs
        self._hosts = hosts
        self._targets = Targets()
        self._known: dict[Labels, _Meaning] = {}
        self._heard: dict[str, int] = {}
        self._quiet: set[str] = set()
        self._since, self._began = now, now
        # Before the first start nobody ever sent: that nobody does is no outage.
        self._latest = now if len(self._runs) else -1
        if head:
            try:
                self._since = int(json.loads(head)["since"])
            except (ValueError, LookupError, TypeError):
                self._runs.count(Unusable.CORRUPT)

    def take(self, delivered: Iterable[Delivered], now: int) -> Batch:
        """What these requests mean, and the rows that have waited long enough."""
        touched: set[str] = set()
        lines: list[LogLine] = []
        for one in delivered:
            self._hear(one.sender, now)
            self._runs.count(Unusable.HISTOGRAM, one.request.histograms)
            self._runs.count(Unusable.BAD_LABELS, one.request.overlong)
            for series in one.request.series:
                meaning = self._meaning(series.labels)
                if isinstance(meaning, Place):
                    if self._runs.add(meaning, series.points, one.sender, now):
                        touched.add(meaning.run)
                elif isinstance(meaning, Unusable):
                    self._runs.count(meaning, len(series.points))
                elif isinstance(meaning, dict):
                    lines += self._context(meaning, series.points)
                else:
                    for value in (v for _, v in series.points if v is not None):
                        lines += self._targets.hear(meaning, down=value == 0.0, row=self._runs.row)
        frames, cursors = self._runs.take(touched, self._origin, now)
        lines += self._missing(now)
        if cursors:
            cursors[HEAD] = json.dumps({"since": self._since})
        counts, self._runs.counts = self._runs.counts, {}
        quiet_ms = now - self._latest if self._heartbeat and self._latest >= 0 else 0
        lost = quiet_ms > LOST_MS
        return Batch(
            source=self._name,
            t_recv=now / 1000.0,
            frames=tuple(frames),
            lines=tuple(lines),
            cursors=cursors,
            counts=counts,
            status=Status.ERROR if lost else Status.OK,
            detail=f"no sender has been heard for {quiet_ms // 1000} s" if lost else "",
            at_head=quiet_ms <= HEARD_MS,
        )

    def _context(self, labels: Mapping[str, str], points: Sequence[tuple[int, float | None]]) -> list[LogLine]:
        """Samples of a host; a line for its runs if they tell of a fault."""
        t = np.array([t for t, v in points if v is not None], dtype=np.int64)
        values = np.array([v for _, v in points if v is not None], dtype=np.float64)
        told = self._hosts.put(labels, t, values)
        return [LogLine(run=run, row=self._runs.row(run), text=text) for run, text in told]

    def _origin(self, t: int) -> Origin:
        if t <= self._since:
            return Origin.HISTORY
        return Origin.BACKLOG if t <= self._began else Origin.LIVE

    def _hear(self, sender: str, now: int) -> None:
        self._latest = now
        self._quiet.discard(sender)
        if sender in self._heard or len(self._heard) < MAX_SENDERS:
            self._heard[sender] = now

    def _missing(self, now: int) -> list[LogLine]:
        """A line for the runs of each sender that was last heard too long ago."""
        lines = []
        for sender, at in self._heard.items():
            if now - at > LOST_MS and sender not in self._quiet:
                self._quiet.add(sender)
                text = f"Receiver: the sender {sender} of this run has not been heard for {(now - at) // 1000} s"
                lines += [LogLine(run=r, row=self._runs.row(r), text=text) for r in self._runs.fed_by(sender)]
        return lines

    def _meaning(self, encoded: Labels) -> _Meaning:
        found = self._known.get(encoded)
        if found is None:
            found = self._find(encoded)
            if sum(map(len, encoded)) <= MAX_CACHED_BYTES:
                if len(self._known) >= MAX_CACHED:  # the oldest makes room
                    del self._known[next(iter(self._known))]
                self._known[encoded] = found
        return found

    def _find(self, encoded: Labels) -> _Meaning:
        try:
            labels = labels_of(encoded)
        except MalformedError:
            return Unusable.BAD_LABELS
        query = next((q for q, selector in self._queries if selector.matches(labels)), None)
        if query is None and self._hosts.wants(labels):
            return labels
        if query is None:
            target = labels.get("job", ""), labels.get("instance", "")
            return target if labels.get("__name__") == "up" else Unusable.NO_QUERY
        run = query.run(labels)
        if not run:
            return Unusable.NO_RUN
        run = f"{self._name}/{run}"
        self._targets.learn(labels, run)
        self._hosts.learn(labels, run)
        return Place(run=run, column=query.column(labels), series=fingerprint(labels))
