"""Small builders that the tests share: findings, frames and batches with the fields that matter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from detectors.types import Finding, Kind, Origin, Phase, Role, Severity
from monitor.frame import Batch, Frame


def finding(row: int, **changes: Any) -> Finding:
    kind = changes.get("kind", Kind.LOSS_SPIKE)
    metric = changes.get("metric", "loss")
    values: dict[str, Any] = {
        "kind": kind,
        "phase": Phase.BEGINS,
        "severity": Severity.PAGE,
        "run": "r",
        "attempt": 0,
        "key": f"{kind}:{metric}",
        "metric": metric,
        "role": Role.LOSS,
        "row": row,
        "step": row,
        "t": 1000.0 + row,
        "first_row": row,
        "first_step": row,
        "last_row": row,
        "last_step": row,
        "observed": 9.7,
        "expected": 2.3,
        "score": 41.0,
        "unit": "sigma",
        "direction": "up",
        "reason": "cusum",
    }
    return Finding(**(values | changes))


def frame(values: dict[str, Any], first_row: int = 0, run: str = "r", **changes: Any) -> Frame:
    columns = [np.asarray(v, dtype=np.float64) for v in values.values()]
    n = columns[0].size
    row = np.arange(first_row, first_row + n, dtype=np.int64)
    arrays: dict[str, Any] = {
        "run": run,
        "columns": tuple(values),
        "row": row,
        "step": row.copy(),
        "t": 1e9 + row.astype(np.float64),
        "values": np.column_stack(columns),
        "origin": Origin.LIVE,
    }
    return Frame(**(arrays | changes))


def batch(*frames: Frame, t_recv: float | None = None, **changes: Any) -> Batch:
    t = max((float(f.t[-1]) for f in frames), default=0.0) if t_recv is None else t_recv
    return Batch(**({"source": "files", "t_recv": t, "frames": frames} | changes))


def falling(n: int, seed: int = 0, start: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A healthy loss from row `start` on: falls from 8 to 2 with 1 % of noise, a function of the row alone."""
    noise = np.random.default_rng(seed).normal(0.0, 0.01, 20_000)[start : start + n]
    return (2.0 + 6.0 * np.exp(-np.arange(start, start + n) / 150.0)) * np.exp(noise)


def pick(f: Frame, low: int, high: int) -> Frame | None:
    """The rows low <= row < high of a frame, None if there are none."""
    at = (f.row >= low) & (f.row < high)
    if not at.any():
        return None
    return replace(f, row=f.row[at], step=f.step[at], t=f.t[at], values=f.values[at])


def split(frames: Sequence[Frame], cuts: Iterable[int], **changes: Any) -> list[Batch]:
    """The same rows in batches that begin at the row numbers `cuts`."""
    edges = [-1, *sorted(cuts), 1 << 62]
    parts = [[p for f in frames if (p := pick(f, a, b)) is not None] for a, b in pairwise(edges)]
    return [batch(*part, **changes) for part in parts if part]
