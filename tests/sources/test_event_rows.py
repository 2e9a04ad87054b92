"""The events of one step are one row, and an event file is watched as well as JSON lines of the same run are."""

from __future__ import annotations

import gzip
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from binary_logs import event, field
from log_rig import append, watching

from monitor.backtest import episodes, record
from monitor.sources.files.event import MAX_EVENTS
from monitor.sources.files.inspect import rows
from monitor.sources.files.replay import read_file
from monitor.sources.files.rows import Unusable
from monitor.sources.files.tfevents import masked_crc32c
from monitor.wiring import new_engine

RECORDINGS = Path(__file__).parents[2] / "benchmarks" / "recordings"
NAME = "events.out.tfevents.1700000000.h"
T0 = 1_700_000_000.0


def framed(message: bytes) -> bytes:
    head = struct.pack("<Q", len(message))
    return head + struct.pack("<I", masked_crc32c(head)) + message + struct.pack("<I", masked_crc32c(message))


def scalar(step: int, t: float, tag: str, value: float) -> bytes:
    """An event with a tensor of one double, which keeps all digits."""
    tensor = field(8, field(1, 2) + field(4, struct.pack("<d", value)))
    return framed(b"\x09" + struct.pack("<d", t) + field(2, step) + field(5, field(1, field(1, tag.encode()) + tensor)))


def incidents(path: Path) -> list[dict[str, Any]]:
    """All that is said of them but row numbers: an evaluation is a line of its own, and part of its step's events."""
    found = [record("", i) for i in episodes(read_file(str(path)), new_engine(math.inf))]
    left_out = ("run", "incident", "first_row", "detected_row", "paged_row", "last_row")
    return sorted(({k: v for k, v in i.items() if k not in left_out} for i in found), key=repr)


@pytest.mark.parametrize(
    "name",
    ["01-clean-101", "07-clean-107", "11-bad-batch-201", "25-logits-overflow-215", "29-hang-219", "33-reinit-223"],
)
def test_a_run_has_the_same_incidents_as_event_file_and_as_json_lines(tmp_path: Path, name: str) -> None:
    path = RECORDINGS / f"{name}.jsonl.gz"
    with gzip.open(path, "rt") as lines, (tmp_path / NAME).open("wb") as events:
        for line in lines:
            row = json.loads(line)
            step, t = row.pop("step"), row.pop("t")
            events.write(b"".join(scalar(step, t + i * 1e-3, k, v) for i, (k, v) in enumerate(row.items())))
    wanted = incidents(path)
    assert wanted
    assert incidents(tmp_path / NAME) == wanted


def read(path: Path, *events: bytes) -> list[tuple[int, float, dict[str, Any]]]:
    """(step, seconds since T0, values) of each row."""
    (path / NAME).write_bytes(b"".join(events))
    found: list[Any] = list(rows(str(path / NAME)))
    return [(r.pop("step"), r.pop("t") - T0, {k: v for k, v in r.items() if k != "run"}) for r in found]


def test_a_row_ends_where_the_step_changes_or_a_metric_comes_again(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        scalar(1, T0, "loss", 1.5), scalar(1, T0 + 0.1, "lr", 0.1), scalar(2, T0 + 0.2, "loss", 1.25),
        scalar(2, T0 + 0.3, "loss", 1.0), scalar(2, T0 + 0.4, "lr", 0.2), scalar(1, T0 + 0.5, "loss", 2.0),
    )  # fmt: skip
    assert found == [
        (1, 0.0, {"loss": 1.5, "lr": 0.1}),
        (2, pytest.approx(0.2), {"loss": 1.25}),
        (2, pytest.approx(0.3), {"loss": 1.0, "lr": 0.2}),
        (1, 0.5, {"loss": 2.0}),
    ]


def test_an_evaluation_of_the_same_step_that_took_long_is_a_row_of_its_own(tmp_path: Path) -> None:
    late = [scalar(7, T0 + 60.0, "eval/loss", 2.0), scalar(7, T0 + 60.5, "eval/acc", 0.5)]
    assert read(tmp_path, scalar(7, T0, "loss", 1.5), *late) == [
        (7, 0.0, {"loss": 1.5}),
        (7, 60.0, {"eval/loss": 2.0, "eval/acc": 0.5}),
    ]


