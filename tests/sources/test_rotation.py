"""A log is read whole whatever happens to its file: rotated, truncated, deleted, moved, rewritten."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from log_rig import append, row, watching

from detectors.types import Origin
from monitor.sources.files.rows import Unusable


@pytest.mark.parametrize("down", [False, True])
def test_rotation_by_rename_loses_nothing_and_goes_on_numbering(tmp_path: Path, down: bool) -> None:
    path = tmp_path / "t.jsonl"
    append(path, row(0))
    with watching(tmp_path) as rig:
        rig.poll()
        for i in range(1, 13, 3):
            append(path, row(i))
            for n in (3, 2, 1):
                old = path.with_name(f"t.jsonl.{n}")
                if old.exists():
                    old.rename(path.with_name(f"t.jsonl.{n + 1}"))
            path.rename(path.with_name("t.jsonl.1"))
            append(path.with_name("t.jsonl.1"), row(i + 1))  # the writer has it open still
            append(path, row(i + 2))
            if down:
                rig.restart()
            if i % 2:
                continue  # two rotations between polls
            rig.poll(8, apart=0.1)
        rig.poll(8)
        assert rig.steps() == list(range(13))
        assert [r["row"] for r in rig.seen] == list(range(13))
        assert {r["run"] for r in rig.seen} == {"t"}
        assert {r["generation"] for r in rig.seen} == {0}
        assert not rig.counts


def test_rotated_files_at_first_sight_are_one_history_oldest_first(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "t.jsonl.2.gz", "wb") as file:
        file.write(row(0) + row(1))
    append(tmp_path / "t.jsonl.1", row(2))
    append(tmp_path / "t.jsonl", row(3))
    with watching(tmp_path) as rig:
        rig.poll(8)
        assert [(r["run"], r["row"], r["step"]) for r in rig.seen] == [("t", i, i) for i in range(4)]
        assert {r["origin"] for r in rig.seen} == {Origin.HISTORY}


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("again", [1, 3, 9])
def test_a_truncated_log_begins_a_generation_however_long_it_has_become(tmp_path: Path, again: int, down: bool) -> None:
    path = tmp_path / "t.jsonl"
    append(path, b"".join(row(i) for i in range(4)))
    with watching(tmp_path) as rig:
        rig.poll()
        path.write_bytes(b"".join(row(100 + i) for i in range(again)))
        if down:
            rig.restart()
        rig.poll()
        assert rig.steps() == [*range(4), *range(100, 100 + again)]
        assert [r["row"] for r in rig.seen] == list(range(4 + again))
        assert [r["generation"] for r in rig.seen] == [0] * 4 + [1] * again
        assert sum(rig.counts.values()) == 1


@pytest.mark.parametrize("down", [False, True])
def test_after_copytruncate_the_rest_is_read_from_the_copy(tmp_path: Path, down: bool) -> None:
    path = tmp_path / "t.jsonl"
    append(path, row(0))
    with watching(tmp_path) as rig:
        rig.poll()
        for i in range(1, 20, 2):
            append(path, row(i))
            path.with_name("t.jsonl.1").write_bytes(path.read_bytes())
            path.write_bytes(b"")
            append(path, row(i + 1))
            if down:
                rig.restart()
            rig.poll(8, apart=0.3)
        assert rig.steps() == list(range(21))
        assert {r["generation"] for r in rig.seen} == {0}
        assert {r["origin"] for r in rig.seen[1:]} == {Origin.BACKLOG if down else Origin.LIVE}
        assert not rig.counts


def test_a_log_that_was_copied_and_truncated_before_we_read_any_of_it_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    append(path, row(0))
    with watching(tmp_path) as rig:
        rig.poll()
        path.with_name("t.jsonl.1").write_bytes(path.read_bytes())
        path.write_bytes(b"")
        rig.poll(6)  # at the beginning of an empty log
        append(path, row(1))
        path.with_name("t.jsonl.1").rename(path.with_name("t.jsonl.2"))
        path.with_name("t.jsonl.1").write_bytes(path.read_bytes())
        path.write_bytes(row(2))
        rig.poll(6)
        assert rig.steps() == [0, 1, 2]


def test_copytruncate_to_an_unknown_name_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    append(path, row(0))
    with watching(path) as rig:
        rig.poll()
        append(path, row(1))
        path.write_bytes(row(2))
        rig.poll()
        assert rig.steps() == [0, 2]
        assert rig.counts == {Unusable.REPLACED: 1}


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("again", [1, 2, 5])
def test_a_log_deleted_and_made_again_is_a_new_generation(tmp_path: Path, again: int, down: bool) -> None:
    path = tmp_path / "t.jsonl"
    append(path, row(0) + row(1))
    with watching(tmp_path) as rig:
        rig.poll()
        path.unlink()
        append(path, b"".join(row(100 + i) for i in range(again)))  # perhaps on the same inode
        if down:
            rig.restart()
        rig.poll(6)
        assert rig.steps() == [0, 1, *range(100, 100 + again)]
        assert [r["generation"] for r in rig.seen] == [0, 0] + [1] * again


def test_a_file_that_is_deleted_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("ab", buffering=0) as file, watching(tmp_path) as rig:
        file.write(row(0))
        rig.poll()
        path.unlink()
        file.write(row(1))
        rig.poll()
        file.write(row(2))
        rig.poll()
        assert rig.steps() == [0, 1, 2]


def test_a_file_that_is_gone_for_long_is_let_go_and_a_new_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    append(path, row(0))
    with watching(tmp_path) as rig:
        rig.poll()
        path.unlink()
        rig.poll(70)
        assert not any(s.open for s in rig.watch._streams.values())
        append(path, row(1))
        rig.poll()
        assert [(r["run"], r["step"], r["row"], r["generation"]) for r in rig.seen] == [("t", 0, 0, 0), ("t", 1, 1, 1)]


def test_two_files_with_the_same_beginning_are_both_read(tmp_path: Path) -> None:
    head = b"".join(row(i) for i in range(300))
    append(tmp_path / "a.jsonl", head + row(1000))
    append(tmp_path / "b.jsonl", head + row(2000))
    with watching(tmp_path) as rig:
        rig.poll()
        rig.restart()
        rig.poll()
        assert [rig.steps("a"), rig.steps("b")] == [[*range(300), 1000], [*range(300), 2000]]


@pytest.mark.parametrize("down", [False, True])
def test_a_renamed_folder_keeps_its_run(tmp_path: Path, down: bool) -> None:
    append(tmp_path / "a" / "t.jsonl", row(0))
    with watching(tmp_path) as rig:
        rig.poll()
        (tmp_path / "a").rename(tmp_path / "b")
        append(tmp_path / "b" / "t.jsonl", row(1))
        append(tmp_path / "a" / "t.jsonl", row(7))
        if down:
            rig.restart()
        rig.poll(6)
        append(tmp_path / "b" / "t.jsonl", row(2))
        rig.poll(2)
        rig.restart()
        append(tmp_path / "b" / "t.jsonl", row(3))
        rig.poll(2)
        old = [r for r in rig.seen if r["step"] < 7]
        assert [(r["run"], r["step"], r["row"]) for r in old] == [("a/t", i, i) for i in range(4)]
        assert len(rig.steps()) == 5


@pytest.mark.parametrize("down", [False, True])
def test_a_log_moved_away_by_hand_is_not_read_twice(tmp_path: Path, down: bool) -> None:
    path = tmp_path / "t.jsonl"
    append(path, row(0) + row(1))
    with watching(tmp_path) as rig:
        rig.poll()
        path.rename(tmp_path / "old.jsonl")
        append(path, row(2))
        rig.poll(6)
        if down:
            rig.restart()
        rig.poll(4)
        assert [(r["run"], r["step"]) for r in rig.seen] == [("t", 0), ("t", 1), ("t", 2)]


def test_a_csv_that_is_rewritten_with_another_column_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,loss\n0,5\n1,4\n")
    with watching(tmp_path) as rig:
        rig.poll()
        path.write_bytes(b"step,loss,val_loss\n0,5,\n1,4,\n2,3,\n2,,3.5\n")
        rig.poll()
        assert [(r["step"], r["values"], r["generation"]) for r in rig.seen] == [
            (0, {"loss": 5.0}, 0),
            (1, {"loss": 4.0}, 0),
            (2, {"loss": 3.0}, 0),
            (2, {"val_loss": 3.5}, 0),
        ]
        assert not rig.counts


@pytest.mark.parametrize("killed", [False, True])
def test_a_table_that_is_rewritten_with_a_wider_header_is_left_until_it_is_whole(tmp_path: Path, killed: bool) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n" + "".join(f"{i},{i}.5\n" for i in range(20)))
    wide = "step,loss,val\n" + "".join(f"{i},{i}.5,\n" for i in range(20)) + "20,20.5,1.0\n"
    with watching(tmp_path) as rig:
        rig.poll()
        for size in (0, 5, 14, 20, 90, len(wide) - 20):
            path.write_text(wide[:size])
            if killed:
                rig.restart()
            assert not rig.poll(2)
        path.write_text(wide)
        rig.poll()
        assert rig.steps() == list(range(21))
        assert {r["generation"] for r in rig.seen} == {0}
        path.write_text("step,loss,val\n0,9.5,1.0\n")  # another training in its place
        rig.poll()
        assert [(r["step"], r["generation"]) for r in rig.seen[21:]] == [(0, 1)]


def test_an_archive_whose_file_was_written_to_and_read_later_is_not_read_again(tmp_path: Path) -> None:
    path, old = tmp_path / "t.jsonl", tmp_path / "t.jsonl.1"
    append(old, b"".join(row(i) for i in range(100)))
    with watching(tmp_path) as rig:
        rig.poll()
        archive = gzip.compress(old.read_bytes())
        append(old, row(100))  # by a writer that nobody told
        rig.poll()
        old.with_name("t.jsonl.1.gz").write_bytes(archive)
        old.unlink()
        append(path, row(101))
        rig.restart()
        rig.poll(8)
        assert rig.steps() == list(range(102))
