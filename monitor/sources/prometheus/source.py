"""A Prometheus server as a source: raw samples of configured selectors, window by window, each sample once.

Every poll reads from a little before the last one (`late_s`: scrapes are stored after their timestamp) to the server's
own now; what was read is known by its timestamp. After a gap, and at first sight, `lookback_s` is read in windows that
shrink until an answer fits. A column that comes back, or is new, is looked for in the time before, because senders
catch up from the old to the new. A server that cannot be asked is our outage (TransientError); a query that it refuses
is told in a batch of status error, with the rows of the others. That a target is down (`up == 0`) is a line for the
evidence of its runs; what the exporters of their hosts say (`presets`) stands beside their rows. Bounds: MAX_SAMPLES of
a window, `max_series` of a query, `max_bytes` of an answer.

Not seen: samples that reach the server later than `late_s` into a column that has newer ones (out-of-order ingestion).
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import aiohttp

from monitor.frame import Batch, LogLine, Status
from monitor.sources.hosts import Hosts
from monitor.sources.prometheus.api import Api, RefusedError, Series, TooMuchError
from monitor.sources.prometheus.rows import HEAD, Columns, Runs, Unusable, Window
from monitor.sources.series import Query, Targets

MAX_SAMPLES = 200_000
MAX_SPAN_MS = 10_000_000  # below 11,000 points of a series that is scraped every second
MIN_SPAN_MS = 1_000
NEW_MS = 3_600_000
SEEK_EVERY_MS = 60_000
CONTEXT_KEPT = 1024  # samples of a host's series: those of one window
MAX_FAULTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is read and within which bounds. authorization: the header, "" for none. step_metric: "" for none."""

    url: str
    queries: tuple[Query, ...]
    authorization: str = ""
    step_metric: str = ""
    poll_s: float = 15.0
    lookback_s: float = 86_400.0
    late_s: float = 120.0
    timeout_s: float = 30.0
    max_series: int = 1_000
    presets: tuple[str, ...] = ()
    host_label: str = "instance"
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_bytes: int = 8 << 20


def authorization(token: str = "", username: str = "", password: str = "") -> str:
    """The header for a bearer token, or for a user and password."""
    if token:
        return f"Bearer {token}"
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode() if username else ""


