"""Formats of records instead of lines: where complete records end in a stretch of bytes, and their protobuf fields.

A framing is a pure function of the bytes and their offset in the file, so that any cutting of a file gives the same
records. What is not complete stays in the file; what is damaged or too long leaves an empty record in its place, so
that it has a row number, and reading goes on behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

Value = int | bytes


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


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and where it ends. Raises IndexError if it is cut, ValueError if it is none."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(number, value) of each field of a protobuf message. Raises ValueError or IndexError if it is none."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(data):
            raise ValueError("a field that is cut")
        yield key >> 3, data[at : at + size]
        at += size


def messages(data: bytes, number: int) -> Iterator[bytes]:
    """The fields `number` that are messages or text."""
    return (v for n, v in fields(data) if n == number and isinstance(v, bytes))


def signed(value: Value) -> int:
    """An int64 of a varint; -1 if it is no number."""
    if not isinstance(value, int):
        return -1
    return value - (1 << 64) if value >> 63 else value
