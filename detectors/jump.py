"""The first values of a series, of which no level is known yet: each against the highest of the up to 4 before it."""

from __future__ import annotations

import numpy as np

from detectors.kernels import REFRESH
from detectors.scan import Verdict
from detectors.scored import Stretch

_BEFORE = 4


def jumps(x: Stretch, verdict: Verdict, gate: float, reason: int) -> None:
    """Make notices of those of the first 32 values, from the third on, that lie more than `gate` (relative) above.

    x: values on a log scale. What the verdict says already stays.
    """
    at = np.flatnonzero((x.n >= 2) & (x.n < REFRESH) & (verdict.severity == 0))
    if not at.size:
        return
    highest = np.nanmax(x.last(at - 1, _BEFORE), axis=1)
    above = x.y[at] - highest
    hit = above > np.log1p(gate) * x.wide[at]
    at = at[hit]
    verdict.severity[at], verdict.reason[at], verdict.score[at] = 1, reason, np.exp(above[hit])
    verdict.level[at], verdict.width[at] = highest[hit], above[hit] / 3
