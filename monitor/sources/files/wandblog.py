"""W&B's transaction log (`run-ID.wandb`), as its SDK writes it beside every run, online and offline.

A LevelDB log: a header of 7 bytes, then blocks of 32 KiB with chunks of checksum (CRC-32), length and kind, of which a
record may take several; a record is a protobuf message. History records are rows, statistics of the machine are rows of
their own under `system/`, console output is log text, an exit says that the run is finished; the configuration and
what else there is are not read. Behind damage reading goes on at the next block, as LevelDB does.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from monitor.sources.files.jsonl import decode
from monitor.sources.files.records import Cut, Framing, Place
from monitor.sources.files.rows import Parsed, Tabulator, Unusable, flat
from monitor.sources.protobuf import fields, messages, signed

MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32_768
HEAD = struct.Struct("<IHB")
BAD, PAD, FULL, FIRST, MIDDLE, LAST = -1, 0, 1, 2, 3, 4
_KIND_CRC = [zlib.crc32(bytes([kind])) for kind in range(5)]

# An item of a history record up to its key, all short; then comes its value, field 16.
_ITEM = re.compile(rb"(?s)\x0a([\0-\x7f])[\x0a\x12]([\0-\x7f])")
_VALUE = b"\x82\x01"

HISTORY, STATS, OUTPUT, OUTPUT_RAW, EXIT = 2, 7, 4, 13, 18
SYSTEM = "system/"


def opens(head: bytes) -> bool:
    """Whether the file has the header of version 0, the only one there is."""
    return head.startswith(MAGIC)


def cut(data: bytes, place: Place) -> Cut:
    """The complete records of a stretch; see `Framing`."""
    out = Cut(skipping=place.skipping)
    begin = out.end = 0 if place.offset else len(MAGIC)
    parts: list[bytes] = []
    for kind, start, stop in _chunks(data, out.end, place):
        if kind in (BAD, FULL, FIRST):
            if parts or kind == BAD:  # a record without its end
                out.leave_out(begin if parts else start, out.damaged)
            parts, begin, out.skipping = [], start, kind == BAD
        elif kind != PAD and not parts:  # one without its beginning
            if not out.skipping:
                out.leave_out(start, out.damaged)
            out.skipping = kind == MIDDLE
        if kind in (FULL, FIRST) or parts:
            parts += [data[start + HEAD.size : stop]] if kind != PAD else []
            parts = _finish(out, parts, begin, kind, place)
        if not parts:
            out.end = stop
    return out


def _finish(out: Cut, parts: list[bytes], begin: int, kind: int, place: Place) -> list[bytes]:
    """Take a record that is complete, leave out one that is too long; what remains to be completed."""
    if sum(map(len, parts)) > place.limit:
        out.leave_out(begin, out.too_long)
        out.skipping = kind in (FIRST, MIDDLE)
        return []
    if kind not in (FULL, LAST):
        return parts
    out.records.append(b"".join(parts))
    out.starts.append(begin)
    return []


def _chunks(data: bytes, at: int, place: Place) -> Iterator[tuple[int, int, int]]:
    """(kind, start, stop) of each complete chunk; PAD is the rest of a block, BAD what ends with its block unread."""
    while at <= len(data):
        found = _chunk(data, at, BLOCK - (place.offset + at) % BLOCK, place)
        if found is None:
            return
        yield found[0], at, found[1]
        at = found[1]


def _chunk(data: bytes, at: int, left: int, place: Place) -> tuple[int, int] | None:
    """Kind and end of the chunk at `at`, in a block of which `left` bytes are left; None if it is not all there."""
    if left < HEAD.size:
        return (PAD, at + left) if at + left <= len(data) else None
    if at + HEAD.size > len(data):
        return None
    crc, size, kind = HEAD.unpack_from(data, at)
    stop = at + HEAD.size + size
    if FULL <= kind <= LAST and HEAD.size + size <= left:
        if stop > len(data):
            return None
        if zlib.crc32(data[at + HEAD.size : stop], _KIND_CRC[kind]) == crc:
            return kind, stop
    if place.ends(stop) or (place.ends(len(data)) and not data[at:].strip(b"\0")):
        return None
    return (BAD, at + left) if at + left <= len(data) or place.final else None


FRAMING = Framing(opens, cut)


class WandbLog:
    """Parser of W&B records. State: whether something that is no number was counted."""

    name = "wandb"
    splits_returns = False

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._media = bool(state.get("media"))
        self._table = Tabulator()

    def state(self) -> dict[str, Any]:
        """What a later parser needs to go on after the last record."""
        return {"media": True} if self._media else {}

    def known(self, lines: Sequence[bytes]) -> int:  # noqa: ARG002 - part of the protocol
        """A rewritten file of this format is another log."""
        return 0

    def feed(self, lines: Sequence[bytes], first_row: int) -> Parsed:
        """Parse records, the first of which is number `first_row`."""
        out = Parsed()
        records: list[dict[str, Any]] = []
        rows: list[int] = []
        for row, raw in enumerate(lines, first_row):
            try:
                for number, value in fields(raw):
                    if number in (HISTORY, STATS) and isinstance(value, bytes):
                        record = self._history(value, row, out) if number == HISTORY else _stats(value)
                        records.append(record)
                        rows.append(row)
                    elif number in (OUTPUT, OUTPUT_RAW) and isinstance(value, bytes):
                        out.lines += [(row, text) for v in messages(value, 3) if (text := _text(v).strip())]
                    elif number == EXIT and isinstance(value, bytes):
                        code = dict(fields(value)).get(1, 0)
                        out.finished = True
                        out.lines.append((row, f"wandb: the run ended with exit code {signed(code)}"))
            except (ValueError, IndexError):
                out.tally.add(Unusable.NOT_A_RECORD, row)
        self._table.records(records, rows, out)
        return out

    def _history(self, message: bytes, row: int, out: Parsed) -> dict[str, Any]:
        keys, texts, rest = _plain_items(message)
        record = dict(zip(keys, _values(texts), strict=True))
        for number, value in fields(message[rest:]):
            if number == 1 and isinstance(value, bytes):
                key, content = _item(value)
                record[key] = content
            elif number == 2 and isinstance(value, bytes):
                record.setdefault("_step", signed(dict(fields(value)).get(1, 0)))
        if any(type(value) is dict for value in record.values()):
            record = flat(record, out.tally, row, ".")
        kept = scalars(record)
        if len(kept) < len(record) and not self._media:
            self._media = True
            out.tally.add(Unusable.NOT_A_SCALAR, row)
        return kept


def scalars(record: Mapping[str, Any]) -> dict[str, Any]:
    """A flat history record by key, without pictures, tables and histograms: its writer walks through a map."""
    media = tuple(key.removesuffix("_type") for key in record if key.endswith("._type"))
    return {key: value for key, value in sorted(record.items()) if not (media and key.startswith(media))}


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _plain_items(message: bytes) -> tuple[list[str], list[bytes], int]:
    """Keys and values of the first items, as far as they have one key and are short, and where the rest begins."""
    keys, texts, at = list[str](), list[bytes](), 0
    while (found := _ITEM.match(message, at)) is not None:
        stop, colon = found.end(1) + found[1][0], found.end() + found[2][0]
        begin = colon + 3
        if message[colon : begin - 1] != _VALUE or begin + message[begin - 1] != stop or stop > len(message):
            break
        keys.append(_text(message[found.end() : colon]))
        texts.append(message[begin:stop])
        at = stop
    return keys, texts, at


def _values(texts: Sequence[bytes]) -> list[Any]:
    """What each JSON text says: all at once, or one by one where one is not plain (NaN)."""
    try:
        values: list[Any] = orjson.loads(b"[" + b",".join(texts) + b"]")
    except orjson.JSONDecodeError:
        return [decode(text) for text in texts]
    return values if len(values) == len(texts) else [decode(text) for text in texts]


def _item(message: bytes) -> tuple[str, Any]:
    """Key and value of an item; parts of a nested key are joined by dots, as W&B shows them."""
    key, nested, value = b"", list[bytes](), b"null"
    for number, content in fields(message):
        if not isinstance(content, bytes):
            continue
        if number == 1:
            key = content
        elif number == 2:
            nested.append(content)
        elif number == 16:
            value = content
    return _text(b".".join(nested) or key), decode(value)


def _stats(message: bytes) -> dict[str, Any]:
    """A row of the machine's statistics, with its own clock and no step."""
    record: dict[str, Any] = {}
    for number, value in fields(message):
        if number == 2 and isinstance(value, bytes):
            stamp = dict(fields(value))
            record["_timestamp"] = signed(stamp.get(1, 0)) + signed(stamp.get(2, 0)) * 1e-9
        elif number == 3 and isinstance(value, bytes):
            key, content = _item(value)
            record[SYSTEM + key] = content
    return dict(sorted(record.items()))
