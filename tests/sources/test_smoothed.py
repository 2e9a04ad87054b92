"""A loss that its trainer smooths is seen as it was: spikes where they were, and nothing invented."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_rig import parse, rows_of, same

from detectors.types import Role
from monitor.backtest import episodes
from monitor.roles import role_of
from monitor.sources.files import PARSERS
from monitor.sources.files.replay import read_file
from monitor.wiring import new_engine

RAW = "loss (de-smoothed)"
NAN = math.nan


def printed(losses: list[float], *, first: int = 0, mean: float = 0.0) -> list[str]:
    """nanochat's lines for these losses, from step `first` on, where its mean was `mean`."""
    lines = []
    for step, loss in enumerate(losses, first):
        mean = 0.9 * mean + 0.1 * loss
        lines.append(f"step {step:05d}/09999 (1.00%) | loss: {mean / (1 - 0.9 ** (step + 1)):.6f} | dt: 5.00ms\n")
    return lines


def raw(lines: list[str]) -> list[float | None]:
    return [row.get(RAW) for row in parse("text", "".join(lines))[0]]


@settings(deadline=None, max_examples=30)
@given(losses=st.lists(st.floats(0, 50), min_size=1, max_size=200))
def test_the_values_behind_a_mean_are_found_up_to_the_printed_digits(losses: list[float]) -> None:
    assert raw(printed(losses)) == pytest.approx(losses, abs=2e-5)


def test_a_spike_is_found_at_its_step_and_at_its_height() -> None:
    noise = random.Random(7)
    losses = [3.0 + noise.gauss(0, 0.02) for _ in range(400)]
    losses[300] = 6.0
    rows, _ = parse("text", "".join(printed(losses)))
    jumps = [b["loss"] - a["loss"] for a, b in pairwise(rows)]
    assert max(jumps) == pytest.approx(0.3, abs=0.02)  # what the writer shows of a spike of 3
    assert max(rows, key=lambda r: r[RAW])["step"] == 300
    assert rows[300][RAW] == pytest.approx(6.0, abs=1e-4)
    assert rows[301][RAW] == pytest.approx(losses[301], abs=1e-4)


def test_the_value_is_the_primary_loss_and_the_mean_stays_as_it_was_written() -> None:
    (row,), _ = parse("text", printed([4.5])[0])
    assert row["loss"] == 4.5
    assert role_of(RAW).role is role_of("loss").role is Role.LOSS
    assert role_of(RAW).rank < role_of("loss").rank


def test_nothing_is_invented_where_a_line_is_missing() -> None:
    lines = printed([3.0, 3.1, 3.2, 3.3, 3.4, 3.5])
    assert raw([*lines[:2], *lines[3:]]) == pytest.approx([3.0, 3.1, None, 3.4, 3.5], abs=2e-5)
    assert raw(lines[2:]) == pytest.approx([None, 3.3, 3.4, 3.5], abs=2e-5)
    assert raw(lines[::3]) == pytest.approx([3.0, None])


def test_a_line_printed_twice_counts_once() -> None:
    assert raw([line for line in printed([3.0, 3.1, 3.2]) for _ in range(2)]) == pytest.approx([3.0, 3.1, 3.2])


def test_a_run_that_begins_again_or_is_resumed_has_its_own_mean() -> None:
    first, again = printed([3.0, 3.1, 3.2]), printed([9.0, 9.1])
    assert raw(first + again) == pytest.approx([3.0, 3.1, 3.2, 9.0, 9.1], abs=2e-5)
    resumed = printed([5.0, 5.1], first=1, mean=0.3)
    assert raw(first + resumed) == pytest.approx([3.0, 3.1, 3.2, None, 5.1], abs=2e-5)


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_a_loss_that_is_not_finite_poisons_the_mean_until_the_run_begins_again(bad: float) -> None:
    found = raw(printed([3.0, bad, 3.2, 3.3]) + printed([3.0]))
    assert [None if x is None else math.isfinite(x) for x in found] == [True, False, False, False, True]


def test_a_writer_that_does_not_smooth_is_left_alone() -> None:
    losses = [3.0 + (0.5 if i % 2 else 0.0) for i in range(20)]  # no mean of ten steps moves like that
    text = "".join(f"step {i:05d}/00099 (1.00%) | loss: {x:.6f} | dt: 5.00ms\n" for i, x in enumerate(losses))
    found, _ = parse("text", text)
    assert [row["loss"] for row in found] == losses
    assert not any(RAW in row for row in found[12:])


@pytest.mark.parametrize("losses", [[3.0, 3.1, 3.2, 3.0, 3.1], [3.0, NAN, 3.2, 3.0, 3.1]])
def test_the_mean_is_carried_by_the_state(losses: list[float]) -> None:
    lines = [line.strip().encode() for line in printed(losses)]
    parts, state = [], {}
    for row, line in enumerate(lines):
        parser = PARSERS["text"].make(json.loads(json.dumps(state)))
        parts.append(parser.feed([line], row))
        state = parser.state()
    whole: list[dict[str, Any]] = rows_of([PARSERS["text"].make({}).feed(lines, 0)])
    same(rows_of(parts), whole)


@pytest.mark.parametrize("spike", [1, 3, 12])
def test_a_spike_behind_a_mean_is_the_same_incident_as_without_it(tmp_path: Path, spike: int) -> None:
    noise = random.Random(7)
    losses = [3.0 + noise.gauss(0, 0.02) + (3.0 if 600 <= i < 600 + spike else 0.0) for i in range(900)]
    (tmp_path / "mean.log").write_text("".join(printed(losses)))
    (tmp_path / "raw.jsonl").write_text("".join(f'{{"step":{i},"loss":{x:.6f}}}\n' for i, x in enumerate(losses)))
    found = {}
    for name in ("mean.log", "raw.jsonl"):
        seen = episodes(read_file(str(tmp_path / name)), new_engine(math.inf))
        found[name] = [(e.kind, e.severity, e.first_step, e.detected_step, e.paged_step) for e in seen]
    assert found["mean.log"] == found["raw.jsonl"] != []
