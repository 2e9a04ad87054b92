"""The wire format of protocol buffers: numbers and byte strings by field number, without a schema.

What the messages mean is known to those who read them: event files, W&B logs, remote write. Fields that nobody asks
for cost their length only; nothing is copied twice.
"""

from __future__ import annotations

from collections.abc import Iterator

Value = int | bytes


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
