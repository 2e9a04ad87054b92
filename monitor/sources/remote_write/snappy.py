"""Snappy's block format, decompressed within a bound that is checked before anything is allocated.

The length that a block declares at its beginning is what it must have at its end; nothing grows beyond it on the way.
https://github.com/google/snappy/blob/main/format_description.txt
"""

from __future__ import annotations

from monitor.sources.protobuf import varint


class CorruptError(ValueError):
    """What came is no snappy block."""


class TooLargeError(ValueError):
    """The block declares more than the bound."""


def decompress(data: bytes, most: int) -> bytes:
    """The bytes of a block. Raises CorruptError, TooLargeError if it declares more than `most`."""
    try:
        size, at = varint(data, 0)
        out = _blocks(data, at, size) if size <= most else bytearray()
    except IndexError:
        raise CorruptError("a block that is cut") from None
    except ValueError as e:
        raise CorruptError(str(e)) from None
    if size > most:
        raise TooLargeError(f"{size} bytes after decompression; at most {most} are taken")
    if len(out) != size:
        raise CorruptError("a block of another length than it declares")
    return bytes(out)


def _blocks(data: bytes, at: int, size: int) -> bytearray:
    out = bytearray()
    end = len(data)
    while at < end:
        tag = data[at]
        at += 1
        kind = tag & 3
        if kind == 0:
            length = (tag >> 2) + 1
            if length > 60:
                more = length - 60
                length = int.from_bytes(data[at : at + more], "little") + 1
                at += more
            if at + length > end or len(out) + length > size:
                raise CorruptError("a literal that goes beyond the block")
            out += data[at : at + length]
            at += length
            continue
        if kind == 1:
            length, offset = ((tag >> 2) & 7) + 4, (tag >> 5) << 8 | data[at]
            at += 1
        else:
            width = 2 if kind == 2 else 4
            if at + width > end:
                raise CorruptError("a copy that is cut")
            length, offset = (tag >> 2) + 1, int.from_bytes(data[at : at + width], "little")
            at += width
        start = len(out) - offset
        if offset == 0 or start < 0 or len(out) + length > size:
            raise CorruptError("a copy from outside the block")
        if offset >= length:
            out += out[start : start + length]
        else:  # it overlaps with what it writes: the pattern repeats
            out += (out[start:] * (length // offset + 1))[:length]
    return out
