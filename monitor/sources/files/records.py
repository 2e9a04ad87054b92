"""Formats of records instead of lines: where complete records end in a stretch of bytes.

A framing is a pure function of the bytes and their offset in the file, so that any cutting of a file gives the same
records. What is not complete stays in the file; what is damaged or too long leaves an empty record in its place, so
that it has a row number, and reading goes on behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

HOLD_S = 6.0
"""So long what may be only a part of a row waits at the end of a quiet file. Longer than events of a row may be apart,
since writers give them to the disk a moment later."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where bytes stand. size: of the file now; limit: bytes of the longest record that is held.

    final: the stretch is the last of a file that will not grow. skipping: it begins inside what cannot be read.
    quiet_s: how long the file has not grown.
    """

    offset: int
    size: int
    limit: int
    final: bool = False
    skipping: bool = False
    quiet_s: float = 0.0

    def ends(self, stop: int) -> bool:
        """Whether byte `stop` of the stretch is where a file that may grow ends: what is bad may not be all there."""
        return not self.final and self.offset + stop >= self.size


@dataclass(slots=True)
class Cut:
    """Records and where each begins. end: bytes used up, may lie behind the stretch; skipping: see `Place`.

    too_long, damaged: indices of the empty records. held: complete records stand behind, which more may belong to.
    """

    records: list[bytes] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    too_long: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    end: int = 0
    skipping: bool = False
    held: bool = False

    def add(self, start: int, record: bytes) -> None:
        """Put in what begins at `start`, unless it is empty."""
        if record:
            self.records.append(record)
            self.starts.append(start)

    def leave_out(self, start: int, why: list[int]) -> None:
        """Put an empty record in the place of what begins at `start`; why: `too_long` or `damaged`."""
        why.append(len(self.records))
        self.records.append(b"")
        self.starts.append(start)


class Framing(NamedTuple):
    """opens: whether a file's first bytes are of this format; cut: the complete records of a stretch."""

    opens: Callable[[bytes], bool]
    cut: Callable[[bytes, Place], Cut]
