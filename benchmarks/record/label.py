"""What an injected fault did to the metrics: measured from the rows, never assumed.

The cause is known because it was injected; the observable kinds (loss_spike, throughput_drop, ...)
are read off the recorded rows with the plain thresholds below, against the 100 rows before the
fault. A kind that did not show is not labelled.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record.faults import INSIDE, Fault
from benchmarks.record.supervise import Run
from benchmarks.record.train import Config, lr_at, parse

Rows = list[dict[str, float]]
BEFORE = 100  # rows that count as "before"
AFTER = 200  # rows after a fault in which the run may recover; from then on it is a divergence
SPIKE = 6.0  # robust deviations above the median before
RAISED = 1.15  # a loss (median of 25) this many times higher has not recovered
GRADIENT = 5.0  # times the median before, and twice the highest before
DISTURBED = 1.1
SLOW = 0.8  # of the throughput before
STALL = 0.3  # share of the step spent waiting for data
TOGETHER = 10  # steps between two high values that still are one episode
SILENT = 30.0  # seconds without a row
WRONG_LR = 3.0  # times what the schedule says

# The kind a person would name first, per cause; what is absent is passed over.
FIRST = {
    "lr_jump": ("lr_fault", "divergence", "loss_spike"),
    "lr_ramp": ("divergence", "lr_fault", "loss_spike"),
    "clip_off": ("grad_blowup", "divergence", "loss_spike", "lr_fault"),
    "slow_loader": ("data_stall", "throughput_drop"),
    "loader_stop": ("data_stall", "silence"),
}
ORDER = (
    "restart", "nonfinite", "silence", "divergence", "loss_spike", "grad_blowup",
    "data_stall", "throughput_drop", "lr_fault",
)  # fmt: skip
CAUSES = {
    "lr_jump": "lr_too_high", "lr_ramp": "lr_runaway", "clip_off": "clipping_off",
    "weights_overflow": "overflow", "logits_overflow": "overflow", "grad_overflow": "overflow",
    "loader_stop": "loader_stopped",
}  # fmt: skip


@dataclass(frozen=True)
class Window:
    """The rows of one fault: before it, while it was active, and until it may be over."""

    before: Rows
    active: Rows
    span: Rows  # the active rows and those after, in which the run may recover
    rest: Rows  # all rows up to the next fault or the end: how far a lasting effect reaches
    last_before: dict[str, float]

    def base(self, name: str) -> float:
        return median(r[name] for r in self.before)

    def top(self, name: str) -> float:
        return max(r[name] for r in self.before)

    def spread(self, name: str) -> float:
        """Robust deviation before the fault."""
        middle = self.base(name)
        return 1.4826 * median(abs(r[name] - middle) for r in self.before)


def read(path: Path) -> tuple[Rows, Rows]:
    """The training rows and the evaluation rows, in the order of the file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [r for r in rows if "loss" in r], [r for r in rows if "val_loss" in r]


def truth(run: Run, folder: Path, form: str) -> dict[str, object]:
    """Everything known of one recorded file."""
    rows, evals = read(folder / "log.jsonl")
    cfg = parse(run.command(folder)[3:])
    marks = [json.loads(x) for x in (folder / "marks.jsonl").read_text("utf-8").splitlines()]
    faults = [f for f in run.faults if f.name != "hiccup"]
    events: list[dict[str, Any]] = []
    for number, fault in enumerate(faults):
        follower = faults[number + 1].at if number + 1 < len(faults) else None
        window = cut(rows, fault, follower)
        found = kinds(window, fault, cfg)
        first = next(k for k in (*FIRST.get(fault.name, ()), *ORDER) if k in found)
        effect = measure(window, cfg)
        injected = fault.as_dict() | _when(marks, fault)
        events += [
            {"incident": number + 1, "primary": kind == first, "kind": kind}
            | {"cause": CAUSES.get(fault.name, fault.name)}
            | found[kind]
            | {"injected": injected, "effect": effect}
            for kind in (first, *(k for k in ORDER if k in found and k != first))
        ]
    shape = cfg.shape
    return {
        "run": run.name, "seed": run.seed, "rows": len(rows),
        "eval_rows": 0 if form == "tqdm" else len(evals), "clean": not events,
        "t_first": rows[0]["t"], "t_last": rows[-1]["t"],
        "settings": {
            "steps": cfg.steps, "layers": shape.layers, "width": shape.width, "seq": shape.seq,
            "batch": shape.batch, "lr": cfg.lr, "sgd": cfg.sgd, "warmup": cfg.warmup, "clip": cfg.clip,
            "pause_in_step": cfg.pause_in_step, "skip_nonfinite": cfg.skip_nonfinite,
        },
        "events": events, "planned": planned(rows, marks, cfg),
        "disturbances": disturbances(rows, events),
    }  # fmt: skip


