"""NaN or Inf in a loss or a gradient norm: a page at the first row.

One isolated value in a gradient norm at a row whose skipped-step counter rises, or whose loss scale falls, is what a
loss scaler does when all is well: a notice. The condition ends after some finite values; it needs no baseline.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from detectors.condition import PART
from detectors.kernels import Ints
from detectors.scan import first_run
from detectors.scored import Round, Segment, Track
from detectors.settings import Settings
from detectors.types import Block, Finding, Kind, Phase, Role, Severity

WATCHED = (Role.LOSS, Role.GRAD_NORM)
COUNTERS = {Role.SKIPPED_STEPS: 1, Role.NAN_STEPS: 1, Role.LOSS_SCALE: -1}  # which way they go when a step is skipped


@dataclass(slots=True)
class _Condition:
    """An open condition. bad: non-finite values so far; calm: finite ones since the last."""

    attempt: int
    severity: int
    observed: float
    expected: float
    first_row: int
    first_step: int
    last_row: int
    last_step: int
    bad: int = 0
    calm: int = 0


class Nonfinite:
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._open: dict[str, dict[str, _Condition]] = {}
        self._counters: dict[str, dict[str, float]] = {}  # run → metric of a counter → its last value

    def update(self, round_: Round) -> Iterator[Finding]:
        """Findings of a round, per series in row order."""
        todo = set(round_.bad)
        for run in self._open.keys() & round_.pieces.keys():
            tracks = (round_.runs[run].tracks[metric] for metric in self._open[run])
            todo.update(track.raw for track in tracks if track.round == round_.serial)
        for i in sorted(todo):
            if round_.raw[i].track.role in WATCHED:
                yield from self._watch(round_, round_.raw[i])
        for segment in round_.counters:
            self._counters.setdefault(segment.block.run, {})[segment.track.metric] = float(segment.values[-1])

    def _watch(self, round_: Round, x: Segment) -> Iterator[Finding]:
        for low in range(0, x.values.size, PART):
            part = slice(low, low + PART)
            yield from self._scan(round_, x, replace(x, index=x.index[part], values=x.values[part]), low)

    def _scan(self, round_: Round, whole: Segment, x: Segment, low: int) -> Iterator[Finding]:
        mine = self._open.setdefault(x.block.run, {})
        bad = ~np.isfinite(x.values)
        at = 0
        while at < bad.size:
            c = mine.get(x.track.metric)
            if c is None:
                hits = np.flatnonzero(bad[at:])
                if not hits.size:
                    break
                at += int(hits[0])
                c = mine[x.track.metric] = self._begin(round_, whole, low + at)
                yield _finding(c, x.track, x.block, int(x.index[at]), Phase.BEGINS, "nonfinite")
                at += 1
                continue
            end, run = first_run(~bad[at:], self.settings.calm_page_rows, c.calm)
            again = np.flatnonzero(bad[at:])
            grows = c.severity < Severity.PAGE and again.size and (end < 0 or again[0] < end)
            stop = at + (int(again[0]) + 1 if grows else end + 1 if end >= 0 else bad.size - at)
            _see(c, x, np.flatnonzero(bad[at:stop]) + at)
            row = int(x.index[stop - 1])
            c.calm = 0 if grows else run
            if grows:
                c.severity = Severity.PAGE
                yield _finding(c, x.track, x.block, row, Phase.GROWS, "nonfinite_again")
            elif end >= 0:
                del mine[x.track.metric]
                yield _finding(c, x.track, x.block, row, Phase.ENDS, "recovered")
            at = stop
        if not mine:
            del self._open[x.block.run]

    def _begin(self, round_: Round, x: Segment, at: int) -> _Condition:
        block, row = x.block, int(x.index[at])
        skipped = x.track.primary and x.track.role is Role.GRAD_NORM and self._skipped(round_, block, row)
        place = block.row[row].item(), block.step[row].item()
        return _Condition(
            block.attempt,
            Severity.NOTICE if skipped else Severity.PAGE,
            float(x.values[at]),
            round_.level_before(x, at),
            *place,
            *place,
            bad=1,
        )

    def _skipped(self, round_: Round, block: Block, row: int) -> bool:
        """Whether a counter of the run says that the step at `row` was skipped."""
        known = self._counters.get(block.run, {})
        for segment in round_.counters:
            if segment.block is block:
                at = int(np.searchsorted(segment.index, row))
                if at < segment.index.size and segment.index[at] == row:
                    before = segment.values[at - 1] if at else known.get(segment.track.metric, np.nan)
                    if (segment.values[at] - before) * COUNTERS[segment.track.role] > 0:
                        return True
        return False

    def restart(self, run: str, tracks: dict[str, Track], block: Block, reason: str) -> Iterator[Finding]:
        """What is open ends at the first row of `block`."""
        self._counters.pop(run, None)
        for metric, c in self._open.pop(run, {}).items():
            yield _finding(c, tracks[metric], block, 0, Phase.ENDS, reason)

    def forget(self, run: str) -> None:
        """Drop what is known of a run."""
        self._open.pop(run, None)
        self._counters.pop(run, None)

    def dump(self, run: str) -> object:
        """State of a run as JSON values."""
        opened = {metric: list(asdict(c).values()) for metric, c in self._open.get(run, {}).items()}
        return [opened, self._counters.get(run, {})]

    def load(self, run: str, state: tuple[dict[str, list[Any]], dict[str, float]]) -> None:
        """Put back what `dump` gave."""
        if state[0]:
            self._open[run] = {metric: _Condition(*values) for metric, values in state[0].items()}
        if state[1]:
            self._counters[run] = dict(state[1])


def _see(c: _Condition, x: Segment, bad: Ints) -> None:
    if bad.size:
        row = int(x.index[bad[-1]])
        c.bad += int(bad.size)
        c.last_row, c.last_step = int(x.block.row[row]), int(x.block.step[row])


def _finding(c: _Condition, track: Track, block: Block, row: int, phase: Phase, reason: str) -> Finding:
    return Finding(
        kind=Kind.NONFINITE,
        phase=phase,
        severity=Severity(c.severity) if track.primary else Severity.RECORD,
        run=block.run,
        attempt=c.attempt,
        key=f"{Kind.NONFINITE}:{track.metric}",
        metric=track.metric,
        role=track.role,
        row=int(block.row[row]),
        step=int(block.step[row]),
        t=float(block.t[row]),
        first_row=c.first_row,
        first_step=c.first_step,
        last_row=c.last_row,
        last_step=c.last_step,
        observed=c.observed,
        expected=c.expected,
        score=float(c.bad),
        unit="values",
        direction="up",
        reason=reason,
    )
