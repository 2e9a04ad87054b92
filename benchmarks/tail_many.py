"""Thousands of growing files on one core: share of the core, freshness of rows, time until a new file is seen, memory.

A writer process appends a row a second to each of FILES files, evenly over the second, and makes a new file every
half second. The reader, bound to one core, is the source of files alone, as the daemon runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.harness import print_table
from monitor.sources.files.source import FileSource

FILES: Final = 2_000
SECONDS: Final = 30.0
PER_FOLDER: Final = 100
PIECES: Final = 100
"""So many files are appended to in one go."""


def _path(folder: Path, i: int) -> Path:
    return folder / f"f{i // PER_FOLDER:03d}" / f"r{i}.jsonl"


def _append(path: Path, step: int) -> None:
    with path.open("ab", buffering=0) as out:
        out.write(b'{"step": %d, "clock": %.6f, "loss": 2.5}\n' % (step, time.monotonic()))


def write(folder: Path, files: int, seconds: float) -> None:
    """Rows, spread evenly, and new files in a folder of their own."""
    began, new = time.monotonic(), 0
    pieces = [range(i, files, PIECES) for i in range(PIECES)]
    for n in range(int(seconds * PIECES)):
        time.sleep(max(0.0, began + n / PIECES - time.monotonic()))
        for i in pieces[n % PIECES]:
            _append(_path(folder, i), 1 + n // PIECES)
        if n % (PIECES // 2) == 0:
            _append(folder / "new" / f"n{new}.jsonl", 0)
            new += 1


async def read(folder: Path, files: int, seconds: float) -> dict[str, object]:
    """The figures."""
    for i in range(files):
        _path(folder, i).parent.mkdir(exist_ok=True)
        _append(_path(folder, i), 0)
    (folder / "new").mkdir()
    stream = FileSource("many", [str(folder)]).batches({})
    seen, end = 0, math.inf
    ages: list[float] = []
    first: list[float] = []
    memory: list[int] = []
    used = began = 0.0
    writer: multiprocessing.process.BaseProcess | None = None
    async for batch in stream:
        now = time.monotonic()
        seen += sum(len(f.row) for f in batch.frames)
        if writer is None and seen == files and batch.at_head:
            gc.collect()
            writer = multiprocessing.get_context("fork").Process(target=write, args=(folder, files, seconds))
            writer.start()
            os.sched_setaffinity(0, {0})
            began, used, end = now, time.process_time(), now + seconds + 3.0
        elif writer is not None:
            for f in batch.frames:
                age = now - f.values[:, f.columns.index("clock")]
                (first if f.run.startswith("new/") else ages).extend(age.tolist())
            memory.append(_resident())
        if now > end:
            break
    spent, passed = time.process_time() - used, time.monotonic() - began
    await stream.aclose()  # type: ignore[attr-defined]
    assert writer is not None
    writer.join()
    return {
        "rows": len(ages),
        "written": files * int(seconds),
        "share of a core": f"{spent / passed:.0%}",
        "row written → read, p50 s": f"{np.quantile(ages, 0.5):.2f}",
        "row written → read, p99 s": f"{np.quantile(ages, 0.99):.2f}",
        "new files": len(first),
        "new file seen, p99 s": f"{np.quantile(first, 0.99):.2f}",
        "memory after a third, MiB": f"{memory[len(memory) // 3] / 2**20:.1f}",
        "memory at the end, MiB": f"{memory[-1] / 2**20:.1f}",
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-") as folder:
        found = asyncio.run(read(Path(folder), args.files, args.seconds))
    print_table(f"{args.files:,} growing files, a row a second each", ("what", "figure"), list(found.items()))


if __name__ == "__main__":
    main()
