"""The one baseline of all series of all runs: a ring of the last 256 finite values per series, and scores.

What: values are put on the scale of their role (log; asinh for a loss that was seen non-positive), so that a deviation
is relative. Median and 1.4826 MAD are refreshed at fixed counts of values (every 8 up to 256, then every 32); each
value is scored against the last refresh before it: score, then learn. A one-sided CUSUM runs over the clipped scores
in integers, so its vectorised form S - cummin(S) equals the recursion bit for bit however the rows are cut.
Why: one pass over all series costs what one series would; scores are a pure function of the values before.
Bounds: temporary memory is proportional to the values of one call, which the caller cuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detectors.columns import Columns
from detectors.kernels import (
    CLIP,
    EARLY,
    FIXED,
    HUGE,
    REFRESH,
    SHORT,
    TINY,
    WINDOW,
    Floats,
    Ints,
    Singles,
    asinh,
    count_at,
    level,
    middle,
    ordinal,
    ragged_cusum,
    size_at,
    spread,
    unscaled,
)
from detectors.scores import Scores


@dataclass(frozen=True, slots=True)
class _Edges:
    """The refreshes of a call. owner: their segment; count: values of the series then; due: how many per segment."""

    owner: Ints
    count: Ints
    due: Ints


def _slices(where: Ints) -> Iterator[Ints]:
    """Some windows at a time: bounds the memory of a refresh, and they stay in the cache."""
    return (where[low : low + 1024] for low in range(0, where.size, 1024))


class Bank(Columns):
    """Scores series and learns their values; what it keeps of them are `Columns`."""

    def sign_scale(self, slot: int, value: float) -> None:
        """Move a series to asinh(value / unit), because `value` is not positive or the unit is better known by now.

        unit: the median size of its values, but at least 10 standard deviations: noise stays on a linear scale.
        """
        old = float(self.unit[slot])
        known = unscaled(self.ring[slot, : min(int(self.count[slot]), WINDOW)], old)
        sample = known if known.size else np.array([value])
        deviation = 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
        unit = min(max(float(np.median(np.abs(sample))), 10 * deviation, TINY), HUGE)
        self.ring[slot, : known.size] = asinh(known, unit)
        for column in (self.past, self.old):
            column[slot] = asinh(unscaled(column[slot], old), unit)
        if known.size >= EARLY:
            one, zero, count = np.array([slot]), np.zeros(1, np.int64), self.count[[slot]]
            edges = _Edges(zero, count, zero + 1)
            self.m[one], self.s[one], _ = self._refresh(edges, one, count, zero, np.zeros(0, np.float32))
        self.unit[slot] = unit

    def _scaled(self, values: Floats, slot: Ints, start: Ints, length: Ints, owner: Ints) -> Floats:
        y = np.log(np.maximum(values, TINY))
        sign = self._sign[slot]
        if (sign < 0).any():
            y *= sign[owner]
        for i in np.flatnonzero(self.unit[slot] > 0):
            part = slice(start[i], start[i] + length[i])
            y[part] = asinh(values[part], float(self.unit[slot[i]]))
        return y

    def score(self, slot: Ints, length: Ints, values: Floats) -> Scores:
        """Score finite `values`, in segments of `length` (> 0) values for distinct slots, then learn them."""
        start = np.cumsum(length) - length
        before = self.count[slot]
        owner = np.repeat(np.arange(slot.size), length)
        n = np.arange(values.size) + (before - start)[owner]
        y = self._scaled(values, slot, start, length, owner)
        small = y.astype(np.float32)

        done = ordinal(before)
        due = ordinal(before + length) - done
        edge_owner, edge_ordinal = spread(done + 1, due)
        edge_count = count_at(edge_ordinal)
        edges = _Edges(edge_owner, edge_count, due)
        m, s, recent = self._refresh(edges, slot, before, start, small)
        old = self._remember(edges, slot, done, m)

        # One table: of each segment its state before the call, then each refresh; an entry serves up to the next one.
        base = np.cumsum(due + 1) - (due + 1)
        place = np.arange(edge_owner.size) + edge_owner + 1
        table = np.empty((4, base.size + place.size), np.float64)
        for row, (state, new) in enumerate(((self.m, m), (self.s, s), (self.old, old))):
            table[row, base] = state[slot]
            table[row, place] = new
        begin = np.empty(table.shape[1] + 1, np.int64)
        begin[base], begin[place], begin[-1] = start, (start - before)[edge_owner] + edge_count, values.size
        at = np.repeat(np.arange(table.shape[1]), np.diff(begin))
        cap = np.repeat(self._cap[slot], due + 1)
        table[3] = np.fmax(table[0], np.minimum(table[2], table[0] + cap))
        m_at, s_at, ref = table[0][at], table[1][at], table[3][at]

        wide = np.ones(values.size)
        fresh = self.fresh[slot]
        if (fresh > before).any():
            wide[n < fresh[owner]] = self._factor
            s_at = s_at * wide
        z = (y - m_at) / s_at
        zr = (y - ref) / s_at
        np.nan_to_num(zr, copy=False, nan=0.0)
        np.clip(zr, -CLIP, CLIP, out=zr)
        step = np.rint(zr * FIXED).astype(np.int64) - self._k[slot][owner]
        g = ragged_cusum(step, self.g[slot], start, owner)

        tail = {int(i): self._tail(int(slot[i]), int(before[i])) for i in np.flatnonzero(length > WINDOW // 2)}
        self._learn(slot, start, length, before, small)
        last = base + due
        self.m[slot], self.s[slot], self.old[slot] = table[0][last], table[1][last], table[2][last]
        self.g[slot] = g[start + length - 1]
        self.count[slot] = before + length
        return Scores(
            slot=slot, start=start, length=length, n=n, y=y, m=m_at, ref=ref, s=s_at, z=z, step=step, g=g, wide=wide,
            tail=tail, edge_segment=edge_owner, edge_count=edge_count, edge_median=recent,
        )  # fmt: skip

    def _refresh(
        self, edges: _Edges, slot: Ints, before: Ints, start: Ints, small: Singles
    ) -> tuple[Singles, Singles, Floats]:
        """Median and scale at every refresh, and the median of the last 64 values."""
        m = np.empty(edges.owner.size, np.float32)
        s = np.empty(edges.owner.size, np.float32)
        recent = np.full(edges.owner.size, np.nan)
        first = edges.count - WINDOW
        falling = self._falling[slot[edges.owner]]
        size = size_at(edges.count, falling)
        inside = first >= before[edges.owner]
        age = np.arange(WINDOW - 1, -1, -1)
        for where in _slices(np.flatnonzero(inside)):
            owner = edges.owner[where]
            views = np.lib.stride_tricks.sliding_window_view(small, WINDOW)
            window = views[start[owner] + first[where] - before[owner]]
            some = np.flatnonzero(falling[where])
            recent[where[some]] = middle(np.sort(window[some, -SHORT:], axis=1), SHORT)
            young = np.flatnonzero(size[where] < WINDOW)
            window[young] = np.where(age < size[where[young], None], window[young], np.inf)
            m[where], s[where] = level(window, size[where])
        for where in _slices(np.flatnonzero(~inside)):
            owner, count = edges.owner[where], edges.count[where]
            window = self.ring[slot[owner]]
            begin = np.maximum(before[owner], count - WINDOW)
            row, index = spread(begin, count - begin)
            window[row, index % WINDOW] = small[(start - before)[owner][row] + index]
            some = np.flatnonzero(falling[where] & (count >= SHORT))
            last = window[some[:, None], (count[some, None] - SHORT + np.arange(SHORT)) % WINDOW]
            recent[where[some]] = middle(np.sort(last, axis=1), SHORT)
            young = np.flatnonzero(size[where] < WINDOW)
            old = (count[young, None] - 1 - np.arange(WINDOW)) % WINDOW >= size[where[young], None]
            window[young] = np.where(old, np.inf, window[young])
            m[where], s[where] = level(window, size[where])
        s = np.maximum(s, self._floor[slot][edges.owner].astype(np.float32))
        return m, s, recent

    def _remember(self, edges: _Edges, slot: Ints, done: Ints, m: Singles) -> Singles:
        """The median 256 values before every refresh (NaN where there is none), keeping the new ones for later."""
        old = np.full(m.size, np.nan, np.float32)
        regular = edges.count % REFRESH == 0
        keep = WINDOW // REFRESH
        place = edges.count // REFRESH % keep
        begin = np.repeat(np.cumsum(edges.due) - edges.due, edges.due)
        there = begin + ordinal(np.maximum(edges.count - WINDOW, 0)) - done[edges.owner] - 1
        here = np.flatnonzero(regular & (there >= begin))
        old[here] = m[there[here]]
        away = np.flatnonzero(regular & (there < begin))
        old[away] = self.past[slot[edges.owner[away]], place[away]]
        final = count_at(done + edges.due)[edges.owner]
        last = edges.count > final - WINDOW
        put = np.flatnonzero(regular & last)
        self.past[slot[edges.owner[put]], place[put]] = m[put]
        return old

    def _learn(self, slot: Ints, start: Ints, length: Ints, before: Ints, small: Singles) -> None:
        kept = np.minimum(length, WINDOW)
        skip = length - kept
        owner, offset = spread(skip, kept)
        self.ring[slot[owner], (before[owner] + offset) % WINDOW] = small[start[owner] + offset]

    def history(self, scores: Scores, segment: int) -> Singles:
        """Up to 128 values (on the scale of the series, oldest first) before a segment of the last call."""
        if segment in scores.tail:
            return scores.tail[segment]
        slot = int(scores.slot[segment])
        return self._tail(slot, int(self.count[slot] - scores.length[segment]))
