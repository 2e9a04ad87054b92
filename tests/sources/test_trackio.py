"""Trackio's databases: read without a trace, each row once, whatever happens to the run or the file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from doubles.trackio import TrackioProject

from detectors.types import Origin
from monitor.errors import TransientError
from monitor.frame import Batch, Status
from monitor.sources.trackio import database
from monitor.sources.trackio.source import TrackioSource


class Follow:
    """A source's reading over the lives of several processes."""

    def __init__(self, path: Path, *projects: str) -> None:
        self._path, self._projects = path, projects
        self.cursors: dict[str, str] = {}
        self.batches: list[Batch] = []

    def poll(self, polls: int = 1, *, die_after: int = 0) -> Batch:
        """A new process that looks so often, or dies after so many batches; the last batch."""

        async def main() -> None:
            source = TrackioSource("here", str(self._path), projects=self._projects, sleep=lambda _: asyncio.sleep(0))
            left, before = polls, len(self.batches)
            async with contextlib.aclosing(source.batches(dict(self.cursors))) as batches:
                async for batch in batches:
                    self.batches.append(batch)
                    self.cursors |= batch.cursors
                    left -= batch.at_head
                    if not left or len(self.batches) - before == die_after:
                        return

        asyncio.run(main())
        return self.batches[-1]

    def rows(self, column: str = "loss") -> dict[str, list[float]]:
        found: dict[str, list[tuple[int, float]]] = {}
        for f in (f for b in self.batches for f in b.frames if column in f.columns):
            values = f.values[:, f.columns.index(column)].tolist()
            found.setdefault(f.run, []).extend(zip(f.row.tolist(), values, strict=True))
        assert all(len({r for r, _ in rows}) == len(rows) for rows in found.values())
        return {run: [v for _, v in sorted(rows)] for run, rows in found.items()}

    def counts(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for batch in self.batches:
            for what, many in batch.counts.items():
                total[what] = total.get(what, 0) + many
        return total


@pytest.fixture
def project(tmp_path: Path):
    made = TrackioProject(tmp_path / "demo.db")
    yield made
    made.close()


def test_a_row_has_the_step_clock_and_metrics_of_its_call_and_no_pictures(project: TrackioProject) -> None:
    picture = {"_type": "trackio.image", "file_path": "x.png", "size": 3}
    project.log("a", {"loss": 1.5, "nan": float("nan"), "train": {"lr": 0.1}, "h": picture, "note": "x"})
    follow = Follow(project.path.parent)
    follow.poll()
    (frame,) = [f for b in follow.batches for f in b.frames]
    assert frame.run == "here/demo/a"
    assert frame.columns == ("loss", "nan", "train/lr")
    assert repr(frame.values.tolist()) == "[[1.5, nan, 0.1]]"
    assert (frame.step.tolist(), frame.t.tolist()) == ([0], [1_795_132_801.000001])
    assert follow.counts()["trackio_not_a_scalar"] == 1


def test_what_is_there_at_first_is_history_then_backlog_then_live(project: TrackioProject) -> None:
    project.log("a", {"loss": 1.0})
    follow = Follow(project.path.parent)
    follow.poll(2)
    project.log("a", {"loss": 2.0})
    other = TrackioProject(project.path.with_name("other.db"))
    other.log("b", {"loss": 3.0})
    follow.poll()
    other.close()
    found = {f.values[0, 0]: f.origin for b in follow.batches for f in b.frames}
    assert found == {1.0: Origin.HISTORY, 2.0: Origin.BACKLOG, 3.0: Origin.BACKLOG}


def test_a_project_that_was_locked_at_first_is_history_when_it_can_be_read(
    project: TrackioProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.0)
    locked = TrackioProject(project.path, journal="DELETE")
    locked.log("a", {"loss": 1.0})
    locked.db.execute("BEGIN EXCLUSIVE")
    follow = Follow(project.path.parent)
    assert follow.poll().status is Status.ERROR
    locked.close()
    follow.poll()
    assert [f.origin for b in follow.batches for f in b.frames] == [Origin.HISTORY]


def test_a_run_that_is_renamed_keeps_its_name_and_no_row_comes_twice(project: TrackioProject) -> None:
    follow = Follow(project.path.parent)
    project.log("a", *({"loss": float(i)} for i in range(5)))
    follow.poll()
    project.log("a", {"loss": 5.0})
    project.rename("a", "better")
    project.log("a", {"loss": 6.0})  # the trainer goes on under the old name
    follow.poll()
    project.log("a", {"loss": 7.0}, title="better")
    follow.poll()
    assert follow.rows() == {"here/demo/a": [float(i) for i in range(8)]}
    assert follow.counts()["trackio_row_known"] == 5


def test_a_database_that_is_put_back_brings_only_what_is_new(project: TrackioProject, tmp_path: Path) -> None:
    follow = Follow(project.path.parent)
    project.log("a", *({"loss": float(i)} for i in range(5)))
    project.close()
    shutil.copy(project.path, tmp_path / "copy")
    project.log("a", {"loss": 5.0}, {"loss": 6.0})
    follow.poll()
    project.close()
    shutil.copy(tmp_path / "copy", project.path)
    project.log("a", {"loss": 7.0}, {"loss": 8.0})
    project.log("a", {"loss": 9.0})
    follow.poll()
    assert follow.rows() == {"here/demo/a": [float(i) for i in range(10)]}
    assert follow.counts()["trackio_row_known"] == 5


def test_a_death_amid_a_database_that_is_put_back_repeats_nothing(
    project: TrackioProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "MAX_ROWS", 2)
    follow = Follow(project.path.parent)
    for run in "ab":
        project.log(run, *({"loss": float(i)} for i in range(4)))
    project.close()
    shutil.copy(project.path, tmp_path / "copy")
    project.log("b", {"loss": 4.0})
    follow.poll()
    project.close()
    shutil.copy(tmp_path / "copy", project.path)
    for _ in range(6):
        follow.poll(die_after=1)
    project.log("b", {"loss": 5.0})
    follow.poll()
    assert follow.rows() == {"here/demo/a": [float(i) for i in range(4)], "here/demo/b": [float(i) for i in range(6)]}


def test_a_damaged_cursor_of_the_project_is_counted_and_no_row_comes_twice(project: TrackioProject) -> None:
    follow = Follow(project.path.parent)
    project.log("a", {"loss": 0.0}, {"loss": 1.0})
    follow.poll()
    follow.cursors["project:demo"] = "{"
    project.log("a", {"loss": 2.0})
    follow.poll()
    assert follow.rows() == {"here/demo/a": [0.0, 1.0, 2.0]}
    assert follow.counts()["trackio_corrupt_cursor"] == 1


def test_a_project_that_is_deleted_and_made_anew_has_another_run(project: TrackioProject) -> None:
    follow = Follow(project.path.parent)
    project.log("0123456789", *({"loss": float(i)} for i in range(5)), title="a")
    follow.poll()
    project.close()
    project.path.unlink()
    follow.poll()
    assert follow.batches[-1].status is Status.OK
    for i in range(9):
        project.log("9876543210", {"loss": -float(i)}, title="a")
    follow.poll()
    follow.poll()
    assert follow.rows() == {
        "here/demo/a": [float(i) for i in range(5)],
        "here/demo/a-98765432": [-float(i) for i in range(9)],
    }
    assert follow.counts()["trackio_database_replaced"] == 1


def test_a_project_that_goes_says_so_to_its_runs(project: TrackioProject) -> None:
    project.log("a", {"loss": 1.0})
    follow = Follow(project.path.parent)

    async def main() -> list[str]:
        source = TrackioSource("here", str(follow._path), sleep=lambda _: asyncio.sleep(0))
        texts, polls = [], 0
        async with contextlib.aclosing(source.batches({})) as batches:
            async for batch in batches:
                texts += [line.text for line in batch.lines]
                polls += batch.at_head
                if polls == 1 and batch.at_head:
                    project.close()
                    project.path.unlink()
                if polls == 4:
                    return texts
        raise AssertionError

    assert [text.endswith("demo.db is gone") for text in asyncio.run(main())] == [True]


def test_a_deleted_run_disturbs_no_other(project: TrackioProject) -> None:
    follow = Follow(project.path.parent)
    project.log("a", {"loss": 1.0})
    project.log("b", {"loss": 2.0})
    follow.poll()
    project.delete("b")  # also the row that was read last
    follow.poll()
    project.log("a", {"loss": 3.0})
    follow.poll()
    assert follow.rows() == {"here/demo/a": [1.0, 3.0], "here/demo/b": [2.0]}


@pytest.mark.parametrize("closed", [True, False])
def test_reading_leaves_no_file_and_no_change_behind(project: TrackioProject, closed: bool) -> None:
    project.log("a", {"loss": 1.0})
    if closed:
        project.close()

    def seen() -> list[tuple[str, int, int]]:
        return sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in os.scandir(project.path.parent))

    before = seen()
    follow = Follow(project.path.parent)
    follow.poll(3)
    assert follow.rows() == {"here/demo/a": [1.0]}
    assert seen() == before


