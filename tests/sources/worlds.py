"""A world for each kind of source: a trainer that writes there, an outage that can be had, and a source that reads it.

To put a new kind under the contract suite: a class here and its line in `WORLDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from aiohttp import ClientError, web
from doubles.otlp import collection, export
from doubles.prometheus import PrometheusDouble
from doubles.remote_write import push, scrape, sender
from doubles.trackio import TrackioProject
from doubles.wandb import ENTITY, KEY, PROJECT, WandbDouble

from monitor.frame import Source
from monitor.sources.files.source import FileSource
from monitor.sources.otlp.message import Stepped, wire
from monitor.sources.prometheus.rows import Query
from monitor.sources.prometheus.source import Plan, PrometheusSource
from monitor.sources.remote_write.rows import Bounds
from monitor.sources.remote_write.source import Plan as RemoteWritePlan
from monitor.sources.remote_write.source import RemoteWriteSource
from monitor.sources.trackio.source import TrackioSource
from monitor.sources.wandb.source import Plan as WandbPlan
from monitor.sources.wandb.source import WandbSource

Written = Sequence[tuple[int, float]]
"""(step, loss) of rows that a trainer writes."""


class World(Protocol):
    """What the suite asks of the world of a source.

    flood: rows that do not fit into one batch.
    """

    flood: int

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def source(self) -> Source:
        """A new source, as a process that starts has it. Its sleeps pass at once and move the world's clock on."""
        ...

    def write(self, run: str, rows: Written) -> None:
        """A trainer writes rows."""
        ...

    def fail(self) -> None:
        """From now on nothing can be read."""
        ...

    def mend(self) -> None:
        """Now it can again."""
        ...

    @property
    def quiet(self) -> bool:
        """Whether all that was written has been handed over."""
        ...


