"""No new row for much longer than this run ever took: the run hangs, or died without a word.

Learns the gaps between the clocks of rows (of arrivals, where rows have no clock) and compares them with the time since
the last arrival. Only a run that was seen growing can fall silent; one that reached its planned end or was finished
cannot. Where rows have steps, only those count: the statistics of a machine go on while its trainer hangs. A clock that
goes back says nothing. Bound: 64 gaps per run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from detectors.kernels import Floats
from detectors.scored import Round, Track
from detectors.settings import Settings
from detectors.types import Block, Finding, Kind, Phase, Severity

GAPS = 64


@dataclass(slots=True)
class _State:
    """Of one run. last_t, step: last clock and step; last_seen: when a row arrived last; stride: last step forward."""

    attempt: int = 0
    rows: int = 0
    grown: bool = False
    ended: bool = False
    last_t: float = np.nan
    last_seen: float = np.nan
    row: int = -1
    step: int = -1
    stride: int = 0
    longest_s: float = 0.0
    silent: bool = False
    gap_s: float = 0.0
    limit_s: float = 0.0
    gaps_s: deque[float] = field(default_factory=lambda: deque(maxlen=GAPS))


class Silence:
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._states: dict[str, _State] = {}

    def update(self, round_: Round) -> Iterator[Finding]:
        """Rows came: learn their gaps, and end a silence."""
        for run, whole in round_.pieces.items():
            state = self._states.get(run)
            if state is None:
                state = self._states[run] = _State()
            state.attempt = whole.attempt
            block = _growth(whole, stepped=state.step >= 0)
            if not block.row.size:
                continue
            if state.silent:
                state.silent = False
                yield _finding(state, run, Phase.ENDS, int(block.row[0]), int(block.step[0]), float(block.t[0]))
            self._learn(state, block)

    def _learn(self, state: _State, block: Block) -> None:
        clocks, steps = block.t[~np.isnan(block.t)], block.step[block.step >= 0]
        gaps = _forward(clocks, state.last_t)
        if not clocks.size and block.seen > state.last_seen:
            gaps = np.array([block.seen - state.last_seen])
        if gaps.size:
            state.gaps_s.extend(gaps[-GAPS:].tolist())
            # A silence that ended by itself is a pause that this run takes, and alarms once; a hang of hours is none.
            pauses = gaps[gaps <= self.settings.silence_pause_s]
            state.longest_s = max(state.longest_s, float(pauses.max(initial=0.0)))
        if clocks.size:
            state.last_t = float(clocks[-1])
        strides = _forward(steps.astype(np.float64), float(state.step) if state.step >= 0 else np.nan)
        strides = strides[strides > 0]
        if strides.size:
            state.stride = int(strides[-1])
        if steps.size:
            state.step = int(steps[-1])
        state.rows += block.row.size
        state.grown |= block.origin != "history"
        state.last_seen = block.seen
        state.row = int(block.row[-1])
        # The last row of a run that logs every 10th of 1,000 steps counted from 0 is 990.
        state.ended = block.total_steps > 0 and state.step + state.stride >= block.total_steps

    def idle(self, now: float, runs: Collection[str] | None) -> Iterator[Finding]:
        """Which of `runs` (None: all) have been silent for too long at `now`."""
        for run, state in self._states.items():
            if state.silent or state.ended or not state.grown or (runs is not None and run not in runs):
                continue
            gap_s = now - state.last_seen
            if gap_s <= self.settings.silence_least_s:  # cheap, and nearly always so
                continue
            limit_s = self._limit_s(state)
            if gap_s > limit_s:
                state.silent, state.gap_s, state.limit_s = True, gap_s, limit_s
                yield _finding(state, run, Phase.BEGINS, state.row, state.step, now)

    def _limit_s(self, state: _State) -> float:
        s = self.settings
        least = s.silence_least_s if state.rows >= s.silence_rows else s.silence_early_s
        median = float(np.median(state.gaps_s)) if state.gaps_s else 0.0
        return max(least, s.silence_median_ratio * median, s.silence_longest_ratio * state.longest_s)

    def finish(self, run: str) -> None:
        """The run ended by itself: it is not silent."""
        if run in self._states:
            self._states[run].ended = True

    def restart(self, run: str, tracks: dict[str, Track], block: Block, reason: str) -> Iterator[Finding]:  # noqa: ARG002
        """A new attempt has begun: the time between attempts is no gap."""
        state = self._states[run]
        if state.silent:
            state.silent = False
            place = int(block.row[0]), int(block.step[0]), float(block.t[0])
            yield _finding(state, run, Phase.ENDS, *place, reason=reason)
        state.last_t = state.last_seen = np.nan

    def forget(self, run: str) -> None:
        """Drop what is known of a run."""
        self._states.pop(run, None)

    def dump(self, run: str) -> object:
        """State of a run as JSON values."""
        state = self._states.get(run)
        return None if state is None else [*list(asdict(state).values())[:-1], list(state.gaps_s)]

    def load(self, run: str, state: list[Any] | None) -> None:
        """Put back what `dump` gave."""
        if state:
            self._states[run] = known = _State(*state[:-1])
            known.gaps_s.extend(state[-1])


def _growth(block: Block, *, stepped: bool) -> Block:
    """The rows that show that a run goes on: those with a step, from the first on that has one."""
    steps = block.step >= 0
    grown = steps if stepped else steps | ~np.logical_or.accumulate(steps)
    if grown.all():
        return block
    return replace(block, row=block.row[grown], step=block.step[grown], t=block.t[grown], columns=())


def _forward(line: Floats, before: float) -> Floats:
    """The differences of a line, continued from `before`, that do not go back."""
    if line.size == 1:  # a tick brings one row of every run
        gap = float(line[0]) - before
        return np.array([gap]) if 0 <= gap < np.inf else line[:0]
    whole = np.empty(line.size + 1)
    whole[0], whole[1:] = before, line
    with np.errstate(over="ignore", invalid="ignore"):  # clocks can be any number
        gaps = whole[1:] - whole[:-1]
    return gaps[(gaps >= 0) & np.isfinite(gaps)]


def _finding(
    state: _State, run: str, phase: Phase, row: int, step: int, t: float, *, reason: str | None = None
) -> Finding:
    return Finding(
        kind=Kind.SILENCE,
        phase=phase,
        severity=Severity.PAGE,
        run=run,
        attempt=state.attempt,
        key=f"{Kind.SILENCE}:",
        metric=None,
        role=None,
        row=row,
        step=step,
        t=t,
        first_row=state.row,
        first_step=state.step,
        last_row=state.row,
        last_step=state.step,
        observed=state.gap_s,
        expected=state.limit_s,
        score=state.gap_s,
        unit="s",
        direction="up",
        reason=reason or ("gap" if phase is Phase.BEGINS else "recovered"),
    )
