"""What exporters of hosts say stands beside the rows of the runs there, and makes neither rows nor pages."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from build import finding
from doubles.prometheus import PrometheusDouble
from doubles.remote_write import series

from detectors.types import Role
from monitor.evidence import build
from monitor.frame import Batch, Status
from monitor.hardware import NAMES, PRESETS
from monitor.incidents import Book, Limit
from monitor.roles import role_of
from monitor.sources.hosts import FRESH_MS, Hosts
from monitor.sources.prometheus.source import Plan, PrometheusSource
from monitor.sources.remote_write.intake import Delivered, Intake
from monitor.sources.remote_write.message import parse
from monitor.sources.remote_write.rows import Bounds, Runs
from monitor.sources.series import Query
from monitor.window import Series, Window

POLL_MS = 15_000
T0 = 1_000_000_000
HOST = {"instance": "gpu-01:9400", "gpu": "3"}


def table(batches: list[Batch], run: str) -> list[dict[str, float]]:
    """Column → value of each row of the run."""
    rows = {
        int(f.row[i]): dict(zip(f.columns, f.values[i].tolist(), strict=True))
        for b in batches
        for f in b.frames
        if f.run == run
        for i in range(f.row.size)
    }
    return [rows[i] for i in sorted(rows)]


def polled(server: PrometheusDouble, polls: int, **options: object) -> list[Batch]:
    async def main() -> list[Batch]:
        batches: list[Batch] = []
        async with server.serve() as url:

            async def sleep(_: float) -> None:
                server.now += POLL_MS

            plan = Plan(url=url, queries=(Query(query="loss"),), presets=("dcgm", "node"), lookback_s=600.0, **options)
            source = PrometheusSource("prom", plan, clock=lambda: 5.0, sleep=sleep)
            async with contextlib.aclosing(source.batches({})) as stream:
                async for batch in stream:
                    batches.append(batch)
                    if len(batches) == polls:
                        return batches
        raise AssertionError

    return asyncio.run(main())


def test_no_name_of_a_preset_has_a_role_so_that_no_detector_judges_it() -> None:
    assert {role_of(name).role for name in NAMES} == {Role.OTHER}
    assert len(NAMES) == sum(map(len, PRESETS.values()))


def test_a_polled_row_has_the_worst_of_its_hosts_and_the_hosts_make_no_rows() -> None:
    server = PrometheusDouble(now=T0)
    for i in range(6):
        t = T0 + i * POLL_MS
        if i < 3:
            server.add(t, 1.0, run="a", instance="GPU-01:8000")
            server.add(t, 1.0, run="a", instance="gpu-02:8000")
        server.add(t - 1000, 60.0 + i, name="DCGM_FI_DEV_GPU_TEMP", **HOST)
        server.add(t - 1000, 90.0, name="DCGM_FI_DEV_GPU_TEMP", instance="gpu-02:9400", gpu="0")
        server.add(t - 1000, 1400.0 - i, name="DCGM_FI_DEV_SM_CLOCK", **HOST)
        server.add(t - 1000, 99.0, name="DCGM_FI_DEV_GPU_TEMP", instance="other:9400", gpu="0")
        server.add(t - 1000, 30.0 * i, name="node_disk_io_time_seconds_total", instance="gpu-01:9100", device="sda")
    batches = polled(server, 6)
    rows = table(batches, "prom/a")
    assert [r["gpu_sm_clock_min_mhz"] for r in rows] == [1400.0, 1399.0, 1398.0]
    assert {r["gpu_temperature_max_c"] for r in rows} <= {60.0, 61.0, 62.0, 90.0}
    assert [r.get("node_disk_busy_share") for r in rows] == [None, 2.0, 2.0]
    assert len(rows) == 3
    assert all(b.status is Status.OK for b in batches)


def test_a_new_fault_is_a_line_for_the_runs_of_the_host_and_an_old_one_is_none() -> None:
    server = PrometheusDouble(now=T0)
    for i in range(4):
        t = T0 + i * POLL_MS
        server.add(t, 1.0, run="a", instance="gpu-01:8000")
        server.add(t, 79.0 if i >= 2 else 0.0, name="DCGM_FI_DEV_XID_ERRORS", **HOST)
        server.add(t, 31.0, name="DCGM_FI_DEV_XID_ERRORS", instance="gpu-01:9400", gpu="4")
        server.add(t, 1.0 if i >= 1 else 0.0, name="node_vmstat_oom_kill", instance="gpu-01:9100")
    lines = [(line.run, line.text) for b in polled(server, 4) for line in b.lines]
    assert lines == [
        ("prom/a", "Hardware: gpu-01: node_vmstat_oom_kill went from 0 to 1"),
        ("prom/a", "Hardware: gpu-01 gpu 3: DCGM_FI_DEV_XID_ERRORS went from 0 to 79"),
    ]


def test_a_preset_that_the_server_refuses_is_counted_and_no_outage() -> None:
    server = PrometheusDouble(now=T0)
    server.add(T0, 1.0, run="a", instance="gpu-01:8000")
    for i in range(3000):
        server.add(T0, 60.0, name="DCGM_FI_DEV_GPU_TEMP", instance=f"h{i}:9400")
    (batch,) = polled(server, 1, max_bytes=20_000)
    assert table([batch], "prom/a") == [{"loss": 1.0}]
    assert (batch.status, batch.counts) == (Status.OK, {"prometheus_preset_not_answered": 1})


def test_a_pushed_row_has_the_worst_of_its_hosts_also_by_the_configuration() -> None:
    hosts = Hosts(("dcgm",), "instance", {"GPU-01": ["rw/b"]})
    intake = Intake("rw", (Query(query="loss"),), Runs({}, Bounds(), "", T0, hosts), hosts, "", T0)
    batches = []
    for i in range(3):
        t = T0 + 1000 * i
        body = series([(t, 70.0 + i)], name="DCGM_FI_DEV_GPU_TEMP", **HOST)
        body += series([(t, 100.0 * i)], name="DCGM_FI_DEV_PCIE_REPLAY_COUNTER", **HOST)
        body += series([(t, float(i == 2))], name="DCGM_FI_DEV_ROW_REMAP_FAILURE", **HOST)
        body += series([(t, 1.0)], run="a", instance="gpu-01:8000") + series([(t, 2.0)], run="b", instance="x:1")
        batches.append(intake.take([Delivered(sender="s", request=parse(body))], t))
    batches.append(intake.take([], T0 + 9000))
    for run in ("rw/a", "rw/b"):
        rows = table(batches, run)
        assert [r["gpu_temperature_max_c"] for r in rows] == [70.0, 71.0, 72.0]
        assert [r.get("gpu_pcie_replays_per_s") for r in rows] == [None, 100.0, 100.0]
    lines = {(line.run, line.text) for b in batches for line in b.lines}
    text = "Hardware: gpu-01 gpu 3: DCGM_FI_DEV_ROW_REMAP_FAILURE went from 0 to 1"
    assert lines == {("rw/a", text), ("rw/b", text)}


def ms(*times: int) -> np.ndarray:
    return np.array(times, dtype=np.int64)


def test_what_a_host_said_long_ago_after_a_reset_or_later_than_the_row_is_no_context() -> None:
    hosts = Hosts(("dcgm",), "instance", {"h": ["r"]}, kept=4)
    temperature = {"__name__": "DCGM_FI_DEV_GPU_TEMP", "instance": "h:1"}
    replays = {"__name__": "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "instance": "h:1"}
    hosts.put(temperature, ms(T0, T0 + 1000), np.array([50.0, 51.0]))
    hosts.put(temperature, ms(T0 + 1000), np.array([99.0]))  # known
    hosts.put(replays, ms(T0, T0 + 1000, T0 + 2000, T0 + 3000), np.array([5.0, 7.0, 1.0, 2.0]))
    near, late = hosts.context("r", [T0 + 3000, T0 + 1000 + FRESH_MS + 1])
    assert near == {"gpu_temperature_max_c": 51.0, "gpu_pcie_replays_per_s": 1.0}
    assert late == {"gpu_pcie_replays_per_s": 1.0}
    assert hosts.context("r", [T0 - 1]) == [{}]
    assert hosts.context("r", [T0]) == [{"gpu_temperature_max_c": 50.0}]
    assert hosts.context("other", [T0]) == [{}]


def test_the_series_of_hosts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.sources.hosts.MAX_SERIES", 10)
    hosts = Hosts(("dcgm",), "instance", {f"h{i}": ["r"] for i in range(100)})
    for i in range(100):
        hosts.put({"__name__": "DCGM_FI_DEV_GPU_TEMP", "instance": f"h{i}:1"}, ms(T0), np.array([float(i)]))
    assert hosts.context("r", [T0]) == [{"gpu_temperature_max_c": 99.0}]
    assert len(hosts._said) == 10


def test_evidence_calls_what_hosts_say_by_its_name() -> None:
    change = Book().apply(finding(40), Limit(), 0.0)
    assert change is not None
    row = np.arange(80, dtype=np.int64)
    shape = {"primary": False, "row": row, "step": row, "t": row.astype(float), "attempt": np.zeros(80, dtype=np.int64)}
    xid = Series(metric="gpu_xid_last", role=Role.OTHER, values=np.where(row < 40, 0.0, 79.0), **shape)
    own = Series(metric="secret_project_metric", role=Role.OTHER, values=np.ones(80), **shape)
    text = build(change.incident, Window(run="r", first_row=0, last_row=79, series=(xid, own))).text()
    assert "gpu_xid_last" in text
    assert "secret" not in text
