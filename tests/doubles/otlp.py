"""An OpenTelemetry exporter: requests of OTLP over HTTP by hand, so that every byte can be a wrong one."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping, Sequence

from aiohttp import ClientSession
from doubles.remote_write import text, varint

Attribute = str | int | float | bool


def attribute(number: int, name: str, value: Attribute) -> bytes:
    """A KeyValue as the field `number`."""
    if isinstance(value, bool):
        content = b"\x10" + varint(value)
    elif isinstance(value, int):
        content = b"\x18" + varint(value)
    elif isinstance(value, float):
        content = b"\x21" + struct.pack("<d", value)
    else:
        content = text(1, value.encode())
    return text(number, text(1, name.encode()) + text(2, content))


def point(t: int, value: float | None, **labels: Attribute) -> bytes:
    """A NumberDataPoint; None: nothing was recorded."""
    body = b"\x19" + struct.pack("<Q", t * 1_000_000)
    if value is None:
        body += b"\x40\x01"
    elif isinstance(value, int):
        body += b"\x31" + struct.pack("<q", value)
    else:
        body += b"\x21" + struct.pack("<d", value)
    return body + b"".join(attribute(7, k, v) for k, v in labels.items())


def metric(name: str, points: Sequence[bytes], kind: int = 5) -> bytes:
    """A metric of a scope. kind: 5 gauge, 7 sum, 9 histogram."""
    body = b"".join(text(1, p) for p in points) + (b"\x10\x02\x18\x01" if kind == 7 else b"")
    return text(2, text(1, name.encode()) + text(kind, body))


def resource(metrics: bytes, **attributes: Attribute) -> bytes:
    """What one process exports."""
    told = b"".join(attribute(1, k.replace("__", "."), v) for k, v in attributes.items())
    return text(1, text(1, told) + text(2, metrics))


def collection(t: int, values: Mapping[str, float], **labels: Attribute) -> bytes:
    """Gauges of a run at one moment; `step` becomes an attribute of the others."""
    rest = dict(values)
    own: dict[str, Attribute] = {"step": int(rest.pop("step"))} if "step" in rest else {}
    return resource(b"".join(metric(name, [point(t, value, **own)]) for name, value in rest.items()), **labels)


async def export(session: ClientSession, url: str, body: bytes, *, raw: bool = False, **headers: str) -> int:
    """The status of the answer. raw: as it is, not compressed."""
    sent = {"Content-Type": "application/x-protobuf"} | ({} if raw else {"Content-Encoding": "gzip"})
    sent |= {k.replace("_", "-"): v for k, v in headers.items()}
    data = body if raw else gzip.compress(body, 1)
    async with session.post(f"{url}/v1/metrics", data=data, headers=sent) as response:
        said = await response.read()
        assert response.content_type == "application/x-protobuf" or response.status == 404
        assert (response.status == 200) == (not said)
        if response.status == 503:
            assert int(response.headers["Retry-After"]) > 0
        return response.status
