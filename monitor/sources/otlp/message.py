"""An OTLP export of metrics (`ExportMetricsServiceRequest`) as series of samples, decoded by hand.

Gauges and sums become what a remote write would carry, under the names that Prometheus gives them: what is no letter,
digit or underscore becomes an underscore, attributes of the resource and of the point are labels (the point's win), job
and instance come of the service. Histograms and summaries are counted. A point that says that nothing was recorded ends
its series. Bounds: MAX_SAMPLES of a request, MAX_LABELS and MAX_LABEL_BYTES of a series.
https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web

from monitor.sources.protobuf import Value, fields, messages, signed
from monitor.sources.remote_write.message import (
    MAX_LABEL_BYTES,
    MAX_SAMPLES,
    SAMPLE_BYTES,
    Labels,
    MalformedError,
    Samples,
    TooManyError,
    WriteRequest,
)
from monitor.sources.remote_write.snappy import CorruptError, TooLargeError
from monitor.sources.remote_write.wire import Wire

MAX_LABELS = 64
MEDIA = "application/x-protobuf"
GAUGE, SUM = 5, 7
HISTOGRAMS = (9, 10, 11)
NOT_RECORDED = 1
_OTHER = re.compile(r"[^a-zA-Z0-9_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """attribute: the one of points that holds their step, which tells no series apart. run_label: whose step it is."""

    attribute: str
    run_label: str


@dataclass(slots=True)
class _Found:
    """What is found of a request. steps: of the runs, each moment once."""

    request: WriteRequest = field(default_factory=WriteRequest)
    series: dict[Labels, list[tuple[int, float | None]]] = field(default_factory=dict)
    steps: dict[str, dict[int, float]] = field(default_factory=dict)
    cost: int = 0


def wire(stepped: Stepped | None = None) -> Wire:
    """The protocol. Senders are the trainers themselves: one that says nothing is a silent run."""
    return Wire(
        name="otlp",
        path="/v1/metrics",
        wanted=f"only {MEDIA}, plain or gzip, is read",
        reads=lambda kind, encoding: kind.partition(";")[0].strip() == MEDIA and encoding in ("", "identity", "gzip"),
        decode=lambda body, encoding, most: parse(_plain(body, most) if encoding == "gzip" else body, stepped),
        reply=_reply,
        heartbeat=False,
    )


def parse(data: bytes, stepped: Stepped | None = None) -> WriteRequest:
    """The samples of an export. Raises MalformedError, TooManyError."""
    found = _Found()
    try:
        for part in messages(data, 1):
            _resource(part, stepped, found)
    except (ValueError, IndexError) as e:
        if isinstance(e, TooManyError):
            raise
        raise MalformedError(f"no export of metrics ({e})") from None
    request = found.request
    request.series = [Samples(labels, sorted(points, key=lambda p: p[0])) for labels, points in found.series.items()]
    if stepped is not None:
        for run, steps in found.steps.items():
            labels = (_label("__name__", plain(stepped.attribute)), _label(stepped.run_label, run))
            request.series.append(Samples(labels, [*sorted(steps.items())]))
    request.cost = len(data) + SAMPLE_BYTES * request.size + found.cost
    return request


def plain(name: str) -> str:
    """The name as Prometheus spells it."""
    spelled = _OTHER.sub("_", name)
    return f"_{spelled}" if spelled[:1].isdigit() else spelled


def _resource(data: bytes, stepped: Stepped | None, found: _Found) -> None:
    labels: dict[str, str] = {}
    for resource in messages(data, 1):
        labels |= _attributes(messages(resource, 1))
    service = "/".join(filter(None, (labels.get("service_namespace"), labels.get("service_name"))))
    labels = {"job": service, "instance": labels.get("service_instance_id", "")} | labels
    for scope in messages(data, 2):
        for metric in messages(scope, 2):
            _metric(metric, labels, stepped, found)


def _metric(data: bytes, shared: dict[str, str], stepped: Stepped | None, found: _Found) -> None:
    name, points = "", list[bytes]()
    for number, value in fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            name = value.decode()
        elif number in (GAUGE, SUM):
            points += messages(value, 1)
        elif number in HISTOGRAMS:
            found.request.histograms += sum(1 for _ in messages(value, 1))
    found.request.size += len(points)
    if found.request.size > MAX_SAMPLES:
        raise TooManyError(f"more than {MAX_SAMPLES} samples")
    if len(shared) > MAX_LABELS:
        found.request.overlong += len(points)
        return
    for point in points:
        _point(point, plain(name), shared, stepped, found)


def _point(data: bytes, name: str, shared: dict[str, str], stepped: Stepped | None, found: _Found) -> None:
    own, t, x, ended = list[bytes](), 0, None, False
    for number, value in fields(data):
        if number == 7 and isinstance(value, bytes):
            own.append(value)
        elif number == 3 and isinstance(value, bytes):
            t = int.from_bytes(value, "little") // 1_000_000
        elif number in (4, 6) and isinstance(value, bytes) and len(value) == 8:
            x = float(struct.unpack("<d" if number == 4 else "<q", value)[0])
        elif number == 8 and isinstance(value, int):
            ended = bool(value & NOT_RECORDED)
    if x is None and not ended:
        return
    labels = shared | _attributes(own)
    step = labels.pop(plain(stepped.attribute), "") if stepped is not None else ""
    labels["__name__"] = name
    if len(labels) > MAX_LABELS or sum(len(k) + len(v) for k, v in labels.items()) > MAX_LABEL_BYTES:
        found.request.overlong += 1
        return
    if stepped is not None and step:
        _step(step, labels.get(stepped.run_label, ""), t, found)
    key = tuple(_label(k, v) for k, v in sorted(labels.items()) if v)
    found.cost += 0 if key in found.series else 8 * len(key)
    found.series.setdefault(key, []).append((t, None if ended else x))


def _step(text: str, run: str, t: int, found: _Found) -> None:
    try:
        step = float(text)
    except ValueError:
        return
    steps = found.steps.setdefault(run, {})
    found.request.size += t not in steps
    steps[t] = step


def _attributes(pairs: Iterable[bytes]) -> dict[str, str]:
    """Name → value of those that are text, numbers or truth values; lists and maps tell nothing apart."""
    found = {}
    for pair in pairs:
        parts = dict(fields(pair))
        key, value = parts.get(1, b""), parts.get(2, b"")
        if isinstance(key, bytes) and isinstance(value, bytes):
            for number, content in fields(value):
                if (text := _text(number, content)) is not None:
                    found[plain(key.decode())] = text
    return found


def _text(number: int, content: Value) -> str | None:
    if number == 1 and isinstance(content, bytes):
        return content.decode()
    if number == 2 and isinstance(content, int):
        return "true" if content else "false"
    if number == 3 and isinstance(content, int):
        return str(signed(content))
    if number == 4 and isinstance(content, bytes) and len(content) == 8:
        return f"{struct.unpack('<d', content)[0]:g}"
    return None


@lru_cache(maxsize=2_000)
def _label(name: str, value: str) -> bytes:
    """As a remote write has it; the same for the same label, so that many series share it."""
    return _field(1, name.encode()) + _field(2, value.encode())


def _field(number: int, content: bytes) -> bytes:
    size, head = len(content), bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size]) + content


def _plain(body: bytes, most: int) -> bytes:
    """The bytes of a gzip stream, no more of which are unfolded than the bound. Raises CorruptError, TooLargeError."""
    unfold = zlib.decompressobj(wbits=31)
    try:
        data = unfold.decompress(body, most + 1)
    except zlib.error as e:
        raise CorruptError(f"no gzip stream ({e})") from None
    if len(data) > most:
        raise TooLargeError(f"more than {most} bytes after decompression")
    if not unfold.eof or unfold.unused_data:
        raise CorruptError("a gzip stream that is cut, or more than one")
    return data


def _reply(status: HTTPStatus, text: str) -> web.Response:
    """Success is an empty message; a failure is a `google.rpc.Status` with its text."""
    body = _field(2, text.encode()) if text else b""
    return web.Response(status=status, body=body, content_type=MEDIA)
