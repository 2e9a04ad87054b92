"""Small builders that the tests share: findings, frames and batches with the fields that matter."""

from __future__ import annotations

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
