"""A finished file becomes the batches that a live tail would have seen, and a summary that a person can check."""

from __future__ import annotations

import gzip
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.types import Origin, Role
from monitor.errors import PermanentError
from monitor.frame import Batch
from monitor.sources.files.inspect import inspect_file, rows
from monitor.sources.files.replay import read_file
from monitor.sources.files.rows import Unusable

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "series"
SERIES = sorted(CORPUS.glob("*.jsonl.gz"))[::50] if CORPUS.exists() else []


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def timed(path: Path, times: list[float | None]) -> list[Batch]:
    records = [{"step": i, "loss": 1.0, **({} if t is None else {"t": t})} for i, t in enumerate(times)]
    return list(read_file(str(write(path, *records))))


def numbers(batches: list[Batch]) -> list[int]:
    return [row for b in batches for row in sorted(r for f in b.frames for r in f.row.tolist())]


def ticks(batches: list[Batch]) -> list[float]:
    return [b.t_recv for b in batches[:-1] if not b.frames]


def test_rows_that_follow_closely_come_in_one_batch_at_their_latest_time(tmp_path: Path) -> None:
    batches = timed(tmp_path / "t.jsonl", [100.0, 160.0, 150.0, 155.0])
    assert [(numbers([b]), b.t_recv) for b in batches] == [([0, 1, 2, 3], 160.0), ([], 160.0)]
    assert batches[0].frames[0].origin is Origin.LIVE
    assert [b.at_head for b in batches] == [False, True]


def test_a_gap_is_filled_with_ticks_on_a_fixed_grid(tmp_path: Path) -> None:
    batches = timed(tmp_path / "t.jsonl", [100.0, 103.0, 163.5, 164.0])
    assert [b.t_recv for b in batches] == [103.0, 110.0, 120.0, 130.0, 140.0, 150.0, 160.0, 164.0, 164.0]
    assert numbers(batches) == [0, 1, 2, 3]


def test_a_long_gap_is_ticked_finely_then_coarsely_then_no_more(tmp_path: Path) -> None:
    times = ticks(timed(tmp_path / "t.jsonl", [0.0, 30 * 86_400.0]))
    steps = [b - a for a, b in pairwise(times)]
    assert set(steps) == {10.0, 600.0}
    assert steps == sorted(steps)
    assert times[steps.index(600.0)] == 7_200.0
    assert 7 * 86_400.0 - 600.0 <= times[-1] < 7 * 86_400.0


def test_a_clock_that_goes_back_makes_no_ticks_and_never_moves_us_back(tmp_path: Path) -> None:
    batches = timed(tmp_path / "t.jsonl", [1000.0, 10.0, 500.0, 1030.0])
    assert not ticks(batches)
    assert [b.t_recv for b in batches] == [1030.0, 1030.0]


def test_without_a_clock_there_is_no_time_and_no_silence(tmp_path: Path) -> None:
    assert [b.t_recv for b in timed(tmp_path / "t.jsonl", [None, None])] == [0.0, 0.0]


def test_a_row_without_a_time_among_others_does_not_hide_a_gap(tmp_path: Path) -> None:
    batches = timed(tmp_path / "t.jsonl", [0.0, None, 100.0])
    assert ticks(batches) == [float(t) for t in range(10, 100, 10)]
    assert numbers(batches[:1]) == [0, 1]


def test_a_batch_spans_an_hour_and_8192_rows_at_most(tmp_path: Path) -> None:
    batches = timed(tmp_path / "t.jsonl", [30.0 * i for i in range(300)])
    spans = [float(f.t[-1] - f.t[0]) for b in batches for f in b.frames]
    assert len(spans) == 3
    assert max(spans) == 3_600.0
    sizes = [sum(len(f.row) for f in b.frames) for b in timed(tmp_path / "u.jsonl", [None] * 20_000)]
    assert sum(sizes) == 20_000
    assert max(sizes) <= 8_192


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.none() | st.floats(-1e3, 1e5) | st.sampled_from([1.7e9, 1.7e9 + 61, 1.7e9 + 3_000]), max_size=30)
)
def test_every_row_is_in_one_batch_in_order_and_time_never_goes_back(tmp_path: Path, times: list[float | None]) -> None:
    if not times:
        return
    batches = timed(tmp_path / "t.jsonl", times)
    assert numbers(batches) == list(range(len(times)))
    received = [b.t_recv for b in batches if b.t_recv]
    assert received == sorted(received)
    latest = math.inf
    for batch in batches:
        stamped = sorted((r, t) for f in batch.frames for r, t in zip(f.row.tolist(), f.t.tolist(), strict=True))
        for i, (_, t) in enumerate(stamped):
            assert i == 0 or not t - latest > 60.0
            latest = latest if math.isnan(t) else t if latest == math.inf else max(latest, t)


