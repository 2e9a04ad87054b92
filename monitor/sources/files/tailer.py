"""One file that may still grow: reads complete lines, knows whether it is the file it was, never blocks.

A position is more than an offset: it holds what stood at the head of the file and just before the offset, so that a
file that was replaced, truncated and refilled, or that got the inode of a deleted one, is known for what it is. The
descriptor stays open, so a file that was renamed or unlinked is still read to its end.

Bounds: a read returns at most `budget` bytes; a line over `max_line_bytes` is skipped to its end and counted. A line
without its newline stays in the file: the offset stands before it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import time
import zlib
from bisect import bisect_left
from dataclasses import dataclass, field

from monitor.sources.files.lines import last_end, next_end, split
from monitor.sources.files.position import Check, Position
from monitor.sources.files.records import Framing, Place

HEAD_BYTES = 1024
TAIL_BYTES = 256
MAX_LINE_BYTES = 1 << 20
READ_BYTES = 1 << 20
NO_END = 1 << 62
GRAIN_NS = 50_000_000
"""Time stamps of files are this coarse at the most."""
BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Chunk:
    """Complete lines without their newline, or records. before: how many of them begin before the asked boundary.

    long_lines: indices (counted in physical lines) at which a line was too long; it is not in `lines` but an empty
    line stands in its place. more: there was more to read. damaged: index → byte in the file, of records that an empty
    one stands for. torn: a finished file ends inside a record.
    """

    lines: list[bytes]
    before: int
    long_lines: list[int]
    more: bool
    damaged: dict[int, int] = field(default_factory=dict)
    torn: bool = False
    held: bool = False


class NotRegularError(OSError):
    """A folder, FIFO, device or socket."""


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def open_regular(path: str) -> int:
    """A descriptor on a regular file; never waits for a FIFO's writer. Raises NotRegularError or another OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularError(f"{path} is not a regular file")
    return descriptor


