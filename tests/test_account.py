"""What `watch` says that it understood of the runs, and what cannot be seen for want of a column."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from detectors.types import Role
from monitor.account import LISTED, Account, by_role, missing
from monitor.frame import Batch, Frame, Status
from monitor.window import Series, Window


def frame(run: str, *columns: str, n: int = 3, t: float = np.nan, step: int = 0) -> Frame:
    return Frame(
        run=run, columns=columns, row=np.arange(n), step=np.full(n, step), t=np.full(n, t),
        values=np.ones((n, len(columns))),
    )  # fmt: skip


def batch(*frames: Frame, source: str = "files:/runs", **more: object) -> Batch:
    return Batch(source=source, t_recv=1.0, frames=frames, cursors={"/runs": "here"}, **more)  # type: ignore[arg-type]


def places(cursors: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {"a": ("/runs/a.jsonl", "jsonl")} if cursors else {}


def test_a_run_is_told_with_file_format_rows_roles_and_what_is_missing():
    said = Account(places).take(batch(frame("a", "loss", "aux_loss", "gnorm", "foo", t=1e9)))
    assert said == [
        "a: /runs/a.jsonl, jsonl, 3 rows so far",
        "  loss: loss, aux_loss; grad norm: gnorm",
        "  kept, not watched: foo",
        "  no step time and no throughput: a slow-down cannot be seen",
        "  no data time: a starving data loader shows in the step time or throughput only",
    ]


def test_nothing_is_told_before_all_that_is_there_was_read():
    account = Account(places)
    assert account.take(batch(frame("a", "loss"), at_head=False)) == []
    assert account.take(batch(status=Status.ERROR, detail="gone")) == []
    assert account.take(batch(frame("a", "loss")))[0] == "a: /runs/a.jsonl, jsonl, 6 rows so far"


def test_a_run_is_told_once_and_then_only_its_new_roles():
    account = Account(places)
    account.take(batch(frame("a", "loss")))
    assert account.take(batch(frame("a", "loss"))) == []
    assert account.take(batch(frame("a", "loss", "dt_ms", "foo"))) == ["a: step time is dt_ms from now on"]
    assert account.take(batch(frame("a", "loss", "dt_ms", "foo"))) == []


def test_runs_of_the_same_columns_are_told_in_a_line():
    said = Account(places).take(batch(frame("a", "loss"), frame("b", "loss"), frame("c", "lr")))
    assert "b: files:/runs, 3 rows so far; columns as in a" in said
    assert "c: files:/runs, 3 rows so far" in said


def test_very_many_runs_are_counted_and_counted_again_when_they_have_doubled():
    account = Account(places)
    said = account.take(batch(*(frame(f"r{i}", "loss") for i in range(LISTED + 5))))
    assert sum("rows so far" in line for line in said) == LISTED
    assert said[-1] == "and 5 more runs; the status page has them all"
    assert account.take(batch(*(frame(f"s{i}", "loss") for i in range(4)))) == []
    assert account.take(batch(frame("s4", "loss"))) == ["and 10 more runs; the status page has them all"]


def test_what_was_not_used_is_told_once_per_reason():
    account = Account(places)
    account.take(batch(frame("a", "loss")))
    (line,) = account.take(batch(counts={"not_a_record": 3}))
    assert line.startswith("not used: 3 × not a record; `runwarden inspect")
    assert account.take(batch(counts={"not_a_record": 3})) == []


def test_a_source_without_runs_says_so_once():
    account = Account(places)
    assert account.take(batch(source="x")) == ["x: no run yet; new ones are seen as they appear"]
    assert account.take(batch(source="x")) == []


def test_runs_of_an_earlier_process_are_told_at_the_first_look():
    account = Account(places)
    rows = np.arange(3)
    loss = Series(
        metric="loss", role=Role.LOSS, primary=True, row=rows, step=rows, t=np.full(3, 1e9),
        values=np.ones(3), attempt=rows,
    )  # fmt: skip
    account.recall("a", "files:/runs", 700, lambda: Window(run="a", first_row=0, last_row=2, series=(loss,)))
    account.locate({"/runs": "here"})
    assert account.take(batch())[:2] == ["a: /runs/a.jsonl, jsonl, 700 rows so far", "  loss: loss"]


@pytest.mark.parametrize(
    ("columns", "clock", "step", "lacks"),
    [
        (["loss", "grad_norm", "step_time", "data_time"], True, True, []),
        (["loss", "grad_norm", "tok/s", "data_time"], True, True, []),
        (["grad_norm", "step_time", "data_time"], True, True, ["no loss"]),
        (["loss", "step_time", "data_time"], False, True, ["no gradient norm", "no clock"]),
        (["loss", "grad_norm"], True, False, ["no step time and no throughput", "no data time", "no step"]),
    ],
)
def test_what_is_missing_follows_from_roles_clock_and_step(columns, clock, step, lacks):
    assert [text.partition(":")[0] for text in missing(by_role(columns), clock=clock, step=step)] == lacks