def test_metrics_counted_in_epochs_are_one_row_below_the_step_and_no_new_attempt(tmp_path: Path) -> None:
    train = [scalar(s, T0 + s, tag, 1.0 + s) for s in range(100, 120) for tag in ("loss", "lr")]
    epoch = [scalar(3, T0 + 119.5, f"epoch/{tag}", 1.0) for tag in ("loss", "acc", "f1", "auc")]
    rest = [scalar(s, T0 + s, "loss", 1.0) for s in range(120, 140)]
    (tmp_path / NAME).write_bytes(b"".join([*train, *epoch, *rest]))
    engine = new_engine(math.inf)
    begun = [a.attempt for batch in read_file(str(tmp_path / NAME)) for a in engine.step(batch).attempts]
    assert begun == [0]


def test_a_row_of_more_events_than_the_bound_is_more_rows_and_loses_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, *(event(1, tag=b"layer/%d" % i) for i in range(MAX_EVENTS + 3)))
    assert sum(len(values) for *_, values in found) == MAX_EVENTS + 3
    assert len(found) == 2
    assert max(len(values) for *_, values in found) <= MAX_EVENTS


def test_a_row_grows_in_the_file_until_another_begins(tmp_path: Path) -> None:
    path = tmp_path / NAME
    append(path, event(1) + event(1, tag=b"lr"))
    with watching(tmp_path) as rig:
        assert not rig.poll(3)
        append(path, event(1, tag=b"grad_norm"))
        assert not rig.poll(5)
        append(path, event(2))
        assert [r["values"] for r in rig.poll(1)] == [{"loss": 0.5, "lr": 0.5, "grad_norm": 0.5}]


def test_the_last_row_of_a_file_that_stays_quiet_is_read_and_never_again(tmp_path: Path) -> None:
    path = tmp_path / NAME
    append(path, event(1) + event(2))
    with watching(tmp_path) as rig:
        rig.poll(9)
        assert rig.steps() == [1, 2]
        rig.restart()
        rig.poll(9)
        append(path, event(2, tag=b"lr"))  # too late: a row of its own
        rig.poll(9)
        assert [(r["row"], r["step"]) for r in rig.seen] == [(0, 1), (1, 2), (2, 2)]


def test_a_row_waits_longer_while_the_rest_of_an_event_is_on_its_way(tmp_path: Path) -> None:
    """TensorboardX writes whenever its buffer of 8 KiB is full, in the midst of an event."""
    path, cut = tmp_path / NAME, event(2, tag=b"lr")
    append(path, event(1) + event(2) + cut[:20])
    with watching(tmp_path) as rig:
        rig.poll(60)
        assert rig.steps() == [1]
        append(path, cut[20:] + event(3))
        assert [r["values"] for r in rig.poll(1)] == [{"loss": 1.0, "lr": 1.0}]
        append(path, cut[:20])
        rig.poll(150)
        assert rig.steps() == [1, 2, 3]


def test_the_last_row_is_read_at_once_when_the_next_file_of_the_run_is_there(tmp_path: Path) -> None:
    append(tmp_path / NAME, event(1) + event(2))
    with watching(tmp_path) as rig:
        rig.poll(1)
        append(tmp_path / "events.out.tfevents.1700000009.h", event(1) + event(2))
        rig.poll(3)
        assert [(r["generation"], r["step"]) for r in rig.seen] == [(0, 1), (0, 2), (1, 1)]
        assert Unusable.TORN_LINE not in rig.counts


@pytest.mark.parametrize("older", [False, True])
def test_the_last_row_of_a_file_that_was_deleted_is_read_once_it_was_quiet(tmp_path: Path, older: bool) -> None:
    if older:
        append(tmp_path / "events.out.tfevents.1600000000.h", event(0) + event(0))
    append(tmp_path / NAME, event(1) + event(2))
    with watching(tmp_path) as rig:
        rig.poll(6)
        assert rig.steps()[-1:] == [1]
        (tmp_path / NAME).unlink()
        rig.poll(9)
        assert rig.steps() == ([0, 0, 1, 2] if older else [1, 2])
        assert rig.watch.poll(rig.now + 1).at_head


def test_a_row_held_back_by_a_file_that_was_closed_for_want_of_descriptors_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.sources.files.source.MAX_OPEN", 2)
    for i in range(8):
        append(tmp_path / f"r{i}" / NAME, event(1) + event(2))
    with watching(tmp_path) as rig:
        rig.poll(10)
        assert sorted(rig.steps()) == [1] * 8 + [2] * 8


def test_the_last_row_of_what_was_there_before_is_history(tmp_path: Path) -> None:
    append(tmp_path / NAME, event(1) + event(2))
    with watching(tmp_path) as rig:
        rig.poll(1)
        append(tmp_path / NAME, event(3))
        rig.poll(9)
        assert [(r["step"], str(r["origin"])) for r in rig.seen] == [(1, "history"), (2, "history"), (3, "live")]
