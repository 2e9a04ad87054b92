"""A watched log is read once, whole and in order."""

from __future__ import annotations

import asyncio
import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_rig import append, row, watching

from detectors.types import Origin
from monitor.sources.files import tailer
from monitor.sources.files.source import FileSource


def test_rows_arrive_once_under_the_path_below_the_root(tmp_path: Path) -> None:
    append(tmp_path / "a" / "train.jsonl", row(0) + row(1))
    with watching(tmp_path) as rig:
        rig.poll()
        append(tmp_path / "a" / "train.jsonl", row(2))
        rig.poll()
        assert [(r["run"], r["row"], r["step"], r["origin"]) for r in rig.seen] == [
            ("a/train", 0, 0, Origin.HISTORY),
            ("a/train", 1, 1, Origin.HISTORY),
            ("a/train", 2, 2, Origin.LIVE),
        ]


def test_a_single_file_is_a_run_called_by_its_stem(tmp_path: Path) -> None:
    append(tmp_path / "train.jsonl", row(0))
    append(tmp_path / "other.jsonl", row(9))
    with watching(tmp_path / "train.jsonl") as rig:
        rig.poll()
        assert [(r["run"], r["step"]) for r in rig.seen] == [("train", 0)]


def test_a_line_without_its_newline_stays_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    whole = '{"step": 1, "loss": 1.25, "größe": 3}\n'.encode()
    append(path, row(0))
    with watching(tmp_path) as rig:
        for i in range(len(whole)):
            append(path, whole[i : i + 1])
            rig.poll(1)
            if i < len(whole) - 1:
                assert rig.steps() == [0]
        assert rig.seen[1]["values"] == {"loss": 1.25, "größe": 3.0}
        assert not rig.counts


LOG = {
    "jsonl": b"".join(row(i, **({"x": 1.5} if i % 3 else {})) for i in range(12)) + b"junk \xc3\xa9\n\n" + row(12),
    "csv": "step,loss,µ\n".encode() + b"".join(b"%d,2.5,%s\r\n" % (i, b"" if i % 2 else b"nan") for i in range(12)),
    "text": b"\xc3\xa9tat\n"
    + b"".join(b" iteration %d/ 99 | %sgrad norm: 1.0 |\n" % (i, b"lm loss: 2 | " if i % 4 else b"") for i in range(9))
    + b"\rstep 20: loss: 3\rstep 21: loss: 4\r\nend\n",
}  # fmt: skip


@pytest.mark.parametrize("name", list(LOG))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_any_appends_and_crashes_give_the_same_rows(tmp_path: Path, name: str, seed: int) -> None:
    """Bytes come in random pieces; now and then only some earlier cursor is left, and the rows after it come again."""
    folder = tmp_path / f"{name}-{seed}"
    data, rng = LOG[name], random.Random(seed)
    append(folder / "whole.log", data)
    with watching(folder) as rig:
        whole = [(r["row"], r["step"], repr(r["values"])) for r in rig.poll()]
    assert len(whole) >= 10
    path = folder / "sub" / "t.log"
    append(path, b"")
    found: dict[int, tuple[int, int, str]] = {}
    with watching(path.parent) as rig:
        while data:
            size = rng.choice([1, 3, 17, 90, 400])
            append(path, data[:size])
            data = data[size:]
            if rng.random() < 0.2:
                rig.restart(rng.choice(rig.kept) if rig.kept else None)
            for r in rig.poll(2):
                entry = (r["row"], r["step"], repr(r["values"]))
                assert found.setdefault(r["row"], entry) == entry
                assert r["generation"] == 0
    assert [found[i] for i in sorted(found)] == whole


