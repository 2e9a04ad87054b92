"""What the baseline takes and gives: how a series is scored, and the scores of a call."""

from __future__ import annotations

from dataclasses import dataclass

from detectors.kernels import Floats, Ints, Singles


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How a series is scored.

    floor: least scale, in log units; k: CUSUM allowance; sign: -1 where a fall is bad;
    history_cap: how far, in log units, the median of 256 values ago may lift the reference (0: not at all);
    falling: whether a young series falls steeply; lopsided: whether its noise may have a heavy upper side.
    """

    floor: float
    k: float
    sign: int = 1
    history_cap: float = 0.0
    falling: bool = False
    lopsided: bool = False


@dataclass(slots=True, kw_only=True)
class Scores:
    """Scores of n values in segments, one segment per series.

    slot, start, length: int64[segments]. n: int64[n], finite values of the series before this one. y: the value on its
    scale. m, ref, s: median, reference (at least m) and scale before it, NaN before 8 values. z = (y - m) / s.
    step: int64[n], CUSUM increments; g: int64[n], the CUSUM after the value; both in 1 / 2**20.
    wide: float64[n], factor on effect gates. tail: segment → the values before it where the ring no longer has them.
    edge_*: for every refresh in this call its segment, count and the median of the last 64 values (NaN before 64, and
    of series that do not fall).
    """

    slot: Ints
    start: Ints
    length: Ints
    n: Ints
    y: Floats
    m: Floats
    ref: Floats
    s: Floats
    z: Floats
    step: Ints
    g: Ints
    wide: Floats
    tail: dict[int, Singles]
    edge_segment: Ints
    edge_count: Ints
    edge_median: Floats
