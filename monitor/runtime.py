"""The daemon: sources → queue → ledger → outbox, supervised. The only place with a clock.

A full queue stops the reading: every source can be read again, so nothing is dropped. The ingest task is not
supervised: a defect there ends the process, systemd starts it again, and the state file says where to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
import sqlite3
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field

from detectors.types import Phase, Severity
from monitor import notify
from monitor.engine import Step
from monitor.errors import PermanentError, TransientError
from monitor.explain import Explainer
from monitor.frame import Batch, Source, Status
from monitor.incidents import Transition
from monitor.metrics import Metrics
from monitor.outbox import Worker
from monitor.state import State

log = logging.getLogger(__name__)

QUEUE_BATCHES = 16
RETRY_MOST_S = 60.0
PRUNE_EVERY_S = 600.0
OVERDUE_S = 120.0
DRAIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of the samples is kept."""

    days: float = 30.0
    max_gib: float = 2.0


@dataclass(slots=True)
class Health:
    """What readiness is judged by.

    trouble: source → why it cannot be read. heard: sources that yielded. store: why commits fail, "" if they do not.
    progress: monotonic seconds of the last commit.
    """

    trouble: dict[str, str] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)
    store: str = ""
    progress: float = 0.0


class Daemon:
    """Everything that runs beside the web and the control socket, which are `services`."""

    def __init__(
        self,
        *,
        state: State,
        explainer: Explainer,
        sources: Sequence[Source],
        workers: Sequence[Worker],
        metrics: Metrics,
        retention: Retention,
        cursors: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._state = state
        self._explainer = explainer
        self._sources = {source.name: source for source in sources}
        self._workers = workers
        self._metrics = metrics
        self._retention = retention
        self._cursors = cursors
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(QUEUE_BATCHES)
        self._stop = asyncio.Event()
        self._yielded: dict[str, float] = {}
        self.health = Health(progress=time.monotonic())

    def stop(self) -> None:
        """Ask for a clean end: read no more, commit what is queued, deliver what is due."""
        self._stop.set()

    async def changed(self) -> None:
        """A person changed an incident."""
        count = await self._state.write(lambda: len(self._state.ledger.engine.open_incidents()))
        self._metrics.incidents_open.set(count)
        self.wake()

    def wake(self) -> None:
        """Something in the outbox changed."""
        for worker in self._workers:
            worker.wake.set()

    @property
    def source_names(self) -> list[str]:
        """Names of all sources."""
        return list(self._sources)

    async def run(self, feed_every_s: float | None) -> None:
        """Run until `stop`; raises what ended the ingest if that was not asked for. feed_every_s: of the watchdog."""
        reading = [asyncio.create_task(self._read(s), name=f"source {s.name}") for s in self._sources.values()]
        ingest = asyncio.create_task(self._ingest(), name="ingest")
        others = [asyncio.create_task(_persist("outbox", worker.run)) for worker in self._workers]
        others.append(asyncio.create_task(_persist("prune", self._prune)))
        others.append(asyncio.create_task(self._overdue(), name="overdue"))
        others.append(asyncio.create_task(self._watch(feed_every_s), name="watchdog"))
        self._explainer.resume(await self._state.read(self._state.reader.open_pages))
        stop = asyncio.create_task(self._stopped())
        done, _ = await asyncio.wait({stop, ingest, *reading, *others}, return_when=asyncio.FIRST_COMPLETED)
        await _end(reading)
        if not ingest.done():
            with contextlib.suppress(TimeoutError):  # what is not committed is read again at the next start
                await asyncio.wait_for(self._queue.join(), DRAIN_S)
        await _end([ingest, stop, *others])
        await self._drain()
        for task in done - {stop}:
            task.result()

    async def _stopped(self) -> None:
        await self._stop.wait()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                await asyncio.gather(*(worker.round() for worker in self._workers))
                await self._explainer.drain()
        except (TimeoutError, sqlite3.OperationalError) as e:
            log.warning("drain_cut error=%r: what is left is delivered at the next start", e)

    async def _read(self, source: Source) -> None:
        """Read one source for ever; trouble is our own outage, told to the core as a batch of its own."""
        tries, cursors = 0, dict(self._cursors.get(source.name, {}))
        while True:
            try:
                async for batch in source.batches(cursors):
                    tries = 0
                    self._yielded[source.name] = math.inf  # while the queue is full it is not the source that waits
                    await self._queue.put(batch)
                    self._yielded[source.name] = time.monotonic()
                    cursors.update(batch.cursors)
            except TransientError as e:
                wait = e.retry_after_s or min(RETRY_MOST_S, 2.0**tries) * (1.0 + random.random() / 4.0)  # noqa: S311
                tries += 1
                await self._report(source.name, str(e))
                await asyncio.sleep(wait)
            except PermanentError as e:
                await self._report(source.name, str(e))
                await asyncio.sleep(RETRY_MOST_S)
            except Exception as e:
                log.exception("source_broken source=%s", source.name)
                await self._report(source.name, f"defect: {e!r}")
                await asyncio.sleep(RETRY_MOST_S)

    async def _overdue(self) -> None:
        """Tell of sources that hang (a dead network mount answers nothing, not even an error)."""
        while True:
            await asyncio.sleep(OVERDUE_S / 6)
            for name, at in self._yielded.items():
                if (waited := time.monotonic() - at) > OVERDUE_S:
                    await self._report(name, f"no answer for {waited:.0f} s")

    async def _report(self, source: str, detail: str) -> None:
        log.error("source_error source=%s error=%s", source, detail)
        await self._queue.put(Batch(source=source, t_recv=time.time(), status=Status.ERROR, detail=detail))

    async def _ingest(self) -> None:
        while True:
            batch = await self._queue.get()
            await self._commit(batch)
            self._queue.task_done()

    async def _commit(self, batch: Batch) -> None:
        began = time.monotonic()
        while True:
            try:
                step = await self._state.write(self._state.ledger.process, batch)
                break
            except sqlite3.OperationalError as e:
                # A full disk: nothing is lost, reading waits. The page of an incident in this very batch waits too.
                self.health.store = str(e)
                log.error("store_error error=%s: free space below the state folder; reading waits", e)  # noqa: TRY400
                await asyncio.sleep(1.0)
        self.health.store = ""
        self.health.progress = time.monotonic()
        self.health.heard.add(batch.source)
        self._sources[batch.source].committed(batch)
        if batch.status is Status.ERROR:
            self.health.trouble[batch.source] = batch.detail
        else:
            self.health.trouble.pop(batch.source, None)
        self._count(batch, step, time.monotonic() - began)
        for transition in step.transitions:
            _tell(transition)
        self._explainer.after(step)
        if any(t.incident.severity is Severity.PAGE for t in step.transitions):
            self.wake()

    def _count(self, batch: Batch, step: Step, seconds: float) -> None:
        m = self._metrics
        m.rows.inc(sum(f.row.size for f in batch.frames))
        m.batches.labels(source=batch.source).inc()
        m.source_up.labels(source=batch.source).set(batch.status is Status.OK)
        m.source_last_batch.labels(source=batch.source).set(batch.t_recv)
        for reason, many in (*batch.counts.items(), *step.dropped):
            m.dropped.labels(reason=reason).inc(many)
        for finding in step.findings:
            if finding.phase is Phase.BEGINS:
                m.findings.labels(kind=finding.kind.value, severity=finding.severity.name.lower()).inc()
        if batch.frames:
            m.commit.observe(seconds)
        if step.transitions:
            m.incidents_open.set(len(self._state.ledger.engine.open_incidents()))

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_EVERY_S)
            gone = await self._state.write(
                self._state.ledger.prune, time.time(), self._retention.days, self._retention.max_gib * 2**30
            )
            if gone:
                self._metrics.dropped.labels(reason="retention").inc(gone)

    async def _watch(self, feed_every_s: float | None) -> None:
        """Feed the watchdog only while batches (ticks are batches) come through the whole pipeline."""
        if feed_every_s is None:
            await self._stop.wait()
            return
        while True:
            # A full disk is told by readiness: a restart would not free it.
            if time.monotonic() - self.health.progress < 2 * feed_every_s or self.health.store:
                notify.notify(os.environ, notify.WATCHDOG)
            await asyncio.sleep(feed_every_s)


async def _persist(name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Go on with a side task when the disk fails it: what it could not write, it does again."""
    while True:
        try:
            await work()
        except sqlite3.OperationalError as e:
            log.error("store_error task=%s error=%s", name, e)  # noqa: TRY400, the text says all
            await asyncio.sleep(1.0)


def _tell(transition: Transition) -> None:
    i = transition.incident
    level = logging.WARNING if i.severity is Severity.PAGE else logging.INFO
    log.log(
        level,
        "incident id=%s episode=%d kind=%s severity=%s state=%s reason=%s run=%r row=%d",
        i.id, i.episode, i.kind, i.severity.name.lower(), i.state, i.reason, i.run, i.last_row,
    )  # fmt: skip


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
