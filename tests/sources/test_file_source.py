"""A watched log is read once, whole and in order, whatever happens to its file."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.types import Origin
from monitor.frame import Batch, Status
from monitor.sources.files import source, tailer
from monitor.sources.files.rows import Unusable
from monitor.sources.files.source import FileSource, Watch


def row(step: int, **more: float) -> bytes:
    return json.dumps({"step": step, "loss": step / 2, **more}).encode() + b"\n"


class Rig:
    """A watch on a folder, polled by hand: what it has said so far, and the cursors that a store would hold."""

    def __init__(self, root: Path, *roots: Path, max_line_bytes: int = 1 << 20) -> None:
        self.roots = [str(r) for r in (root, *roots)]
        self.max_line_bytes = max_line_bytes
        self.now = 0.0
        self.cursors: dict[str, str] = {}
        self.kept: list[dict[str, str]] = []
        self.seen: list[dict[str, Any]] = []
        self.lines: list[tuple[str, int, str]] = []
        self.counts: dict[str, int] = {}
        self.watch = Watch("files", self.roots, {}, max_line_bytes=max_line_bytes)

    def poll(self, times: int = 4, *, apart: float = 1.0) -> list[dict[str, Any]]:
        """Rows of some polls, each of which scans."""
        out: list[dict[str, Any]] = []
        for _ in range(times):
            self.now += apart
            out += self.take(self.watch.poll(self.now))
        return out

    def take(self, batch: Batch) -> list[dict[str, Any]]:
        out = []
        for frame in batch.frames:
            assert (frame.row[1:] > frame.row[:-1]).all()
            for i in range(len(frame.row)):
                out.append(
                    {
                        "run": frame.run,
                        "row": int(frame.row[i]),
                        "step": int(frame.step[i]),
                        "values": dict(zip(frame.columns, frame.values[i].tolist(), strict=True)),
                        "origin": frame.origin,
                        "generation": frame.generation,
                    }
                )
        out.sort(key=lambda r: (r["run"], r["row"]))
        self.seen += out
        self.lines += [(line.run, line.row, line.text) for line in batch.lines]
        self.cursors = {**self.cursors, **batch.cursors}
        self.kept.append(self.cursors)
        for what, n in batch.counts.items():
            self.counts[what] = self.counts.get(what, 0) + n
        return out

    def restart(self, cursors: dict[str, str] | None = None) -> None:
        """As after a crash: only the cursors are left."""
        self.watch.close()
        self.cursors = self.cursors if cursors is None else cursors
        self.watch = Watch("files", self.roots, self.cursors, max_line_bytes=self.max_line_bytes)

    def steps(self, run: str | None = None) -> list[int]:
        return [r["step"] for r in self.seen if run in (None, r["run"])]


@contextmanager
def watching(root: Path, *roots: Path, **options: Any) -> Iterator[Rig]:
    rig = Rig(root, *roots, **options)
    try:
        yield rig
    finally:
        rig.watch.close()


def append(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


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
    "csv": "step,loss,µ\n".encode() + b"".join(b"%d,%d.5,%s\r\n" % (i, i, b"" if i % 2 else b"nan") for i in range(12)),
    "text": b"\xc3\xa9tat\n" + b"".join(b" iteration %d/ 99 | %sgrad norm: 1.0 |\n" % (i, b"" if i % 4 == 3 else b"lm loss: 2.5 | ") for i in range(9)) + b"\rstep 20: loss: 3\rstep 21: loss: 4\r\nend\n",
}  # fmt: skip


@pytest.mark.parametrize("name", list(LOG))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_any_appends_and_crashes_give_the_same_rows(tmp_path: Path, name: str, seed: int) -> None:
    """Bytes are appended in random pieces; now and then only some earlier cursor is left. Rows after it come again, the same."""
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


def test_strange_files_are_counted_once_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "folder.log").mkdir()
    (tmp_path / "zero.log").symlink_to("/dev/zero")
    (tmp_path / "loop.log").symlink_to(tmp_path / "loop.log")
    (tmp_path / "cycle").symlink_to(tmp_path)
    (tmp_path / ".hidden.jsonl").write_bytes(row(1))
    (tmp_path / "binary.log").write_bytes(b"\x93NUMPY\0\0\1" * 100)
    (tmp_path / "latin.log").write_bytes(bytes(range(128, 256)) * 50 + b"\n")
    (tmp_path / "empty.log").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"buy milk\n")
    (tmp_path / "good.jsonl").write_bytes(row(0))
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "elsewhere")
    with socket.socket(socket.AF_UNIX) as server, watching(tmp_path) as rig:
        server.bind(str(tmp_path / "socket.log"))
        rig.poll(5)
        assert [(r["run"], r["step"]) for r in rig.seen] == [("good", 0)]
        assert rig.counts == {
            Unusable.NOT_A_FILE: 4,
            Unusable.UNREADABLE: 1,
            Unusable.BINARY: 2,
            Unusable.UNRECOGNISED: 1,
        }


def test_a_path_that_is_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.log")
    with watching(tmp_path / "pipe.log") as rig:
        rig.poll(3)
        assert rig.counts == {Unusable.NOT_A_FILE: 1}


def test_a_link_to_a_log_is_read(tmp_path: Path) -> None:
    append(tmp_path / "store" / "x", row(0))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "t.jsonl").symlink_to(tmp_path / "store" / "x")
    with watching(tmp_path / "runs") as rig:
        rig.poll(2)
        append(tmp_path / "store" / "x", row(1))
        rig.poll(2)
        assert [(r["run"], r["step"]) for r in rig.seen] == [("t", 0), ("t", 1)]


def test_a_file_is_looked_at_again_when_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "t.log"
    append(path, b"starting\n" * 20_000)
    with watching(tmp_path) as rig:
        rig.poll()
        assert rig.counts == {Unusable.UNRECOGNISED: 1}
        append(path, b"step 1: loss=2.5\n")
        rig.poll(2)
        append(path, b"step 2: loss=2.5\n")
        rig.poll(2)
        assert [(r["row"], r["step"]) for r in rig.seen] == [(20_000, 1), (20_001, 2)]


def test_an_unreadable_file_is_counted_once_and_read_when_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path / "t.jsonl", row(0))
    real, refused = tailer.open_regular, True

    def open_regular(path: str) -> int:
        if refused:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(tailer, "open_regular", open_regular)
    with watching(tmp_path) as rig:
        rig.poll(3)
        assert rig.counts == {Unusable.UNREADABLE: 1}
        refused = False
        rig.poll(2)
        assert rig.steps() == [0]


def test_a_missing_root_is_an_error_of_the_source_until_it_is_there(tmp_path: Path) -> None:
    append(tmp_path / "here" / "t.jsonl", row(0))
    with watching(tmp_path / "runs", tmp_path / "here") as rig:
        batch = rig.watch.poll(1.0)
        assert batch.status is Status.ERROR
        assert "runs: No such file or directory" in batch.detail
        assert len(batch.frames) == 1
        append(tmp_path / "runs" / "u.jsonl", row(0))
        batch = rig.watch.poll(3.0)
        assert batch.status is Status.OK
        assert batch.frames[0].run == "u"


@pytest.mark.parametrize("restart", [False, True])
def test_a_line_that_is_too_long_is_skipped_and_counted(tmp_path: Path, restart: bool) -> None:
    path = tmp_path / "t.jsonl"
    append(path, row(0))
    with watching(tmp_path, max_line_bytes=200) as rig:
        rig.poll(1)
        for _ in range(5):
            append(path, b"x" * 150)
            rig.poll(1)
            if restart:
                rig.restart()
        append(path, b"x\n" + row(1) + b"y" * 201 + b"\n" + row(2))
        rig.poll(2)
        assert [(r["row"], r["step"]) for r in rig.seen] == [(0, 0), (2, 1), (4, 2)]
        assert rig.counts == {Unusable.LINE_TOO_LONG: 2}


def test_a_line_of_a_hundred_megabytes_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    append(path, row(0))
    with path.open("ab") as file:
        file.truncate(100_000_000)  # sparse: NUL bytes
    append(path, b"\n" + row(1))
    with watching(tmp_path) as rig:
        rig.poll(120, apart=0.1)
        assert [(r["row"], r["step"]) for r in rig.seen] == [(0, 0), (2, 1)]
        assert rig.counts == {Unusable.LINE_TOO_LONG: 1}


def test_a_line_longer_than_a_read_but_within_the_bound_is_a_row(tmp_path: Path) -> None:
    wide = {"step": 0, **{f"rank_{i}/loss": i / 7 for i in range(60_000)}}
    append(tmp_path / "t.jsonl", json.dumps(wide).encode() + b"\n" + row(1))
    with watching(tmp_path, max_line_bytes=1 << 23) as rig:
        rig.poll(4)
        assert rig.steps() == [0, 1]
        assert len(rig.seen[0]["values"]) == 60_000


def test_a_byte_order_mark_nul_bytes_and_crlf_do_no_harm(tmp_path: Path) -> None:
    append(tmp_path / "t.jsonl", b"\xef\xbb\xbf" + row(0).replace(b"\n", b"\r\n"))
    with watching(tmp_path) as rig:
        rig.poll(2)
        append(tmp_path / "t.jsonl", b"\0" * 100 + row(1))
        rig.poll(2)
        assert rig.steps() == [0, 1]
        assert not rig.counts


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


def test_lines_that_are_no_rows_are_kept_for_evidence_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "t.log"
    append(path, b"step 1: loss=2.5\n" + b"noise\n" * 1500 + b"RuntimeError: " + b"x" * 5000 + b"\n")
    with watching(tmp_path) as rig:
        rig.poll(1)
        assert len(rig.lines) == 1000
        assert rig.counts == {Unusable.LOG_LINES_DROPPED: 501}
        run, number, text = rig.lines[-1]
        assert (run, number, len(text)) == ("t", 1501, 2000)
        assert text.startswith("RuntimeError: xxx")


def test_the_planned_end_is_a_fact_of_the_run(tmp_path: Path) -> None:
    append(tmp_path / "t.log", b"step:1/6200 train_loss:10.5 train_time:1ms step_avg:1ms\n")
    with watching(tmp_path) as rig:
        assert rig.watch.poll(1.0).facts["t"].total_steps == 6200


def test_a_damaged_cursor_is_counted_and_the_file_read_from_its_beginning(tmp_path: Path) -> None:
    append(tmp_path / "t.jsonl", row(0))
    with watching(tmp_path) as rig:
        rig.poll(1)
        (key,) = rig.cursors
        for text in (
            "",
            "\0\0\0",
            "[1]",
            '{"v":1}',
            rig.cursors[key][:-5],
            rig.cursors[key].replace('"v":1', '"v":99'),
        ):
            rig.restart({key: text})
            assert [r["step"] for r in rig.poll(1)] == [0]
        assert rig.counts == {Unusable.CORRUPT: 6}


def test_a_damaged_archive_gives_what_it_has_and_is_counted_once(tmp_path: Path) -> None:
    data = gzip.compress(b"".join(row(i) for i in range(100_000)))
    (tmp_path / "t.jsonl.gz").write_bytes(data[: len(data) // 2])
    with watching(tmp_path) as rig:
        rig.poll(8)
        assert rig.counts == {Unusable.CORRUPT: 1}
        assert rig.steps() == list(range(len(rig.seen)))
        assert len(rig.seen) > 10_000


def test_more_files_than_descriptors_are_all_read_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_OPEN", 3)
    paths = [tmp_path / f"r{i}.jsonl" for i in range(10)]
    for path in paths:
        append(path, row(0))
    with watching(tmp_path) as rig:
        rig.poll(2)
        assert sum(s.open for s in rig.watch._streams.values()) <= 3
        for step in (1, 2):
            for path in paths:
                append(path, row(step))
            rig.poll(2)
        paths[0].rename(tmp_path / "r0.jsonl.1")
        append(paths[0], row(3))
        append(paths[1], row(3))
        rig.poll(8)
        assert all(rig.steps(f"r{i}") == [0, 1, 2, 3][: 4 if i < 2 else 3] for i in range(10))
        assert {r["origin"] for r in rig.seen if r["step"]} == {Origin.LIVE}
        assert {r["generation"] for r in rig.seen} == {0}


def test_a_batch_is_bounded_and_no_file_starves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_ROWS", 100)
    for name in "abcd":
        append(tmp_path / f"{name}.jsonl", b"".join(row(i) for i in range(200)))
    with watching(tmp_path) as rig:
        sizes = [len(rig.poll(1)) for _ in range(4)]
        assert sizes == [200] * 4
        assert all(rig.steps(name) == list(range(200)) for name in "abcd")


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