class Files:
    """A folder of JSON lines. An outage is a folder that cannot be listed any more."""

    flood = 120_000

    def __init__(self, tmp_path: Path) -> None:
        self._root = tmp_path / "runs"
        self._now = 1_000.0

    async def __aenter__(self) -> Self:
        self._root.mkdir()
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def source(self) -> Source:
        return FileSource("here", [str(self._root)], clock=lambda: self._now, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self._now += max(seconds, 1.0)
        await asyncio.sleep(0)

    def write(self, run: str, rows: Written) -> None:
        with (self._root / f"{run}.jsonl").open("a") as file:
            file.writelines(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in rows)

    def fail(self) -> None:
        self._root.rename(self._root.with_name("away"))

    def mend(self) -> None:
        self._root.with_name("away").rename(self._root)

    @property
    def quiet(self) -> bool:
        return True


class Prometheus:
    """A server that has scraped the trainer once a second."""

    flood = 12_000

    def __init__(self, _: Path) -> None:
        self._double = PrometheusDouble()
        self._stack = AsyncExitStack()
        self._url = ""

    async def __aenter__(self) -> Self:
        self._url = await self._stack.enter_async_context(self._double.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def source(self) -> Source:
        queries = (Query(query="loss"), Query(query="step"))
        plan = Plan(url=self._url, queries=queries, step_metric="step", lookback_s=86_400.0)
        return PrometheusSource("here", plan, clock=lambda: self._double.now / 1000, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self._double.now += round(seconds * 1000)
        await asyncio.sleep(0)

    def write(self, run: str, rows: Written) -> None:
        for step, loss in rows:
            self._double.now += 1000
            t = self._double.now
            self._double.add(t, loss, run=run)
            self._double.add(t, step, name="step", run=run)

    def fail(self) -> None:
        self._double.answer = lambda _: web.Response(status=503)

    def mend(self) -> None:
        self._double.answer = lambda _: None

    @property
    def quiet(self) -> bool:
        return True


class Wandb:
    """A W&B server with the project of the trainer."""

    flood = 12_000

    def __init__(self, _: Path) -> None:
        self._double = WandbDouble()
        self._stack = AsyncExitStack()
        self._url = ""

    async def __aenter__(self) -> Self:
        self._url = await self._stack.enter_async_context(self._double.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def source(self) -> Source:
        plan = WandbPlan(entity=ENTITY, project=PROJECT, key=KEY, url=self._url, first_rows=self.flood)
        return WandbSource("here", plan, now=self._double.clock, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self._double.pass_time(seconds)
        await asyncio.sleep(0)

    def write(self, run: str, rows: Written) -> None:
        known = self._double.runs.get(run) or self._double.add(run)
        for step, loss in rows:
            known.log(step=step, loss=loss)

    def fail(self) -> None:
        async def unavailable(*_: object) -> web.StreamResponse:
            return web.Response(status=502)

        self._double.answer = unavailable

    def mend(self) -> None:
        self._double.answer = None

    @property
    def quiet(self) -> bool:
        return True


class Trackio:
    """A folder with a project, its database in WAL mode. An outage is a folder that cannot be listed any more."""

    flood = 6_000

    def __init__(self, tmp_path: Path) -> None:
        self._project = TrackioProject(tmp_path / "trackio" / "demo.db")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._project.close()

    def source(self) -> Source:
        return TrackioSource("here", str(self._project.path.parent), now=lambda: 1_000.0, sleep=self._sleep)

    async def _sleep(self, _: float) -> None:
        await asyncio.sleep(0)

    def write(self, run: str, rows: Written) -> None:
        self._project.log(run, *({"step": step, "loss": loss} for step, loss in rows))

    def fail(self) -> None:
        self._project.close()
        self._project.path.parent.rename(self._project.path.parent.with_name("away"))

    def mend(self) -> None:
        self._project.path.parent.with_name("away").rename(self._project.path.parent)

    @property
    def quiet(self) -> bool:
        return True


class RemoteWrite:
    """A sender that pushes what the trainer says, in order, again and again until it is taken."""

    flood = 12_000
    _push, _scrape = staticmethod(push), staticmethod(scrape)

    def __init__(self, _: Path) -> None:
        self._now = 1_700_000_000_000
        self._port = free_port()
        self._unsent: deque[bytes] = deque()
        self._down = False
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._sending is not None
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)

    def source(self) -> Source:
        queries = (Query(query="loss"), Query(query="step"))
        plan = RemoteWritePlan(
            listen=f"127.0.0.1:{self._port}", queries=queries, step_metric="step", tick_s=0.005, answer_s=2.0
        )
        return RemoteWriteSource("here", plan, clock=self._clock)

    def _clock(self) -> float:
        self._now += 60_000 if self._down else 1000
        return self._now / 1000

    async def _send(self) -> None:
        async with sender() as session:
            while True:
                await asyncio.sleep(0.001)
                if self._unsent and not self._down:
                    with contextlib.suppress(ClientError):  # nobody listens, or no longer
                        if await self._push(session, f"http://127.0.0.1:{self._port}", self._unsent[0]) < 300:
                            self._unsent.popleft()

    def write(self, run: str, rows: Written) -> None:
        for i in range(0, len(rows), 500):
            body = b""
            for step, loss in rows[i : i + 500]:
                self._now += 1000
                body += self._scrape(self._now, {"loss": loss, "step": step}, run=run)
            self._unsent.append(body)

    def fail(self) -> None:
        self._down = True

    def mend(self) -> None:
        self._down = False

    @property
    def quiet(self) -> bool:
        return self._down or not self._unsent


class Otlp(RemoteWrite):
    """An OpenTelemetry SDK that exports what the trainer says, the step as an attribute.

    Nobody can tell its outage from a silent trainer; ours is an address that another program has.
    """

    _push, _scrape = staticmethod(export), staticmethod(collection)

    def source(self) -> Source:
        queries = (Query(query="loss"), Query(query="step"))
        protocol = wire(Stepped(attribute="step", run_label="run"))
        bounds = Bounds(repeats=True)
        plan = RemoteWritePlan(
            listen=f"127.0.0.1:{self._port}", queries=queries, step_metric="step", tick_s=0.005, answer_s=2.0,
            wire=protocol, bounds=bounds,
        )  # fmt: skip
        return RemoteWriteSource("here", plan, clock=self._clock)

    def fail(self) -> None:
        super().fail()
        self._other = socket.create_server(("127.0.0.1", self._port))

    def mend(self) -> None:
        self._other.close()
        super().mend()


WORLDS: Mapping[str, Callable[[Path], World]] = {
    "files": Files,
    "otlp": Otlp,
    "prometheus": Prometheus,
    "remote_write": RemoteWrite,
    "trackio": Trackio,
    "wandb": Wandb,
}
Story = Callable[[World], Awaitable[None]]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def within(kind: str, tmp_path: Path, story: Story) -> None:
    """Run a story in a new world."""

    async def main() -> None:
        async with WORLDS[kind](tmp_path) as world:
            await story(world)

    asyncio.run(main())
