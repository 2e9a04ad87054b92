"""A detector of one kind that watches the level of single series, and keeps their open conditions.

What: a detector says per value whether it is a notice or a page (`Verdict`); `Scan` turns that into findings.
Bounds: one condition per series; frozen for at most `rebase_most_rows` values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from detectors.kernels import Bools, cusum
from detectors.recurrence import Recurrence
from detectors.scan import Condition, Scan, Verdict, condition_finding
from detectors.scored import Round, Stretch, Track
from detectors.settings import Settings
from detectors.types import Block, Finding, Kind, Phase, Role

PART = 1024  # values looked at together: bounds the work after a change of state


class LevelDetector(ABC):
    """A detector of one kind that watches the level of single series."""

    kind: Kind
    roles: tuple[Role, ...]
    reasons: tuple[tuple[str, str], ...]  # reason and the unit of its score
    patient: bool = False  # whether a condition must last `time_patience_s` by the clock of its rows before it pages
    recurring: int | None = None  # the reason to page for notices that come again and again; None: never

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._open: dict[str, dict[str, Condition]] = {}
        self.recurrence = Recurrence(settings.recur_count, settings.recur_rows)

    @abstractmethod
    def candidates(self, round_: Round, values: slice) -> Bools:
        """Values at which `verdict` may say something; a cheap superset, over all series of a role."""

    @abstractmethod
    def verdict(self, x: Stretch, round_: Round) -> Verdict:
        """What the detector says of each value if no condition is open."""

    def update(self, round_: Round) -> Iterator[Finding]:
        """Findings of a round, per series in row order."""
        masks: dict[int, Bools] = {}
        s = round_.scores
        for span in (round_.spans[role] for role in self.roles if role in round_.spans):
            values = round_.values_of(span)
            mask = self.candidates(round_, values)
            for i in round_.hot(span, mask):
                low = int(s.start[i]) - values.start
                masks[i] = mask[low : low + int(s.length[i])]
        for run in self._open.keys() & round_.pieces.keys():
            tracks = round_.runs[run].tracks
            for metric in self._open[run]:
                track = tracks[metric]
                if track.round == round_.serial:
                    masks.setdefault(track.segment, np.zeros(int(s.length[track.segment]), np.bool_))
        for i, mask in sorted(masks.items()):
            yield from self._watch(round_, i, mask)

    def _watch(self, round_: Round, i: int, mask: Bools) -> Iterator[Finding]:
        whole = round_.stretch(i)
        segment = whole.segment
        mine = self._open.get(segment.block.run, {})
        g: int | None = None  # the CUSUM, once a condition has ended here
        for low in range(0, mask.size, PART):
            x = whole.part(low, low + PART)
            if g is not None:
                x.g = cusum(x.step, g)
            condition = mine.get(segment.track.metric)
            if condition is not None or mask[low : low + PART].any():
                scan = Scan(self, round_, x, condition)
                yield from scan.findings()
                if scan.condition is None:
                    mine.pop(segment.track.metric, None)
                else:
                    mine[segment.track.metric] = scan.condition
                if scan.restarted:
                    g = 0
            if g is not None:
                g = int(x.g[-1])
        if mine:
            self._open[segment.block.run] = mine
        else:
            self._open.pop(segment.block.run, None)
        if g is not None:
            round_.bank.g[segment.track.slot] = g

    def restart(self, run: str, tracks: dict[str, Track], block: Block, reason: str) -> Iterator[Finding]:
        """What is open ends at the first row of `block`."""
        for metric, condition in self._open.pop(run, {}).items():
            yield condition_finding(self, condition, tracks[metric], block, 0, Phase.ENDS, reason)

    def forget(self, run: str) -> None:
        """Drop what is known of a run."""
        self._open.pop(run, None)
        self.recurrence.forget(run)

    def dump(self, run: str) -> object:
        """State of a run as JSON values."""
        conditions = {metric: list(asdict(c).values()) for metric, c in self._open.get(run, {}).items()}
        return [conditions, self.recurrence.dump(run)]

    def load(self, run: str, state: list[Any]) -> None:
        """Put back what `dump` gave."""
        conditions, lately = state
        if conditions:
            self._open[run] = {metric: Condition(*values) for metric, values in conditions.items()}
        self.recurrence.load(run, lately)
