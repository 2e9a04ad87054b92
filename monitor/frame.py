"""What a source yields: rows of metrics (`Frame`), raw log lines, and how far it has read (`Batch`).

A frame is dense: every column has a value in every row, so NaN and Inf are always values that the trainer wrote. Rows
with other keys go into another frame of the same batch; `row` says how the rows of one run interleave. `Source` is the
protocol of those who yield batches.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from detectors.types import Origin


class Status(StrEnum):
    """Whether the source itself could be read."""

    OK = "ok"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """n rows by m metrics of one run.

    row: int64[n], 0-based number of the physical record (line) in the run's source, counting lines without metrics,
    going on across rotation; ascending inside a frame and unique over all frames of the run.
    step: int64[n], -1 where there is none. t: float64[n] Unix seconds UTC, NaN where there is none.
    values: float64[n, m].
    generation: counts the files or processes of the run as far as the source can tell; a change begins an attempt.
    """

    run: str
    columns: tuple[str, ...]
    row: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    t: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    origin: Origin = Origin.LIVE
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line that is not a metric row (stack trace, warning), kept for evidence; untrusted and cut to a bound."""

    run: str
    row: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a source knows about a run besides its rows. total_steps: planned last step, -1 if unknown."""

    total_steps: int = -1
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a source read in one go; empty at the head is the tick.

    t_recv: Unix seconds, the only time the core knows. cursors: stream → position after this batch, for the streams
    that moved; committed in the same transaction as what the batch caused. counts: (what, how many) of input that
    could not be used, by reason, for /metrics. at_head: nothing more was there to read. lost: runs that could not be
    read although others were: whether they are silent is not known; an error that names none concerns all.
    """

    source: str
    t_recv: float
    frames: tuple[Frame, ...] = ()
    lines: tuple[LogLine, ...] = ()
    cursors: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, RunFacts] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    status: Status = Status.OK
    detail: str = ""
    at_head: bool = True
    lost: frozenset[str] = frozenset()


class Source(Protocol):
    """Where rows come from. Safe to abandon at any await; everything it holds is let go within 5 s."""

    name: str

    def batches(self, cursors: Mapping[str, str]) -> AsyncIterator[Batch]:
        """Yield batches for ever, beginning after the committed cursors; at least one per poll, even if empty.

        Raises TransientError and PermanentError for trouble that is its own.
        """
        ...

    def committed(self, batch: Batch) -> None:
        """Told when a batch of `batches` is durable with all that it caused: now a sender may hear so."""
        ...