def cut(rows: Rows, fault: Fault, follower: int | None) -> Window:
    """Find the fault's rows; after a restart they begin where the step number goes back."""
    start = next((i for i, r in enumerate(rows) if r["step"] >= fault.at), len(rows))
    if fault.name in ("resume", "reinit"):
        start = next(i + 1 for i, (a, b) in enumerate(pairwise(rows)) if b["step"] <= a["step"])
    end = min(len(rows), start + fault.steps)
    if fault.name == "loader_stop":
        end = min(len(rows), end + 3)  # two batches were ready before the worker stopped
    limit = next((i for i, r in enumerate(rows) if follower and r["step"] >= follower), len(rows))
    span = rows[start : min(limit, end + AFTER)]
    before = rows[max(0, start - BEFORE) : start]
    return Window(before, rows[start:end], span, rows[start:limit], rows[start - 1])


def kinds(w: Window, fault: Fault, cfg: Config) -> dict[str, dict[str, object]]:
    """Every observable kind in the window, with the first and the last row that show it."""
    found: dict[str, Rows] = {}
    found["nonfinite"] = [r for r in w.rest if not _finite(r)]
    limit = w.base("loss") + SPIKE * w.spread("loss")
    high = [r for r in w.span if r["loss"] > limit]
    raised = [r for r, value in _smooth(w.rest, "loss") if value > RAISED * w.base("loss")]
    patience = AFTER + (fault.steps if fault.steps < AFTER else 0)
    lasting = any(r["step"] >= fault.at + patience for r in raised)
    loss = sorted([*_worst(high, "loss"), *raised], key=lambda r: r["t"])
    found["divergence" if lasting else "loss_spike"] = loss
    hot = max(GRADIENT * w.base("grad_norm"), 2 * w.top("grad_norm"))
    found["grad_blowup"] = _worst([r for r in w.span if hot < r["grad_norm"] < math.inf], "grad_norm")
    if len(w.active) >= 5 and _middle(w.active, "tokens_per_s") < SLOW * w.base("tokens_per_s"):
        slow = SLOW * w.base("tokens_per_s")
        found["throughput_drop"] = [r for r in w.active if r["tokens_per_s"] < slow]
    waiting = [r for r in w.active if r["data_time"] > STALL * r["step_time"]]
    if len(waiting) >= 5 or any(r["data_time"] > SILENT for r in waiting):
        found["data_stall"] = waiting
    found["lr_fault"] = [r for r in w.active if r["lr"] > WRONG_LR * lr_at(int(r["step"]), cfg)]
    out = {kind: _edges(rows[0], rows[-1]) for kind, rows in found.items() if rows}
    series = [w.last_before, *w.span]
    gap = max(pairwise(series), key=lambda p: p[1]["t"] - p[0]["t"], default=None)
    if gap and gap[1]["t"] - gap[0]["t"] > SILENT:
        out["silence"] = _edges(*gap)
    if fault.name == "kill":
        nothing = {"last_step": None, "t_last": None}
        out["silence"] = _edges(w.last_before, w.last_before) | nothing
    if fault.name in ("resume", "reinit"):
        times = {"t_first": w.last_before["t"], "t_last": w.span[0]["t"]}
        out["restart"] = _edges(w.span[0], w.last_before) | times  # the steps that came twice
    return out


