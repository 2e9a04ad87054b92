"""Seconds from a line being written to its page being accepted by a Slack double on this host.

One daemon, the built-in diagnosis, RUNS growing files of one row a second and ten metrics each (1,000 samples/s). Every
run has WARM_ROWS rows that were read live when, one run after the other, a row with a NaN loss is written.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import BLOCK, LOSS, Daemon, Slack, line, make_known, print_table, values, wait_for

RUNS = 100
WARM_ROWS = 2 * BLOCK
SEED = 11
PAGE_LIMIT_S = 30.0


class Writer:
    """Appends one row a second to every file, spread evenly over the second, from a thread."""

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / f"run-{i:03d}.jsonl" for i in range(RUNS)]
        self._values = [values(SEED, i, 0, 4 * BLOCK) for i in range(RUNS)]
        self._next = [0] * RUNS
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._grow)

    def warm(self, daemon: Daemon) -> None:
        """Every file is found with one row, then grows to WARM_ROWS while it is watched."""
        for rows in (1, WARM_ROWS):
            for i in range(RUNS):
                self._append(i, rows - self._next[i])
            wait_for(lambda rows=rows: self._seen(daemon) >= rows, f"{rows} rows of every run")  # type: ignore[misc]

    def _seen(self, daemon: Daemon) -> int:
        seen = daemon.rows_seen()
        return min(seen.get(p.stem, 0) for p in self._paths)

    def break_down(self, i: int) -> float:
        """Write the row that pages into file i; monotonic seconds at which it was written."""
        return self._append(i, 1, math.nan)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _grow(self) -> None:
        began = time.monotonic()
        for n in range(RUNS * 3600):
            if self._stop.wait(max(0.0, began + n / RUNS - time.monotonic())):
                return
            self._append(n % RUNS, 1)

    def _append(self, i: int, rows: int, loss: float | None = None) -> float:
        with self._lock, self._paths[i].open("ab", buffering=0) as out:
            text = b""
            for _ in range(rows):
                at = self._next[i]
                row = self._values[i][min(at, 4 * BLOCK - 1)].tolist()
                if loss is not None:
                    row[LOSS] = loss
                text += line(at, time.time(), row)
                self._next[i] += 1
            out.write(text)
            return time.monotonic()


def latencies(incidents: int) -> tuple[list[float], float]:
    """Seconds of each page, and rows per second that the background really wrote."""
    rng = random.Random(SEED)
    found: list[float] = []
    with tempfile.TemporaryDirectory(prefix="runwarden-latency-") as folder, Slack() as slack:  # noqa: SIM117
        with Daemon(Path(folder), slack.sink) as daemon:
            daemon.start()
            make_known(daemon)
            writer = Writer(daemon.runs)
            writer.warm(daemon)
            before, began = sum(daemon.rows_seen().values()), time.monotonic()
            writer.start()
            try:
                time.sleep(3.0)
                for i in range(incidents):
                    time.sleep(rng.uniform(0.2, 0.7))  # anywhere between two polls
                    written = writer.break_down(i)
                    found.append(_posted(slack, daemon, f"run-{i:03d}") - written)
                rate = (sum(daemon.rows_seen().values()) - before) / (time.monotonic() - began)
            finally:
                writer.stop()
            daemon.stop()
    return found, rate


def _posted(slack: Slack, daemon: Daemon, run: str) -> float:
    """When the double accepted the first message that names the run."""
    found: list[float] = []

    def look() -> bool:
        daemon.check()
        found.extend(m["posted_t"] for m in slack.newest() if run in m["text"])
        return bool(found)

    wait_for(look, f"page of {run}", PAGE_LIMIT_S)
    return min(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--incidents", type=int, default=60, choices=range(1, RUNS + 1), metavar=f"1..{RUNS}")
    found, rate = latencies(parser.parse_args().incidents)
    p50, p90, p99 = np.quantile(found, (0.5, 0.9, 0.99))
    print_table(
        "Line written → page accepted (seconds)",
        ("incidents", "background samples/s", "p50", "p90", "p99", "max", "aim"),
        [(len(found), f"{rate * 10:,.0f}", f"{p50:.3f}", f"{p90:.3f}", f"{p99:.3f}", f"{max(found):.3f}", "p99 ≤ 1")],
    )


if __name__ == "__main__":
    main()
