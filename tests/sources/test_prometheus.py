"""Samples of a Prometheus server become rows once, whatever happens in between."""
# ruff: noqa: E501  tables read better in lines

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from doubles.prometheus import PrometheusDouble
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.types import Origin
from monitor.errors import PermanentError, TransientError
from monitor.frame import Batch, Status
from monitor.sources.prometheus.source import Plan, PrometheusSource, authorization
from monitor.sources.series import Query

POLL_MS = 15_000
QUERIES = (Query(query="loss"), Query(query="lr"), Query(query="step"))


@dataclass
class Rig:
    """Reads a double for some polls at a time; each poll moves its clock on."""

    server: PrometheusDouble
    queries: tuple[Query, ...] = QUERIES
    options: dict[str, Any] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)

    def plan(self, url: str) -> Plan:
        return Plan(url=url, queries=self.queries, **{"step_metric": "step", "lookback_s": 7200.0} | self.options)

    async def read(self, polls: int) -> None:
        """`polls` times up to the head, in one go, then abandon the source."""
        async with self.server.serve() as url:

            async def sleep(_: float) -> None:
                self.server.now += POLL_MS

            source = PrometheusSource("prom", self.plan(url), clock=lambda: 5.0, sleep=sleep)
            async with contextlib.aclosing(source.batches(self.cursors)) as batches:
                async for batch in batches:
                    self.batches.append(batch)
                    self.cursors |= batch.cursors
                    polls -= batch.at_head
                    if not polls:
                        self.server.now += POLL_MS
                        return

    def poll(self, polls: int = 1) -> None:
        asyncio.run(self.read(polls))

    def rows(self, batches: list[Batch] | None = None) -> list[tuple[str, int, int, float, dict[str, float], Origin]]:
        """(run, row, step, t, values, origin), by run and row; rows are unique and ascend within a frame."""
        found = []
        for batch in self.batches if batches is None else batches:
            for f in batch.frames:
                assert (np.diff(f.row) > 0).all()
                found += [
                    (f.run, int(f.row[i]), int(f.step[i]), float(f.t[i]), dict(zip(f.columns, f.values[i], strict=True)), f.origin)
                    for i in range(f.row.size)
                ]  # fmt: skip
        found.sort(key=lambda r: r[:2])
        for run in {r[0] for r in found}:
            mine = [r[1] for r in found if r[0] == run]
            assert mine == list(range(len(mine)))
        return found

    def values(self, column: str = "loss", run: str = "prom/a") -> list[tuple[float, float]]:
        return sorted((r[3], r[4][column]) for r in self.rows() if r[0] == run and column in r[4])

    def counts(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for batch in self.batches:
            for reason, many in batch.counts.items():
                total[reason] = total.get(reason, 0) + many
        return total


def scrape(server: PrometheusDouble, t: int, value: float | str, run: str = "a", delay: int = 0) -> None:
    server.add(t, value, run=run, seen=t + delay)
    server.add(t, 0.5, name="lr", run=run, seen=t + delay)
    server.add(t, str(t // 1000), name="step", run=run, seen=t + delay)


def test_columns_of_one_scrape_are_one_row_with_its_step_and_time() -> None:
    server = PrometheusDouble()
    t = server.now - 30_000
    scrape(server, t, 2.5)
    scrape(server, t + 15_000, 2.25)
    rig = Rig(server)
    rig.poll()
    assert rig.rows() == [
        ("prom/a", 0, t // 1000, t / 1000, {"loss": 2.5, "lr": 0.5}, Origin.HISTORY),
        ("prom/a", 1, t // 1000 + 15, t / 1000 + 15, {"loss": 2.25, "lr": 0.5}, Origin.HISTORY),
    ]
    assert [(b.t_recv, b.at_head, b.status) for b in rig.batches] == [(5.0, True, Status.OK)]


def test_history_then_live_and_backlog_after_a_restart() -> None:
    server = PrometheusDouble()
    start = server.now
    for i in range(-4, 20):
        scrape(server, start + i * POLL_MS + 1, float(i))
    rig = Rig(server)
    rig.poll(5)
    server.now += 5 * POLL_MS  # down for so long
    rig.poll(5)
    origins = [r[5] for r in rig.rows()]
    assert [v for _, v in rig.values()] == [float(i) for i in range(-4, len(origins) - 4)]
    history, backlog = origins.count(Origin.HISTORY), origins.count(Origin.BACKLOG)
    assert (history, backlog) == (4, 6)
    assert origins[:4] == [Origin.HISTORY] * 4
    assert origins[8:14] == [Origin.BACKLOG] * 6
    assert origins[4:8] + origins[14:] == [Origin.LIVE] * (len(origins) - 10)


@pytest.mark.parametrize("left_open", [False, True])
@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 2**32))
def test_any_restarts_and_late_scrapes_give_every_sample_once(left_open: bool, seed: int) -> None:
    """Scrapes come late and in gaps, the reader is abandoned and goes on from an earlier cursor."""
    rng = random.Random(seed)
    server = PrometheusDouble(left_open=left_open)
    start = server.now
    expected: dict[str, list[tuple[float, float]]] = {"a": [], "b": []}
    for run, offset in (("a", 0), ("b", 7_003)):
        seen = 0
        for i in range(-20, 60):
            if rng.random() < 0.2:
                continue
            t = start + i * POLL_MS + offset
            seen = max(seen, t + rng.choice([0, 0, 300, 9_000, 40_000]))
            server.add(t, float(i), run=run, seen=seen)
            lr = seen + rng.choice([0, 0, 500])
            server.add(t, 0.5, name="lr", run=run, seen=lr)
            expected[run].append((t / 1000, float(i)))
    rig = Rig(server)
    kept: list[tuple[dict[str, str], int]] = []
    while server.now < start + 66 * POLL_MS:
        rig.poll(rng.choice([1, 1, 2, 5]))
        kept.append((dict(rig.cursors), len(rig.batches)))
        if rng.random() < 0.3:
            del kept[len(kept) - rng.randrange(min(3, len(kept))) :]
            rig.cursors = dict(kept[-1][0])
            del rig.batches[kept[-1][1] :]
    rig.poll(2)
    for run, values in expected.items():
        assert rig.values("loss", f"prom/{run}") == values
        assert [t for t, _ in rig.values("lr", f"prom/{run}")] == [t for t, _ in values]


def test_a_late_column_of_a_scrape_joins_its_row_within_one_poll() -> None:
    server = PrometheusDouble()
    t = server.now - 1_000
    server.add(t - POLL_MS, 1.0, run="a")
    server.add(t - POLL_MS, 0.5, name="lr", run="a")
    server.add(t, 2.0, run="a")
    server.add(t, 0.25, name="lr", run="a", seen=t + 5_000)
    rig = Rig(server)
    rig.poll(2)
    assert [r[4] for r in rig.rows()] == [{"loss": 1.0, "lr": 0.5}, {"loss": 2.0, "lr": 0.25}]


def test_a_column_that_never_comes_keeps_a_row_one_poll_only() -> None:
    server = PrometheusDouble()
    t = server.now
    scrape(server, t - 20_000, 1.0)
    server.add(t - 1_000, 2.0, run="a")
    rig = Rig(server)
    rig.poll(1)
    assert [v for _, v in rig.values()] == [1.0]
    rig.poll(2)  # also across a restart
    assert [v for _, v in rig.values()] == [1.0, 2.0]
    assert rig.rows()[1][2] == -1


def test_nan_and_infinities_are_values() -> None:
    server = PrometheusDouble()
    for i, text in enumerate(["NaN", "+Inf", "-Inf", "1e-3"]):
        scrape(server, server.now - 60_000 + i * POLL_MS, text)
    rig = Rig(server)
    rig.poll()
    nan, *rest = [v for _, v in rig.values()]
    assert math.isnan(nan)
    assert rest == [math.inf, -math.inf, 0.001]


def test_a_nan_of_victoria_metrics_is_the_end_of_a_series_and_its_time_is_that_of_the_answer() -> None:
    server = PrometheusDouble(victoria=True)
    for i, text in enumerate(["1", "NaN", "+Inf"]):
        server.add(server.now - 30_000 + i * POLL_MS, text, run="a")
    rig = Rig(server)
    rig.poll(2)
    assert [v for _, v in rig.values()] == [1.0, math.inf]


def test_what_is_no_number_is_counted_and_the_rest_is_read() -> None:
    server = PrometheusDouble()
    scrape(server, server.now - 30_000, "wat")
    scrape(server, server.now - 15_000, 3.0)
    rig = Rig(server)
    rig.poll()
    assert [v for _, v in rig.values()] == [3.0]
    assert rig.counts()["prometheus_bad_sample"] == 1


def test_a_series_that_ended_gives_no_more_values() -> None:
    server = PrometheusDouble()
    scrape(server, server.now - 15_000, 1.0)
    rig = Rig(server)
    rig.poll(6)
    assert len(rig.rows()) == 1
    assert all(b.status is Status.OK for b in rig.batches)


def test_a_gap_is_filled_in_windows_that_fit_one_answer() -> None:
    server = PrometheusDouble(now=10_000_000_000)
    rig = Rig(server, options={"lookback_s": 86_400.0, "max_bytes": 40_000})
    start = server.now - 80_000_000
    for i in range(16_000):
        server.add(start + i * 5_000, float(i), run="a")
    rig.poll()
    assert [v for _, v in rig.values()] == [float(i) for i in range(16_000)]
    assert len(rig.batches) > 10
    assert [b.at_head for b in rig.batches] == [False] * (len(rig.batches) - 1) + [True]
    assert server.most_samples < 11_000


def test_an_answer_that_never_fits_is_told_and_the_other_queries_are_read() -> None:
    server = PrometheusDouble()
    for i in range(400):
        server.add(server.now - 500, 1.0, name="lr", run=f"r{i}")
    scrape(server, server.now - 15_000, 1.0)
    rig = Rig(server, options={"max_bytes": 5_000, "lookback_s": 60.0})
    rig.poll()
    assert [v for _, v in rig.values()] == [1.0]
    assert any(b.status is Status.ERROR and "lr: an answer of more than 5000 bytes" in b.detail for b in rig.batches)


def test_a_refused_query_is_told_and_its_samples_are_read_when_it_is_accepted() -> None:
    server = PrometheusDouble()
    start = server.now
    for i in range(30):
        scrape(server, start + i * POLL_MS, float(i))
    refused = web.json_response
    server.answer = lambda q: refused({"status": "error", "error": "no"}, status=400) if q.startswith("lr") else None
    rig = Rig(server)
    rig.poll(16)
    assert all(b.status is Status.ERROR and b.detail == "lr: no" for b in rig.batches)
    server.answer = lambda _: None
    rig.poll(16)
    assert rig.batches[-1].status is Status.OK
    assert [t for t, _ in rig.values("lr")] == [t for t, _ in rig.values("loss")]
    assert len(rig.values("lr")) == 30


def test_a_sender_that_catches_up_after_an_hour_loses_nothing() -> None:
    server = PrometheusDouble()
    start = server.now
    for i in range(60):
        scrape(server, start + i * POLL_MS, float(i), delay=max(0, 50 - i) * POLL_MS)
    rig = Rig(server)
    rig.poll(62)
    assert [v for _, v in rig.values()] == [float(i) for i in range(60)]


TROUBLE = [
    ("server error", lambda _: web.Response(status=503, headers={"Retry-After": "7"}), TransientError, "HTTP 503"),
    ("too many requests", lambda _: web.Response(status=429), TransientError, "HTTP 429"),
    ("no JSON", lambda _: web.Response(text="<html>"), TransientError, "no JSON"),
    ("list", lambda _: web.json_response([1]), TransientError, "none of Prometheus"),
    ("no data", lambda _: web.json_response({"status": "success"}), TransientError, "none of Prometheus"),
    (
        "samples that are no pairs",
        lambda q: None if q == "time()" else web.json_response(
            {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[1]]}]}}
        ),
        TransientError,
        "none of Prometheus",
    ),
    (
        "broken series",
        lambda q: None if q == "time()" else web.json_response({"status": "success", "data": {"resultType": "matrix", "result": [3]}}),
        TransientError,
        "none of Prometheus",
    ),
    ("password", lambda _: web.Response(status=401), PermanentError, "credentials are not accepted"),
    ("redirect", lambda _: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), PermanentError, "redirect"),
    ("elsewhere", lambda _: web.Response(status=404), PermanentError, "no Prometheus API there"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "kind", "said"), [t[1:] for t in TROUBLE], ids=[t[0] for t in TROUBLE])
