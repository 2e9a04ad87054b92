"""From values to pixels and words: axes, round ticks, short numbers and thinned curves. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_WIDE = 3.0  # a logarithmic axis is worth its oddness from this ratio on
_HUGE = 1e150  # beyond it differences and ratios of values overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Values from lo to hi → pixels from first to last, linear or logarithmic. Values outside go to the edge."""

    lo: float
    hi: float
    first: float
    last: float
    log: bool = False

    def at(self, value: float) -> float:
        """Pixel of one value."""
        return float(self.every(np.array([value]))[0])

    def every(self, values: Floats) -> Floats:
        """Pixels of float64[n] values."""
        lo, hi = self.lo, self.hi
        if self.log:
            values, lo, hi = np.log10(np.maximum(values, lo)), math.log10(lo), math.log10(hi)
        return np.asarray(self.first + (np.clip(values, lo, hi) - lo) / (hi - lo) * (self.last - self.first))


def value_axis(values: Floats, first: float, last: float, *, log: bool) -> Axis:
    """An axis over the finite `values` with some margin; logarithmic if wanted, possible and worth it."""
    finite = np.clip(values[np.isfinite(values)], -_HUGE, _HUGE)
    lo, hi = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if log and lo > 1 / _HUGE and hi / lo > _WIDE:
        margin = (hi / lo) ** 0.06
        return Axis(lo=lo / margin, hi=hi * margin, first=first, last=last, log=True)
    largest = max(abs(lo), abs(hi))
    margin = max((hi - lo) * 0.08, largest * (0.003 if hi > lo else 0.05)) or 1.0  # four digits tell the ticks apart
    return Axis(lo=lo - margin, hi=hi + margin, first=first, last=last)


def ticks(axis: Axis, most: int) -> list[float]:
    """About `most` round numbers on the axis (at most 2 * most + 1), at least two where there is room for them."""
    lo, hi = axis.lo, axis.hi
    if axis.log:
        decades = range(math.floor(math.log10(lo)), math.ceil(math.log10(hi)) + 1)
        found: list[float] = []
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = [d * 10.0**e for e in decades for d in digits if lo <= d * 10.0**e <= hi]
            if len(found) <= most:
                return found
        return found[:: math.ceil(len(found) / most)]
    base = 10.0 ** math.floor(math.log10((hi - lo) / most))
    spaced: list[float] = []
    for gap in (m * base for m in (20, 10, 5, 2, 1)):
        finer = [k * gap for k in range(math.ceil(lo / gap), math.floor(hi / gap) + 1)]
        if len(spaced) >= 2 and len(finer) > most:
            break
        spaced = finer
    return spaced


def short(value: float) -> str:
    """A number in few characters."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Inf" if value > 0 else "-Inf"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def between(lo: float, hi: float) -> str:
    """A band in few characters; one that is open below only has its upper edge."""
    return f"below {short(hi)}" if lo == -math.inf else f"{short(lo)} to {short(hi)}"


def thin(x: Floats, y: Floats) -> list[tuple[float, float]]:
    """The curve with at most four points per pixel column: its first, lowest, highest and last."""
    column = np.round(x)
    starts = np.flatnonzero(np.diff(column, prepend=column[0] - 1))
    if len(starts) * 4 >= len(x):
        return list(zip(x.tolist(), y.tolist(), strict=True))
    ends = np.append(starts[1:], len(x)) - 1
    stacked = np.stack([y[starts], np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts), y[ends]], axis=1)
    return [(cx, cy) for cx, four in zip(column[starts].tolist(), stacked.tolist(), strict=True) for cy in four]
