"""A remote-write request 1.0 (`prometheus.WriteRequest`) as series of samples, decoded by hand.

Only label sets and float samples are read; metadata, exemplars and native histograms are passed over, histograms are
counted. Bounds: MAX_SAMPLES of a request, MAX_LABEL_BYTES of a series.
https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from monitor.sources.protobuf import fields, signed

MAX_SAMPLES = 200_000
MAX_LABEL_BYTES = 16 << 10
SAMPLE_BYTES = 200
STALE = struct.pack("<Q", 0x7FF0000000000002)
"""The NaN that says that a series has ended; every other NaN is a value."""
_ZERO = bytes(8)
_double = struct.Struct("<d").unpack

Labels = tuple[bytes, ...]
"""The encoded labels of a series, as they came: what a sender repeats need not be decoded again."""


class MalformedError(ValueError):
    """What came is no write request."""


class TooManyError(ValueError):
    """More samples than one request may hold."""


@dataclass(slots=True)
class Samples:
    """Of one series. points: (ms since 1970, value), None where the series ends."""

    labels: Labels
    points: list[tuple[int, float | None]]


@dataclass(slots=True)
class WriteRequest:
    """What one request holds. histograms: native ones, which are not read. overlong: series with too long labels.

    size: samples. cost: about the bytes that it takes in memory.
    """

    series: list[Samples] = field(default_factory=list)
    size: int = 0
    cost: int = 0
    histograms: int = 0
    overlong: int = 0


def parse(data: bytes) -> WriteRequest:
    """The request in `data`. Raises MalformedError, TooManyError."""
    request = WriteRequest()
    try:
        for number, value in fields(data):
            if number == 1 and isinstance(value, bytes):
                _series(value, request)
    except (ValueError, IndexError) as e:
        if isinstance(e, TooManyError):
            raise
        raise MalformedError(f"no write request ({e})") from None
    request.cost = len(data) + SAMPLE_BYTES * request.size
    return request


def labels_of(encoded: Labels) -> dict[str, str]:
    """Name → value. Raises MalformedError."""
    found = {}
    try:
        for one in encoded:
            parts = dict(fields(one))
            name, value = parts.get(1, b""), parts.get(2, b"")
            if isinstance(name, int) or isinstance(value, int):
                raise MalformedError("a label that is no text")
            found[name.decode()] = value.decode()
    except (ValueError, IndexError) as e:  # UnicodeDecodeError is a ValueError
        raise MalformedError(f"no label ({e})") from None
    return found


def _series(data: bytes, request: WriteRequest) -> None:
    labels, points = [], []
    for number, value in fields(data):
        if isinstance(value, int):
            continue
        if number == 1:
            labels.append(value)
        elif number == 2:
            points.append(_sample(value))
        elif number == 4:
            request.histograms += 1
    request.size += len(points)
    if request.size > MAX_SAMPLES:
        raise TooManyError(f"more than {MAX_SAMPLES} samples")
    if sum(map(len, labels)) > MAX_LABEL_BYTES:
        request.overlong += 1
    elif points:
        request.series.append(Samples(tuple(labels), points))


def _sample(data: bytes) -> tuple[int, float | None]:
    bits, t = _ZERO, 0
    for number, value in fields(data):
        if number == 1 and isinstance(value, bytes) and len(value) == 8:
            bits = value
        elif number == 2:
            t = signed(value)
    return t, None if bits == STALE else _double(bits)[0]
