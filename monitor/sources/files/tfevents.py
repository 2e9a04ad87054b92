"""TensorBoard event files, as torch's and TensorFlow's SummaryWriter and tensorboardX write them.

A record is: length (u64), masked CRC-32C of the length, event, masked CRC-32C of the event. Successive events of one
step are a row (see `event`); the last row of a file that may grow is held back until another begins or the file has
been quiet for a while. Scalars are read in both spellings, `simple_value` and a tensor of one float or double; other
kinds (text, histogram, image, graph) are counted once per kind. Behind a damaged record the next length whose checksum
fits is searched, so that one flipped bit costs one record. Checksums of records of one length are computed together,
which is what makes the rate (see benchmarks).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from monitor.sources.files.event import Rows, decode
from monitor.sources.files.records import HOLD_S, Cut, Framing, Place
from monitor.sources.files.rows import Parsed, Piece, Unusable
from monitor.sources.files.values import Ints, seconds

HEAD = struct.Struct("<QI")
MAX_KINDS = 32
TORN_S = 130.0
"""So long the rest of an event may be on its way: tensorboardX writes what fills its buffer, and all every 120 s."""
FEW = 24
"""From so many records of one length on their checksums are computed as columns."""

# Whatever reads as a length below 16 MiB that is not 0; the checksum decides.
_LENGTH = re.compile(rb"(?s)(?=(?!\0{8}).{3}\0{5}.{4})")


def _table() -> Ints:
    table = np.arange(256, dtype=np.int64)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ 0x82F63B78, table >> 1)
    return table


_CRC = _table()
_CRC_LIST: list[int] = _CRC.tolist()


def masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord files."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = _CRC_LIST[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFF_FFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF


@lru_cache(maxsize=4096)
def _length_crc(length: int) -> int:
    return masked_crc32c(length.to_bytes(8, "little"))


def _intact(records: Sequence[bytes], sums: Sequence[int]) -> list[bool]:
    """Which records have the checksum that stands behind them."""
    out = [True] * len(records)
    lengths: dict[int, list[int]] = {}
    for i, record in enumerate(records):
        lengths.setdefault(len(record), []).append(i)
    for length, members in lengths.items():
        if len(members) < FEW:
            for i in members:
                out[i] = masked_crc32c(records[i]) == sums[i]
            continue
        matrix = np.frombuffer(b"".join([records[i] for i in members]), np.uint8).reshape(len(members), length)
        crc = np.full(len(members), 0xFFFF_FFFF, np.int64)
        for column in np.ascontiguousarray(matrix.T):
            crc = _CRC[(crc ^ column) & 255] ^ (crc >> 8)
        crc ^= 0xFFFF_FFFF
        masked = ((crc >> 15 | (crc << 17)) + 0xA282EAD8) & 0xFFFF_FFFF
        for i, good in zip(members, (masked == np.array([sums[i] for i in members], np.int64)).tolist(), strict=True):
            out[i] = good
    return out


def opens(head: bytes) -> bool:
    """Whether the file begins with a length and its checksum."""
    return len(head) >= HEAD.size and _is_head(head, 0)


def _is_head(data: bytes, at: int) -> bool:
    length, crc = HEAD.unpack_from(data, at)
    return length > 0 and bool(_length_crc(length) == crc)


def _next_head(data: bytes, start: int) -> int:
    """Where the next length with its checksum stands, -1 if nowhere."""
    return next((found.start() for found in _LENGTH.finditer(data, start) if _is_head(data, found.start())), -1)


def cut(data: bytes, place: Place) -> Cut:
    """The complete events of a stretch; see `Framing`."""
    out, at, spans = Cut(skipping=place.skipping), 0, list[tuple[int, int]]()
    while True:
        if out.skipping:
            following = _next_head(data, at)
            at = following if following >= 0 else max(at, len(data) - HEAD.size + 1)
            out.skipping = following < 0
        if out.skipping or at + HEAD.size > len(data):
            break
        length, stop = HEAD.unpack_from(data, at)[0], 0
        if not _is_head(data, at):
            if _may_be_written(data, at, place):
                break
            spans.append((at, -1))
            at += 1
            out.skipping = True
            continue
        stop = at + HEAD.size + length + 4
        if length > place.limit:
            if place.offset + stop > place.size and not place.final:
                break
            spans.append((at, -2))
            at = stop
            continue
        if stop > len(data):
            break
        spans.append((at, length))
        at = stop
    out.end = at
    _fill(out, data, place, spans)
    return out


def _may_be_written(data: bytes, at: int, place: Place) -> bool:
    """Whether what is no length may become one: network file systems show zeros where a page is still to come."""
    rest = len(data) - at
    return place.ends(len(data)) and rest <= place.limit and data[-1] == 0 and _next_head(data, at + 1) < 0


def _fill(out: Cut, data: bytes, place: Place, spans: Sequence[tuple[int, int]]) -> None:
    """Take the records at (start, length); a length of -1 is damage, -2 a record that is too long."""
    whole = [(at + HEAD.size, at + HEAD.size + length) for at, length in spans if length >= 0]
    records = [data[a:b] for a, b in whole]
    sums = [int.from_bytes(data[b : b + 4], "little") for _, b in whole]
    checked, rows = zip(records, _intact(records, sums), strict=True), Rows()
    for at, length in spans:
        record, good = next(checked) if length >= 0 else (b"", False)
        if good:
            start = rows.start
            out.add(start, rows.take(record, at))
            continue
        if length >= 0 and place.ends(at + HEAD.size + length + 4):
            out.end = at  # it may not be all there yet
            break
        out.add(rows.start, rows.finish())
        out.leave_out(at, out.too_long if length == -2 else out.damaged)
    if place.final or place.quiet_s >= (HOLD_S if out.end >= len(data) else TORN_S):
        out.add(rows.start, rows.finish())
    elif rows.finish():
        out.end, out.held = rows.start, True


FRAMING = Framing(opens, cut)


class EventLog:
    """Parser of events, joined to rows. State: the kinds that were counted."""

    name = "tfevents"
    splits_returns = False

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._kinds: set[str] = {str(k) for k in state.get("kinds", ())}

    def state(self) -> dict[str, Any]:
        """What a later parser needs to go on after the last event."""
        return {"kinds": sorted(self._kinds)}

    def known(self, lines: Sequence[bytes]) -> int:  # noqa: ARG002 - part of the protocol
        """A rewritten file of this format is another log."""
        return 0

    def feed(self, lines: Sequence[bytes], first_row: int) -> Parsed:
        """Parse events, the first of which is number `first_row`."""
        out = Parsed()
        groups: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
        for row, record in enumerate(lines, first_row):
            event = decode(record)
            if event is None:
                out.tally.add(Unusable.NOT_A_RECORD, row)
                continue
            if event.values:
                groups.setdefault(tuple(event.values), []).append((row, event.step, event.t, *event.values.values()))
            for kind in event.kinds:
                if kind not in self._kinds and len(self._kinds) < MAX_KINDS:
                    self._kinds.add(kind)
                    out.tally.add(Unusable.NOT_A_SCALAR, row)
        for columns, members in groups.items():
            numbers, steps, times, *cells = zip(*members, strict=True)
            where = (np.array(numbers, np.int64), np.array(steps, np.int64), seconds(np.array(times, np.float64)))
            out.pieces.append(Piece(None, columns, *where, np.array(cells, np.float64).T))
        return out
