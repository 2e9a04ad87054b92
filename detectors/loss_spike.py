"""Loss above its level: a one-step outlier is a notice, a persistent rise is a page.

On healthy runs 99 % of the loss outliers are one step long, so no single value pages. The page is a CUSUM against the
larger of the level now and 256 values ago, with an effect gate. A young series falls steeply, so its level lags and its
spread is mostly trend: there values are also held against the 8 before them, with the spread of differences, and the
median of 8 against the best so far. Bound: +10 % of one step is below the noise of real runs and is not looked for.
"""

from __future__ import annotations

import numpy as np

from detectors.condition import LevelDetector
from detectors.jump import jumps
from detectors.kernels import EARLY, FIXED, REFRESH, Bools, Floats, Ints
from detectors.scan import Verdict, in_sigmas
from detectors.scored import Round, Stretch
from detectors.types import Kind, Role

FLAT = 0.1  # log units
_OUTLIER, _CUSUM, _EARLY_LEVEL, _EARLY_OUTLIER, _RECURRING, _PLANNED, _JUMP = range(7)


class LossSpike(LevelDetector):
    """See the module."""

    kind = Kind.LOSS_SPIKE
    roles = (Role.LOSS,)
    reasons = (
        ("outlier", "sigma"), ("cusum", "cusum"), ("early_level", "ratio"), ("early_outlier", "sigma"),
        ("recurring", "sigma"), ("level_without_gradient", "cusum"),
        ("jump", "ratio"),
    )  # fmt: skip
    recurring = _RECURRING

    def candidates(self, round_: Round, values: slice) -> Bools:
        """Outliers, large CUSUMs and all young values."""
        s, x = self.settings, round_.scores
        hot: Bools = x.z[values] > s.loss_notice_z
        hot |= x.g[values] >= s.loss_h * FIXED
        hot |= x.n[values] < s.loss_young_rows
        return hot

    def verdict(self, x: Stretch, round_: Round) -> Verdict:
        """Notices for outliers, pages for a risen level."""
        s = self.settings
        above = x.y - x.m
        outlier = (x.z > s.loss_notice_z) & (above > np.log1p(s.loss_notice_gate) * x.wide)
        v = Verdict(
            severity=outlier.astype(np.int8),
            reason=np.zeros(x.y.size, np.int8),
            score=x.z.copy(),
            level=x.m.copy(),  # not the reference: what exceeds only the level now is not back in band
            width=np.maximum(2 * x.s, 0.6 * np.log1p(s.loss_gate)),
        )
        if x.n[0] < s.loss_young_rows:
            self._young_outliers(x, v)
            if not round_.bank.unit[x.segment.track.slot]:  # near zero a factor says nothing
                jumps(x, v, s.loss_jump_gate, _JUMP)
        at = np.flatnonzero(x.g >= s.loss_h * FIXED)
        if at.size:
            effect = np.median(x.last(at, 4), axis=1) - x.ref[at]
            gate = np.maximum(np.log1p(s.loss_gate) * x.wide[at], s.loss_gate_z * x.s[at])
            planned = (effect < np.log1p(s.loss_planned_gate)) & [_gradient_fell(x, round_, i) for i in at.tolist()]
            risen, planned = effect >= gate, planned & (effect >= gate)
            v.severity[at[risen]], v.reason[at[risen]], v.score[at[risen]] = 2, _CUSUM, in_sigmas(x.g[at[risen]])
            v.severity[at[planned]], v.reason[at[planned]] = 1, _PLANNED
        if x.n[0] < s.loss_early_rows:
            self._early_level(x, v)
        return v

    def _young_outliers(self, x: Stretch, v: Verdict) -> None:
        """Each value against the median of the 8 before it, in MADs of the up to 32 differences before it."""
        s = self.settings
        at = np.flatnonzero((x.n >= EARLY) & (x.n < s.loss_young_rows) & (v.severity == 0))
        level = np.median(x.last(at - 1, EARLY), axis=1)
        above = x.y[at] - level
        keep = above > np.log1p(s.loss_young_gate) * x.wide[at]
        at, level, above = at[keep], level[keep], above[keep]
        spread = self._young_spread(x, at)
        hit = above > s.loss_notice_z * spread
        at = at[hit]
        v.severity[at], v.reason[at], v.score[at] = 1, _EARLY_OUTLIER, (above / spread)[hit]
        v.level[at], v.width[at] = level[hit], np.maximum(2 * spread[hit], above[hit] / 3)

    def _young_spread(self, x: Stretch, at: Ints) -> Floats:
        """The standard deviation of a young series without its trend: from up to 32 differences before each value."""
        if not at.size:
            return np.zeros(0)
        past = x.last(at - 1, REFRESH + 1)
        known = np.minimum(x.n[at], REFRESH + 1) - 1
        spread = 1.4826 / np.sqrt(2) * np.nanmedian(np.abs(np.diff(past, axis=1)), axis=1) * (1 + EARLY / known)
        floored: Floats = np.maximum(spread, np.log1p(self.settings.loss_floor)) * x.wide[at]
        return floored

    def _early_level(self, x: Stretch, v: Verdict) -> None:
        """Median of 8 values against the best one so far, from the 16th value on."""
        s = self.settings
        size = int(np.searchsorted(x.n, s.loss_early_rows))
        seen = x.before[: x.offset + size].astype(np.float64)
        if seen.size <= 2 * EARLY:
            return
        recent = np.median(np.lib.stride_tricks.sliding_window_view(seen, EARLY), axis=1)
        best = np.minimum.accumulate(recent)[:-1]
        rise = recent[1:] - best  # of values EARLY, EARLY + 1, …
        at = np.arange(size)
        place = x.offset + at - EARLY
        at, place = at[place >= EARLY], place[place >= EARLY]
        hit = (rise[place] > np.log1p(s.loss_early_gate) * x.wide[at]) & (v.severity[at] < 2)
        at, place = at[hit], place[hit]
        hit = rise[place] > s.loss_early_z * self._young_spread(x, at)
        at, place = at[hit], place[hit]
        v.severity[at], v.reason[at], v.score[at], v.level[at] = 2, _EARLY_LEVEL, np.exp(rise[place]), best[place]


def _gradient_fell(x: Stretch, round_: Round, i: int) -> bool:
    """Whether the gradient norm is lately hardly higher than before: a planned change lifts the loss alone."""
    grads = round_.lately(x.segment, Role.GRAD_NORM, int(x.index[i]), 72)
    return grads.size == 72 and bool(np.median(grads[-8:]) <= np.median(grads[:-8]) + FLAT)
