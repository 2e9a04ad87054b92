"""What a daemon costs that has nothing to do: one run, one row a second.

Time from exec to READY=1 (median of STARTS), resident memory and processor share over WATCH_S, for every choice of
sinks and model. Nothing is sent to a model and nothing leaves this host.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import BLOCK, TERMINAL, Daemon, Slack, line, make_known, print_table, values

STARTS = 5
WATCH_S = 30.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CLAUDE = "analysis: {claude: {api_key: {env: NO_KEY}}}"


@contextmanager
def growing(path: Path) -> Iterator[None]:
    """One row a second while the block runs."""
    rows, stop = values(7, 0, 0, BLOCK), threading.Event()

    def grow() -> None:
        for n in range(3600):
            with path.open("ab") as out:
                out.write(line(n, time.time(), rows[n % BLOCK].tolist()))
            if stop.wait(1.0):
                return

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def resident_mib(pid: int, what: str = "VmRSS") -> float:
    """VmRSS or VmHWM of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(text for text in lines if text.startswith(what)).split()[1]) / 1024.0


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def measure(name: str, sinks: str, more: str, watch_s: float) -> tuple[object, ...]:
    """A row of the table."""
    with tempfile.TemporaryDirectory(prefix="runwarden-idle-") as folder, Daemon(Path(folder, "d"), sinks, more) as d:
        starts = []
        for _ in range(STARTS):
            starts.append(d.start())
            d.stop()
        d.start()
        make_known(d)
        with growing(d.runs / "run.jsonl"):
            time.sleep(2.0)
            before, began = cpu_s(d.pid), time.monotonic()
            time.sleep(watch_s)
            share = (cpu_s(d.pid) - before) / (time.monotonic() - began)
            rss, most = resident_mib(d.pid), resident_mib(d.pid, "VmHWM")
        d.stop()
    return name, f"{statistics.median(starts):.2f}", f"{rss:.0f}", f"{most:.0f}", f"{share:.2%}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=WATCH_S)
    watch_s = parser.parse_args().seconds
    with Slack() as slack:
        choices = (("terminal", TERMINAL, ""), ("Slack", slack.sink, ""), ("Slack and Claude", slack.sink, CLAUDE))
        rows = [measure(*choice, watch_s) for choice in choices]
    print_table(
        f"Idle, one row a second, {watch_s:g} s",
        ("configured", "start to READY, s", "resident MiB", "most MiB", "CPU"),
        [*rows, ("aim", "≤ 1", "≤ 120", "", "≤ 1 %")],
    )


if __name__ == "__main__":
    main()