class PrometheusSource:
    """Polls one server. Implements `monitor.frame.Source`."""

    def __init__(
        self,
        name: str,
        plan: Plan,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Clock gives Unix seconds; sleep waits; both are injected in tests."""
        self.name = name
        self._plan = plan
        self._clock = clock
        self._sleep = sleep

    async def batches(self, cursors: Mapping[str, str]) -> AsyncIterator[Batch]:
        """Yield batches for ever, one per window, beginning after `cursors`. TransientError, PermanentError."""
        plan = self._plan
        headers = {"Authorization": plan.authorization} if plan.authorization else {}
        reading = Reading(self.name, plan, cursors)
        async with aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar()) as session:
            api = Api(session, plan.url, timeout_s=plan.timeout_s, max_bytes=plan.max_bytes)
            while True:
                batch = await reading.poll(api)
                yield replace(batch, t_recv=self._clock())
                if batch.at_head:
                    await self._sleep(plan.poll_s)

    def committed(self, batch: Batch) -> None:
        """Nobody waits for it."""


class Reading:
    """One reading of a server, from a set of cursors on."""

    def __init__(self, name: str, plan: Plan, cursors: Mapping[str, str]) -> None:
        """cursors: as batches carried them."""
        self._name, self._plan = name, plan
        placed = {host: [f"{name}/{run}" for run in runs] for host, runs in plan.hosts.items()}
        self._hosts = Hosts(plan.presets, plan.host_label, placed, kept=CONTEXT_KEPT)
        self._runs = Runs(name, cursors, plan.step_metric, self._hosts)
        self._since = self._next = self._began = -1
        self._span = MAX_SPAN_MS
        self._may_seek = True
        self._sought = 0
        self._targets = Targets()
        if HEAD in cursors:
            try:
                head = json.loads(cursors[HEAD])
                self._since, self._next = int(head["since"]), int(head["next"])
            except (ValueError, LookupError, TypeError):
                self._runs.count(Unusable.CORRUPT)

    async def poll(self, api: Api) -> Batch:
        """Read the next window."""
        end = await api.now()
        if self._began < 0:
            self._began = end
        self._since = end if self._since < 0 else self._since
        floor = end - round(self._plan.lookback_s * 1000)
        start = self._begin(floor, end)
        while True:
            stop = min(end, start + self._span)
            window = Window(start=start, stop=stop, since=self._since, began=self._began, head=stop == end)
            answers, complaints = await self._ask(api, window)
            if answers is None:
                self._span //= 2
                continue
            found = self._runs.sort(window, answers)
            back = self._seek(found, window, floor)
            if back == start:
                break
            start = back
        faults = await self._look_around(api, window)
        return await self._batch(api, window, found, floor, complaints, faults)

    async def _look_around(self, api: Api, window: Window) -> list[LogLine]:
        """Read what the presets select; it is context: that it cannot be had is counted and no outage."""
        if not self._hosts.selector:
            return []
        try:
            answer = await api.samples(self._hosts.selector, window.start, window.stop)
            answer.bound(MAX_SAMPLES - answer.size)
        except (TooMuchError, RefusedError):
            self._runs.count(Unusable.NO_CONTEXT)
            return []
        told = [line for s in answer.series for line in self._hosts.put(s.labels, s.t, s.values)]
        return [LogLine(run=run, row=self._runs.row(run), text=text) for run, text in told[:MAX_FAULTS]]

    def _begin(self, floor: int, end: int) -> int:
        if self._next < 0:
            return floor
        if self._next < floor:
            self._runs.count(Unusable.TOO_OLD)
        # A server's clock that was set back: what it takes in now is looked for there.
        return max(floor, self._next if self._next < end else end - round(self._plan.late_s * 1000))

    async def _ask(self, api: Api, window: Window) -> tuple[list[tuple[Query, list[Series]]] | None, list[str]]:
        """The answers to all queries, None if they are too much for one window; and what is wrong with single ones."""
        answers: list[tuple[Query, list[Series]]] = []
        complaints: list[str] = []
        samples = 0
        for query in self._plan.queries:
            try:
                answer = await api.samples(query.query, window.start, window.stop)
                samples += answer.size
                answer.bound(MAX_SAMPLES - samples)
            except TooMuchError as e:
                if self._span > MIN_SPAN_MS and window.stop - window.start > MIN_SPAN_MS:
                    self._span = min(self._span, window.stop - window.start)
                    return None, []
                complaints.append(f"{query.query}: {e}; make it select less")
                continue
            except RefusedError as e:
                complaints.append(f"{query.query}: {e}")
                continue
            self._runs.count(Unusable.BAD_SAMPLE, answer.bad)
            self._runs.count(Unusable.WARNED, answer.warned)
            self._runs.count(Unusable.SERIES_LIMIT, max(0, len(answer.series) - self._plan.max_series))
            # By their labels, so that it is the same ones every time.
            kept = sorted(answer.series, key=lambda s: sorted(s.labels.items()))[: self._plan.max_series]
            answers.append((query, kept))
        return answers, complaints

    def _seek(self, found: Mapping[str, Columns], window: Window, floor: int) -> int:
        """From where the window must be read instead; its own start if nothing is missing."""
        if not self._may_seek:
            return window.start
        # Columns that are new every few seconds must not have us read an hour each time.
        fresh = window.stop - self._sought >= SEEK_EVERY_MS
        new_from = max(floor, window.stop - NEW_MS) if fresh else window.start
        need = max(floor, self._runs.gap(found, window.start, new_from))
        if need >= window.start:
            return window.start
        self._may_seek, self._sought = False, window.stop
        return need

    async def _batch(
        self,
        api: Api,
        window: Window,
        found: dict[str, Columns],
        floor: int,
        complaints: Sequence[str],
        lines: list[LogLine],
    ) -> Batch:
        lines += await self._hear(api, window, found) if window.head else []
        frames, cursors, held = self._runs.take(window, found, floor)
        if window.head:
            self._may_seek = True
            self._next = min(held - 1, window.stop - round(self._plan.late_s * 1000))
        else:
            self._next = window.stop
        self._span = min(MAX_SPAN_MS, self._span * 2)
        cursors[HEAD] = json.dumps({"since": self._since, "next": self._next})
        counts, self._runs.counts = self._runs.counts, {}
        return Batch(
            source=self._name,
            t_recv=0.0,
            frames=tuple(frames),
            lines=tuple(lines),
            cursors=cursors,
            counts=counts,
            status=Status.ERROR if complaints else Status.OK,
            detail="; ".join(complaints[:3]),
            at_head=window.head,
        )

    async def _hear(self, api: Api, window: Window, found: Mapping[str, Columns]) -> list[LogLine]:
        """What changed about the targets of the runs."""
        for run, columns in found.items():
            for series in columns.values():
                self._targets.learn(series.labels, run)
        down = await api.down(window.stop)
        if down is None:
            return []
        news = sorted(down | self._targets.down())
        return [line for t in news for line in self._targets.hear(t, down=t in down, row=self._runs.row)]
