"""How fast event files and W&B logs become frames, beside the readers of TensorBoard and of wandb on the same files.

torch's SummaryWriter and wandb write --rows rows of five metrics; each reader gets the same passes, and the best
processor time counts. The others run in the environment of `make writers` ($RUNWARDEN_WRITERS names another python).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT, print_table
from benchmarks.record_reference import TAGS
from monitor.sources.files.replay import read_file

ROWS = 10_000
PASSES = 3
LIMIT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one format. seconds: ours and theirs for the same file, processor time."""

    format: str
    reference: str
    rows: int
    values: int
    mib: float
    ours_s: float
    theirs_s: float

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return self.theirs_s / self.ours_s


def event_files(rows: int = ROWS) -> Figures:
    """Against TensorBoard's EventFileLoader."""
    return _compare("TensorBoard", "EventFileLoader", "events", "events.out.tfevents*", rows)


def wandb_logs(rows: int = ROWS) -> Figures:
    """Against wandb's protobuf messages."""
    return _compare("W&B", "wandb's protobuf messages", "wandb", "wandb/offline-run-*/*.wandb", rows)


def _compare(name: str, reference: str, what: str, pattern: str, rows: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        _reference(f"write_{what}", folder, rows, home=folder)
        (path,) = Path(folder).glob(pattern)
        theirs = json.loads(_reference(f"read_{what}", str(path), PASSES, home=folder))
        seconds = float("inf")
        for _ in range(PASSES):
            start = time.process_time()
            numbers = found = 0
            for batch in read_file(str(path)):
                for frame in batch.frames:
                    numbers += len(frame.row) * sum(c in TAGS for c in frame.columns)
                    found += len(frame.row)
            seconds = min(seconds, time.process_time() - start)
        if (numbers, found) != (theirs["values"], theirs["rows"]):
            raise SystemExit(f"{name}: {numbers} values in {found} rows, but {reference} says {theirs}")
        return Figures(
            format=name,
            reference=reference,
            rows=found,
            values=numbers,
            mib=path.stat().st_size / 2**20,
            ours_s=seconds,
            theirs_s=theirs["seconds"],
        )


def _reference(what: str, where: str, number: int, *, home: str) -> str:
    python = os.environ.get("RUNWARDEN_WRITERS", str(ROOT / ".venv-writers" / "bin" / "python"))
    command = [python, "-W", "ignore", str(ROOT / "benchmarks" / "record_reference.py"), what, where, str(number)]
    environ = {"PATH": os.environ["PATH"], "HOME": home, "WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environ, timeout=LIMIT_S, check=True)
    return done.stdout.decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    print_table(
        f"Record formats: {rows:,} rows of {len(TAGS)} metrics, best processor time of {PASSES} passes",
        ("format", "file, MiB", "ours, rows/s", "values/s", "MiB/s", "the other reader", "its values/s", "ours / its"),
        [
            (
                f.format, f"{f.mib:.1f}", f"{f.rows / f.ours_s:,.0f}", f"{f.values / f.ours_s:,.0f}",
                f"{f.mib / f.ours_s:.1f}", f.reference, f"{f.values / f.theirs_s:,.0f}", f"{f.ratio:.1f}",
            )
            for f in (event_files(rows), wandb_logs(rows))
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
