"""What goes into the detectors (a `Block`) and what comes out (a `Finding`).

A block is a stretch of rows of one run and one attempt, in row order, with its metrics as columns. Everything a
detector says is a function of the rows it was shown, never of how they were cut into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
import numpy.typing as npt


class Role(StrEnum):
    """What a metric means, whatever its trainer calls it."""

    LOSS = "loss"
    EVAL_LOSS = "eval_loss"
    GRAD_NORM = "grad_norm"
    LEARNING_RATE = "learning_rate"
    STEP_TIME = "step_time"
    DATA_TIME = "data_time"
    THROUGHPUT = "throughput"
    LOSS_SCALE = "loss_scale"
    SKIPPED_STEPS = "skipped_steps"
    NAN_STEPS = "nan_steps"
    OTHER = "other"


class Kind(StrEnum):
    """The closed list of what can go wrong."""

    LOSS_SPIKE = "loss_spike"
    DIVERGENCE = "divergence"
    NONFINITE = "nonfinite"
    GRAD_BLOWUP = "grad_blowup"
    THROUGHPUT_DROP = "throughput_drop"
    DATA_STALL = "data_stall"
    SILENCE = "silence"
    SOURCE_LOST = "source_lost"
    STRAGGLER = "straggler"
    RESTART = "restart"
    LR_FAULT = "lr_fault"
    VANISHED_KEY = "vanished_key"
    EVAL_REGRESSION = "eval_regression"
    CRASH = "crash"
    MONITOR_STALE = "monitor_stale"
    PLATEAU = "plateau"
    GRAD_VANISHING = "grad_vanishing"
    NOVELTY = "novelty"


class Severity(IntEnum):
    """`page` wakes someone, `notice` goes to the digest and the evidence, `record` is kept and told to nobody."""

    RECORD = 0
    NOTICE = 1
    PAGE = 2


class Phase(StrEnum):
    """Where in the life of its condition a finding stands."""

    BEGINS = "begins"
    GROWS = "grows"
    ENDS = "ends"


class Origin(StrEnum):
    """How rows reached us: there at first sight, written while we were away, or as they were written."""

    HISTORY = "history"
    BACKLOG = "backlog"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one metric inside a block.

    index: int64[k], positions in the block's rows at which the metric has a value, ascending.
    values: float64[k]; NaN and Inf are values that the trainer logged.
    primary: whether this is the run's first metric of its role; others of the role only join an incident.
    """

    metric: str
    role: Role
    primary: bool
    index: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows of one run and attempt, in row order.

    row: int64[n], number of the record in its source, ascending. step: int64[n], -1 where the row has none.
    t: float64[n], Unix seconds, NaN where the row has no clock. seen: Unix seconds at which the rows arrived.
    total_steps: the step at which the run is planned to end, -1 if unknown.
    """

    run: str
    attempt: int
    row: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    t: npt.NDArray[np.float64]
    columns: tuple[Column, ...]
    seen: float
    origin: Origin = Origin.LIVE
    total_steps: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a detector says about one condition.

    A condition is identified by (run, attempt, key); it BEGINS once, may GROW to a higher severity, and ENDS once.
    row, step, t: where it was said. first_row, first_step: where the anomaly is thought to begin. last_row, last_step:
    the last anomalous row so far. step is -1 and t is NaN where the log has none.
    score is in `unit` ("sigma", "cusum", "ratio", "s", …), expected and observed are in the metric's own unit.
    """

    kind: Kind
    phase: Phase
    severity: Severity
    run: str
    attempt: int
    key: str
    metric: str | None
    role: Role | None
    row: int
    step: int
    t: float
    first_row: int
    first_step: int
    last_row: int
    last_step: int
    observed: float
    expected: float
    score: float
    unit: str
    direction: str
    reason: str
