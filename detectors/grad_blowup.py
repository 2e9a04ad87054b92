"""Gradient norm far above its level. Its tail is heavy: single values and the CUSUM are notices, 3 of 5 is a page."""

from __future__ import annotations

import numpy as np

from detectors.condition import LevelDetector
from detectors.jump import jumps
from detectors.kernels import FIXED, REFRESH, Bools
from detectors.scan import Verdict, in_sigmas
from detectors.scored import Round, Stretch
from detectors.types import Kind, Role


class GradBlowup(LevelDetector):
    """See the module."""

    kind = Kind.GRAD_BLOWUP
    roles = (Role.GRAD_NORM,)
    reasons = (("outlier", "sigma"), ("cusum", "cusum"), ("three_of_five", "ratio"), ("jump", "ratio"))

    def candidates(self, round_: Round, values: slice) -> Bools:
        """Large values and large CUSUMs."""
        s, x = self.settings, round_.scores
        hot: Bools = x.z[values] > s.grad_notice_z
        hot |= x.g[values] >= s.grad_h * FIXED
        hot |= x.y[values] - x.m[values] > np.log(s.grad_page_ratio)
        hot |= x.n[values] < REFRESH
        return hot

    def verdict(self, x: Stretch, round_: Round) -> Verdict:  # noqa: ARG002
        """Notices for outliers and a risen level, pages for 3 of 5."""
        s = self.settings
        above = x.y - x.m
        outlier = (x.z > s.grad_notice_z) & (above > np.log(s.grad_notice_ratio) * x.wide)
        risen = ~outlier & (x.g >= s.grad_h * FIXED)
        v = Verdict(
            severity=(outlier | risen).astype(np.int8),
            reason=risen.astype(np.int8),
            score=np.where(risen, in_sigmas(x.g), x.z),
            level=x.m.copy(),
            width=np.maximum(2 * x.s, np.log(s.grad_notice_ratio) / 2),
        )
        gate = np.maximum(np.log(s.grad_page_ratio) * x.wide, s.grad_page_z * x.s)
        at = np.flatnonzero(above > gate)
        if at.size:
            at = at[(x.last(at, 5) - x.m[at, None] > gate[at, None]).sum(axis=1) >= 3]
            v.severity[at], v.reason[at], v.score[at] = 2, 2, np.exp(above[at])
        if x.n[0] < REFRESH:
            jumps(x, v, s.grad_jump_gate, 3)
        return v
