"""The band of a metric, defined once: where its values lay before an event, and when they left it.

Evidence, diagnosis, verification and predictions all measure against this band. It is the median of the last values
before the event, plus and minus a width of robust standard deviations (1.4826 MAD), on the log scale where a metric
is positive. Bounds: 256 values of baseline, none from fewer than 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from detectors.types import Role

if TYPE_CHECKING:
    from monitor.incident import Incident
    from monitor.window import Series

BASELINE_ROWS = 256
MIN_ROWS = 8
WIDTH = 4.0
LOOKBACK_ROWS = 16
"""How far before the onset that the detectors found a metric is searched for an earlier departure."""

# Smallest relative noise that counts, one robust sigma: quantised loggers have a MAD of 0, and a change below four of
# these is not worth anyone's attention.
_FLOOR = MappingProxyType(
    {
        Role.LOSS: 0.02,
        Role.EVAL_LOSS: 0.02,
        Role.GRAD_NORM: 0.125,
        Role.LEARNING_RATE: 0.01,
        Role.STEP_TIME: 0.025,
        Role.DATA_TIME: 0.05,
        Role.THROUGHPUT: 0.025,
        Role.LOSS_SCALE: 0.01,
    }
)
_OTHER_FLOOR = 0.02
_ONE_SIDED = frozenset({Role.LOSS, Role.EVAL_LOSS})  # training is supposed to lower these


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Where a metric was. centre, lo, hi: in the metric's unit (lo is -inf where falling is good).

    noise: one robust sigma on the scale, relative if `log`. rows: finite values it was made from.
    """

    centre: float
    lo: float
    hi: float
    noise: float
    log: bool
    rows: int

    def outside(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """bool[k]: which of float64[k] lie outside; NaN and Inf do."""
        return ~(np.isfinite(values) & (values >= self.lo) & (values <= self.hi))

    def scaled(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Values on the band's scale (log or plain); NaN where they have no place on it."""
        if not self.log:
            return np.where(np.isfinite(values), values, np.nan)
        return np.log(np.where(np.isfinite(values) & (values > 0), values, np.nan))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The rows of an event: where the first sign of it is thought to begin, its last anomalous row, its attempt."""

    first_row: int
    last_row: int
    attempt: int


def span(incident: Incident) -> Span:
    """From the earliest onset among the findings (at most one baseline before the opening one) to the last bad row."""
    onsets = [f.first_row for f in incident.findings if 0 <= incident.first_row - f.first_row <= BASELINE_ROWS]
    first = min([incident.first_row, *onsets])
    ends = [f.last_row for f in incident.findings]
    last = max([first, incident.last_row, incident.detected_row, incident.paged_row, *ends])
    return Span(first_row=first, last_row=last, attempt=incident.attempt)


def band(series: Series, before_row: int) -> Band | None:
    """The band of the last values before `before_row`, of any attempt; None if there are too few."""
    end = int(np.searchsorted(series.row, before_row))
    values = series.values[:end]
    values = values[np.isfinite(values)][-BASELINE_ROWS:]
    if len(values) < MIN_ROWS:
        return None
    log = bool(np.all(values > 0))
    scaled = np.log(values) if log else values
    centre = float(np.median(scaled))
    floor = _FLOOR.get(series.role, _OTHER_FLOOR) * (1.0 if log else abs(centre))
    noise = max(1.4826 * float(np.median(np.abs(scaled - centre))), floor, 1e-12)
    half = WIDTH * (1.0 + 4.0 / len(values)) * noise  # wider where few values stand behind it
    lo, hi = centre - half, centre + half
    if log:  # 700: exp stays finite
        lo, hi, centre = (math.exp(min(max(x, -700.0), 700.0)) for x in (lo, hi, centre))
    return Band(
        centre=centre,
        lo=-math.inf if series.role in _ONE_SIDED else lo,
        hi=hi,
        noise=noise,
        log=log,
        rows=len(values),
    )


def departure(series: Series, within: Band, first_row: int) -> int | None:
    """Index of the first value outside the band at or after `first_row`, or up to `LOOKBACK_ROWS` before it.

    Before the onset one outlier says nothing: there, two in a row are needed.
    """
    start = int(np.searchsorted(series.row, first_row - LOOKBACK_ROWS))
    out = within.outside(series.values[start:])
    follows = np.append(out[1:], False)
    counts = out & (follows | (series.row[start:] >= first_row))
    hits = np.flatnonzero(counts)
    return start + int(hits[0]) if len(hits) else None


def axis(series: Series) -> tuple[str, npt.NDArray[np.int64]]:
    """What a point of the series is called: its step, or its row where the log has no steps."""
    if len(series.step) and int(series.step.max()) >= 0:
        return "step", series.step
    return "row", series.row
