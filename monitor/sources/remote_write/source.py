"""A receiver of remote write, or of what is pushed alike (see `wire`), as a source.

Senders push, batches come out, and each sender hears of its commit. Implements `monitor.frame.Source`. Requests that
come while a batch is on its way wait for the next one, so that a retry of what is not committed yet is not answered
before it is. Who reads slowly makes senders wait, then be told to come again; nothing is dropped. Batches of no request
come every `tick_s`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace

from monitor.errors import TransientError
from monitor.frame import Batch
from monitor.sources.hosts import Hosts
from monitor.sources.remote_write.intake import HEAD, Intake
from monitor.sources.remote_write.receiver import Receiver, Waiting
from monitor.sources.remote_write.rows import Bounds, Runs
from monitor.sources.remote_write.wire import REMOTE_WRITE, Wire
from monitor.sources.series import Query
from monitor.web.app import serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where to listen and what is taken. token, step_metric: "" for none. answer_s: below the senders' own patience."""

    listen: str
    queries: tuple[Query, ...]
    token: str = ""
    step_metric: str = ""
    max_bytes: int = 16 << 20
    bounds: Bounds = field(default_factory=Bounds)
    presets: tuple[str, ...] = ()
    host_label: str = "instance"
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    answer_s: float = 20.0
    tick_s: float = 1.0
    wire: Wire = REMOTE_WRITE


class RemoteWriteSource:
    """Listens while it is read."""

    def __init__(self, name: str, plan: Plan, *, clock: Callable[[], float] = time.time) -> None:
        """Clock gives Unix seconds; it is injected in tests."""
        self.name = name
        self.url = ""
        self._plan = plan
        self._clock = clock
        self._receiver: Receiver | None = None
        self._sent: deque[tuple[Batch, list[Waiting]]] = deque()

    async def batches(self, cursors: Mapping[str, str]) -> AsyncIterator[Batch]:
        """Yield batches for ever, beginning after `cursors`. TransientError while the address cannot be had."""
        plan = self._plan
        receiver = Receiver(plan.wire, token=plan.token, max_bytes=plan.max_bytes, answer_s=plan.answer_s)
        placed = {host: [f"{self.name}/{run}" for run in runs] for host, runs in plan.hosts.items()}
        hosts = Hosts(plan.presets, plan.host_label, placed)
        runs = Runs(cursors, plan.bounds, plan.step_metric, self._now(), hosts)
        head, speaks = cursors.get(HEAD, ""), plan.wire.heartbeat
        intake = Intake(self.name, plan.queries, runs, hosts, head, self._now(), heartbeat=speaks)
        try:
            runner, self.url = await serve(receiver.app(), plan.listen)
        except OSError as e:
            raise TransientError(str(e)) from e
        sent = deque[tuple[Batch, list[Waiting]]]()
        self._receiver, self._sent = receiver, sent
        waiting: list[Waiting] = []
        try:
            while True:
                await receiver.wait(plan.tick_s)
                waiting = receiver.collect()
                batch = await asyncio.to_thread(intake.take, [w.delivered for w in waiting], self._now())
                refused, receiver.refused = receiver.refused, {}
                counts = {k.replace(REMOTE_WRITE.name, plan.wire.name): many for k, many in batch.counts.items()}
                batch = replace(batch, counts={**counts, **refused})
                sent.append((batch, waiting))
                waiting = []
                yield batch
        finally:
            receiver.stop()
            for one in (*waiting, *(w for _, many in sent for w in many)):
                receiver.finish(one, committed=False)
            sent.clear()
            await runner.cleanup()

    def committed(self, batch: Batch) -> None:
        """Its senders hear so. Batches that are none of ours are reports of the runtime."""
        if self._receiver is not None and self._sent and self._sent[0][0] is batch:
            for one in self._sent.popleft()[1]:
                self._receiver.finish(one, committed=True)

    def _now(self) -> int:
        return round(self._clock() * 1000)
