"""The arithmetic of the baseline: when it is refreshed, median and MAD of many windows at once, the integer CUSUM.

Why apart: pure functions of arrays, each with a test against its plain definition.
Source: median and MAD (Rousseeuw and Croux 1993), CUSUM (Page 1954).
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

WINDOW: Final = 256
REFRESH: Final = 32
EARLY: Final = 8
WIDEN: Final = 16  # a scale of n < 256 values is taken 1 + 16 / n as large
UPPER: Final = 0.8416  # the 80th percentile of a normal distribution, in standard deviations
SHORT: Final = 64  # length of the median that divergence looks at
FIXED: Final = 1 << 20  # units of the integer CUSUM per standard deviation
CLIP: Final = 3.0
TINY: Final = 1e-300  # what a time or a norm of zero counts as
HUGE: Final = 1e300


def refreshed(count: Ints) -> Ints:
    """Positions of the counts at which there is a refresh: every 8 values up to 256, then every 32."""
    some = np.flatnonzero(count & (EARLY - 1) == 0)
    at = count[some]
    due: Ints = some[(at <= WINDOW) | (at & (REFRESH - 1) == 0)]
    return due


def ordinal(count: Ints) -> Ints:
    """How many refreshes a series of `count` values has behind it."""
    nth: Ints = np.minimum(count // EARLY, count // REFRESH + (WINDOW // EARLY - WINDOW // REFRESH))
    return nth


def count_at(nth: Ints) -> Ints:
    """The count of values at the nth refresh: 8, 16, 24, …, 256, 288, …."""
    count: Ints = np.maximum(nth * EARLY, nth * REFRESH - (WINDOW // EARLY * REFRESH - WINDOW))
    return count


def size_at(count: Ints, falling: Bools) -> Ints:
    """How many of the last values a refresh looks at: all, up to 256.

    A young loss falls steeply, and its whole past would say that it is noisy: of a falling series all of the first 32,
    then at least 32, then a quarter.
    """
    size = np.where(falling, np.maximum(np.minimum(count, REFRESH), count // 4), count)
    return np.minimum(size, WINDOW)


def spread(starts: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Ragged ranges: for every element which range it is in, and its value start + offset."""
    owner = np.repeat(np.arange(lengths.size), lengths)
    offset = np.arange(owner.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return owner, starts[owner] + offset


def asinh(values: Floats | np.float64, unit: float) -> Floats:
    """Asinh of values in `unit`, finite for all finite values."""
    with np.errstate(over="ignore"):
        scaled: Floats = np.arcsinh(np.clip(values / unit, -HUGE, HUGE))
    return scaled


def unscaled(y: Singles | np.float32 | np.float64, unit: float) -> Floats:
    """Values whose places on the scale are `y`."""
    wide = np.asarray(y, np.float64)
    with np.errstate(over="ignore"):
        values: Floats = unit * np.sinh(wide) if unit > 0 else np.exp(wide)
    return values


def cusum(step: Ints, g: int) -> Ints:
    """The one-sided CUSUM max(0, g + step) along one series, beginning at `g`."""
    total = np.cumsum(step) + g
    low: Ints = np.minimum(np.minimum.accumulate(total), 0)
    return total - low


def ragged_cusum(step: Ints, g: Ints, length: Ints) -> Ints:
    """The same for segments of `length` (> 0) values, each beginning at its `g`."""
    if length.size == 1:
        return cusum(step, int(g[0]))
    total = np.cumsum(step)
    if not total.size:
        return total
    start = np.cumsum(length) - length
    total += np.repeat(g - (total[start] - step[start]), length)
    # Each segment lies below the one before, so one running minimum serves all of them; integers lose nothing.
    shift = np.repeat((int(total.max()) - min(int(total.min()), 0) + 1) * np.arange(length.size), length)
    low = total - shift
    np.minimum.accumulate(low, out=low)
    low += shift
    np.minimum(low, 0, out=low)
    total -= low
    return total


def windows(values: Singles) -> Singles:
    """All stretches of 256 values, as rows that share their memory; at least 256 values."""
    step = values.itemsize
    return np.ndarray((values.size - WINDOW + 1, WINDOW), values.dtype, values, strides=(step, step))


def middle(ordered: Singles, size: int) -> Floats:
    """Median of each row of `size` ordered values."""
    centre: Floats = (ordered[:, (size - 1) // 2].astype(np.float64) + ordered[:, size // 2]) / 2
    return centre


def level(window: Singles, size: Ints, lopsided: Bools) -> tuple[Floats, Floats]:
    """Median and 1.4826 MAD of each row, whose values beyond `size` are +inf; the scale of a small sample is widened.

    lopsided: where the distance to the 80th percentile counts as well: noise with a heavy upper side.
    Sorts the rows in place: np.sort on float32 rows is several times faster than np.partition or np.median.
    """
    window.sort(axis=1)
    flat, begin = window.ravel(), np.arange(size.size) * window.shape[1]
    low, high = (size - 1) // 2, size // 2
    m = (flat.take(begin + low).astype(np.float64) + flat.take(begin + high)) / 2
    nearer, farther = _deviations(flat, begin, low, m.astype(np.float32))
    farther = np.where(low < high, farther, nearer)
    mad = (nearer.astype(np.float64) + farther) / 2
    upper = np.where(lopsided, flat.take(begin + size * 4 // 5) - m, 0.0) / UPPER
    return m, np.maximum(1.4826 * mad, upper) * np.where(size < WINDOW, 1 + WIDEN / size, 1.0)


def _deviations(flat: Singles, begin: Ints, low: Ints, centre: Singles) -> tuple[Singles, Singles]:
    """Of each ordered row the deviations from its centre that are (low + 1)th and (low + 2)th in size.

    The low + 1 values that lie next to the centre stand side by side. Moved to the right, their last one deviates more
    and their first one less; a binary search finds where the last one takes over. No second sort is needed.
    """
    first = begin.copy()
    for width in (64, 32, 16, 8, 4, 2, 1, 1):
        probe = first + (width - 1)
        first += width * (flat.take(probe + low) - centre < centre - flat.take(probe))
    end = begin + (WINDOW - 1)
    right = flat.take(first + low) - centre
    left = np.where(first > begin, centre - flat.take(first - 1), np.float32(np.inf))
    other = np.where(
        right <= left,
        np.where(first + low < end, flat.take(np.minimum(first + low + 1, end)) - centre, np.float32(np.inf)),
        np.where(first > begin + 1, centre - flat.take(first - 2), np.float32(np.inf)),
    )
    return np.minimum(left, right), np.minimum(np.maximum(left, right), other)
