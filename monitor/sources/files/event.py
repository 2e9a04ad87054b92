"""What an event of TensorBoard says, and which successive events are one row.

The writers put one metric into each event, so a row of training is a stretch of events: they have the same step, name
different metrics and were logged within seconds of each other. The messages of a row are joined: in protobuf, that is
one message with the fields of all. Bounds: 4,096 events and 256 KiB a row.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from monitor.sources.protobuf import Value, fields, messages, signed

APART_S = 4.0
"""Events of one step that were logged further apart are rows of their own: an evaluation that took its time."""
MAX_EVENTS = 4096
MAX_BYTES = 1 << 18

# wall_time, step, summary{value{tag, simple_value}}, all short, up to the tag: what nearly every event is.
_PLAIN = re.compile(rb"(?s)\x09(.{8})(?:\x10([\x80-\xff]{0,8}[\0-\x7f]))?\x2a([\0-\x7f])\x0a([\0-\x7f])\x0a([\0-\x7f])")
_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")
_OLD_KINDS = {4: "image", 5: "histogram", 6: "audio"}
_EVENT_KINDS = {4: "graph", 9: "meta graph"}


class Event(NamedTuple):
    """t: Unix seconds, NaN if unknown. values: scalars by tag. kinds: what else it holds."""

    t: float
    step: int
    values: dict[str, float]
    kinds: tuple[str, ...] = ()


def decode(record: bytes) -> Event | None:
    """What an event says, or the joined ones of a row; None if it is none. The time is that of the first scalar."""
    t, step, values = math.nan, 0, dict[str, float]()
    at, size = 0, len(record)
    while at < size and (plain := _PLAIN.match(record, at)) is not None:
        wall, raw, summary, value, length = plain.groups()
        n, tag = length[0], plain.end()
        at_value = tag + n
        if value[0] != n + 7 or summary[0] != n + 9 or at_value + 5 > size or record[at_value] != 0x15:
            break
        if not at:
            t, step = _DOUBLE.unpack(wall)[0], _step(raw)
        values[record[tag:at_value].decode(errors="replace")] = _FLOAT.unpack_from(record, at_value + 1)[0]
        at = at_value + 5
    if at == size and size:
        return Event(t, step, values)
    try:
        return _event(record)
    except (ValueError, IndexError, struct.error):
        return None


def _step(raw: bytes | None) -> int:
    step = shift = 0
    for byte in raw or b"":
        step |= (byte & 127) << shift
        shift += 7
    return step


def _event(record: bytes) -> Event:
    """Any event, field by field."""
    t, step, values, kinds = math.nan, 0, dict[str, float](), list[str]()
    for number, value in fields(record):
        if number == 1 and isinstance(value, bytes) and not values:
            t = _DOUBLE.unpack(value)[0]
        elif number == 2:
            step = max(-1, signed(value))
        elif number == 5 and isinstance(value, bytes):
            for one in messages(value, 1):
                values.update(_scalars(one, kinds))
        elif number in _EVENT_KINDS:
            kinds.append(_EVENT_KINDS[number])
    return Event(t, step, values, tuple(kinds))


def _scalars(message: bytes, kinds: list[str]) -> Iterator[tuple[str, float]]:
    value = dict(fields(message))
    name = value.get(1, b"")
    tag = name.decode(errors="replace") if isinstance(name, bytes) else ""
    if isinstance(simple := value.get(2), bytes):
        yield tag, _FLOAT.unpack(simple)[0]
    elif isinstance(tensor := value.get(8), bytes) and (x := _number(tensor)) is not None:
        yield tag, x
    else:
        kinds.append(_kind(value))


def _number(tensor: bytes) -> float | None:
    """The number of a tensor of one float or double."""
    of = dict(fields(tensor))
    number = {1: _FLOAT, 2: _DOUBLE}.get(signed(of.get(1, 0)))
    raw = of.get(4) or of.get(5 if number is _FLOAT else 6)
    if number is None or not isinstance(raw, bytes) or len(raw) != number.size:
        return None
    return float(number.unpack(raw)[0])


def _kind(value: Mapping[int, Value]) -> str:
    """What a value that is no scalar is: its plugin, else what TensorFlow 1 called it."""
    metadata = value.get(9)
    if isinstance(metadata, bytes):
        for plugin in messages(metadata, 1):
            for name in messages(plugin, 1):
                return name[:40].decode(errors="replace")
    return next((kind for number, kind in _OLD_KINDS.items() if number in value), "tensor")


class Rows:
    """Joins events to rows, as they come in the order of their file. start: where the row under way begins."""

    def __init__(self) -> None:
        self.start = 0
        self._parts: list[bytes] = []
        self._tags: set[str] = set()
        self._last: Event | None = None
        self._bytes = 0

    def take(self, record: bytes, start: int) -> bytes:
        """Take in the event at `start`: the row that is complete by that, empty if none is."""
        event, last = decode(record), self._last
        done = b""
        if (
            event is None
            or last is None
            or event.step != last.step
            or abs(event.t - last.t) > APART_S
            or len(self._parts) == MAX_EVENTS
            or self._bytes + len(record) > MAX_BYTES
            or not self._tags.isdisjoint(event.values)
        ):
            done = self.finish()
            self.start = start
        self._parts.append(record)
        self._bytes += len(record)
        self._last = event
        if event is not None:
            self._tags.update(event.values)
        return done

    def finish(self) -> bytes:
        """The row under way, empty if there is none."""
        done = b"".join(self._parts)
        self._parts, self._tags, self._last, self._bytes = [], set(), None, 0
        return done
