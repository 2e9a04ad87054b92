"""What detection costs on one core: ticks, backfill, whole files, fleets, memory, import; peers in the same process.

Processor time, the best of several interleaved rounds: neighbours on a machine make everything slower, nothing faster.
Ratios are the aim. Peers are measured where they are installed (`pip install -e .[bench]`): river's Page-Hinkley,
ADWIN and GaussianScorer on one stream, bottleneck's moving median of 256 taken twice. --series bounds the largest tick.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.backtest_speed import generate, parse_only, whole
from benchmarks.harness import METRICS, Floats, print_table
from detectors import Suite
from detectors.baseline import Bank
from detectors.kernels import REFRESH, WINDOW, Ints, level
from detectors.rounds import tunings
from detectors.settings import Settings
from detectors.types import Role
from monitor.frame import Batch, Frame
from monitor.rows import Run, blocks_of
from monitor.wiring import new_engine

PIECE = 1 << 16  # values in one call of the bank, as in a round of the suite
ROUNDS = 5
PERIOD_S = 10.0
RUNS = 10_000
_RNG = np.random.default_rng(0)


def cost(works: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Least seconds of processor time of each work, over interleaved rounds."""
    least = dict.fromkeys(works, math.inf)
    for _ in range(rounds):
        for name, work in works.items():
            begin = time.process_time()
            work()
            least[name] = min(least[name], time.process_time() - begin)
    return least


class Fleet:
    """`count` series past their warm-up, half of them losses and half step times; their refreshes fall on all ticks."""

    def __init__(self, count: int) -> None:
        kinds = tunings(Settings())
        self.bank = Bank(1.5)
        self.slots: Ints = np.array([self.bank.add(kinds[(Role.LOSS, Role.STEP_TIME)[i % 2]]) for i in range(count)])
        self.values = np.exp(_RNG.normal(0.0, 0.1, count))
        for low in range(0, self.bank.ring.shape[0], PIECE):
            part = self.bank.ring[low : low + PIECE]
            part[:] = _RNG.normal(0.0, 0.1, part.shape)
        self.bank.past[:] = self.bank.old[:] = self.bank.m[:] = 0.0
        self.bank.s[:] = 0.1
        self.bank.count[:] = 8 * WINDOW + np.arange(self.bank.count.size) % REFRESH

    def tick(self) -> None:
        """One new value of every series."""
        for low in range(0, self.slots.size, PIECE):
            slots = self.slots[low : low + PIECE]
            self.bank.score(slots, np.ones(slots.size, np.int64), self.values[low : low + PIECE])


def backfill(values: Floats) -> None:
    """One series from its beginning."""
    bank = Bank(1.5)
    slot = np.array([bank.add(tunings(Settings())[Role.STEP_TIME])])
    for low in range(0, values.size, PIECE):
        piece = values[low : low + PIECE]
        bank.score(slot, np.array([piece.size]), piece)


def streams(values: Floats) -> dict[str, Callable[[], object]]:
    """River's detectors over a stream, value by value as they are meant to be used."""
    if importlib.util.find_spec("river") is None:
        return {}
    from river import anomaly, drift  # noqa: PLC0415 - not installed everywhere

    line = values.tolist()

    def update(detector: object) -> None:
        for x in line:
            detector.update(x)  # type: ignore[attr-defined]

    def score() -> None:
        scorer = anomaly.GaussianScorer(window_size=128)
        for x in line[:10_000]:
            scorer.score_one(None, x)
            scorer.learn_one(None, x)

    return {
        "river PageHinkley": lambda: update(drift.PageHinkley()),
        "river ADWIN": lambda: update(drift.ADWIN()),
        "river GaussianScorer": score,
    }


def medians(values: Floats) -> dict[str, Callable[[], object]]:
    """Bottleneck's moving median and moving median deviation."""
    if importlib.util.find_spec("bottleneck") is None:
        return {}
    import bottleneck  # noqa: PLC0415 - not installed everywhere

    def work() -> None:
        level = bottleneck.move_median(values, WINDOW)
        bottleneck.move_median(np.abs(values - level), WINDOW)

    return {"bottleneck move_median, twice": work}


def ticks(largest: int) -> None:
    """Points a second over the number of series, and river's detectors."""
    stream = np.exp(_RNG.normal(0.0, 0.1, 100_000))
    sizes = [n for n in (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000) if n <= largest]
    peers = cost(streams(stream), 3)
    points = {name: (10_000 if "Gaussian" in name else stream.size) / s for name, s in peers.items()}
    table = []
    for size in sizes:
        fleet = Fleet(size)
        least = cost({"tick": fleet.tick}, 33 if size >= 100_000 else 200)["tick"]
        ratios = [f"{size / least / rate:.1f}×" for rate in points.values()]
        table.append((f"{size:,}", f"{least * 1e6:,.0f}", f"{size / least / 1e6:.2f}", *ratios))
    rows = [(name, "", f"{rate / 1e6:.2f}", *[""] * len(points)) for name, rate in points.items()]
    print_table(
        "One tick of N series: scores, CUSUM, learning; aim ≥ 12 M points/s from 1e4 to 1e6, ≥ 8×, ≥ 2×, ≥ 40× river",
        ("series", "µs", "M points/s", *(f"to {name.split()[1]}" for name in points)),
        [*table, *rows],
    )


def fills() -> None:
    """Points a second of one long series."""
    values = np.exp(_RNG.normal(0.0, 0.1, 1 << 20))
    least = cost({"bank": lambda: backfill(values), **medians(values)})
    table = [(name, f"{values.size / s / 1e6:.1f}", f"{s / least['bank']:.2f}") for name, s in least.items()]
    print_table("Backfill of one series; aim ≥ 20 M points/s, ≥ 2× bottleneck", ("what", "M points/s", "time"), table)