def test_lines_facts_and_counts_come_with_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.log"
    path.write_text("hello\n iteration 1/ 9 | lm loss: 1.0 |\nTraceback\n")
    (batch, last) = read_file(str(path), run="mine")
    assert [(line.run, line.row, line.text) for line in batch.lines] == [("mine", 0, "hello"), ("mine", 2, "Traceback")]
    assert batch.facts["mine"].total_steps == 9
    assert batch.frames[0].run == "mine"
    assert last.at_head


def test_the_last_line_of_a_finished_file_needs_no_newline(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"step": 1, "loss": 1}\n{"step": 2, "loss": 1}')
    assert numbers(list(read_file(str(path)))) == [0, 1]
    path.write_text('{"step": 1, "loss": 1}')
    assert numbers(list(read_file(str(path)))) == [0]


def test_what_cannot_be_read_is_an_error_before_the_first_batch(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(read_file(str(tmp_path / "none")))
    with pytest.raises(OSError, match="regular"):
        next(read_file(str(tmp_path)))
    for content, reason in ((b"", "no complete line"), (b"a\0b\0c\n", "binary"), (b"hello\n", "no training metrics")):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(PermanentError, match=reason):
            next(read_file(str(tmp_path / "x")))


def test_a_damaged_archive_is_an_error_when_it_is_reached(tmp_path: Path) -> None:
    data = gzip.compress(b"".join(b'{"step": %d, "loss": 1}\n' % i for i in range(50_000)))
    (tmp_path / "t.jsonl.gz").write_bytes(data[: len(data) // 2])
    found: list[Batch] = []
    with pytest.raises(OSError, match="end-of-stream"):
        found.extend(read_file(str(tmp_path / "t.jsonl.gz")))


def test_a_summary_says_what_was_read_and_what_was_not(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write(
        path,
        {"run": "a", "step": 5, "t": 10.0, "loss": 2.0, "aux_loss": 1.0},
        {"run": "a", "step": 6, "t": 12.0, "loss": math.nan, "total_steps": 100},
        {"run": "a", "step": 2, "t": 11.0, "loss": 1.0, "dt_ms": 5.0},
        {"run": "b", "loss": 1.0},
    )
    with path.open("a") as file:
        file.write('oops\n{"run":"b","loss":"x"}\n')
    summary = inspect_file(str(path))
    a, b = summary.runs
    assert (summary.format, summary.lines, summary.log_lines) == ("jsonl", 6, 1)
    assert (a.run, a.rows, a.steps, a.times, a.total_steps, a.steps_back) == ("a", 3, (2, 6), (10.0, 12.0), 100, 1)
    columns = {c.metric: c for c in a.columns}
    assert (columns["loss"].values, columns["loss"].nonfinite, columns["loss"].primary) == (3, 1, True)
    assert not columns["aux_loss"].primary
    assert (columns["dt_ms"].info.role, columns["dt_ms"].info.unit, columns["dt_ms"].first_row) == (
        Role.STEP_TIME,
        "ms",
        2,
    )
    assert (b.rows, b.steps, b.times, b.total_steps) == (1, None, None, -1)
    assert summary.problems[Unusable.NOT_A_RECORD] == (1, 5)
    assert summary.problems[Unusable.NO_METRICS] == (1, 6)


def test_rows_are_given_in_the_order_of_the_file(tmp_path: Path) -> None:
    records = [{"step": i, "loss": i / 2} if i % 3 else {"lr": i / 4} for i in range(9)]
    found = list(rows(str(write(tmp_path / "t.jsonl", *records))))
    assert found == [{"run": "t", "step": None, "t": None, **r} for r in records]


@pytest.mark.skipif(not SERIES, reason="the labelled corpus is not beside the checkout")
@pytest.mark.parametrize("path", SERIES[:5], ids=lambda p: p.name)
def test_a_real_series_is_read_as_it_stands(path: Path) -> None:
    with gzip.open(path, "rt") as file:
        wanted = [json.loads(line) for line in file]
    found = [
        {k: v for k, v in r.items() if k != "run" and not (k in ("step", "t") and v is None)} for r in rows(str(path))
    ]
    np.testing.assert_equal(found, wanted)
    assert sum(len(f.row) for b in read_file(str(path)) for f in b.frames) == len(wanted)
