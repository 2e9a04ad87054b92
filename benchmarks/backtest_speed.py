"""Rows a second of a backtest, and how much of its time is parsing: the aim is at most twice the parse alone.

One made-up healthy run of --rows rows and eight metrics as JSON lines, the same at every call. Processor time is
compared, since it suffers less from neighbours than wall time. --profile names the functions that cost most.
"""

from __future__ import annotations

import argparse
import cProfile
import math
import pstats
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from benchmarks.harness import BLOCK, METRICS, print_table, values
from monitor.backtest import episodes
from monitor.sources.files.replay import read_file
from monitor.wiring import new_engine

ROWS = 1_000_000
COLUMNS = 8
PERIOD = 64 * BLOCK
T0 = 1_750_000_000.0


def generate(path: Path, rows: int, columns: int = COLUMNS) -> int:
    """Write the run; its bytes. The noise repeats after PERIOD rows, the loss goes on falling."""
    noise = values(3, 0, 4096 * BLOCK, PERIOD)[:, :columns]  # so late that the loss is all but level
    names = METRICS[:columns]
    with path.open("wb") as out:
        for i in range(rows):
            row = noise[i % PERIOD].tolist()
            row[0] = round(row[0] * (1.0 + 1.0 / (1 + i // PERIOD)), 6)
            out.write(orjson.dumps({"step": i, "timestamp": T0 + 0.5 * i, **dict(zip(names, row, strict=True))}))
            out.write(b"\n")
    return path.stat().st_size


def decode_only(path: Path) -> int:
    """The floor: every line through orjson, one by one."""
    with path.open("rb") as lines:
        return sum(type(orjson.loads(line)) is dict for line in lines)


def parse_only(path: Path) -> int:
    """What a backtest reads."""
    return sum(frame.row.size for batch in read_file(str(path)) for frame in batch.frames)


def whole(path: Path) -> int:
    """What `runwarden backtest` does to one file; how many episodes it found."""
    return sum(1 for _ in episodes(read_file(str(path)), new_engine(math.inf)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--profile", action="store_true", help="also print what costs most")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runwarden-backtest-") as folder:
        path = Path(folder, "run.jsonl")
        size = generate(path, args.rows)
        table = []
        parse_s = 0.0
        for name, work in (("orjson, line by line", decode_only), ("parse", parse_only), ("parse and engine", whole)):
            wall, cpu = time.perf_counter(), time.process_time()
            found = work(path)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            parse_s = cpu if work is parse_only else parse_s
            ratio = f"{cpu / parse_s:.2f}" if parse_s else ""
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
            table.append((name, f"{wall:.2f}", f"{cpu:.2f}", f"{args.rows / cpu:,.0f}", ratio, f"{most:.0f}", found))
        print_table(
            f"{args.rows:,} rows × {COLUMNS} metrics, {size / 2**20:.0f} MiB; aim: ratio ≤ 2",
            ("what", "wall s", "CPU s", "rows per CPU s", "ratio to parse", "most MiB", "found"),
            table,
        )
        if args.profile:
            _profile(whole, path)


def _profile(work: Callable[[Path], int], path: Path) -> None:
    profile = cProfile.Profile()
    profile.runcall(work, path)
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
