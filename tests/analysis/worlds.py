"""Windows with a known cause: a healthy run of seven metrics, into which one fault is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from build import finding

from detectors.types import Kind, Role, Severity
from monitor.analysis.hypothesis import Cause
from monitor.incident import Incident, Life, Reason
from monitor.window import Series, Window

ROWS = 400
ONSET = 300
Values = dict[Role, np.ndarray]


def healthy(seed: int = 0) -> Values:
    noise = np.random.default_rng(seed)

    def around(level: float, relative: float) -> np.ndarray:
        return level * np.exp(relative * noise.standard_normal(ROWS))

    step_time = around(0.5, 0.01)
    return {
        Role.LOSS: around(2.5, 0.01) * np.linspace(1.05, 1.0, ROWS),
        Role.GRAD_NORM: around(1.2, 0.08),
        Role.LEARNING_RATE: np.full(ROWS, 3e-4),
        Role.STEP_TIME: step_time,
        Role.DATA_TIME: around(0.02, 0.1),
        Role.LOSS_SCALE: np.full(ROWS, 65536.0),
    }


def series(metric: str, role: Role, values: np.ndarray, **changes: Any) -> Series:
    rows = np.arange(len(values), dtype=np.int64)
    attempt = changes.pop("attempt", np.zeros(len(values), dtype=np.int64))
    made = {"primary": role is not Role.OTHER, "row": rows, "step": rows + 1000, "t": 1e9 + 0.5 * rows}
    return Series(metric=metric, role=role, values=np.asarray(values, dtype=float), attempt=attempt, **(made | changes))


def window(values: Values, run: str = "r", **changes: Any) -> Window:
    made = tuple(series(f"train/{role}", role, v, **changes) for role, v in values.items())
    return Window(run=run, first_row=0, last_row=max(len(s.row) for s in made) - 1, series=made)


def incident(
    role: Role | None = Role.LOSS,
    first: int = ONSET,
    last: int = ONSET + 4,
    kind: Kind = Kind.LOSS_SPIKE,
    **changes: Any,
) -> Incident:
    metric = None if role is None else f"train/{role}"
    opening = finding(first, kind=kind, metric=metric, role=role, first_row=first, last_row=last)
    opening = replace(opening, first_step=first + 1000, last_step=last + 1000, step=last + 1000)
    made: dict[str, Any] = {
        "id": "i1", "run": "r", "attempt": 0, "episode": 1, "revision": 1, "kind": kind, "metric": metric, "role": role,
        "metrics": () if metric is None else (metric,), "severity": Severity.PAGE, "withheld": Severity.RECORD,
        "state": Life.OPEN, "reason": Reason.OPENED, "opened_t": 1e9, "updated_t": 1e9, "resolved_t": float("nan"),
        "first_row": first, "first_step": first + 1000, "detected_row": last, "detected_step": last + 1000,
        "paged_row": last, "paged_step": last + 1000, "last_row": last, "last_step": last + 1000, "observed": 9.7,
        "expected": 2.3, "score": 41.0, "unit": "sigma", "direction": "up", "late": False, "findings": (opening,),
        "open": (),
    }  # fmt: skip
    return Incident(**(made | changes))


def bad_batch(v: Values) -> None:
    v[Role.LOSS][ONSET : ONSET + 5] *= [2.5, 1.8, 1.4, 1.25, 1.12]
    v[Role.GRAD_NORM][ONSET] *= 12


def lr_too_high(v: Values) -> None:
    v[Role.LEARNING_RATE][ONSET - 7 :] *= 10
    v[Role.GRAD_NORM][ONSET - 5 :] *= 6
    v[Role.LOSS][ONSET:] *= np.linspace(1.15, 1.9, ROWS - ONSET)


def gradient_instability(v: Values) -> None:
    v[Role.GRAD_NORM][ONSET - 12 :] *= np.geomspace(3, 200, ROWS - ONSET + 12)
    v[Role.LOSS][ONSET:] *= np.geomspace(1.15, 3, ROWS - ONSET)


def numerical_overflow(v: Values) -> None:
    v[Role.LOSS_SCALE][ONSET - 4 :] = 65536.0 / 2.0 ** np.minimum(np.arange(ROWS - ONSET + 4), 12)
    v[Role.GRAD_NORM][ONSET - 1 :] = np.inf
    v[Role.LOSS][ONSET:] = np.nan


def data_mixture_change(v: Values) -> None:
    v[Role.LOSS][ONSET:] *= 1.18


def data_corruption(v: Values) -> None:
    v[Role.LOSS][ONSET:] *= 1.9
    v[Role.GRAD_NORM][ONSET:] *= 5


def loader_starvation(v: Values) -> None:
    v[Role.DATA_TIME][ONSET:] += 0.4
    v[Role.STEP_TIME][ONSET:] += 0.4


def storage_stall(v: Values) -> None:
    v[Role.DATA_TIME][ONSET] += 8
    v[Role.STEP_TIME][ONSET] += 8


def slow_hardware(v: Values) -> None:
    v[Role.STEP_TIME][ONSET:] *= 1.35


def contention(v: Values) -> None:
    v[Role.STEP_TIME][ONSET:] *= 1.2 + np.random.default_rng(3).random(ROWS - ONSET)


def benign_pause(v: Values) -> None:
    v[Role.STEP_TIME][ONSET] *= 20


_PACE = {"role": Role.STEP_TIME, "kind": Kind.THROUGHPUT_DROP}
FAULTS: dict[Cause, tuple[Callable[[Values], None], dict[str, Any]]] = {
    Cause.BAD_BATCH: (bad_batch, {}),
    Cause.LR_TOO_HIGH: (lr_too_high, {}),
    Cause.GRADIENT_INSTABILITY: (gradient_instability, {}),
    Cause.NUMERICAL_OVERFLOW: (numerical_overflow, {"kind": Kind.NONFINITE}),
    Cause.DATA_MIXTURE_CHANGE: (data_mixture_change, {}),
    Cause.DATA_CORRUPTION: (data_corruption, {}),
    Cause.LOADER_STARVATION: (loader_starvation, {"role": Role.DATA_TIME, "kind": Kind.DATA_STALL}),
    Cause.STORAGE_STALL: (storage_stall, {"role": Role.DATA_TIME, "kind": Kind.DATA_STALL, "last": ONSET}),
    Cause.SLOW_HARDWARE: (slow_hardware, _PACE),
    Cause.CONTENTION: (contention, _PACE),
    Cause.BENIGN_PAUSE: (benign_pause, _PACE | {"last": ONSET}),
}


def world(cause: Cause, seed: int = 0, rows: int = ROWS) -> tuple[Incident, Window]:
    """An incident and the window around it, cut after `rows` rows."""
    fault, about = FAULTS[cause]
    values = healthy(seed)
    fault(values)
    return incident(**about), window({role: v[:rows] for role, v in values.items()})


def resumed(seed: int = 0) -> tuple[Incident, Window]:
    """A new attempt at the onset that repeats fifty steps and starts at a worse loss."""
    values = healthy(seed)
    values[Role.LOSS][ONSET:] *= 1.3
    rows = np.arange(ROWS, dtype=np.int64)
    attempt = (rows >= ONSET).astype(np.int64)
    step = np.where(rows >= ONSET, rows - 50, rows) + 1000
    return incident(kind=Kind.RESTART, attempt=1), window(values, attempt=attempt, step=step)
