"""Print the table of recorded runs from `truth.json`, as Markdown.

python -m benchmarks.record.report
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TRUTH = Path(__file__).resolve().parents[1] / "recordings" / "truth.json"

# What a label of each kind is read from, and how it is named in the table.
SHOWN = {
    "loss_spike": ("loss_peak", "loss peak x{}"),
    "divergence": ("loss_end", "loss at the end x{}"),
    "grad_blowup": ("grad_norm_peak", "grad norm peak x{}"),
    "nonfinite": ("nonfinite_rows", "{} rows not finite"),
    "throughput_drop": ("tokens_per_s_active", "tokens/s x{}"),
    "data_stall": ("data_share_active", "{} of the step is waiting"),
    "silence": ("longest_gap_s", "gap of {} s"),
    "restart": ("loss_peak", "loss after x{}"),
    "lr_fault": ("lr_active", "lr x{}"),
}


def incident(events: list[dict[str, Any]]) -> str:
    """One line for all the events of one incident."""
    first = events[0]
    where = f"{first['cause']} at {first['injected']['at']}"
    shown = []
    for event in events:
        name, text = SHOWN[event["kind"]]
        value = event["effect"].get(name)
        shown.append(event["kind"] + ("" if value is None else f" ({text.format(f'{value:.3g}')})"))
    return f"{where}: {', '.join(shown)}"


def row(entries: list[dict[str, Any]]) -> str:
    """One run of the table; its entries differ only in the format."""
    entry = entries[0]
    numbers = sorted({e["incident"] for e in entry["events"]})
    parts = [incident([e for e in entry["events"] if e["incident"] == n]) for n in numbers]
    extra = {p["what"] for p in entry["planned"]} - {"eval", "checkpoint"}
    parts += [f"planned: {what}" for what in sorted(extra)]
    formats = " ".join(e["format"] for e in entries)
    return f"| {entry['run']} | {formats} | {entry['rows']} | {'; '.join(parts) or 'clean'} |"


def main() -> None:
    """Print the table."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for entry in json.loads(TRUTH.read_text(encoding="utf-8")):
        runs.setdefault(entry["run"], []).append(entry)
    print("| run | formats | rows | what happened (against the 100 rows before) |\n|---|---|---|---|")
    for entries in runs.values():
        print(row(entries))


if __name__ == "__main__":
    main()
