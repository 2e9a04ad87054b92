"""A young loss that does not fall: its median of 64 is where it was 64 values ago, and was so 32 values earlier too.

Looked at where the baseline is refreshed, every 8 values, and only while a healthy run still falls visibly: up to
`plateau_rows` values of a log that begins near step 0: an old run that is seen late is flat by right. A notice at most.
Ends when the median has fallen, or risen for good. Only primary losses that are positive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from detectors.kernels import EARLY, SHORT
from detectors.scored import Round, Segment, Track
from detectors.settings import Settings
from detectors.types import Block, Finding, Kind, Phase, Role, Severity

_AGO = SHORT // EARLY  # refreshes between two medians that share no value
_KEPT = _AGO + _AGO // 2 + 1
_YOUNG = 4  # times the steps of the refreshes kept: at most so many lie before them


@dataclass(slots=True)
class _State:
    """Of one series. edges: (median, row, step) of the last refreshes; the rest stands while the condition is open."""

    edges: list[tuple[float, int, int]] = field(default_factory=list)
    open: bool = False
    attempt: int = 0
    level: float = np.nan
    first_row: int = 0
    first_step: int = 0
    last_row: int = 0
    last_step: int = 0


class Plateau:
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._states: dict[str, dict[str, _State]] = {}

    def update(self, round_: Round) -> Iterator[Finding]:
        """Findings of a round, per series in row order."""
        if Role.LOSS not in round_.spans:
            return
        s = round_.scores
        first, last = np.searchsorted(s.edge_segment, round_.spans[Role.LOSS])
        due = ~np.isnan(s.edge_median[first:last])
        if not any(state.open for states in self._states.values() for state in states.values()):
            due &= s.edge_count[first:last] <= self.settings.plateau_rows
        for e in first + np.flatnonzero(due):
            i, count = int(s.edge_segment[e]), int(s.edge_count[e])
            segment = round_.segments[i]
            states = self._states.get(segment.block.run, {})
            state = states.get(segment.track.metric)
            watched = state is not None and state.open
            if not segment.track.primary or round_.bank.unit[segment.track.slot] > 0:
                continue
            if not watched and count > self.settings.plateau_rows:
                continue
            if state is None:
                state = self._states.setdefault(segment.block.run, {}).setdefault(segment.track.metric, _State())
            at = count - 1 - int(s.n[s.start[i]])  # a refresh comes with the value before it
            yield from self._step(state, round_, segment, int(segment.index[at]), float(s.edge_median[e]))

    def _step(self, state: _State, round_: Round, segment: Segment, row: int, median: float) -> Iterator[Finding]:
        block = segment.block
        state.edges = [*state.edges[1 - _KEPT :], (median, int(block.row[row]), int(block.step[row]))]
        if state.open:
            state.last_row, state.last_step = int(block.row[row]), int(block.step[row])
            if not self._flat(state.level, median, 2.0):
                state.open = False
                yield _finding(
                    state, round_, segment, row, Phase.ENDS, "recovered" if median < state.level else "rebased"
                )
        elif len(state.edges) == _KEPT:
            now, before = state.edges[-1 - _AGO][0], state.edges[0][0]
            young = state.edges[0][2] <= _YOUNG * (state.edges[-1][2] - state.edges[0][2])
            if young and self._flat(now, median) and self._flat(before, state.edges[-1 - _AGO // 2][0]):
                state.open, state.attempt, state.level = True, block.attempt, median
                _, state.first_row, state.first_step = state.edges[0]
                state.last_row, state.last_step = int(block.row[row]), int(block.step[row])
                yield _finding(state, round_, segment, row, Phase.BEGINS, "flat")

    def _flat(self, before: float, now: float, wide: float = 1.0) -> bool:
        fall, rise = self.settings.plateau_gate, self.settings.loss_gate
        return bool(-np.log1p(wide * fall) <= now - before < np.log1p(wide * rise))

    def restart(self, run: str, tracks: dict[str, Track], block: Block, reason: str) -> Iterator[Finding]:
        """What is open ends at the first row of `block`."""
        for metric, state in self._states.pop(run, {}).items():
            if state.open:
                yield _say(state, tracks[metric], block, 0, Phase.ENDS, reason, np.nan)

    def forget(self, run: str) -> None:
        """Drop what is known of a run."""
        self._states.pop(run, None)

    def dump(self, run: str) -> object:
        """State of a run as JSON values."""
        return {metric: list(asdict(state).values()) for metric, state in self._states.get(run, {}).items()}

    def load(self, run: str, state: dict[str, list[Any]]) -> None:
        """Put back what `dump` gave."""
        if state:
            self._states[run] = {metric: _State(*values) for metric, values in state.items()}


def _finding(state: _State, round_: Round, segment: Segment, row: int, phase: Phase, reason: str) -> Finding:
    level = round_.bank.unscale(segment.track.slot, state.edges[-1][0])
    return _say(state, segment.track, segment.block, row, phase, reason, level)


def _say(state: _State, track: Track, block: Block, row: int, phase: Phase, reason: str, level: float) -> Finding:
    return Finding(
        kind=Kind.PLATEAU,
        phase=phase,
        severity=Severity.NOTICE,
        run=block.run,
        attempt=state.attempt,
        key=f"{Kind.PLATEAU}:{track.metric}",
        metric=track.metric,
        role=track.role,
        row=int(block.row[row]),
        step=int(block.step[row]),
        t=float(block.t[row]),
        first_row=state.first_row,
        first_step=state.first_step,
        last_row=state.last_row,
        last_step=state.last_step,
        observed=level,
        expected=float(np.exp(state.level)),
        score=1.0,
        unit="ratio",
        direction="flat",
        reason=reason,
    )
