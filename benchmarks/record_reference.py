"""The writers' own side of `record_readers`, run by the python of their environment: writes a file, or reads one.

Reading prints {"values": …, "rows": …, "seconds": …}: the best processor time of so many passes, without the imports.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

BLOCK = 32_768
TAGS = ("loss", "grad_norm", "lr", "step_time", "tokens_per_s")


def write_events(folder: str, rows: int) -> None:
    """A run as torch's SummaryWriter logs it."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

    writer = SummaryWriter(folder)
    for step in range(rows):
        for i, tag in enumerate(TAGS):
            writer.add_scalar(tag, i + 1 / (step + 1), step)
    writer.close()


def write_wandb(folder: str, rows: int) -> None:
    """The same as wandb logs it, offline."""
    import wandb  # noqa: PLC0415

    settings = wandb.Settings(silent=True, x_disable_stats=True)
    run = wandb.init(mode="offline", dir=folder, project="p", settings=settings)
    for step in range(rows):
        run.log({tag: i + 1 / (step + 1) for i, tag in enumerate(TAGS)})
    run.finish()


def read_events(path: str) -> tuple[int, int]:
    """Values and steps, by TensorBoard's EventFileLoader."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader  # noqa: PLC0415
    from tensorboard.util import tensor_util  # noqa: PLC0415

    numbers, steps = 0, set()
    for event in EventFileLoader(path).Load():
        for value in event.summary.value:
            float(tensor_util.make_ndarray(value.tensor))
            numbers += 1
            steps.add(event.step)
    return numbers, len(steps)


def read_wandb(path: str) -> tuple[int, int]:
    """Values and rows, by wandb's protobuf messages; it ships no reader any more, so frames are taken apart here."""
    from wandb.proto.wandb_internal_pb2 import Record  # noqa: PLC0415

    data, at, parts = Path(path).read_bytes(), 7, b""
    numbers = rows = 0
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind not in (1, 4):
            continue
        record, parts = Record.FromString(parts), b""
        if record.HasField("history"):
            row = {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            numbers += sum(key in TAGS for key in row)
            rows += 1
    return numbers, rows


def timed(read: Callable[[str], tuple[int, int]], path: str, passes: int) -> dict[str, float]:
    """The best pass."""
    best = float("inf")
    for _ in range(passes):
        start = time.process_time()
        numbers, rows = read(path)
        best = min(best, time.process_time() - start)
    return {"values": numbers, "rows": rows, "seconds": best}


if __name__ == "__main__":
    what, where, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what.startswith("write"):
        {"write_events": write_events, "write_wandb": write_wandb}[what](where, number)
    else:
        print(json.dumps(timed({"read_events": read_events, "read_wandb": read_wandb}[what], where, number)))
