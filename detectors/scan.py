"""The walk over the values of one series from change of state to change of state of its condition.

While a condition is open its reference is frozen. It ends soon after the series is back in band (recovered), once when
the level stays where it is (rebased), or with the attempt. After its end the CUSUM begins again, so a second event is a
second condition. Rows between two changes of state are never visited in Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from detectors.kernels import FIXED, Bools, Floats, Ints, cusum
from detectors.scored import Round, Stretch, Track
from detectors.settings import Settings
from detectors.types import Block, Finding, Phase, Role, Severity

if TYPE_CHECKING:
    from detectors.condition import LevelDetector


@dataclass(slots=True)
class Verdict:
    """What a detector says of each value of a stretch.

    severity: 0, 1 (notice) or 2 (page). reason: index into the detector's `reasons`.
    level: the reference to freeze, width: how far above it is still in band; both on the scale of the series.
    """

    severity: npt.NDArray[np.int8]
    reason: npt.NDArray[np.int8]
    score: Floats
    level: Floats
    width: Floats


@dataclass(slots=True)
class Condition:
    """An open condition.

    level, worst: in the metric's unit. begun, begun_t: values of the series before it, and its time. calm: successive
    values in band; settled: successive values in the band of the present baseline.
    """

    attempt: int
    severity: int
    reason: int
    score: float
    level: float
    width: float
    worst: float
    begun: int
    first_row: int
    first_step: int
    last_row: int
    last_step: int
    begun_t: float
    calm: int = 0
    settled: int = 0


def first_run(mask: Bools, need: int, carry: int) -> tuple[int, int]:
    """Position at which `need` successive True are complete (-1: not here) and the length of the run at the end.

    carry: length of the run of True that ends just before `mask`.
    """
    breaks = np.concatenate([[-1 - carry], np.flatnonzero(~mask), [mask.size]])
    gaps = np.flatnonzero(np.diff(breaks) > need)
    at = int(breaks[gaps[0]]) + need if gaps.size else -1
    return at, mask.size - 1 - int(breaks[-2])


class Scan:
    """One walk over a stretch, from change of state to change of state."""

    def __init__(self, detector: LevelDetector, round_: Round, x: Stretch, condition: Condition | None) -> None:
        self.detector = detector
        self.round = round_
        self.bank = round_.bank
        self.x = x
        self.slot = x.segment.track.slot
        self.condition = condition
        self.restarted = False
        self.said = self._verdict()

    def _verdict(self) -> Verdict:
        v = self.detector.verdict(self.x, self.round)
        if not self.x.segment.track.primary:
            np.minimum(v.severity, 1, out=v.severity)  # a record cannot grow
        return v

    def findings(self) -> Iterator[Finding]:
        """What changes, in row order; `condition` is then what is open after the stretch."""
        at = 0
        while at < self.x.y.size:
            if self.condition is None:
                hits = np.flatnonzero(self.said.severity[at:])
                if not hits.size:
                    return
                at += int(hits[0])
                yield self._begin(at)
                at += 1
            else:
                said = self._go_on(self.condition, at)
                if said is None:
                    return
                at = said[0] + 1
                yield said[1]

    def _begin(self, at: int) -> Finding:
        v, x = self.said, self.x
        block, row = x.segment.block, int(x.index[at])
        self.condition = Condition(
            attempt=block.attempt, severity=int(v.severity[at]), reason=int(v.reason[at]), score=float(v.score[at]),
            level=self.bank.unscale(self.slot, float(v.level[at])), width=float(v.width[at]), worst=float(x.values[at]),
            begun=int(x.n[at]), first_row=int(block.row[row]), first_step=int(block.step[row]),
            last_row=int(block.row[row]), last_step=int(block.step[row]), begun_t=float(block.t[row]),
        )  # fmt: skip
        if self.detector.patient and not math.isnan(self.condition.begun_t):
            self.condition.severity = min(self.condition.severity, Severity.NOTICE)
        if self.detector.recurring is not None and x.segment.track.primary and self._recurs(self.condition):
            self.condition.severity, self.condition.reason = Severity.PAGE, self.detector.recurring
        return self._say(self.condition, row, Phase.BEGINS)

    def _recurs(self, c: Condition) -> bool:
        track = self.x.segment.track
        again = self.detector.recurrence.note(self.x.segment.block.run, track.metric, c.begun)
        return again and c.severity < Severity.PAGE

    def _go_on(self, c: Condition, at: int) -> tuple[int, Finding] | None:
        """The next change of an open condition, from position `at` on."""
        x, v, settings = self.x, self.said, self.detector.settings
        lasting = c.severity == Severity.PAGE and c.reason != self.detector.recurring
        need = settings.calm_page_rows if lasting else settings.calm_notice_rows
        y = x.y[at:]
        level = self.bank.scale(self.slot, c.level)
        worst = np.maximum.accumulate(np.maximum(y, self.bank.scale(self.slot, c.worst)))
        calm = y <= level + np.maximum(c.width, settings.calm_share * (worst - level))
        stays = y <= x.ref[at:] + c.width
        age = x.n[at:] - c.begun
        end, run = first_run(calm, need, c.calm)
        settled, run_settled = self._settled(stays, age, settings, c.settled)
        graver = v.severity[at:] > c.severity
        if self.detector.patient and graver.any():
            graver &= ~(
                x.segment.block.t[x.index[at:]] - c.begun_t < settings.time_patience_s
            )  # NaN: no clock, no wait
        grow = np.flatnonzero(graver)
        changes = [j for j in (end, settled, int(grow[0]) if grow.size else -1) if j >= 0]
        if not changes:
            c.calm, c.settled = run, run_settled
            self._worsen(c, at, y.size, calm)
            return None
        j = min(changes)
        c.calm, c.settled = first_run(calm[: j + 1], y.size + 1, c.calm)[1], 0
        self._worsen(c, at, j + 1, calm)
        row = int(x.index[at + j])
        if j not in (end, settled):
            c.severity, c.reason = int(v.severity[at + j]), int(v.reason[at + j])
            c.score = float(v.score[at + j])
            return at + j, self._say(c, row, Phase.GROWS)
        self.condition, self.restarted = None, True
        x.g = x.g.copy()
        x.g[at + j] = 0
        x.g[at + j + 1 :] = cusum(x.step[at + j + 1 :], 0)
        self.said = self._verdict()
        return at + j, self._say(c, row, Phase.ENDS, "recovered" if j == end else "rebased")

    def _settled(self, stays: Bools, age: Ints, settings: Settings, carry: int) -> tuple[int, int]:
        """Where the level has stayed long enough to be the new normal."""
        late = age >= settings.rebase_rows
        if not late.any():
            return -1, 0
        at, run = first_run(stays & late, settings.calm_page_rows, carry)
        forced = np.flatnonzero(age >= settings.rebase_most_rows)
        if forced.size and (at < 0 or forced[0] < at):
            at = int(forced[0])
        return at, run

    def _worsen(self, c: Condition, at: int, size: int, calm: Bools) -> None:
        """Take the next `size` values into the extremes of the condition."""
        x = self.x
        worst = at + int(np.argmax(x.y[at : at + size]))
        if x.y[worst] > self.bank.scale(self.slot, c.worst):
            c.worst = float(x.values[worst])
        out = np.flatnonzero(~calm[:size])
        if out.size:
            row = int(x.index[at + int(out[-1])])
            c.last_row, c.last_step = int(x.segment.block.row[row]), int(x.segment.block.step[row])

    def _say(self, c: Condition, row: int, phase: Phase, reason: str | None = None) -> Finding:
        return condition_finding(self.detector, c, self.x.segment.track, self.x.segment.block, row, phase, reason)


def condition_finding(
    detector: LevelDetector, c: Condition, track: Track, block: Block, row: int, phase: Phase, reason: str | None
) -> Finding:
    """A finding about a condition, said at a row of the block."""
    said, unit = detector.reasons[c.reason]
    return Finding(
        kind=detector.kind,
        phase=phase,
        severity=Severity(c.severity) if track.primary else Severity.RECORD,
        run=block.run,
        attempt=c.attempt,
        key=f"{detector.kind}:{track.metric}",
        metric=track.metric,
        role=track.role,
        row=int(block.row[row]),
        step=int(block.step[row]),
        t=float(block.t[row]),
        first_row=c.first_row,
        first_step=c.first_step,
        last_row=c.last_row,
        last_step=c.last_step,
        observed=c.worst,
        expected=c.level,
        score=c.score,
        unit=unit,
        direction="down" if track.role is Role.THROUGHPUT else "up",
        reason=reason or said,
    )


def in_sigmas(g: Ints) -> Floats:
    """A CUSUM in standard deviations."""
    return g / FIXED