def test_a_reader_holds_no_lock_between_two_looks(project: TrackioProject) -> None:
    old = TrackioProject(project.path.with_name("plain.db"), journal="DELETE")
    follow = Follow(project.path.parent)
    for i in range(5):
        old.log("a", {"loss": float(i)})
        follow.poll()
        old.db.execute("PRAGMA busy_timeout = 0")  # an exclusive lock is had at once
        old.db.execute("BEGIN EXCLUSIVE")
        old.db.execute("COMMIT")
    old.close()
    assert follow.rows() == {"here/plain/a": [0.0, 1.0, 2.0, 3.0, 4.0]}


def test_a_locked_database_is_our_trouble_and_that_of_its_runs_alone(
    project: TrackioProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.0)
    locked = TrackioProject(project.path.with_name("locked.db"), journal="DELETE")
    locked.log("b", {"loss": 1.0})
    project.log("a", {"loss": 1.0})
    follow = Follow(project.path.parent)
    assert follow.poll().status is Status.OK
    locked.db.execute("BEGIN EXCLUSIVE")
    project.log("a", {"loss": 2.0})
    batch = follow.poll()
    assert batch.status is Status.ERROR
    assert batch.detail == "locked.db: database is locked: its writer shuts out readers, or is stuck"
    assert batch.lost == {"here/locked", "here/locked/b"}
    locked.db.execute("COMMIT")
    assert follow.poll().status is Status.OK
    locked.close()
    assert follow.rows() == {"here/demo/a": [1.0, 2.0], "here/locked/b": [1.0]}


