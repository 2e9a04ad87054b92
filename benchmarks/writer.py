"""The load of the kills: rows of RUNS runs with faults on a fixed plan, in pieces that end in the middle of lines.

`python -m benchmarks.writer FOLDER SEED` appends until SIGTERM, at most WRITE_AT_MOST_S seconds.
"""

from __future__ import annotations

import math
import random
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.harness import BLOCK, DATA_TIME, GRAD_NORM, LOSS, STEP_TIME, Floats, line, values

RUNS: Final = 8
ROWS_PER_S: Final = 2000
WRITE_AT_MOST_S: Final = 3600.0
PLAN: Final[dict[int, tuple[int, dict[int, float]]]] = {
    # row in a cycle: (rows, metric → factor)
    1_000: (3, {LOSS: math.nan}),
    1_150: (3, {LOSS: math.nan}),  # soon enough to be a relapse
    3_000: (60, {LOSS: 1.8, GRAD_NORM: 6.0}),
    5_500: (40, {LOSS: 1.3}),
    7_500: (1, {LOSS: math.inf}),
    10_000: (80, {STEP_TIME: 2.0, DATA_TIME: 26.0}),
}
CYCLE: Final = 12_000
SHIFT: Final = 1_500
"""Run n is so many rows ahead of run n - 1 in its cycle, so that faults come evenly spread."""


class Writer:
    """Appends rows of all runs at a fixed rate until SIGTERM; what it has written is a function of seed and count."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._files = [(folder / f"run-{i}.jsonl").open("ab", buffering=0) for i in range(RUNS)]
        self._seed = seed
        self._torn = random.Random(seed)
        self._blocks: list[Floats] = [values(seed, i, 0, BLOCK) for i in range(RUNS)]
        self._stopped = False

    def stop(self, _sign: int, _frame: FrameType | None) -> None:
        """Write no more rows."""
        self._stopped = True

    def write(self) -> None:
        """The rows; the last line of every file is whole."""
        every_s, t0, began = RUNS / ROWS_PER_S, time.time(), time.monotonic()
        rests = [b""] * RUNS
        at = 0
        while not self._stopped and time.monotonic() < began + WRITE_AT_MOST_S:
            due = int((time.monotonic() - began) / every_s)
            for i, out in enumerate(self._files):
                text = rests[i] + b"".join(self._line(i, row, t0 + row * every_s) for row in range(at, due))
                cut = self._torn.randint(0, len(text))
                out.write(text[:cut])
                rests[i] = text[cut:]
            at = due
            time.sleep(0.02)
        for out, rest in zip(self._files, rests, strict=True):
            out.write(rest)
            out.close()

    def _line(self, run: int, row: int, t: float) -> bytes:
        if row and row % BLOCK == 0:
            self._blocks[run] = values(self._seed, run, row, BLOCK)
        found = self._blocks[run][row % BLOCK]
        place = (row + run * SHIFT) % CYCLE
        for begin, (rows, factors) in PLAN.items():
            if begin <= place < begin + rows:
                found = found.copy()
                for metric, factor in factors.items():
                    found[metric] *= factor
        return line(row, t, found.tolist())


def main(folder: str, seed: str) -> None:
    """Write until SIGTERM."""
    writer = Writer(Path(folder), int(seed))
    signal.signal(signal.SIGTERM, writer.stop)
    writer.write()


if __name__ == "__main__":
    main(*sys.argv[1:])