def test_what_was_there_is_history_what_was_missed_is_backlog_the_rest_is_live(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    big = b"".join(row(i) for i in range(60_000))
    assert len(big) > tailer.READ_BYTES
    append(path, big)
    with watching(tmp_path) as rig:
        rig.poll(1)
        read = len(rig.seen)
        assert 0 < read < 60_000
        rig.restart()  # killed in the middle of the history
        append(path, row(60_000))
        rig.poll(4)
        append(path, row(60_001))
        rig.poll(1)
    assert rig.steps() == list(range(60_002))
    assert {r["origin"] for r in rig.seen[:60_000]} == {Origin.HISTORY}
    assert [r["origin"] for r in rig.seen[60_000:]] == [Origin.BACKLOG, Origin.LIVE]


def test_a_file_that_appears_later_is_backlog_then_live(tmp_path: Path) -> None:
    with watching(tmp_path) as rig:
        rig.poll()
        append(tmp_path / "t.jsonl", row(0))
        rig.poll()
        append(tmp_path / "t.jsonl", row(1))
        rig.poll()
        assert [r["origin"] for r in rig.seen] == [Origin.BACKLOG, Origin.LIVE]


def test_a_run_that_began_while_we_were_down_is_backlog(tmp_path: Path) -> None:
    append(tmp_path / "a.jsonl", row(0))
    with watching(tmp_path) as rig:
        rig.poll()
        append(tmp_path / "b.jsonl", row(5))
        rig.restart()
        rig.poll()
        assert [(r["run"], r["origin"]) for r in rig.seen] == [("a", Origin.HISTORY), ("b", Origin.BACKLOG)]


def test_a_new_file_is_seen_within_two_seconds(tmp_path: Path) -> None:
    with watching(tmp_path) as rig:
        rig.poll(1, apart=0.25)
        append(tmp_path / "t.jsonl", row(0))
        for _ in range(7):
            rig.poll(1, apart=0.25)
        assert rig.steps() == [0]


def test_rows_may_name_their_run_and_a_name_has_one_file(tmp_path: Path) -> None:
    def named(step: int, run: str) -> bytes:
        return json.dumps({"run": run, "step": step, "loss": 1.0}).encode() + b"\n"

    append(tmp_path / "a.jsonl", named(0, "r1") + named(1, "r2") + row(2))
    append(tmp_path / "b.jsonl", named(3, "r1"))
    with watching(tmp_path) as rig:
        rig.poll(2)
        rig.restart()
        append(tmp_path / "b.jsonl", named(4, "r1"))
        append(tmp_path / "a.jsonl", named(5, "r1"))
        rig.poll(2)
        assert {(r["run"], r["step"]) for r in rig.seen} == {
            ("r1", 0), ("r2", 1), ("a", 2), ("r1 (b)", 3), ("r1 (b)", 4), ("r1", 5),
        }  # fmt: skip


def test_two_formats_of_one_name_are_two_runs(tmp_path: Path) -> None:
    append(tmp_path / "t.csv", b"step,loss\n1,2\n")
    append(tmp_path / "t.jsonl", row(0))
    with watching(tmp_path) as rig:
        rig.poll(2)
        assert {(r["run"], r["step"]) for r in rig.seen} == {("t", 1), ("t.jsonl", 0)}


def test_the_planned_end_is_a_fact_of_the_run(tmp_path: Path) -> None:
    append(tmp_path / "t.log", b"step:1/6200 train_loss:10.5 train_time:1ms step_avg:1ms\n")
    with watching(tmp_path) as rig:
        assert rig.watch.poll(1.0).facts["t"].total_steps == 6200


def test_batches_wait_only_at_the_head_and_stamp_the_given_clock(tmp_path: Path) -> None:
    append(tmp_path / "t.jsonl", b"".join(row(i) for i in range(60_000)))
    now, slept, batches = [1000.0], [], []

    async def sleep(seconds: float) -> None:
        slept.append(len(batches))
        now[0] += seconds

    async def main() -> None:
        stream = FileSource("files", [str(tmp_path)], poll_s=0.5, clock=lambda: now[0], sleep=sleep).batches({})
        async for batch in stream:
            batches.append(batch)
            if len(batches) == 6:
                break
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())
    behind = sum(not b.at_head for b in batches)
    assert behind >= 1
    assert sum(len(f.row) for b in batches for f in b.frames) == 60_000
    assert slept == list(range(behind + 1, 6))
    assert [b.t_recv for b in batches] == [1000.0] * (behind + 1) + [1000.0 + 0.5 * i for i in range(1, 6 - behind)]
    assert all(b.source == "files" for b in batches)


def test_a_clock_set_back_does_not_stop_the_scans(tmp_path: Path) -> None:
    with watching(tmp_path) as rig:
        rig.watch.poll(1e6)
        append(tmp_path / "t.jsonl", row(0))
        rig.take(rig.watch.poll(5.0))
        assert rig.steps() == [0]


def test_nan_is_a_value_and_an_absent_key_is_not(tmp_path: Path) -> None:
    append(tmp_path / "t.jsonl", b'{"step":0,"loss":NaN}\n{"step":1,"lr":1}\n')
    with watching(tmp_path) as rig:
        rig.poll(1)
        assert math.isnan(rig.seen[0]["values"]["loss"])
        assert rig.seen[1]["values"] == {"lr": 1.0}
