"""Steps slower than they were: a sustained slow-down is a page, a brief dip a notice.

Watches the step time; where a run never logged one, its throughput, upside down. Planned changes (sequence length,
batch size) look the same: each new level is said once.
"""

from __future__ import annotations

import numpy as np

from detectors.condition import LevelDetector
from detectors.kernels import FIXED, Bools
from detectors.scan import Verdict, in_sigmas
from detectors.scored import Round, Stretch
from detectors.types import Kind, Role


class Throughput(LevelDetector):
    """See the module."""

    kind = Kind.THROUGHPUT_DROP
    roles = (Role.STEP_TIME, Role.THROUGHPUT)
    patient = True
    reasons = (("outlier", "sigma"), ("cusum", "cusum"))

    def candidates(self, round_: Round, values: slice) -> Bools:
        """Outliers and large CUSUMs."""
        s, x = self.settings, round_.scores
        hot: Bools = x.z[values] > s.time_notice_z
        hot |= x.g[values] >= s.time_h * FIXED
        return hot

    def verdict(self, x: Stretch, round_: Round) -> Verdict:  # noqa: ARG002
        """Notices for outliers, pages for a risen level."""
        s = self.settings
        outlier = (x.z > s.time_notice_z) & (x.y - x.m > np.log(s.time_notice_ratio) * x.wide)
        v = Verdict(
            severity=outlier.astype(np.int8),
            reason=np.zeros(x.y.size, np.int8),
            score=x.z.copy(),
            level=x.m,
            width=np.maximum(2 * x.s, np.log1p(s.time_gate) / 2),
        )
        at = np.flatnonzero(x.g >= s.time_h * FIXED)
        if at.size:
            effect = np.median(x.last(at, 16), axis=1) - x.ref[at]
            at = at[effect >= np.log1p(s.time_gate) * x.wide[at]]
            v.severity[at], v.reason[at], v.score[at] = 2, 1, in_sigmas(x.g[at])
        v.severity[x.n < s.time_skip_rows] = 0
        v.severity[self._doubled(x)] = 0
        return v

    def _doubled(self, x: Stretch) -> Bools:
        """Values of a throughput at rows where the run had a step time already."""
        segment = x.segment
        if segment.track.role is Role.THROUGHPUT:
            other = segment.run.first(Role.STEP_TIME)
            if other is not None:
                late: Bools = segment.block.row[x.index] >= other.first_row
                return late
        return np.zeros(x.y.size, np.bool_)
