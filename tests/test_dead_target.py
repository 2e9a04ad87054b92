"""A run whose exporter is dead and a run that hangs are both silent; the page of the first says what is dead."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from doubles.prometheus import PrometheusDouble
from doubles.remote_write import series

from detectors.types import Kind
from monitor.config import load
from monitor.exhibits import last_said
from monitor.pages import facts
from monitor.reader import Reader
from monitor.sources.hosts import Hosts
from monitor.sources.prometheus.source import Plan, PrometheusSource
from monitor.sources.remote_write.intake import Delivered, Intake
from monitor.sources.remote_write.message import parse
from monitor.sources.remote_write.rows import Bounds, Runs
from monitor.sources.series import Query
from monitor.wiring import open_ledger

POLL_MS = 15_000
TARGET = {"job": "train", "instance": "h1"}
ROWS, POLLS = 30, 60
DOWN = "Prometheus: the target job=train instance=h1 cannot be scraped (up == 0)"


class Watch:
    """A ledger on disk that is fed with batches."""

    def __init__(self, folder: Path) -> None:
        (folder / "c.yaml").write_text(
            f"sources: [{{files: {{paths: [/x]}}}}]\nsinks: {{terminal: {{}}}}\nstate_dir: {folder}/s\n"
        )
        self.config = load(folder / "c.yaml", {})
        self.ledger, _ = open_ledger(self.config, ["terminal"], 0.0)

    def pages(self) -> list[tuple[Kind, list[str]]]:
        """(kind, what was said last) of every incident, as its page has it."""
        reader = Reader(self.config.state_dir / "state.db")
        try:
            return [
                (i.kind, [text for label, text in facts(i, {}, last_said(reader, i)) if label == "Last said"])
                for i in reader.incidents()
            ]
        finally:
            reader.close()
            self.ledger.close()


@pytest.mark.parametrize(("up", "said"), [(True, []), (False, [DOWN])])
def test_a_polled_run_that_fell_silent(tmp_path: Path, up: bool, said: list[str]) -> None:
    watch, server = Watch(tmp_path), PrometheusDouble()
    start = server.now

    async def main() -> None:
        async with server.serve() as url:

            async def sleep(_: float) -> None:
                server.now += POLL_MS

            plan = Plan(url=url, queries=(Query(query="loss"),))
            source = PrometheusSource("prom", plan, clock=lambda: server.now / 1000, sleep=sleep)
            async with contextlib.aclosing(source.batches({})) as batches:
                async for batch in batches:
                    watch.ledger.process(batch)
                    passed = (server.now - start) // POLL_MS
                    server.down = [TARGET] if passed >= ROWS and not up else []
                    if passed == POLLS:
                        return

    for i in range(ROWS):
        server.add(start + i * POLL_MS, 1.0 / (i + 1), run="a", **TARGET)
    asyncio.run(main())
    assert watch.pages() == [(Kind.SILENCE, said)]


def intake_of(now: int) -> Intake:
    hosts = Hosts((), "instance", {})
    return Intake("rw", (Query(query="loss"),), Runs({}, Bounds(), "", now, hosts), hosts, "", now)


@pytest.mark.parametrize(("up", "said"), [(1.0, []), (0.0, [DOWN])])
def test_a_pushed_run_that_fell_silent(tmp_path: Path, up: float, said: list[str]) -> None:
    watch, start = Watch(tmp_path), 1_700_000_000_000
    intake = intake_of(start)
    for i in range(1, POLLS):
        now = start + i * POLL_MS
        values = {"loss": 1.0 / i, "up": 1.0} if i <= ROWS else {"up": up}
        request = parse(
            b"".join(series([(now, value)], name=name, run="a", **TARGET) for name, value in values.items())
        )
        watch.ledger.process(intake.take([Delivered(sender="s", request=request)], now))
        watch.ledger.process(intake.take([], now + 3000))
    assert watch.pages() == [(Kind.SILENCE, said)]


def test_a_sender_that_is_gone_makes_an_outage_and_no_silent_run(tmp_path: Path) -> None:
    watch, start = Watch(tmp_path), 1_700_000_000_000
    intake = intake_of(start)
    for i in range(1, POLLS):
        now = start + i * POLL_MS
        request = parse(series([(now, 1.0 / i)], run="a"))
        watch.ledger.process(intake.take([Delivered(sender="s", request=request)] if i <= ROWS else [], now))
    assert watch.pages() == [(Kind.SOURCE_LOST, [])]
