"""Files that are no logs, damaged or too large do no harm, and are counted."""

from __future__ import annotations

import gzip
import json
import os
import socket
from pathlib import Path

import pytest
from log_rig import append, row, watching

from detectors.types import Origin
from monitor.frame import Status
from monitor.sources.files import source, tailer
from monitor.sources.files.rows import Unusable


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


def test_a_damaged_cursor_is_counted_and_the_file_read_from_its_beginning(tmp_path: Path) -> None:
    append(tmp_path / "t.jsonl", row(0))
    with watching(tmp_path) as rig:
        rig.poll(1)
        (key,) = (k for k in rig.cursors if not k.startswith("root:"))
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
