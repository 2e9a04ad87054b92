"""Which of two files is the other, a copy of it, or older news: by their content, which outlives names and inodes."""

from __future__ import annotations

import os
from contextlib import closing, suppress

from monitor.sources.files.discover import Member
from monitor.sources.files.position import Check, Position
from monitor.sources.files.tailer import MAX_LINE_BYTES, READ_BYTES, Tail


def open_at(path: str, position: Position, *, max_line_bytes: int = MAX_LINE_BYTES) -> Tail | None:
    """`path` open at `position`, if it is the file that the position belongs to, or a copy of it. Never raises."""
    try:
        tail = Tail(path, position, max_line_bytes=max_line_bytes)
    except OSError:
        return None
    try:
        if tail.check() is Check.SAME and (position.offset or tail.inode == position.inode):
            return tail
    except OSError:
        pass  # a damaged archive is no copy
    tail.close()
    return None


def is_at(path: str, position: Position) -> bool:
    """Whether `path` is the file of the position."""
    if (tail := open_at(path, position)) is None:
        return False
    tail.close()
    return tail.inode == position.inode


def marks(members: list[Member]) -> set[tuple[int, ...]]:
    """What tells files and their contents apart, also if one got the inode of another."""
    found: set[tuple[int, ...]] = set()
    for member in members:
        with suppress(OSError):
            status = os.stat(member.path)
            found.add((status.st_ino, status.st_size, status.st_mtime_ns))
    return found


def ends_at(position: Position, member: Member) -> bool:
    """Whether a file, or a copy of it, was read to its end at `position`: no line follows. Never raises.

    An archive may end before: its file was written to, and read, after it was compressed.
    """
    try:
        with closing(Tail(member.path, position)) as tail:
            found, rest = tail.check(), tail.pread(READ_BYTES, position.offset)
            if found is Check.OTHER_TAIL:
                return tail.compressed and not rest
            same = found is Check.SAME and (position.offset or tail.inode == position.inode)
            return bool(same) and b"\n" not in rest
    except OSError:
        return False


def holds(member: Member) -> bool:
    """Whether something stands in a file."""
    try:
        if not member.path.endswith(".gz"):
            return os.stat(member.path).st_size > 0
        with closing(Tail(member.path)) as archive:
            return bool(archive.pread(1, 0))
    except OSError:
        return False


def end_of(member: Member, tail: Tail) -> Position | None:
    """The end of a file, as far as READ_BYTES, if the open one begins with all of that. Never raises."""
    try:
        with closing(Tail(member.path)) as other:
            content = other.pread(READ_BYTES, 0)
            if not content or tail.pread(len(content), 0) != content:
                return None
            other.skip_to(len(content), content)
            return other.position
    except OSError:
        return None


def began_as(member: Member, tail: Tail) -> bool:
    """Whether a file begins as what was read of the open one, as far as both have a beginning. Never raises."""
    try:
        with closing(Tail(member.path)) as other:
            return tail.begin.startswith(other.pread(len(tail.begin), 0))
    except OSError:
        return True  # it cannot be read anyway
