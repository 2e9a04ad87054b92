"""The real Prometheus server: history made by promtool, live scrapes, a restart of the server."""

from __future__ import annotations

import asyncio
import contextlib
import math
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, web
from servers import PATIENCE_S, free_port, running, tool

from detectors.types import Origin
from monitor.errors import TransientError
from monitor.frame import Batch, Status
from monitor.sources.prometheus.source import Plan, PrometheusSource
from monitor.sources.series import Query

pytestmark = pytest.mark.real

HISTORY = 2_000


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[str]:
    command = [tool("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=30d"]
    with running(command, folder / "log"):
        yield f"http://127.0.0.1:{port}"


class Rig:
    """Follows the server from the committed cursors on, as the daemon does after trouble."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cursors: dict[str, str] = {}
        self.batches: list[Batch] = []

    async def follow(self) -> None:
        queries = (Query(query="train_loss", metric="loss"), Query(query="train_step"))
        plan = Plan(url=self.url, queries=queries, step_metric="train_step", poll_s=0.5, late_s=20.0)
        while True:
            try:
                async for batch in PrometheusSource("prom", plan).batches(self.cursors):
                    self.batches.append(batch)
                    self.cursors |= batch.cursors
            except TransientError as e:
                self.batches.append(Batch(source="prom", t_recv=0.0, status=Status.ERROR, detail=str(e)))
                await asyncio.sleep(0.2)

    def rows(self, run: str) -> list[tuple[int, float, int, float, Origin]]:
        """(row, t, step, loss, origin) in order of the rows."""
        found = [
            (int(f.row[i]), float(f.t[i]), int(f.step[i]), float(f.values[i, f.columns.index("loss")]), f.origin)
            for b in self.batches
            for f in b.frames
            if f.run == run and "loss" in f.columns
            for i in range(f.row.size)
        ]
        return sorted(found, key=lambda r: r[0])

    async def until(self, condition, what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {what}"
            await asyncio.sleep(0.1)


async def stored(url: str, selector: str) -> list[tuple[float, float]]:
    """What the server itself holds."""
    async with ClientSession() as session:
        for _ in range(200):
            with contextlib.suppress(ClientError, KeyError):
                async with session.get(f"{url}/api/v1/query", params={"query": f"{selector}[7d]"}) as response:
                    result = (await response.json())["data"]["result"]
                return [(t, float(v)) for t, v in result[0]["values"]] if result else []
            await asyncio.sleep(0.1)
    raise AssertionError("the server does not answer")


def make_history(folder: Path, first: int) -> list[float]:
    values = [3.0 - i / HISTORY for i in range(HISTORY)]
    values[700], values[701] = math.nan, math.inf
    text = ["# TYPE train_loss gauge"]
    text += [f'train_loss{{run="old"}} {str(v).replace("inf", "+Inf")} {first + 5 * i}' for i, v in enumerate(values)]
    text += ["# TYPE train_step gauge"]
    text += [f'train_step{{run="old"}} {10 * i} {first + 5 * i}' for i in range(HISTORY)]
    (folder / "history").write_text("\n".join([*text, "# EOF", ""]))
    command = [
        tool("promtool"),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(folder / "history"),
        str(folder / "data"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return values


def test_history_scrapes_and_a_restart_of_the_server_give_every_sample_once(tmp_path: Path) -> None:
    port, first = free_port(), int(time.time()) - 6 * 3600
    (tmp_path / "data").mkdir()
    values = make_history(tmp_path, first)

    async def main() -> None:
        count, up = 0, True

        async def metrics(_: web.Request) -> web.Response:
            nonlocal count
            if not up:
                return web.Response(status=500)
            count += 1
            loss = "NaN" if count == 3 else f"{1 / count}"
            return web.Response(text=f'train_loss{{run="live"}} {loss}\ntrain_step{{run="live"}} {count}\n')

        app = web.Application()
        app.router.add_get("/metrics", metrics)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: train, static_configs: "
            f"[{{targets: ['127.0.0.1:{runner.addresses[0][1]}']}}]}}]\n"
        )
        rig = Rig(f"http://127.0.0.1:{port}")
        with serving(tmp_path, port) as url:
            await stored(url, "train_loss")
            task = asyncio.create_task(rig.follow())
            await rig.until(lambda: len(rig.rows("prom/live")) >= 6, "six live rows")
        await rig.until(lambda: rig.batches[-1].status is Status.ERROR, "the outage")
        before = len(rig.rows("prom/live"))
        with serving(tmp_path, port) as url:
            await rig.until(lambda: len(rig.rows("prom/live")) >= before + 5, "rows after the restart")
            up = False
            await rig.until(
                lambda: any("up == 0" in line.text for b in rig.batches for line in b.lines), "the target down"
            )
            await asyncio.sleep(1.5)
            truth = await stored(url, 'train_loss{run="live"}')
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await runner.cleanup()
        live, old = rig.rows("prom/live"), rig.rows("prom/old")
        assert [repr((t, v)) for _, t, _, v, _ in live] == [repr(pair) for pair in truth]
        assert [r[0] for r in live] == list(range(len(live)))
        assert all(v == 1 / step or (step == 3 and math.isnan(v)) for _, _, step, v, _ in live)
        assert {r[4] for r in live} >= {Origin.LIVE}
        assert [(r[0], r[1], r[2], repr(r[3]), r[4]) for r in old] == [
            (i, float(first + 5 * i), 10 * i, repr(v), Origin.HISTORY) for i, v in enumerate(values)
        ]

    asyncio.run(main())
