"""Record every run of the plan, one after the other, then pack and label them.

    nice -n -20 taskset -c 1 python -m benchmarks.record.record_all --work DIR [--only 11,12]

Runs that are already complete in DIR are kept; `--pack` alone packs and labels what is there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import time
from pathlib import Path

from benchmarks.record.label import truth
from benchmarks.record.plan import RUNS
from benchmarks.record.supervise import Run, Supervisor
from benchmarks.record.writers import SUFFIXES

TARGET = Path(__file__).resolve().parents[1] / "recordings"


def record(run: Run, work: Path) -> None:
    """Record one run into `work`, under another name until it is complete."""
    done, partial = work / run.name, work / f"{run.name}.partial"
    if done.exists():
        return
    shutil.rmtree(partial, ignore_errors=True)
    start = time.time()
    Supervisor(run, partial).record()
    for waste in ("checkpoint.pt", "scratch.bin"):
        (partial / waste).unlink(missing_ok=True)
    partial.rename(done)
    print(f"{run.name}: {time.time() - start:.0f} s", flush=True)


def pack(work: Path) -> None:
    """Compress the logs (same bytes for the same input) and write the truth beside them."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for old in TARGET.glob("*.gz"):
        old.unlink()
    entries = []
    for run in RUNS:
        folder = work / run.name
        if not folder.exists():
            continue
        for form in run.formats:
            name = f"{run.name}{SUFFIXES[form]}.gz"
            raw = (folder / f"log{SUFFIXES[form]}").read_bytes()
            (TARGET / name).write_bytes(gzip.compress(raw, 9, mtime=0))
            entries.append({"file": name, "format": form} | truth(run, folder, form))
    text = "[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n"
    (TARGET / "truth.json").write_text(text, encoding="utf-8")


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    ask.add_argument("--work", type=Path, required=True, help="folder for the raw runs")
    ask.add_argument("--only", default="", help="numbers of the runs to record, by comma")
    ask.add_argument("--pack", action="store_true", help="record nothing; pack and label")
    got = ask.parse_args()
    wanted = {int(n) for n in got.only.split(",") if n}
    got.work.mkdir(parents=True, exist_ok=True)
    for run in RUNS:
        if not got.pack and (not wanted or run.number in wanted):
            record(run, got.work)
    pack(got.work)


if __name__ == "__main__":
    main()