def test_a_server_in_trouble_is_our_outage_and_afterwards_nothing_is_missing(answer, kind, said) -> None:
    server = PrometheusDouble()
    start = server.now
    for i in range(20):
        scrape(server, start + i * POLL_MS, float(i))
    rig = Rig(server, options={"authorization": authorization("t0ken")})
    rig.poll(3)
    server.answer = answer
    with pytest.raises(kind, match=said) as caught:
        rig.poll()
    assert "t0ken" not in str(caught.value)
    if isinstance(caught.value, TransientError):
        assert caught.value.retry_after_s == (7.0 if "503" in said else 0.0)
    server.answer = lambda _: None
    server.now += 5 * POLL_MS
    rig.poll(15)
    assert [v for _, v in rig.values()] == [float(i) for i in range(20)]


def test_an_unreachable_server_and_a_slow_one_are_transient() -> None:
    async def first(source: PrometheusSource) -> None:
        async for _ in source.batches({}):
            return

    async def stall() -> None:
        hold = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            await hold.wait()
            writer.close()

        server = await asyncio.start_server(slow, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            with pytest.raises(TransientError, match=r"no answer within 0\.05 s"):
                await first(PrometheusSource("p", Plan(url=url, queries=QUERIES, timeout_s=0.05)))
        finally:
            hold.set()
            server.close()
            await server.wait_closed()
        with pytest.raises(TransientError, match=r"127\.0\.0\.1"):
            await first(PrometheusSource("p", Plan(url=url, queries=QUERIES)))

    asyncio.run(stall())


def test_credentials_are_sent_as_they_are_named() -> None:
    server = PrometheusDouble()
    Rig(server, options={"authorization": authorization(username="ada", password="x")}).poll()
    assert {h["Authorization"] for _, h in server.asked} == {"Basic YWRhOng="}
    assert authorization("abc") == "Bearer abc"
    assert authorization() == ""


def test_series_without_run_and_beyond_the_limit_are_counted() -> None:
    server = PrometheusDouble()
    server.add(server.now - 1_000, 1.0, job="x")
    for i in range(5):
        server.add(server.now - 1_000, 1.0, run=f"r{i}")
    rig = Rig(server, options={"max_series": 4})
    rig.poll()
    assert {r[0] for r in rig.rows()} == {"prom/r0", "prom/r1", "prom/r2"}
    assert rig.counts() == {"prometheus_series_limit": 2, "prometheus_series_without_run": 1}


def test_labels_tell_columns_apart() -> None:
    server = PrometheusDouble()
    for gpu in "01":
        server.add(server.now - 1_000, float(gpu), name="temp", run="a", gpu=gpu)
    rig = Rig(server, queries=(Query(query="temp", metric="gpu_temp", labels=("gpu",)),))
    rig.poll()
    assert [r[4] for r in rig.rows()] == [{"gpu_temp{gpu=0}": 0.0, "gpu_temp{gpu=1}": 1.0}]


def test_two_live_series_of_one_column_are_not_mixed_but_a_successor_is_read_on() -> None:
    server = PrometheusDouble()
    start = server.now
    for i in range(40):
        if i < 20:
            server.add(start + i * POLL_MS, 1.0, run="a", instance="h1")
        server.add(start + i * POLL_MS + 500, 2.0, run="b", instance="h1")
        server.add(start + i * POLL_MS + 900, 3.0, run="b", instance="h2")
        if i >= 22:
            server.add(start + i * POLL_MS + 300, 4.0, run="a", instance="h2")
    rig = Rig(server)
    rig.poll(43)
    assert [v for _, v in rig.values("loss", "prom/a")] == [1.0] * 20 + [4.0] * 18
    assert [v for _, v in rig.values("loss", "prom/b")] == [2.0] * 40
    assert rig.counts()["prometheus_ambiguous_series"] > 0


def test_a_target_that_is_down_is_a_line_for_its_runs_and_no_outage() -> None:
    server = PrometheusDouble()
    server.add(server.now - 1_000, 1.0, run="a", job="train", instance="h:1")
    rig = Rig(server)
    rig.poll()
    server.down = [{"job": "train", "instance": "h:1"}, {"job": "other", "instance": "x"}]

    async def later() -> None:
        await rig.read(2)

    server.add(server.now - 1_000, 2.0, run="a", job="train", instance="h:1")
    asyncio.run(later())
    lines = [(line.run, line.row, line.text) for b in rig.batches for line in b.lines]
    assert lines == [("prom/a", 0, "Prometheus: the target job=train instance=h:1 cannot be scraped (up == 0)")]
    assert all(b.status is Status.OK for b in rig.batches)


def test_damaged_cursors_are_counted_and_read_afresh() -> None:
    server = PrometheusDouble()
    scrape(server, server.now - 1_000, 1.0)
    rig = Rig(server, cursors={"head": "{", "run:prom/a": '{"row": 1}'})
    rig.poll()
    assert [v for _, v in rig.values()] == [1.0]
    assert rig.counts() == {"prometheus_corrupt_cursor": 2}


def test_a_gap_beyond_the_lookback_is_counted() -> None:
    server = PrometheusDouble()
    rig = Rig(server, options={"lookback_s": 600.0})
    rig.poll()
    server.now += 3_600_000
    rig.poll()
    assert rig.counts() == {"prometheus_gap_older_than_lookback": 1}


def test_the_source_ends_at_once_when_it_is_cancelled() -> None:
    async def main() -> None:
        server = PrometheusDouble()
        async with server.serve() as url:
            source = PrometheusSource("p", Plan(url=url, queries=QUERIES, poll_s=3600.0))

            async def drain() -> None:
                async for _ in source.batches({}):
                    first.set()

            first = asyncio.Event()
            task = asyncio.create_task(drain())
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                async with asyncio.timeout(5):
                    await task

    asyncio.run(main())