class Tail:
    """Reads one file from a position on. Errors of the system pass through as OSError."""

    def __init__(self, path: str, position: Position | None = None, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        """Open `path` at `position` (the beginning if None); ask `check` whether the position fits."""
        self._fd = open_regular(path)
        self.compressed = os.pread(self._fd, 2, 0) == b"\x1f\x8b"
        self._gzip = gzip.open(open(self._fd, "rb", closefd=False), "rb") if self.compressed else None  # noqa: SIM115
        self.max_line_bytes = max_line_bytes
        status = os.fstat(self._fd)
        self.device, self.inode = status.st_dev, status.st_ino
        position = position or Position()
        self.offset, self._skipping = position.offset, position.skipping
        self._head, self._head_bytes, self._tail = position.head, position.head_bytes, position.tail
        self._begin = b""
        self._fresh: tuple[int, int] | None = None
        self._looked_ns = 0

    def close(self) -> None:
        """Give the descriptor back; further calls are not allowed."""
        if self._fd >= 0:
            if self._gzip is not None:
                self._gzip.close()
            os.close(self._fd)
            self._fd = -1

    @property
    def position(self) -> Position:
        """Where a later Tail goes on."""
        return Position(
            device=self.device,
            inode=self.inode,
            head=self._head,
            head_bytes=self._head_bytes,
            offset=self.offset,
            tail=self._tail,
            skipping=self._skipping,
        )

    def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes of the (decompressed) content. Raises OSError, also where an archive is damaged."""
        if self._gzip is None:
            return os.pread(self._fd, size, offset)
        try:
            self._gzip.seek(offset)
            return self._gzip.read(size)
        except (EOFError, zlib.error) as error:
            raise gzip.BadGzipFile(str(error)) from error

    @property
    def begin(self) -> bytes:
        """The first bytes, HEAD_BYTES at most, of what was read."""
        return self._begin

    def status(self) -> os.stat_result:
        """Of the open file, whatever its name is now."""
        return os.fstat(self._fd)

    def _look(self) -> os.stat_result:
        """Its status before it is read."""
        self._looked_ns = time.time_ns()
        return self.status()

    def size(self) -> int:
        """Bytes of content, NO_END if only reading can tell."""
        return NO_END if self.compressed else self.status().st_size

    def unchanged(self) -> bool:
        """Whether size and time of change are what they were at the last read that found the end."""
        status = self.status()
        return self._fresh == (status.st_size, status.st_mtime_ns)

    def mark_seen(self) -> None:
        """Take the file as it is now for read, until it changes."""
        self._mark(self._look())

    def certain(self) -> bool:
        """Whether what is `unchanged` is so for sure: its time of change was past when it was read."""
        return self._fresh is not None and self._looked_ns - self._fresh[1] > GRAIN_NS

    def recheck(self) -> Check:
        """Compare what is `unchanged`, but not for sure, once more."""
        self._looked_ns = time.time_ns()
        return self.check()

    def _mark(self, status: os.stat_result) -> None:
        self._fresh = (status.st_size, status.st_mtime_ns)

    def mark_unseen(self) -> None:
        """There is more to read than was looked at."""
        self._fresh = None

    def check(self) -> Check:
        """Compare the file with the position. An empty position fits every file."""
        if not self.compressed and self.size() < self.offset:
            return Check.SHRUNK
        if self._head_bytes:
            begin = self.pread(self._head_bytes, 0)
            if _hash(begin) != self._head:
                return Check.OTHER_HEAD
            self._begin = begin
        start = max(0, self.offset - TAIL_BYTES)
        if self.offset and _hash(self.pread(self.offset - start, start)) != self._tail:
            return Check.OTHER_TAIL
        return Check.SAME

    def skip_to(self, offset: int, data: bytes) -> None:
        """Take the first `offset` bytes, which begin with `data`'s, as read: the content was rewritten."""
        self.rewind()
        self._advance(data, offset)

    def rewind(self) -> None:
        """Begin again at the beginning: the content is new."""
        self.offset, self._skipping, self._head, self._head_bytes, self._tail = 0, False, "", 0, ""
        self._fresh = None

    def read(self, *, boundary: int = 0, returns: bool = False, final: bool = False, budget: int = READ_BYTES) -> Chunk:
        r"""The next complete lines.

        boundary: byte offset; lines that begin before it are counted in `before`. returns: "\r" ends a line too.
        final: the file will not grow, so its last line needs no newline.
        """
        status = self._look()
        data = self.pread(budget, self.offset)
        self._mark(status)
        if len(data) == budget:
            self.mark_unseen()
        chunk = Chunk([], 0, [], more=len(data) == budget)
        final = final and not chunk.more
        end = len(data) if final else last_end(data, returns=returns)
        start = self._skip(data, end, chunk, returns=returns) if self._skipping else 0
        cut = max(start, end)
        rest = len(data) - cut
        if not cut and rest == budget <= self.max_line_bytes:  # a long line, but not too long: look further
            return self.read(boundary=boundary, returns=returns, final=final, budget=budget + self.max_line_bytes)
        if rest > self.max_line_bytes:
            self._skipping = True
        turn = boundary - self.offset
        if turn > start:
            middle = min(cut, next_end(data, turn - 1, returns=returns))
            self._split(data, start, middle, chunk, returns=returns)
            chunk.before, start = len(chunk.lines), middle
        elif turn > 0:
            chunk.before = len(chunk.lines)
        self._split(data, start, cut, chunk, returns=returns)
        self._advance(data, len(data) if self._skipping else cut)
        return chunk

    def records(
        self,
        framing: Framing,
        *,
        boundary: int = 0,
        final: bool = False,
        quiet_s: float = 0.0,
        budget: int = READ_BYTES,
    ) -> Chunk:
        """The next complete records; parameters as of `read`, quiet_s: how long the file has not grown."""
        status = self._look()
        data = self.pread(budget, self.offset)
        full = len(data) == budget
        size = max(self.offset + len(data), self.size() if full or not self.compressed else 0)
        place = Place(self.offset, size, self.max_line_bytes, final and not full, self._skipping, quiet_s)
        cut = framing.cut(data, place)
        if not cut.end and full and budget <= self.max_line_bytes:  # a long record, but not too long: look further
            budget += self.max_line_bytes
            return self.records(framing, boundary=boundary, final=final, quiet_s=quiet_s, budget=budget)
        self._mark(status)
        if full and cut.end:
            self.mark_unseen()
        chunk = Chunk(cut.records, bisect_left(cut.starts, boundary - self.offset), cut.too_long, full and cut.end > 0)
        chunk.damaged = {i: self.offset + cut.starts[i] for i in cut.damaged}
        chunk.torn, chunk.held = place.final and cut.end < len(data), cut.held
        self._skipping = cut.skipping
        self._advance(data, len(data) if place.final else cut.end)
        return chunk

    def torn(self) -> bool:
        """Whether the file ends in a line that has no newline; it is then taken as read."""
        rest = self.size() - self.offset if not self.compressed else 0
        if rest <= 0 and not self._skipping:
            return False
        self._skipping = False
        return True

    def _skip(self, data: bytes, end: int, chunk: Chunk, *, returns: bool) -> int:
        """Go to the end of a line that is too long; an empty line stands for it."""
        if not end:
            return len(data)
        self._skipping = False
        chunk.long_lines.append(0)
        chunk.lines.append(b"")
        return next_end(data, 0, returns=returns)

    def _split(self, data: bytes, start: int, end: int, chunk: Chunk, *, returns: bool) -> None:
        part = data[start:end]
        if self.offset + start == 0:
            part = part.removeprefix(BOM)
        lines = split(part, returns=returns)
        if len(part) > self.max_line_bytes:
            for i, line in enumerate(lines):
                if len(line) > self.max_line_bytes:
                    lines[i] = b""
                    chunk.long_lines.append(len(chunk.lines) + i)
        chunk.lines += lines

    def _advance(self, data: bytes, consumed: int) -> None:
        if not consumed:
            return
        if self._head_bytes < HEAD_BYTES:
            size = min(HEAD_BYTES, self.offset + consumed)
            head = data[:size] if self.offset == 0 else self.pread(size, 0)
            self._head, self._head_bytes, self._begin = _hash(head), len(head), head
        before, after = b"", b""
        if consumed < TAIL_BYTES and self.offset:
            start = max(0, self.offset - (TAIL_BYTES - consumed))
            before = self.pread(self.offset - start, start)
        if (skipped := consumed - len(data)) > 0:  # a long record is left out without being read
            after = self.pread(min(skipped, TAIL_BYTES), self.offset + max(len(data), consumed - TAIL_BYTES))
        self._tail = _hash((before + data[max(0, consumed - TAIL_BYTES) : consumed] + after)[-TAIL_BYTES:])
        self.offset += consumed
