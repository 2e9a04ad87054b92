"""Pushed samples become rows once, and no sender hears of success before they are committed."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from doubles.remote_write import STALE, push, scrape, sender, series, snappy

from detectors.types import Origin
from monitor.errors import TransientError
from monitor.frame import Batch, Status
from monitor.sources.remote_write import receiver as receiving
from monitor.sources.remote_write.rows import Bounds
from monitor.sources.remote_write.source import Plan, RemoteWriteSource
from monitor.sources.series import Query

T0 = 1_700_000_000_000
QUERIES = (Query(query='{__name__=~"loss|lr|step"}'), Query(query="temp", metric="t", labels=("gpu",)))


@dataclass
class Rig:
    """Reads a receiver and commits what comes, as long as `committing`; the clock moves by hand."""

    options: dict[str, Any] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)
    now: int = T0
    committing: bool = True
    batches: list[Batch] = field(default_factory=list)
    url: str = ""
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    behind: list[Batch] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[RemoteWriteSource]:
        plan = Plan(
            **{"listen": "127.0.0.1:0", "queries": QUERIES, "step_metric": "step", "tick_s": 0.005} | self.options
        )
        self.source = RemoteWriteSource("rw", plan, clock=lambda: self.now / 1000)
        task = asyncio.create_task(self._read())
        await self.tick()
        self.url = self.source.url
        try:
            yield self.source
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _read(self) -> None:
        async with contextlib.aclosing(self.source.batches(self.cursors)) as batches:
            async for batch in batches:
                self.batches.append(batch)
                self.behind.append(batch)
                if self.committing:
                    self.commit()
                self.seen.set()

    def commit(self) -> None:
        for batch in self.behind:
            self.cursors |= batch.cursors
            self.source.committed(batch)
        self.behind.clear()

    async def tick(self, times: int = 2) -> None:
        """Until so many batches more have come."""
        for _ in range(times):
            self.seen.clear()
            async with asyncio.timeout(10):
                await self.seen.wait()

    def rows(self, run: str = "rw/a") -> list[tuple[int, int, float, dict[str, float], Origin]]:
        """(row, step, t, values, origin), in order of the rows, which are numbered without a hole."""
        found = [
            (int(f.row[i]), int(f.step[i]), float(f.t[i]), dict(zip(f.columns, f.values[i], strict=True)), f.origin)
            for b in self.batches
            for f in b.frames
            if f.run == run
            for i in range(f.row.size)
        ]
        assert sorted(r[0] for r in found) == list(range(len(found)))
        return sorted(found, key=lambda r: r[0])

    def values(self, column: str = "loss", run: str = "rw/a") -> list[float]:
        return [r[3][column] for r in self.rows(run) if column in r[3]]

    def counts(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for batch in self.batches:
            for reason, many in batch.counts.items():
                total[reason] = total.get(reason, 0) + many
        return total


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await work

    asyncio.run(bounded())


def step(i: int, *, at: int = T0, **labels: str) -> bytes:
    labels.setdefault("run", "a")
    return scrape(at + 1000 * i, {"loss": 1.0 / (i + 1), "lr": 0.5, "step": float(i)}, **labels)


def test_samples_of_one_timestamp_are_one_row_with_its_step_and_time() -> None:
    async def main() -> None:
        rig = Rig(now=T0 + 5000)
        async with rig.reading(), sender() as session:
            for i in range(4):
                assert await push(session, rig.url, step(i)) == 204
            rig.now += 2000
            await rig.tick()
        assert rig.rows() == [
            (i, i, (T0 + 1000 * i) / 1000, {"loss": 1 / (i + 1), "lr": 0.5}, Origin.HISTORY) for i in range(4)
        ]

    run(main())


def test_rows_before_the_first_start_are_history_those_of_a_pause_backlog_and_the_rest_live() -> None:
    async def main() -> None:
        rig = Rig(now=T0 + 1000)
        async with rig.reading(), sender() as session:
            await push(session, rig.url, step(0) + step(1) + step(2))
            rig.now += 2000
            await rig.tick()
        rig.now = T0 + 5000
        async with rig.reading(), sender() as session:
            await push(session, rig.url, step(4) + step(6))
        assert [r[4] for r in rig.rows()] == [
            Origin.HISTORY, Origin.HISTORY, Origin.LIVE, Origin.BACKLOG, Origin.LIVE,
        ]  # fmt: skip

    run(main())


def test_a_scrape_that_comes_in_several_requests_is_one_row_even_across_a_restart() -> None:
    """The half that came first is durable before its row is."""

    async def main() -> None:
        rig = Rig()
        async with rig.reading(), sender() as session:
            await push(session, rig.url, step(0) + step(1))
            rig.now += 2000
            await rig.tick()
            assert await push(session, rig.url, scrape(T0 + 2000, {"loss": 0.25}, run="a")) == 204
            assert len(rig.rows()) == 2
        async with rig.reading(), sender() as session:
            assert await push(session, rig.url, scrape(T0 + 2000, {"lr": 0.5, "step": 2.0}, run="a")) == 204
        assert [(r[1], r[3]) for r in rig.rows()][2:] == [(2, {"loss": 0.25, "lr": 0.5})]

    run(main())


def test_a_row_waits_no_longer_than_its_bound_and_what_comes_later_is_a_row_of_its_own() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.reading(), sender() as session:
            await push(session, rig.url, step(0))
            rig.now += 2000
            await push(session, rig.url, scrape(T0 + 1000, {"loss": 0.5}, run="a"))
            rig.now += 1999
            await rig.tick()
            assert rig.values() == [1.0]
            rig.now += 1
            await rig.tick()
            assert rig.values() == [1.0, 0.5]
            await push(session, rig.url, scrape(T0 + 1000, {"lr": 0.125}, run="a"))
            rig.now += 2000
            await rig.tick()
            assert rig.values("lr") == [0.5, 0.125]

    run(main())


def test_nobody_hears_of_success_before_the_commit() -> None:
    async def main() -> None:
        rig = Rig(committing=False)
        async with rig.reading(), sender() as session:
            first = asyncio.create_task(push(session, rig.url, step(0)))
            await rig.tick(20)
            again = asyncio.create_task(push(session, rig.url, step(0)))  # what a sender does that lost patience
            await rig.tick(20)
            assert not first.done()
            assert not again.done()
            rig.commit()
            rig.committing = True
            assert (await first, await again) == (204, 204)
            rig.now += 2000
            await rig.tick()
        assert rig.values() == [1.0]
        assert rig.counts()["remote_write_duplicate"] == 3

    run(main())


def test_a_commit_that_takes_too_long_is_a_503_and_the_retry_loses_and_doubles_nothing() -> None:
    async def main() -> None:
        rig = Rig(options={"answer_s": 0.05}, committing=False)
        async with rig.reading(), sender() as session:
            assert await push(session, rig.url, step(0)) == 503
            rig.committing = True
            rig.commit()
            assert await push(session, rig.url, step(0)) == 204
            rig.now += 2000
            await rig.tick()
            assert rig.values() == [1.0]

    run(main())


def test_after_a_stop_before_the_commit_the_sender_knows_and_its_retry_brings_everything() -> None:
    async def main() -> None:
        rig = Rig(committing=False)
        async with sender() as session:
            async with rig.reading():
                pushed = asyncio.create_task(push(session, rig.url, step(0) + step(1)))
                await rig.tick(10)
                assert not pushed.done()
                rig.behind.clear()
            assert await pushed == 503
            rig.batches.clear()
            rig.committing = True
            async with rig.reading():
                assert await push(session, rig.url, step(0) + step(1)) == 204
                rig.now += 2000
                await rig.tick()
        assert rig.values() == [1.0, 0.5]

    run(main())


def test_senders_that_are_too_many_for_a_slow_reader_are_told_to_come_again() -> None:
    async def main() -> None:
        rig = Rig(committing=False)
        async with rig.reading(), sender() as session, sender("127.0.0.2") as other:
            many = [asyncio.create_task(push(session, rig.url, step(i))) for i in range(receiving.MAX_OF_SENDER)]
            while sum(len(w) for _, w in rig.source._sent) < len(many):
                await rig.tick()
            assert await push(session, rig.url, step(99)) == 503
            mine = asyncio.create_task(push(other, rig.url, step(0, run="b")))
            await rig.tick(20)
            assert not mine.done()
            rig.committing = True
            rig.commit()
            assert await mine == 204
            assert {await one for one in many} == {204}
        assert rig.counts()["remote_write_busy"] == 1

    run(main())


def test_a_sender_that_goes_away_in_the_middle_of_its_body_is_counted_without_a_defect(caplog) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.reading():
            host, _, port = rig.url.removeprefix("http://").rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /api/v1/write HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Encoding: snappy\r\n")
            writer.write(b"Content-Length: 100\r\nContent-Type: application/x-protobuf\r\n\r\nab")
            await writer.drain()
            await rig.tick(4)
            writer.close()
            await writer.wait_closed()
            while not rig.counts():
                await rig.tick()
        assert rig.counts() == {"remote_write_bad_request": 1}

    run(main())
    assert not caplog.records


def test_what_waits_is_bounded_in_bytes_too() -> None:
    async def main() -> None:
        rig = Rig(options={"max_bytes": 1000}, committing=False)
        async with rig.reading(), sender() as session:
            first = [asyncio.create_task(push(session, rig.url, step(i))) for i in range(5)]
            while sum(len(w) for _, w in rig.source._sent) < 4:
                await rig.tick()
            assert await push(session, rig.url, step(9)) == 503
            rig.committing = True
            rig.commit()
            assert set(await asyncio.gather(*first)) <= {204, 503}
            assert await push(session, rig.url, step(9)) == 204

    run(main())


REFUSED = [
    ("no snappy", b"\xff" * 30, {}, 400),
    ("no protobuf", snappy(b"\x0f\x01\x02"), {}, 400),
    ("a bomb", b"\xff\xff\xff\xff\x0f" + b"\x00a", {}, 413),
    ("too large", snappy(bytes(70_000)), {}, 413),
    ("gzip", b"", {"Content_Encoding": "gzip"}, 415),
    ("plain", b"", {"Content_Encoding": "identity"}, 415),
    ("protocol 2", b"", {"Content_Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}, 415),
    ("no protocol", b"", {"Content_Type": "application/json"}, 415),
    ("another host", b"", {"Host": "evil.example.com"}, 421),
]


@pytest.mark.parametrize(("body", "headers", "status"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_can_never_succeed_is_refused_for_good(body: bytes, headers: dict[str, str], status: int) -> None:
    async def main() -> None:
        rig = Rig(options={"max_bytes": 65_536})
        async with rig.reading(), sender() as session:
            assert await push(session, rig.url, body, raw=True, **headers) == status
            assert await push(session, rig.url, step(0)) == 204
            await rig.tick()
        assert sum(many for reason, many in rig.counts().items() if reason != "remote_write_duplicate") == 1
        assert all(b.status is Status.OK for b in rig.batches)

    run(main())


def test_a_body_without_a_length_is_cut_at_the_bound() -> None:
    async def main() -> None:
        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield bytes(10_000)

        rig = Rig(options={"max_bytes": 65_536})
        async with rig.reading(), sender() as session:
            headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
            async with session.post(f"{rig.url}/api/v1/write", data=endless(), headers=headers) as response:
                assert response.status == 413

    run(main())


def test_only_who_has_the_token_is_read() -> None:
    async def main() -> None:
        rig = Rig(options={"token": "s3cret"})
        async with rig.reading(), sender() as session:
            for wrong in (
                {},
                {"Authorization": "Bearer s3cre"},
                {"Authorization": "Basic s3cret"},
                {"Authorization": "Bearer ü"},
            ):
                assert await push(session, rig.url, step(0), **wrong) == 401
            right = {"Authorization": "Bearer s3cret", "Host": "runwarden.example.com"}
            assert await push(session, rig.url, step(0), **right) == 204

    run(main())


def test_the_series_of_one_sender_are_bounded_and_the_others_do_not_notice() -> None:
    async def main() -> None:
        rig = Rig(options={"bounds": Bounds(max_series=40, max_run_series=30)})
        async with rig.reading(), sender() as session, sender("127.0.0.9") as attacker:
            assert await push(session, rig.url, step(0)) == 204
            for i in range(5):
                flood = b"".join(series([(T0, 1.0)], name="temp", run="x", gpu=f"{i}-{k}") for k in range(100))
                flood += b"".join(series([(T0, 1.0)], run=f"x{i}-{k}") for k in range(100))
                assert await push(attacker, rig.url, flood) == 204
            assert await push(session, rig.url, step(1) + step(0, run="b")) == 204
            rig.now += 2000
            await rig.tick()
        assert (rig.values(), rig.values(run="rw/b")) == ([1.0, 0.5], [1.0])
        assert sum(len(f.columns) for b in rig.batches for f in b.frames if f.run.startswith("rw/x")) == 40
        assert len({c for b in rig.batches for f in b.frames if f.run == "rw/x" for c in f.columns}) == 30
        counts = rig.counts()
        assert counts == {"remote_write_run_series_limit": 470, "remote_write_sender_series_limit": 490}

    run(main())


def test_series_that_ended_long_ago_no_longer_count() -> None:
    async def main() -> None:
        rig = Rig(options={"bounds": Bounds(max_series=3)})
        async with rig.reading(), sender() as session:
            for day in range(4):
                rig.now = T0 + day * 90_000_000
                await rig.tick()
                assert await push(session, rig.url, step(0, at=rig.now, run=f"r{day}")) == 204
                rig.now += 2000
                await rig.tick()
                assert rig.values(run=f"rw/r{day}") == [1.0]
        assert rig.counts() == {}

    run(main())


def test_a_staleness_mark_is_no_value_and_every_other_nan_is_one() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.reading(), sender() as session:
            values = [math.nan, STALE, math.inf, -math.inf]
            points = [(T0 + 1000 * i, v) for i, v in enumerate(values)]
            await push(session, rig.url, series(points, run="a"))
            rig.now += 2000
            await rig.tick()
        assert [repr(v) for v in rig.values()] == ["np.float64(nan)", "np.float64(inf)", "np.float64(-inf)"]

    run(main())


def test_one_of_an_ha_pair_is_taken_and_the_other_when_the_first_falls_silent_or_ends() -> None:
    async def main() -> None:
        rig = Rig(now=T0 + 200_000, options={"queries": (Query(query="loss"),)})
        async with rig.reading(), sender() as session:

            async def both(i: int, *, a: bool = True, b: bool = True) -> None:
                body = series([(T0 + 15_000 * i, float(i))], run="a", replica="1") if a else b""
                body += series([(T0 + 15_000 * i + 4_000, i + 0.5)], run="a", replica="2") if b else b""
                assert await push(session, rig.url, body) == 204

            for i in range(3):
                await both(i)
            for i in range(3, 8):
                await both(i, a=False)  # 2 is believed when 1 was silent for a minute
            for i in range(8, 10):
                await both(i)
            await push(session, rig.url, series([(T0 + 145_000, STALE)], run="a", replica="2"))
            await both(10, b=False)
            rig.now += 2000
            await rig.tick()
        assert rig.values() == [0.0, 1.0, 2.0, 6.5, 7.5, 8.5, 9.5, 10.0]
        assert rig.counts() == {"remote_write_rival_series": 3 + 3 + 2}

    run(main())


def test_samples_out_of_order_too_old_or_from_the_future_are_counted_and_the_rest_is_taken() -> None:
    async def main() -> None:
        rig = Rig(now=T0 + 90_000_000)
        async with rig.reading(), sender() as session:
            now = rig.now
            points = [(now, 1.0), (now - 5, 2.0), (now, 1.0), (T0, 3.0), (now + 700_000, 4.0), (now + 1, 5.0)]
            await push(
                session, rig.url, series(points, run="a") + series([(now, 1.0)]) + series([(now, 1.0)], name="x")
            )
            rig.now += 2000
            await rig.tick()
        assert rig.values() == [1.0, 5.0]
        assert rig.counts() == {
            "remote_write_out_of_order": 1,
            "remote_write_duplicate": 1,
            "remote_write_too_old": 1,
            "remote_write_in_the_future": 1,
            "remote_write_series_without_run": 1,
            "remote_write_not_selected": 1,
        }

    run(main())


def test_labels_tell_columns_apart() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.reading(), sender() as session:
            await push(session, rig.url, b"".join(series([(T0, float(g))], name="temp", run="a", gpu=g) for g in "01"))
            rig.now += 2000
            await rig.tick()
        assert [r[3] for r in rig.rows()] == [{"t{gpu=0}": 0.0, "t{gpu=1}": 1.0}]

    run(main())


def test_a_target_that_is_down_is_a_line_for_its_runs() -> None:
    async def main() -> None:
        rig = Rig()
        target = {"job": "train", "instance": "h:1"}
        async with rig.reading(), sender() as session:
            await push(session, rig.url, step(0, **target) + series([(T0, 1.0)], name="up", **target))
            for i in (1, 2):
                await push(session, rig.url, series([(T0 + i, 0.0)], name="up", **target))
            await push(session, rig.url, series([(T0 + 9, 0.0)], name="up", job="other", instance="x"))
        lines = [(line.run, line.text) for b in rig.batches for line in b.lines]
        assert lines == [("rw/a", "Prometheus: the target job=train instance=h:1 cannot be scraped (up == 0)")]

    run(main())


def test_when_no_sender_is_heard_that_is_an_outage_of_the_source_and_no_silence_of_its_runs() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.reading(), sender() as session, sender("127.0.0.5") as other:
            rig.now += 500_000
            await rig.tick()
            assert rig.batches[-1].status is Status.OK  # nobody ever sent
            await push(session, rig.url, step(0, at=rig.now))
            await push(other, rig.url, step(0, at=rig.now, run="b"))
            states = []
            for ms in (29_000, 2_000, 60_000):
                rig.now += ms
                await rig.tick()
                states.append((rig.batches[-1].at_head, rig.batches[-1].status))
            assert states == [(True, Status.OK), (False, Status.OK), (False, Status.ERROR)]
            assert rig.batches[-1].detail == "no sender has been heard for 91 s"
            await push(other, rig.url, b"")  # metadata, say
            assert (rig.batches[-1].at_head, rig.batches[-1].status) == (True, Status.OK)
            lines = [(line.run, line.text) for b in rig.batches for line in b.lines]
            assert ("rw/a", "Receiver: the sender 127.0.0.1 of this run has not been heard for 91 s") in lines
        async with rig.reading():
            rig.now += 91_000
            await rig.tick()
            assert rig.batches[-1].status is Status.ERROR

    run(main())


def test_an_address_that_is_taken_is_a_transient_error_and_damaged_cursors_are_counted() -> None:
    async def main() -> None:
        rig = Rig(cursors={"head": "{", "run:rw/a": '{"row": 1}'})
        async with rig.reading(), sender() as session:
            taken = RemoteWriteSource("rw", Plan(listen=rig.url.removeprefix("http://"), queries=QUERIES))
            with pytest.raises(TransientError, match="cannot be listened on"):
                await anext(taken.batches({}))
            await push(session, rig.url, step(0))
            rig.now += 2000
            await rig.tick()
        assert rig.values() == [1.0]
        assert rig.counts() == {"remote_write_corrupt_cursor": 2}

    run(main())


def test_a_commit_that_is_told_twice_or_of_another_batch_is_nobodys() -> None:
    async def main() -> None:
        rig = Rig(committing=False)
        async with rig.reading() as source, sender() as session:
            source.committed(Batch(source="rw", t_recv=0.0, status=Status.ERROR))
            pushed = asyncio.create_task(push(session, rig.url, step(0)))
            await rig.tick(10)
            assert not pushed.done()
            rig.commit()
            assert await pushed == 204
            source.committed(rig.batches[-1])
        assert np.all([f.row.size for b in rig.batches for f in b.frames])

    run(main())