def windows() -> None:
    """What one refresh costs over the values in the window; the bank sorts its 256 places whatever they hold."""
    table = []
    for width in (32, 64, 128, 256):
        size = np.full(1024, width)
        rows = _RNG.normal(0.0, 1.0, (1024, width)).astype(np.float32)
        padded = np.full((1024, WINDOW), np.inf, np.float32)
        padded[:, :width] = rows
        least = cost(
            {
                "sort": lambda r=rows: np.sort(r, axis=1),
                "level": lambda p=padded, s=size: level(p.copy(), s, np.zeros(s.size, np.bool_)),
            },
            50,
        )
        each = {name: s / 1024 * 1e9 for name, s in least.items()}
        table.append((width, f"{each['sort']:.0f}", f"{each['level']:.0f}", f"{each['level'] / REFRESH:.1f}"))
    title = f"Refresh of a window, ns; a value pays for {1 / REFRESH:.3f} of one"
    print_table(title, ("values", "sorting them alone", "refresh", "refresh, per value"), table)


def files(rows: int) -> None:
    """JSON lines to findings, and parsing alone."""
    with tempfile.TemporaryDirectory(prefix="runwarden-speed-") as folder:
        path = Path(folder, "run.jsonl")
        size = generate(path, rows, 7)
        least = cost({"parse": lambda: parse_only(path), "parse and detect": lambda: whole(path)}, 3)
    table = [
        (name, f"{rows / s:,.0f}", f"{size / s / 2**20:.0f}", f"{least['parse'] / s:.2f}") for name, s in least.items()
    ]
    title = f"{rows:,} JSON lines of 7 metrics; aim ≥ 600,000 lines/s and ≥ 0.75 of parsing alone"
    print_table(title, ("what", "lines/s", "MiB/s", "of parsing"), table)


def fleet_share() -> None:
    """Share of a core for RUNS runs with ten metrics and a row every PERIOD_S seconds, in one batch a second.

    Each run has 300 rows of history: the rules for young series, which look at each series alone, are behind it.
    """
    names = METRICS
    history = 300
    engine, suite = new_engine(math.inf), Suite()
    known = {f"run-{i}": Run(f"run-{i}") for i in range(RUNS)}
    each = RUNS // int(PERIOD_S)
    spent = {"detectors": [0.0], "the whole engine": [0.0]}

    def second(s: int) -> None:
        frames = []
        last, turn = divmod(s, int(PERIOD_S))
        row = np.array([history + last - 1]) if last else np.arange(history)
        for i in range(turn * each, (turn + 1) * each):
            values = np.exp(_RNG.normal(0.0, 0.02, (row.size, len(names))))
            frames.append(Frame(run=f"run-{i}", columns=names, row=row, step=row, t=row * PERIOD_S, values=values))
        blocks = [b for f in frames for b in blocks_of(known[f.run], [f], float(s), 4096)]
        for name, work in (
            ("detectors", lambda: suite.update(blocks)),
            ("the whole engine", lambda: engine.step(Batch(source="files", t_recv=float(s), frames=tuple(frames)))),
        ):
            begin = time.process_time()
            work()
            spent[name].append(time.process_time() - begin)

    for s in range(4 * int(PERIOD_S)):
        second(s)
    # Each second brings other runs; the median second of the last rounds stands for all.
    share = {name: float(np.median(line[-3 * int(PERIOD_S) :])) for name, line in spent.items()}
    title = f"{RUNS:,} runs × {len(names)} metrics, a row each every {PERIOD_S:.0f} s; aim ≤ 5 % of a core"
    print_table(title, ("what", "% of a core"), [(name, f"{100 * s:.1f}") for name, s in share.items()])


def rest() -> None:
    """Memory, import, and how far a tick is from what the memory can do."""
    fleet = Fleet(100_000)
    columns = [name for name, *_ in Bank._COLUMNS]  # noqa: SLF001
    held = sum(getattr(fleet.bank, name).nbytes for name in (*columns, "code")) / fleet.bank.count.size
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    took = {
        name: min(
            float(subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, check=True).stdout)
            for _ in range(ROUNDS)
        )
        for name in ("numpy", "detectors")
    }
    source = np.ones(1 << 25)
    target = np.empty_like(source)
    copied = 2 * source.nbytes / cost({"copy": lambda: np.copyto(target, source)})["copy"]
    # Of a value: the line of its ring is fetched and written back, 1/32 of its ring is read, its other state is read
    # and written, and its score is written.
    moved = 2 * 64 + 4 * WINDOW / REFRESH + 2 * 45 + 10 * 8
    least = cost({"tick": fleet.tick}, 33)["tick"]
    print_table(
        "The rest",
        ("what", "figure", "aim"),
        [
            ("memory of a series, bytes", f"{held:.0f}", "≤ 1,100"),
            ("import detectors, s (of it numpy)", f"{took['detectors']:.2f} ({took['numpy']:.2f})", "≤ 0.2"),
            ("copying memory, GB/s", f"{copied / 1e9:.1f}", ""),
            ("a tick moves about so many bytes a value", f"{moved:.0f}", ""),
            ("what memory alone would allow, M points/s", f"{copied / moved / 1e6:.0f}", ""),
            ("of it reached at 1e5 series", f"{100_000 / least / (copied / moved):.0%}", ""),
        ],
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=1_000_000, help="the largest number of series")
    parser.add_argument("--rows", type=int, default=300_000, help="lines of the file")
    args = parser.parse_args()
    ticks(args.series)
    fills()
    windows()
    files(args.rows)
    fleet_share()
    rest()


if __name__ == "__main__":
    main()
