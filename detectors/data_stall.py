"""The data loader does not keep up: waits for data that are longer than usual and long against a step.

4 of 8 such waits are a page, a single long one is a notice. What counts is the time lost against the series' own
median, as a share of the median step: an absolute share is wrong, healthy vision runs wait for 27 % of a step. Where a
row has no step time, the wait is compared with its own median alone.
"""

from __future__ import annotations

import numpy as np

from detectors.condition import LevelDetector
from detectors.kernels import Bools, Floats
from detectors.scan import Verdict
from detectors.scored import Round, Stretch
from detectors.types import Kind, Role


class DataStall(LevelDetector):
    """See the module."""

    kind = Kind.DATA_STALL
    roles = (Role.DATA_TIME,)
    patient = True
    reasons = (("wait", "sigma"), ("share", "ratio"))

    def candidates(self, round_: Round, values: slice) -> Bools:
        """Waits well above their median."""
        s, x = self.settings, round_.scores
        hot: Bools = x.y[values] - x.m[values] > np.log(min(s.stall_ratio, s.stall_alone_ratio))
        return hot

    def verdict(self, x: Stretch, round_: Round) -> Verdict:
        """Notices for one long wait, pages for 4 of 8."""
        s = self.settings
        usual = np.exp(x.m)
        step = _step_level(x, round_)
        alone = np.isnan(step)
        ratio = np.where(alone, s.stall_alone_ratio, s.stall_ratio)
        bound = np.log(np.fmax(usual * ratio, usual + s.stall_lost * step))
        bound = x.m + (bound - x.m) * x.wide
        single = np.fmax(bound, np.log(usual + s.stall_notice_lost * step))
        notice = (x.y > single) & (x.z > s.stall_notice_z)
        v = Verdict(
            severity=notice.astype(np.int8),
            reason=np.zeros(x.y.size, np.int8),
            score=x.z.copy(),
            level=x.m,
            width=(bound - x.m) * 0.7,
        )
        at = np.flatnonzero(x.y > bound)
        at = at[(x.last(at, 8) > bound[at, None]).sum(axis=1) >= 4]
        v.severity[at], v.reason[at], v.score[at] = 2, 1, np.exp(x.y[at] - x.m[at])
        return v


def _step_level(x: Stretch, round_: Round) -> Floats:
    """The median step time at each value, NaN where the row has no step time."""
    level = np.full(x.y.size, np.nan)
    track = x.segment.run.first(Role.STEP_TIME)
    if track is not None and track.round == round_.serial:
        steps = round_.segments[track.segment]
        start = int(round_.scores.start[track.segment])
        at = np.minimum(np.searchsorted(steps.index, x.index), steps.index.size - 1)
        same = steps.index[at] == x.index
        level[same] = np.exp(round_.scores.m[start + at[same]])
    return level