@pytest.mark.parametrize("damage", ["head", "inside", "text"])
def test_a_damaged_database_is_told_and_nothing_of_it_is_lost(project: TrackioProject, damage: str) -> None:
    follow = Follow(project.path.parent)
    project.log("a", *({"loss": float(i), "fill": "x" * 2000} for i in range(50)))
    follow.poll()
    project.log("a", *({"loss": float(i), "fill": "x" * 2000} for i in range(50, 60)))
    project.close()
    sound = project.path.read_bytes()
    broken = {
        "head": b"\xff" * 100 + sound[100:],
        "inside": sound[:4096] + b"\xa5" * (len(sound) - 4096),
        "text": b"no database at all " * 300,
    }
    project.path.write_bytes(broken[damage])
    batch = follow.poll()
    assert batch.status is Status.ERROR
    assert batch.detail.startswith("demo.db: ")
    assert not batch.lost  # there is no other project: it concerns all
    project.path.write_bytes(sound)
    assert follow.poll().status is Status.OK
    assert follow.rows() == {"here/demo/a": [float(i) for i in range(60)]}


def test_what_is_no_project_is_counted_once_and_passed_over(project: TrackioProject) -> None:
    project.log("a", {"loss": 1.0})
    for name, schema in (("old", "metrics (id INTEGER PRIMARY KEY, run_name TEXT, metrics TEXT)"), ("x", "t (a)")):
        with contextlib.closing(sqlite3.connect(project.path.with_name(f"{name}.db"))) as db:
            db.execute(f"CREATE TABLE {schema}")
            db.commit()
    project.path.with_name("registry-models.db").write_bytes(b"not looked at")
    follow = Follow(project.path.parent)
    assert follow.poll(5).status is Status.OK
    assert follow.counts()["trackio_no_project"] == 2
    assert follow.rows() == {"here/demo/a": [1.0]}


def test_only_the_named_projects_are_read_and_one_file_stands_for_itself(project: TrackioProject) -> None:
    project.log("a", {"loss": 1.0})
    other = TrackioProject(project.path.with_name("other.db"))
    other.log("b", {"loss": 2.0})
    for follow in (Follow(project.path.parent, "other"), Follow(other.path)):
        follow.poll()
        assert follow.rows() == {"here/other/b": [2.0]}
    other.close()


def test_damaged_and_too_long_rows_are_counted(project: TrackioProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MAX_ROW_BYTES", 100)
    project.log("a", {"loss": 1.0}, {"loss": 2.0, "fill": "x" * 100}, {"loss": 3.0}, {"loss": 4.0})
    project.db.execute("UPDATE metrics SET metrics = '{' WHERE id = 3")
    project.db.commit()
    follow = Follow(project.path.parent)
    follow.poll()
    assert follow.rows() == {"here/demo/a": [1.0, 4.0]}
    assert {k: follow.counts()[k] for k in ("trackio_bad_row", "trackio_row_too_long")} == {
        "trackio_bad_row": 1,
        "trackio_row_too_long": 1,
    }


def test_a_folder_that_is_not_there_is_our_outage(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="cannot be listed"):
        Follow(tmp_path / "none").poll()
