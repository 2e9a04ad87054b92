"""How far each metric moved in an incident, measured once: page, evidence and revisions say the same because of it.

Pure. The normal level is the one that the detectors froze, where they said something of the metric, else the centre of
its band. A metric moved if a detector said so or if its rows left the band; all others stood still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitor.band import band, departure, span
from monitor.incident import Life
from monitor.roles import role_of

if TYPE_CHECKING:
    from detectors.types import Finding
    from monitor.incident import Incident
    from monitor.window import Series, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The way of one metric. normal: its level before; onset: its first anomalous value; worst: of the finite ones.

    lost_*: where it was first NaN or Inf (`lost`), -1 if never. Steps are -1 where the log has none.
    """

    metric: str
    normal: float
    onset: float
    onset_row: int
    onset_step: int
    worst: float
    worst_row: int
    worst_step: int
    lost: float = math.nan
    lost_row: int = -1
    lost_step: int = -1

    @property
    def size(self) -> float:
        """How far it went from its normal level: a ratio where both are positive, else a difference; 1 is nowhere."""
        if not math.isfinite(self.worst):
            return 1.0
        if self.normal > 0 and self.worst > 0:
            return max(self.worst / self.normal, self.normal / self.worst)
        return 1.0 + abs(self.worst - self.normal)


def measure(incident: Incident, window: Window) -> dict[str, Move | None]:
    """Metric → its move, None if it stood still; without those of which too little is known for either."""
    event = span(incident)
    until = incident.last_row if incident.state is Life.RESOLVED else window.last_row
    said: dict[str, Finding] = {}
    for f in incident.findings:
        if f.metric is not None:
            said.setdefault(f.metric, f)
    measured: dict[str, Move | None] = {}
    for series in window.series:
        finding, normal = said.get(series.metric), band(series, event.first_row)
        if finding is None and normal is None:
            continue
        left = None if normal is None else departure(series, normal, event.first_row)
        if finding is not None:
            at = int(np.searchsorted(series.row, finding.first_row))
            at = at if left is None else min(at, left)  # a cumulative score notices late
            level = finding.expected if math.isfinite(finding.expected) or normal is None else normal.centre
        elif left is not None and normal is not None:
            at, level = left, normal.centre
        else:
            measured[series.metric] = None
            continue
        if (move := _move(series, at, until, level, event.attempt)) is not None:
            measured[series.metric] = move
    return measured


def moved(incident: Incident, window: Window) -> dict[str, Move]:
    """The moves of the metrics that the detectors named, in the order in which they joined."""
    measured: Mapping[str, Move | None] = measure(incident, window)
    return {metric: move for metric in incident.metrics if (move := measured.get(metric)) is not None}


def worsened(before: Mapping[str, Move], now: Mapping[str, Move], factor: float = 1.5) -> list[str]:
    """Metrics that are news: `factor` times as far out as before, or not finite any more."""
    return [
        metric
        for metric, move in now.items()
        if metric in before
        and (move.size >= factor * before[metric].size or (move.lost_row >= 0) != (before[metric].lost_row >= 0))
    ]


def _move(series: Series, at: int, until: int, level: float, attempt: int) -> Move | None:
    """From the value at index `at` to row `until`, within one attempt."""
    index = np.arange(at, int(np.searchsorted(series.row, until, side="right")))
    index = index[series.attempt[index] == attempt]
    if not len(index):
        return None
    finite = np.isfinite(series.values[index])
    lost = index[~finite]
    kept = index[finite]
    worst = int(kept[int(np.argmax(_badness(series, series.values[kept], level)))]) if len(kept) else int(index[0])
    first = int(index[0])
    return Move(
        metric=series.metric,
        normal=level,
        onset=float(series.values[first]),
        onset_row=int(series.row[first]),
        onset_step=int(series.step[first]),
        worst=float(series.values[worst]),
        worst_row=int(series.row[worst]),
        worst_step=int(series.step[worst]),
        lost=float(series.values[lost[0]]) if len(lost) else math.nan,
        lost_row=int(series.row[lost[0]]) if len(lost) else -1,
        lost_step=int(series.step[lost[0]]) if len(lost) else -1,
    )


def _badness(series: Series, values: np.typing.NDArray[np.float64], level: float) -> np.typing.NDArray[np.float64]:
    direction = role_of(series.metric).direction
    if direction == "both":
        return np.abs(values - level) if math.isfinite(level) else np.abs(values)
    return values if direction == "up" else -values
