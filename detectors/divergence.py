"""The loss leaves for good: its median of 64 lies above the best one it ever had, is rising, and not by its noise.

Looked at where the baseline is refreshed, every 32 values. Ends when the median is back, or once the new level has
stayed: then the best median begins again from there. Only primary losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from detectors.kernels import Ints
from detectors.scored import Round, Segment, Track
from detectors.settings import Settings
from detectors.types import Block, Finding, Kind, Phase, Role, Severity


@dataclass(slots=True)
class _State:
    """Of one series.

    best, last, older: medians of 64 on the scale of the series, whose asinh unit is `unit`; edge_*: where the last one
    was taken; the rest stands while the condition is open.
    """

    best: float = np.inf
    last: float = np.nan
    older: float = np.nan
    unit: float = 0.0
    edge_row: int = 0
    edge_step: int = 0
    open: bool = False
    attempt: int = 0
    begun: int = 0
    first_row: int = 0
    first_step: int = 0
    last_row: int = 0
    last_step: int = 0
    level: float = np.nan
    worst: float = np.nan
    score: float = np.nan


@dataclass(slots=True)
class _Edge:
    """A refresh: the row it came with, values of the series then, median of 64, the gate, and whether it has risen."""

    row: int
    count: int
    median: float
    gate: float
    rising: bool


class Divergence:
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
        edges = first + np.flatnonzero(~np.isnan(s.edge_median[first:last]))
        for i in np.unique(s.edge_segment[edges]):
            segment = round_.segments[i]
            if segment.track.primary:
                states = self._states.setdefault(segment.block.run, {})
                state = states.setdefault(segment.track.metric, _State())
                yield from self._watch(state, round_, int(i), edges[s.edge_segment[edges] == i])

    def _watch(self, state: _State, round_: Round, i: int, edges: Ints) -> Iterator[Finding]:
        s, segment, settings = round_.scores, round_.segments[i], self.settings
        unit = float(round_.bank.unit[segment.track.slot])
        if unit != state.unit:  # the series has moved to the asinh scale
            places = np.array([state.best, state.last, state.older])
            values = state.unit * np.sinh(places) if state.unit else np.exp(places)
            state.best, state.last, state.older = np.arcsinh(values / unit).tolist()
            state.unit = unit
        median, count = s.edge_median[edges], s.edge_count[edges]
        at = count - 1 - s.n[s.start[i]]  # a refresh comes with the value before it
        gate = np.maximum(
            np.log1p(settings.divergence_gate) * s.wide[s.start[i] + at], settings.divergence_z * s.s[s.start[i] + at]
        )
        line = np.concatenate([[state.older, state.last], median])
        rising = (np.diff(line[:-1]) > 0) & (np.diff(line[1:]) > 0)
        state.older, state.last = line[-2:].tolist()
        rows = segment.index[at]
        j = 0
        while j < median.size:
            if not state.open:
                best = np.minimum.accumulate(np.concatenate([[state.best], median[j:]]))
                ripe = rising[j:] & (count[j:] >= settings.divergence_rows)
                hits = np.flatnonzero((median[j:] - best[:-1] > gate[j:]) & ripe)
                state.best = float(best[hits[0] if hits.size else -1])
                if not hits.size:
                    break
                j += int(hits[0])
                if j:
                    _remember(state, segment.block, int(rows[j - 1]))
            edge = _Edge(int(rows[j]), int(count[j]), float(median[j]), float(gate[j]), bool(rising[j]))
            finding = self._step(state, round_, segment, edge)
            if finding is not None:
                yield finding
            j += 1
        _remember(state, segment.block, int(rows[-1]))

    def _step(self, state: _State, round_: Round, segment: Segment, edge: _Edge) -> Finding | None:
        """Begin a condition at a refresh, or go on with the open one."""
        block, track, bank = segment.block, segment.track, round_.bank
        rise = edge.median - state.best
        if not state.open:
            state.open, state.attempt, state.begun = True, block.attempt, edge.count
            state.first_row, state.first_step = state.edge_row, state.edge_step
            state.level, state.worst = bank.unscale(track.slot, state.best), -np.inf
        back = rise <= edge.gate / 2
        age = edge.count - state.begun
        stays = (age >= self.settings.rebase_rows and not edge.rising) or age >= self.settings.rebase_most_rows
        if back or stays:
            state.open = False
            state.best = state.best if back else edge.median
            return _finding(state, track, block, edge.row, Phase.ENDS, "recovered" if back else "rebased")
        state.last_row, state.last_step = int(block.row[edge.row]), int(block.step[edge.row])
        value = bank.unscale(track.slot, edge.median)
        if value > state.worst:
            state.worst, state.score = value, float(np.exp(rise))
        return _finding(state, track, block, edge.row, Phase.BEGINS, "median_rising") if age == 0 else None

    def restart(self, run: str, tracks: dict[str, Track], block: Block, reason: str) -> Iterator[Finding]:
        """What is open ends at the first row of `block`."""
        for metric, state in self._states.get(run, {}).items():
            if state.open:
                state.open = False
                yield _finding(state, tracks[metric], block, 0, Phase.ENDS, reason)

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


def _remember(state: _State, block: Block, row: int) -> None:
    state.edge_row, state.edge_step = int(block.row[row]), int(block.step[row])


def _finding(state: _State, track: Track, block: Block, row: int, phase: Phase, reason: str) -> Finding:
    return Finding(
        kind=Kind.DIVERGENCE,
        phase=phase,
        severity=Severity.PAGE,
        run=block.run,
        attempt=state.attempt,
        key=f"{Kind.DIVERGENCE}:{track.metric}",
        metric=track.metric,
        role=track.role,
        row=int(block.row[row]),
        step=int(block.step[row]),
        t=float(block.t[row]),
        first_row=state.first_row,
        first_step=state.first_step,
        last_row=state.last_row,
        last_step=state.last_step,
        observed=state.worst,
        expected=state.level,
        score=state.score,
        unit="ratio",
        direction="up",
        reason=reason,
    )
