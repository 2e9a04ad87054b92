"""A remote-write sender: requests of protocol 1.0 by hand, so that every byte can be a wrong one."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from aiohttp import ClientSession, TCPConnector

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
Point = tuple[int, float]


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def text(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def series(points: Sequence[Point], **labels: str) -> bytes:
    """One series; its metric as `name`."""
    labels["__name__"] = labels.pop("name", "loss")
    body = b"".join(text(1, text(1, k.encode()) + text(2, v.encode())) for k, v in sorted(labels.items()))
    for t, value in points:
        body += text(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(t))
    return text(1, body)


def scrape(t: int, values: Mapping[str, float], **labels: str) -> bytes:
    """Several metrics at one moment."""
    return b"".join(series([(t, value)], name=name, **labels) for name, value in values.items())


def snappy(data: bytes) -> bytes:
    """A block of literals."""
    pieces = [data[i : i + 60_000] for i in range(0, len(data), 60_000)]
    return varint(len(data)) + b"".join(b"\xf4" + struct.pack("<H", len(p) - 1) + p for p in pieces)


def sender(address: str = "127.0.0.1") -> ClientSession:
    """One that sends from `address`."""
    return ClientSession(connector=TCPConnector(local_addr=(address, 0)))


async def push(session: ClientSession, url: str, body: bytes, *, raw: bool = False, **headers: str) -> int:
    """The status of the answer."""
    data = body if raw else snappy(body)
    sent = HEADERS | {k.replace("_", "-"): v for k, v in headers.items()}
    async with session.post(f"{url}/api/v1/write", data=data, headers=sent) as response:
        await response.read()
        if response.status == 503:
            assert int(response.headers["Retry-After"]) > 0
        return response.status
