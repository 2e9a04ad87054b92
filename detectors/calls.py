"""One call of the bank: segments of values for distinct series, and the refreshes that fall into them.

Why apart: everything ragged about a call is here, so that the bank reads like the formulas. A call with one value for
each of many series (a tick) and one with many values of one series (a backtest) are the two that must be fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.kernels import Floats, Ints, count_at, ordinal, refreshed, spread

Numbers: TypeAlias = npt.NDArray[Any]


class Call:
    """See the module.

    slot, start, length: int64[segments], where the values of a series stand. before: int64[segments], how many the
    series had seen. single: every segment is one value.
    Of each refresh, int64[refreshes]: owner: its segment; count: values of the series then, the one it comes with
    included; first: position of the first refresh of the same segment. They stand in the order of the values.
    """

    def __init__(self, slot: Ints, length: Ints, before: Ints) -> None:
        self.slot, self.length, self.before = slot, length, before
        self.single = bool((length == 1).all())
        if self.single:
            self.start = np.arange(slot.size)
            self.owner = refreshed(before + 1)
            self.first = np.arange(self.owner.size)
            self.count = before[self.owner] + 1
        else:
            self.start = np.cumsum(length) - length
            done = ordinal(before)
            due = ordinal(before + length) - done
            self.owner, nth = spread(done + 1, due)
            self.count = count_at(nth)
            self.first = (np.cumsum(due) - due)[self.owner]

    def along(self, each: Numbers) -> Numbers:
        """A number of each segment → of each value."""
        return each if self.single else np.repeat(each, self.length)

    def held(self, states: Sequence[Numbers], news: Sequence[Numbers], cap: Floats) -> list[Floats]:
        """What holds at each value, and the reference: of a segment the state before it, then that of each refresh.

        states: by segment, news: by refresh: median, scale, median 256 values ago. cap: by segment, how far the last
        may lift the reference above the first.
        """
        if self.single:
            m, s, old = (state.astype(np.float64) for state in states)
            return [m, s, _reference(m, old, cap)]
        # One table: of each segment its state before the call, then each refresh; an entry serves up to the next one.
        base = np.arange(self.slot.size) + np.searchsorted(self.owner, np.arange(self.slot.size))
        place = np.arange(self.owner.size) + self.owner + 1
        size = base.size + place.size
        lines, begin = np.empty((4, size)), np.empty(size + 1, np.int64)
        for line, state, new in zip(lines, (*states, cap), (*news, cap[self.owner]), strict=True):
            line[base], line[place] = state, new
        begin[base], begin[place] = self.start, (self.start - self.before)[self.owner] + self.count
        begin[-1] = self.start[-1] + self.length[-1]
        width = np.diff(begin)
        m, s, old, most = lines
        ref = _reference(m, old, most)
        m_at = np.repeat(m, width)
        return [m_at, np.repeat(s, width), m_at if ref is m else np.repeat(ref, width)]


def _reference(m: Floats, old: Floats, cap: Floats) -> Floats:
    """The median, or the older one where that is larger, by `cap` at most; the same array where no cap allows it."""
    if not cap.any():
        return m
    lifted: Floats = np.fmax(m, np.minimum(old, m + cap))
    return lifted
