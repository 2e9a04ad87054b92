"""`read_wandb.py FILE`: the records of a finished log, decoded by wandb's own protobuf messages.

wandb no longer ships a reader of its log in Python: the frames are taken apart here, without any care for damage.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32_768


def records(data: bytes):
    at, parts = 7, b""
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def number(text: str):
    return json.loads(text, parse_int=float)


def read(path: str) -> dict[str, list]:
    out: dict[str, list] = {"history": [], "stats": [], "exit": []}
    for record in records(Path(path).read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            items = ((".".join(i.nested_key) or i.key, number(i.value_json)) for i in record.history.item)
            out["history"].append(dict(items))
        elif kind == "stats":
            out["stats"].append({i.key: number(i.value_json) for i in record.stats.item})
        elif kind == "exit":
            out["exit"].append(record.exit.exit_code)
    return out


if __name__ == "__main__":
    sys.stdout.write(json.dumps(read(sys.argv[1])))