def measure(w: Window, cfg: Config) -> dict[str, float | int]:
    """Ratios against the rows before; what a reader checks a label with."""
    out: dict[str, float | int] = {}
    if not w.active:
        return out
    for name in ("loss", "grad_norm"):
        values = [r[name] for r in w.span if math.isfinite(r[name])]
        if values:
            out[f"{name}_peak"] = max(values) / w.base(name)
            out[f"{name}_active"] = _middle(w.active, name) / w.base(name)
            out[f"{name}_end"] = _middle(w.span[-50:], name) / w.base(name)
    for name in ("tokens_per_s", "step_time"):
        out[f"{name}_active"] = _middle(w.active, name) / w.base(name)
    for name, rows in (("before", w.before), ("active", w.active)):
        waited = sum(r["data_time"] for r in rows)
        out[f"data_share_{name}"] = waited / sum(r["step_time"] for r in rows)
    out["longest_gap_s"] = max(b["t"] - a["t"] for a, b in pairwise([w.last_before, *w.active]))
    out["lr_active"] = max(r["lr"] / lr_at(int(r["step"]), cfg) for r in w.active)
    out["nonfinite_rows"] = sum(not _finite(r) for r in w.span)
    return {k: v if isinstance(v, int) else float(f"{v:.4g}") for k, v in out.items() if not math.isnan(v)}


def planned(rows: Rows, marks: list[dict[str, Any]], cfg: Config) -> list[object]:
    """Pauses and schedule changes that belong to the run and deserve no alarm."""
    out: list[object] = []
    for a, b in pairwise(m for m in marks if m["what"] in ("eval", "checkpoint", "hiccup")):
        if (a["what"], a["edge"], b["edge"]) == (b["what"], "begin", "end"):
            times = {"t_first": a["t"], "t_last": b["t"]}
            steps = {"first_step": a["step"], "last_step": a["step"]}
            out.append({"what": a["what"]} | steps | times)
    if cfg.lr_restart:
        row = next(r for r in rows if r["step"] >= cfg.lr_restart)
        out.append({"what": "lr_restart"} | _edges(row, row))
    return out


def disturbances(rows: Rows, events: list[dict[str, Any]]) -> list[object]:
    """Stretches slower by a tenth than the 100 rows before though nothing was injected: the machine itself."""
    free = [r for r in rows if not any(e["t_first"] <= r["t"] <= _end(e) for e in events)]
    smooth = _smooth(free, "step_time", 15)
    slow = []
    for i, (row, value) in enumerate(smooth):
        before = [r["step_time"] for r in free[max(0, i - 115) : max(0, i - 15)]]
        if len(before) >= 20 and value > DISTURBED * median(before):
            slow.append((row, value / median(before)))
    out: list[object] = []
    while slow:
        count = next((i for i, (a, b) in enumerate(pairwise(slow), 1)
                      if b[0]["step"] - a[0]["step"] > TOGETHER), len(slow))  # fmt: skip
        ratio = float(f"{max(v for _, v in slow[:count]):.4g}")
        out.append({"step_time": ratio} | _edges(slow[0][0], slow[count - 1][0]))
        slow = slow[count:]
    return out


def _end(event: dict[str, Any]) -> float:
    return math.inf if event["t_last"] is None else event["t_last"]


def _when(marks: list[dict[str, Any]], fault: Fault) -> dict[str, object]:
    """When the supervisor began and ended what it did."""
    if fault.name in INSIDE:
        return {}
    return {f"t_{m['edge']}": m["t"] for m in marks if m["what"] == fault.name}


def _worst(rows: Rows, name: str) -> Rows:
    """The stretch (no gap longer than `TOGETHER` steps) that holds the highest value."""
    groups: list[Rows] = []
    for row in rows:
        if groups and row["step"] - groups[-1][-1]["step"] <= TOGETHER:
            groups[-1].append(row)
        else:
            groups.append([row])
    return max(groups, key=lambda g: max(r[name] for r in g), default=[])


def _edges(first: dict[str, float], last: dict[str, float]) -> dict[str, object]:
    edges: dict[str, object] = {"first_step": first["step"], "last_step": last["step"]}
    return edges | {"t_first": first["t"], "t_last": last["t"]}


def _finite(row: dict[str, float]) -> bool:
    return math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])


def _middle(rows: Rows, name: str) -> float:
    """Median of the finite values, NaN when there are none."""
    return median([r[name] for r in rows if math.isfinite(r[name])] or [math.nan])


def _smooth(rows: Rows, name: str, width: int = 25) -> list[tuple[dict[str, float], float]]:
    """Each row with the median of the last `width` finite values, once there are that many."""
    finite = [r for r in rows if math.isfinite(r[name])]
    ends = range(width, len(finite) + 1)
    return [(finite[e - 1], _middle(finite[e - width : e], name)) for e in ends]
