"""What the bank said about one round of rows, cut by series: what the detectors of single series look at.

A round holds at most one piece of each run. Segments of a role lie side by side, so a detector scans all series of its
role at once and touches single series only where a value is a candidate or a condition is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from detectors.baseline import Bank
from detectors.cadence import Cadence
from detectors.kernels import Bools, Floats, Ints, Singles
from detectors.scores import Scores
from detectors.types import Block, Role


@dataclass(slots=True)
class Track:
    """One series of one run.

    slot: its place in the bank, -1 if the bank does not score it. first_row: its first value.
    segment, raw, round: where its finite and all its values are in the round that it was last in.
    """

    metric: str
    role: Role
    primary: bool
    slot: int
    first_row: int
    segment: int = -1
    raw: int = -1
    round: int = -1


@dataclass(slots=True)
class Run:
    """What is known of a run.

    step: the largest of its attempt. tracks: by metric. turns: rows at which a cadence begins.
    """

    attempt: int
    step: int = -1
    cadence: Cadence = field(default_factory=Cadence)
    tracks: dict[str, Track] = field(default_factory=dict)
    turns: set[int] = field(default_factory=set)

    def first(self, role: Role) -> Track | None:
        """The primary series of a role."""
        return next((t for t in self.tracks.values() if t.role is role and t.primary), None)


@dataclass(slots=True)
class Segment:
    """Values of one series in a round. index: positions in the rows of the block."""

    track: Track
    run: Run
    block: Block
    index: Ints
    values: Floats


@dataclass(slots=True)
class Stretch:
    """Some successive values of one series with their scores (see `Scores`).

    before: values on the scale of the series
    up to and with this stretch, beginning `offset` values earlier. step_level: median step time, log, for shares.
    """

    segment: Segment
    index: Ints
    values: Floats
    n: Ints
    y: Floats
    m: Floats
    ref: Floats
    s: Floats
    z: Floats
    step: Ints
    g: Ints
    wide: Floats
    before: Singles
    offset: int

    def part(self, low: int, high: int) -> Stretch:
        """The values from `low` to `high`."""
        cut = {name: getattr(self, name)[low:high] for name in _ARRAYS}
        return replace(self, **cut, offset=self.offset + low)

    def last(self, at: Ints, width: int) -> Floats:
        """float64[at, width]: the `width` values up to and with each position; NaN before the first."""
        place = self.offset + at[:, None] + np.arange(1 - width, 1)
        return np.where(place >= 0, self.before[np.maximum(place, 0)].astype(np.float64), np.nan)


_ARRAYS = ("index", "values", "n", "y", "m", "ref", "s", "z", "step", "g", "wide")


@dataclass(slots=True)
class Round:
    """Pieces of runs whose rows were scored together.

    serial: number of the round. pieces: run → rows. segments: the scored series, those of a role side by side; spans:
    role → first and last + 1 segment. raw: the same series with NaN and Inf; bad: those that hold any. counters:
    counts of skipped steps and loss scales, not scored.
    """

    serial: int
    bank: Bank
    runs: Mapping[str, Run]
    pieces: Mapping[str, Block]
    segments: Sequence[Segment]
    spans: Mapping[Role, tuple[int, int]]
    scores: Scores
    raw: Sequence[Segment]
    bad: Sequence[int]
    counters: Sequence[Segment]

    def values_of(self, span: tuple[int, int]) -> slice:
        """The values of segments in the arrays of `scores`."""
        low, high = span
        if low == high:
            return slice(0, 0)
        s = self.scores
        return slice(int(s.start[low]), int(s.start[high - 1] + s.length[high - 1]))

    def hot(self, span: tuple[int, int], candidate: Bools) -> list[int]:
        """The segments of a span that hold a candidate."""
        if not candidate.any():
            return []
        start = self.scores.start[span[0] : span[1]]
        return [int(i) + span[0] for i in np.flatnonzero(np.logical_or.reduceat(candidate, start - start[0]))]

    def stretch(self, i: int) -> Stretch:
        """All values of a segment."""
        s, segment = self.scores, self.segments[i]
        part = slice(int(s.start[i]), int(s.start[i] + s.length[i]))
        past = self.bank.history(s, i)
        return Stretch(
            segment=segment, index=segment.index, values=segment.values, n=s.n[part], y=s.y[part], m=s.m[part],
            ref=s.ref[part], s=s.s[part], z=s.z[part], step=s.step[part], g=s.g[part], wide=s.wide[part],
            before=np.concatenate([past, s.y[part].astype(np.float32)]), offset=past.size,
        )  # fmt: skip

    def lately(self, x: Segment, role: Role, index: int, width: int) -> Singles:
        """Up to `width` values, on their scale, of the run's primary series of a role, the last at or before a row."""
        track = x.run.first(role)
        if track is None or track.slot < 0:
            return np.zeros(0, np.float32)
        if track.round != self.serial or track.segment < 0:
            return self.bank.last(track.slot)[-width:]
        other = self.stretch(track.segment)
        end = other.offset + int(np.searchsorted(other.index, index, "right"))
        return other.before[max(0, end - width) : end]

    def level_before(self, x: Segment, at: int) -> float:
        """The median of a raw series before its value at `at`, in its own unit; NaN if there is none yet."""
        before = int(np.isfinite(x.values[:at]).sum())
        track = x.track
        here = track.round == self.serial and track.segment >= 0 and before < self.scores.length[track.segment]
        m = self.scores.m[self.scores.start[track.segment] + before] if here else self.bank.m[track.slot]
        return self.bank.unscale(track.slot, float(m))
