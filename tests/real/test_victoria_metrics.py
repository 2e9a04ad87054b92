"""The real VictoriaMetrics as the server of the pull source: imported history, live scrapes, a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import PATIENCE_S, Exporter, free_port, running, tool, wait

from detectors.types import Origin
from monitor.errors import TransientError
from monitor.frame import Batch, Status
from monitor.sources.prometheus.source import Plan, PrometheusSource
from monitor.sources.series import Query

pytestmark = pytest.mark.real

HISTORY = 2_000


def get(url: str, data: bytes | None = None) -> str:
    with urllib.request.urlopen(url, data, timeout=10) as answer:
        return answer.read().decode()


def answers(url: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, OSError):
        return get(f"{url}/health") == "OK"
    return False


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[str]:
    command = [tool("victoria-metrics"), f"-storageDataPath={folder}/data", f"-httpListenAddr=127.0.0.1:{port}"]
    command += [f"-promscrape.config={folder}/scrape.yml", "-retentionPeriod=1y", "-search.latencyOffset=1s"]
    with running(command, folder / "log"):
        url = f"http://127.0.0.1:{port}"
        wait(lambda: answers(url), "the server")
        yield url


def exported(url: str, selector: str) -> list[tuple[float, float]]:
    """What the server itself holds."""
    rows = []
    for line in get(f"{url}/api/v1/export?match[]={urllib.parse.quote(selector)}").splitlines():
        series = json.loads(re.sub(r"\+?[iI]nf\b", "Infinity", line).replace("null", "NaN"))
        rows += [(t / 1000, v) for t, v in zip(series["timestamps"], series["values"], strict=True)]
    return sorted(rows)


class Rig:
    """Follows the server from the cursors on, as the daemon does after trouble."""

    def __init__(self, url: str) -> None:
        queries = (Query(query="train_loss"), Query(query="train_step"), Query(query="train_lr"))
        self.plan = Plan(url=url, queries=queries, step_metric="train_step", poll_s=0.5, late_s=20.0)
        self.cursors: dict[str, str] = {}
        self.batches: list[Batch] = []

    async def follow(self) -> None:
        while True:
            try:
                async for batch in PrometheusSource("vm", self.plan).batches(self.cursors):
                    self.batches.append(batch)
                    self.cursors |= batch.cursors
            except TransientError as e:
                self.batches.append(Batch(source="vm", t_recv=0.0, status=Status.ERROR, detail=str(e)))
                await asyncio.sleep(0.2)

    def rows(self, run: str) -> list[tuple[int, float, int, float, Origin]]:
        """(row, t, step, loss, origin) in order of the rows."""
        found = [
            (int(f.row[i]), float(f.t[i]), int(f.step[i]), float(f.values[i, f.columns.index("train_loss")]), f.origin)
            for b in self.batches
            for f in b.frames
            if f.run == run and "train_loss" in f.columns
            for i in range(f.row.size)
        ]
        return sorted(found, key=lambda r: r[0])

    async def until(self, condition, what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {what}"
            await asyncio.sleep(0.1)


def test_history_scrapes_and_a_restart_of_the_server_give_every_sample_once(tmp_path: Path) -> None:
    port, first = free_port(), int(time.time()) - 6 * 3600
    values = [3.0 - i / HISTORY for i in range(HISTORY)]
    values[701] = math.inf
    text = [
        f'train_loss{{run="old"}} {str(v).replace("inf", "+Inf")} {1000 * (first + 5 * i)}'
        for i, v in enumerate(values)
    ]
    text += [f'train_step{{run="old"}} {10 * i} {1000 * (first + 5 * i)}' for i in range(HISTORY)]
    exporter = Exporter()
    (tmp_path / "scrape.yml").write_text(
        "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: train, static_configs: "
        f"[{{targets: ['{exporter.address}']}}]}}]\n"
    )

    async def main() -> None:
        rig = Rig(f"http://127.0.0.1:{port}")
        with serving(tmp_path, port) as url:
            get(f"{url}/api/v1/import/prometheus", "\n".join([*text, ""]).encode())
            wait(lambda: len(exported(url, '{run="old"}')) == 2 * HISTORY, "the import")
            task = asyncio.create_task(rig.follow())
            await rig.until(lambda: len(rig.rows("vm/live")) >= 5, "five live rows")
        await rig.until(lambda: rig.batches[-1].status is Status.ERROR, "the outage")
        before = len(rig.rows("vm/live"))
        with serving(tmp_path, port) as url:
            await rig.until(lambda: len(rig.rows("vm/live")) >= before + 4, "rows after the restart")
            exporter.close()
            await rig.until(
                lambda: any("up == 0" in line.text for b in rig.batches for line in b.lines), "the target down"
            )
            await asyncio.sleep(2)
            truth = exported(url, 'train_loss{run="live"}')
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        live, old = rig.rows("vm/live"), rig.rows("vm/old")
        assert [(t, v) for _, t, _, v, _ in live] == [(t, v) for t, v in truth if not math.isnan(v)]
        assert [r[0] for r in live] == list(range(len(live)))
        assert all(math.isclose(v, 1 / step) for _, _, step, v, _ in live)
        # It stores decimals of about 15 digits.
        assert [(r[0], r[1], r[2], round(r[3], 9), r[4]) for r in old] == [
            (i, float(first + 5 * i), 10 * i, round(v, 9), Origin.HISTORY) for i, v in enumerate(values)
        ]

    asyncio.run(main())
