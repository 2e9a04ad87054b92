"""A log that is written, rotated, truncated and deleted in a real folder, and a reader of it that is polled by hand.

The oracle is the disk: every complete line that stands in any file of the log when the reading comes to rest is owed,
and what was written to a file that was deleted while the reader had it open.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import shutil
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from benchmarks.tail_log import MAX_LINE, Log
from monitor.sources.files.cursor import Cursor
from monitor.sources.files.source import Watch

REST: Final = 5
"""Polls without news until the reading is at rest."""


class Act(StrEnum):
    """What can happen to a log and to its reader."""

    WRITE = "write"
    TEAR = "tear"
    RENAME = "rename"
    RENAME_AND_MAKE = "rename_and_make"
    REOPEN = "reopen"
    COPYTRUNCATE = "copytruncate"
    COPY = "copy"
    TRUNCATE = "truncate"
    REWRITE = "rewrite"
    GZIP = "gzip"
    DELETE = "delete"
    DROP_OLDEST = "drop_oldest"
    POLL = "poll"
    COMMIT = "commit"
    REST = "rest"
    KILL = "kill"


_NEEDS_FILE: Final = (
    Act.RENAME, Act.RENAME_AND_MAKE, Act.COPYTRUNCATE, Act.COPY, Act.TRUNCATE, Act.REWRITE, Act.DELETE,
)  # fmt: skip


@dataclass(slots=True)
class Seen:
    """What was read: (step, row) in the order of arrival."""

    rows: list[tuple[int, int]] = field(default_factory=list)
    cursors: dict[str, str] = field(default_factory=dict)


class World:
    """A folder with one log, a reader that is polled by hand, and what was committed of its reading."""

    def __init__(self, folder: Path) -> None:
        self.log = Log(folder / "t.jsonl")
        self._folder = folder
        self._now = 0.0
        self._held: set[int] = set()
        self._cut: set[int] = set()
        self._outgrown: set[int] = set()
        self._copied = False
        self._ordered = True  # until a file is truncated and deleted between two polls: what is left of it comes first
        self.seen, self.committed = Seen(), Seen()
        self.counts: dict[str, int] = {}
        self.watch = Watch("model", [str(folder)], {}, max_line_bytes=MAX_LINE)

    def close(self) -> None:
        self.log.close()
        self.watch.close()

    def do(self, act: Act, number: int) -> None:
        """One action; number: its argument, taken modulo what makes sense. One that cannot be done is none."""
        if act not in _NEEDS_FILE or self.log.path.exists():
            getattr(self, f"_{act}")(number)

    def _write(self, number: int) -> None:
        self.log.write(1 + number % 9)

    def _tear(self, number: int) -> None:
        self.log.tear(number)

    def _reopen(self, _: int) -> None:
        self.log.reopen()

    def _rename(self, _: int) -> None:
        if self._copied:  # else the same lines would stand in two rotated files for good
            self._truncate(0)
        self.log.shift()
        self.log.path.rename(self.log.younger)
        self._copied = False

    def _rename_and_make(self, number: int) -> None:
        self._rename(number)
        self.log.path.touch()

    def _copy(self, _: int) -> None:
        if not self._copied:
            self.log.shift()
        shutil.copyfile(self.log.path, self.log.younger)
        self._copied = True

    def _truncate(self, _: int) -> None:
        copied = self._copied
        if copied:
            self._copy(0)
        self._cut_off()
        if not copied:
            self._look(1, 1.0)

    def _rewrite(self, number: int) -> None:
        copied = self._copied
        if copied:
            self._copy(0)
        self._cut_off()
        self.log.write(1 + number % 20)
        if not copied:
            self._look(1, 1.0)

    def _copytruncate(self, _: int) -> None:
        self._copy(0)
        self._cut_off()

    def _delete(self, _: int) -> None:
        path = self.log.path
        self._hold(path)
        self._ordered = self._ordered and path.stat().st_ino not in self._cut
        path.unlink()
        self._copied = False
        self.log.reopen()

    def _drop_oldest(self, _: int) -> None:
        if rotated := self.log.rotated():
            self._hold(rotated[-1])
            rotated[-1].unlink()

    def _poll(self, number: int) -> None:
        self._look(1 + number % 3, 1.0 if number % 2 else 0.3)

    def _commit(self, _: int) -> None:
        self._look(1, 1.0)
        self.commit()

    def _rest(self, _: int) -> None:
        self.rest()

    def _kill(self, _: int) -> None:
        self.kill()

    def _cut_off(self) -> None:
        os.truncate(self.log.path, 0)
        self._cut.add(self.log.path.stat().st_ino)
        self._copied = False

    def _gzip(self, number: int) -> None:
        """Compress a rotated file as gzip does: beside it, then delete it; the reader may look in between."""
        plain = [p for p in self.log.rotated() if p.suffix != ".gz" and not (self._copied and p.suffix == ".1")]
        if not plain:
            return
        path = plain[number % len(plain)]
        packed = gzip.compress(path.read_bytes(), 1)
        with path.with_name(f"{path.name}.gz").open("wb", buffering=0) as out:
            out.write(packed[: len(packed) // 2])
            self._look(number % 3, 1.0)
            out.write(packed[len(packed) // 2 :])
        self._look(number // 3 % 3, 1.0)
        inode = path.stat().st_ino
        path.unlink()
        if self.log.orphaned:
            self._outgrown.add(inode)

    def _hold(self, path: Path) -> None:
        """What is in a file that is deleted while the reader has it open is owed, unless it was truncated unseen."""
        inode = path.stat().st_ino
        if inode not in self._cut and any(s.open and s.inode == inode for s in self.watch.streams):
            self._held |= _steps(path)

    def _look(self, times: int, apart: float) -> bool:
        """Whether there was news."""
        news = False
        for _ in range(times):
            self._now += apart
            batch = self.watch.poll(self._now)
            self._cut.clear()
            assert all(frame.run == "t" for frame in batch.frames), "another run"
            found = sorted((int(r), int(s)) for f in batch.frames for r, s in zip(f.row, f.step, strict=True))
            for frame in batch.frames:
                assert (frame.values[:, frame.columns.index("loss")] == frame.step / 2).all(), "mangled"
            self.seen.rows += [(step, row) for row, step in found]
            self.seen.cursors = {**self.seen.cursors, **batch.cursors}
            for reason, many in batch.counts.items():
                self.counts[reason] = self.counts.get(reason, 0) + many
            news = news or bool(found) or not batch.at_head
        return news

    def commit(self) -> None:
        """What was read up to now survives a kill."""
        self.committed = Seen(list(self.seen.rows), dict(self.seen.cursors))

    def kill(self) -> None:
        """Only what was committed is left. What was deleted under its writer or reader has been read before."""
        if self._copied:  # a copy that its original outgrew cannot be told after a kill
            self._truncate(0)
        there = {path.stat().st_ino for path in (*self.log.rotated(), self.log.path) if path.exists()}
        read = {c.position.inode for text in self.committed.cursors.values() if (c := Cursor.loads(text)) is not None}
        outgrown = bool(read & self._outgrown)  # of a short one, nobody can tell that its archive was read
        if self.log.orphaned or self._held or outgrown or not {s.inode for s in self.watch.streams if s.open} <= there:
            self.log.reopen()
            self.log.write(1)
            self.rest()
        self.watch.close()
        self.seen = Seen(list(self.committed.rows), dict(self.committed.cursors))
        self._held.clear()
        self.watch = Watch("model", [str(self._folder)], self.seen.cursors, max_line_bytes=MAX_LINE)

    def rest(self) -> None:
        """Read until nothing comes any more, commit, and compare with the disk."""
        quiet = 0
        for _ in range(200):
            quiet = 0 if self._look(1, 1.0) else quiet + 1
            if quiet == REST:
                break
        else:
            raise AssertionError("does not come to rest")
        self.commit()
        owed = set(self._held)
        for path in (*self.log.rotated(), self.log.path):
            with contextlib.suppress(FileNotFoundError):
                owed |= _steps(path)
        self._held.clear()
        steps = [step for step, _ in self.seen.rows]
        assert not (lost := owed - set(steps)), f"lost {sorted(lost)}"
        assert len(steps) == len(set(steps)), f"doubled {sorted({s for s in steps if steps.count(s) > 1})}"
        assert not self._ordered or steps == sorted(steps), "out of order"
        rows = [row for _, row in self.seen.rows]
        assert all(a < b for a, b in itertools.pairwise(rows)), "row numbers"
        assert len(self.watch.streams) <= 1, "streams"


def _steps(path: Path) -> set[int]:
    """The numbers of the complete lines of a file."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except EOFError:
        return set()
    found = set()
    for line in content.split(b"\n")[:-1]:
        if line.strip(b"\0").startswith(b'{"step":') and line.rstrip().endswith(b"}"):
            found.add(int(line.strip(b"\0")[8:].split(b",")[0]))
    return found
