"""Event files and transaction logs, written byte by byte after their specifications."""

from __future__ import annotations

import struct
import zlib

BLOCK = 32_768


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def crc32c(data: bytes) -> int:
    """Bit by bit, and masked."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", crc32c(length)) + data + struct.pack("<I", crc32c(data))


def event(step: int, summary: bytes | None = None, tag: bytes = b"loss") -> bytes:
    """An event file's record; by default with the scalar step/2."""
    if summary is None:
        summary = field(1, field(1, tag) + b"\x15" + struct.pack("<f", step / 2))
    return record(b"\x09" + struct.pack("<d", 1_700_000_000.0 + step) + field(2, step) + field(5, summary))


def row(step: int, note: bytes = b"") -> bytes:
    """A history record of W&B."""
    items = [(b"_step", b"%d" % step), (b"loss", b"%f" % (step / 2)), (b"note", b'"%s"' % note)]
    return field(1, step) + field(2, b"".join(field(1, field(2, k) + field(16, v)) for k, v in items))


def transaction_log(records: list[bytes]) -> bytes:
    """A LevelDB log with W&B's header."""
    out = b":W&B\xe1\xbe\x00"
    for data in records:
        kind, rest = 1, data
        while True:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left)
                continue
            part, rest = rest[: left - 7], rest[left - 7 :]
            first = kind == 1
            kind = (1 if first else 4) if not rest else (2 if first else 3)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            if not rest:
                break
    return out
