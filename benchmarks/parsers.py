"""Parse and frame: rows and MiB a second of each format of lines, against the fastest honest reader of the same bytes.

One made-up run per format in a temporary folder. Ours is end to end: tailer, recognition, parser, frames, through
`Watch.poll` until nothing is left. The other reader gets every value out of the same file into memory and no further:
a bare `orjson.loads` per line; polars (else `csv.reader`, said in the table) for CSV; for text a loop over the lines
with one compiled expression made for that very format, and `float` of its groups. Processor time, the best of
--repeats, both readers taking turns; single-threaded. The aim for JSON lines is a ratio of 0.5.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import orjson

from benchmarks.backtest_speed import generate
from benchmarks.harness import print_table
from monitor.sources.files.source import Watch

try:
    import polars as pl
except ImportError:  # a reader to compare with, no dependency of ours
    pl = None

FLOAT = rb"([-+.\deE]+|nan|inf)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """line: row number → text. reader: what else reads it, by name; bare: reads the file, and says how many rows."""

    name: str
    write: Callable[[Path, int], object]
    reader: str
    bare: Callable[[Path], int]


def written(line: Callable[[int, float], str], head: str = "") -> Callable[[Path, int], object]:
    """Writes a file of lines made from the row number and a loss."""

    def write(path: Path, rows: int) -> None:
        with path.open("w") as out:
            out.write(head)
            out.writelines(line(i, 2.0 + (i * 7919 % 1000) / 997) for i in range(rows))

    return write


def by_orjson(path: Path) -> int:
    """Every line by itself."""
    with path.open("rb") as lines:
        return sum(type(orjson.loads(line)) is dict for line in lines)


def by_csv(path: Path) -> int:
    """The whole table in memory, as numbers."""
    if pl is not None:
        return int(pl.read_csv(path).height)
    with path.open(newline="") as lines:
        reader = csv.reader(lines)
        next(reader)
        return sum(1 for row in reader if [float(x) for x in row])


def by_re(expression: bytes) -> Callable[[Path], int]:
    """A loop that knows the format beforehand and nothing else."""
    match = re.compile(expression).match

    def read(path: Path) -> int:
        n = 0
        with path.open("rb") as lines:
            for line in lines:
                if found := match(line):
                    [float(x) for x in found.groups()]
                    n += 1
        return n

    return read


def nested(i: int, loss: float) -> str:
    """Nested keys, a clock as text and numbers as text."""
    return (
        f'{{"step": {i}, "time": "2026-01-01T00:{i // 60 % 60:02d}:{i % 60:02d}Z", "train": {{"loss": "{loss:.4f}", '
        f'"grad_norm": {loss / 2:.4f}}}, "note": "x"}}\n'
    )


CASES = (
    Case(name="JSON lines, 10 keys", write=generate, reader="orjson", bare=by_orjson),
    Case(
        name="JSON lines, 3 keys",
        write=written(lambda i, x: f'{{"step": {i}, "loss": {x:.6f}, "lr": 0.0003}}\n'),
        reader="orjson",
        bare=by_orjson,
    ),
    Case(name="JSON lines, nested, text", write=written(nested), reader="orjson", bare=by_orjson),
    Case(
        name="CSV, 5 columns",
        write=written(lambda i, x: f"{i},{x:.6f},{x / 2:.6f},0.0003,{i * 512}\n", "step,loss,grad_norm,lr,tokens\n"),
        reader="polars" if pl is not None else "csv",
        bare=by_csv,
    ),
    Case(
        name="nanoGPT",
        write=written(lambda i, x: f"iter {i}: loss {x:.4f}, time {x * 50:.2f}ms, mfu 38.11%\n"),
        reader="re",
        bare=by_re(rb"iter (\d+): loss %b, time %bms, mfu %b%%" % (FLOAT, FLOAT, FLOAT)),
    ),
    Case(
        name="nanochat",
        write=written(
            lambda i, x: (
                f"step {i:05d}/99999 (1.00%) | loss: {x:.6f} | lrm: 1.00 | dt: {x * 100:.2f}ms | "
                "tok/sec: 1,023,456 | mfu: 41.20 | epoch: 1 | total time: 1.02m\n"
            )
        ),
        reader="re",
        bare=by_re(
            rb"step (\d+)/(\d+) \(%b%%\) \| loss: %b \| lrm: %b \| dt: %bms \| tok/sec: (\d)[\d,]+ \| mfu: %b"
            % ((FLOAT,) * 5)
        ),
    ),
    Case(
        name="Megatron-LM",
        write=written(
            lambda i, x: (
                f" iteration {i:8d}/{10**6:8d} | consumed samples: {i * 512:12d} | elapsed time per iteration "
                f"(ms): {x * 100:.1f} | learning rate: 1.875E-05 | global batch size:   512 | lm loss: {x:.6E} | "
                "loss scale: 1.0 | grad norm: 1.234 | number of skipped iterations:   0 | "
                "number of nan iterations:   0 |\n"
            )
        ),
        reader="re",
        bare=by_re(
            rb" iteration +(\d+)/ +(\d+) \| consumed samples: +(\d+) \| elapsed time per iteration \(ms\): %b \| "
            rb"learning rate: %b \| global batch size: +(\d+) \| lm loss: %b \| loss scale: %b \| grad norm: %b"
            % ((FLOAT,) * 5)
        ),
    ),
    Case(
        name="torchtitan",
        write=written(
            lambda i, x: (
                f"[titan] 2026-05-05 10:00:00,250 - root - INFO - \x1b[31mstep: {i:2}  "
                f"\x1b[32mloss: {x:8.5f}  "
                f"\x1b[33mgrad_norm: {x / 2:7.4f}  \x1b[36mmemory: 22.10GiB(46.53%)  \x1b[34mtps: 8,131  "
                "\x1b[35mmfu: 28.56%\n"
            )
        ),
        reader="re",
        bare=by_re(rb".*step: +(\d+)  \x1b\[32mloss: +%b  \x1b\[33mgrad_norm: +%b" % (FLOAT, FLOAT)),
    ),
    Case(
        name="key: value (no pattern)",
        write=written(lambda i, x: f"Step {i}: loss={x:.4f}, lr=3e-4, grad_norm={x / 2:.4f}\n"),
        reader="re",
        bare=by_re(rb"Step (\d+): loss=%b, lr=%b, grad_norm=%b" % (FLOAT, FLOAT, FLOAT)),
    ),
)


def by_us(path: Path) -> int:
    """Tailer, recognition, parser and frames, as the watcher polls a folder."""
    watch = Watch("bench", [str(path)], {}, max_line_bytes=1 << 20)
    rows, now = 0, 1e9
    try:
        while True:
            now += 1.0
            batch = watch.poll(now)
            rows += sum(frame.row.size for frame in batch.frames)
            if batch.at_head:
                return rows
    finally:
        watch.close()


def cost(read: Callable[[Path], int], path: Path, rows: int) -> float:
    """Processor seconds of one pass. Raises RuntimeError if it does not find every row."""
    start = time.process_time()
    found = read(path)
    took = time.process_time() - start
    if found != rows:
        raise RuntimeError(f"{found} of {rows} rows were read")
    return took


def measure(case: Case, rows: int, repeats: int) -> Sequence[str]:
    """A line of the table."""
    with tempfile.TemporaryDirectory(prefix="runwarden-parsers-") as folder:
        path = Path(folder, "run.log")
        case.write(path, rows)
        size = path.stat().st_size / 2**20
        pairs = [(cost(by_us, path, rows), cost(case.bare, path, rows)) for _ in range(repeats)]
    ours, theirs = (min(times) for times in zip(*pairs, strict=True))
    speed = [f"{rows / s:,.0f}" for s in (ours, theirs)]
    return (
        case.name,
        f"{size * 2**20 / rows:.0f}",
        speed[0],
        f"{size / ours:.0f}",
        case.reader,
        speed[1],
        f"{theirs / ours:.2f}",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a format's name")
    args = parser.parse_args()
    table = [measure(case, args.rows, args.repeats) for case in CASES if args.only in case.name]
    print_table(
        f"{args.rows:,} rows of each format; a processor second, the best of {args.repeats}",
        ("format", "bytes a row", "rows/s", "MiB/s", "other reader", "its rows/s", "ratio"),
        table,
    )


if __name__ == "__main__":
    main()
