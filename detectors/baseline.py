"""The one baseline of all series of all runs: a ring of the last 256 finite values per series, and scores.

What: values are put on the scale of their role (log; asinh for a loss that was seen non-positive), so that a deviation
is relative. Median and 1.4826 MAD are refreshed at fixed counts of values (every 8 up to 256, then every 32); each
value is scored against the last refresh before it: score, then learn. A one-sided CUSUM runs over the clipped scores
in integers, so its vectorised form S - cummin(S) equals the recursion bit for bit however the rows are cut.
Why: one pass over all series costs what one series would; scores are a pure function of the values before.
Bounds: temporary memory is proportional to the values of one call, which the caller cuts.
"""

from __future__ import annotations

import numpy as np

from detectors.calls import Call
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
    level,
    middle,
    ordinal,
    ragged_cusum,
    size_at,
    spread,
    unscaled,
    windows,
)
from detectors.scores import Scores

_SLICE = 1024  # windows at a time: bounds the memory of a refresh, and they stay in the cache

# glibc returns the end of its heap to the system as soon as 128 kB of it are free, and getting it back costs a third
# of a call. Once it has freed one large block it keeps up to twice its size; this one is never touched.
np.empty(1 << 23, np.uint8)


def _only(window: Singles, size: Ints, count: Ints) -> Singles:
    """The rings of `count` values with all but the last `size` values at +inf."""
    young = np.flatnonzero(size < WINDOW)
    if young.size:
        age = (count[young, None] - 1 - np.arange(WINDOW)) % WINDOW
        window[young] = np.where(age < size[young, None], window[young], np.inf)
    return window


class Bank(Columns):
    """Scores series and learns their values; what it keeps of them are `Columns`."""

    def sign_scale(self, slot: int, value: float) -> None:
        """Move a series to asinh(value / unit), because `value` is not positive or the unit is better known by now.

        unit: the median size of its values, but at least 10 standard deviations: noise stays on a linear scale.
        """
        old = float(self.unit[slot])
        known = unscaled(self.ring[slot, : min(int(self.count[slot]), WINDOW)], old)
        sample = np.clip(known if known.size else value, -HUGE, HUGE, dtype=np.float64)
        deviation = 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
        unit = min(max(float(np.median(np.abs(sample))), 10 * deviation, TINY), HUGE)
        self.ring[slot, : known.size] = asinh(known, unit)
        for column in (self.past, self.old):
            column[slot] = asinh(unscaled(column[slot], old), unit)
        if known.size >= EARLY:
            count = int(self.count[slot])
            size = size_at(self.count[[slot]], self.falling[self.code[[slot]]])
            window = np.full((1, WINDOW), np.inf, np.float32)
            window[0, : size[0]] = self.ring[slot, np.arange(count - size[0], count) % WINDOW]
            m, s = level(window, size, self.lopsided.take(self.code[[slot]]))
            self.m[slot], self.s[slot] = m[0], max(np.float32(s[0]), np.float32(self.floor[self.code[slot]]))
        self.unit[slot] = unit
        self.signed = True

    def _scaled(self, values: Floats, call: Call) -> Floats:
        y = np.maximum(values, TINY)
        np.log(y, out=y)
        if (self.sign < 0).any():
            y *= call.along(self.sign.take(self.code[call.slot]))
        if self.signed:
            for i in np.flatnonzero(self.unit[call.slot] > 0):
                part = slice(call.start[i], call.start[i] + call.length[i])
                y[part] = asinh(values[part], float(self.unit[call.slot[i]]))
        return y

    def score(self, slot: Ints, length: Ints, values: Floats) -> Scores:
        """Score finite `values`, in segments of `length` (> 0) values for distinct slots, then learn them."""
        call = Call(slot, length, self.count.take(slot))
        before, code = call.before, self.code.take(slot)
        n = before if call.single else np.arange(values.size) + call.along(before - call.start)
        y = self._scaled(values, call)
        small = y.astype(np.float32)
        if call.single:  # what refreshes now looks at the ring with its new value, and nothing else does
            self._learn(call, small)
        new, recent = self._refresh(call, small)
        states = self.m, self.s, self.old
        m, s, ref = call.held([state.take(slot) for state in states], new, self.cap.take(code))

        wide = np.ones(values.size)
        fresh = self.fresh.take(slot)
        if (fresh > before).any():
            wide[n < call.along(fresh)] = self.factor
            s = s * wide
        z = (y - m) / s
        step = self._steps(z if ref is m else (y - ref) / s, young=bool((before < EARLY).any()))
        step -= call.along(self.k.take(code))
        g = self.g.take(slot)
        g = np.maximum(step + g, 0) if call.single else ragged_cusum(step, g, length)

        tail: dict[int, Singles] = {}
        if not call.single:
            tail = {int(i): self._tail(int(slot[i]), int(before[i])) for i in np.flatnonzero(length > WINDOW // 2)}
            self._learn(call, small)
        for state, line in zip(states, new, strict=True):
            state[slot[call.owner]] = line  # of several refreshes of a series the last one stays
        self.g[slot] = g if call.single else g[call.start + length - 1]
        self.count[slot] = before + length
        return Scores(
            slot=slot, start=call.start, length=length, n=n, y=y, m=m, ref=ref, s=s, z=z, step=step, g=g, wide=wide,
            tail=tail, edge_segment=call.owner, edge_count=call.count, edge_median=recent,
        )  # fmt: skip

    def _steps(self, z: Floats, *, young: bool) -> Ints:
        """Clipped scores in fixed point; 0 where there is no baseline yet."""
        clipped = np.clip(z, -CLIP, CLIP)
        if young:
            np.nan_to_num(clipped, copy=False, nan=0.0)
        clipped *= FIXED
        return np.rint(clipped, out=clipped).astype(np.int64)

    def _refresh(self, call: Call, small: Singles) -> tuple[tuple[Singles, Singles, Singles], Floats]:
        """At every refresh median, scale and the median 256 values ago; and the median of the last 64 values."""
        m, s = np.empty((2, call.owner.size), np.float32)
        recent = np.full(call.owner.size, np.nan)
        if not call.owner.size:
            return (m, s, m), recent
        code = self.code.take(call.slot.take(call.owner))
        falling, lopsided = self.falling.take(code), self.lopsided.take(code)
        size = size_at(call.count, falling)
        for low in range(0, size.size, _SLICE):
            part = slice(low, low + _SLICE)
            window, count = self._windows(call, part, small)
            some = np.flatnonzero(falling[part] & (call.count[part] >= SHORT))
            eighths = (count[some, None] // EARLY + np.arange(-SHORT // EARLY, 0)) % (WINDOW // EARLY)
            last = window.reshape(count.size, -1, EARLY)[some[:, None], eighths].reshape(-1, SHORT)
            recent[low + some] = middle(np.sort(last, axis=1), SHORT)
            m[part], s[part] = level(_only(window, size[part], count), size[part], lopsided[part])
        np.maximum(s, self.floor.take(code).astype(np.float32), out=s)
        return (m, s, self._remember(call, m)), recent

    def _windows(self, call: Call, part: slice, small: Singles) -> tuple[Singles, Ints]:
        """The last 256 values at some refreshes, as rings, and of how many values each is the ring."""
        owner, count = call.owner[part], call.count[part]
        if call.single:
            return self.ring.take(call.slot.take(owner), axis=0), count
        before, start = call.before[owner], call.start[owner]
        first = count - WINDOW - before  # where the window begins in its segment
        other = np.flatnonzero(first < 0)
        if other.size == owner.size:
            window = self.ring[call.slot[owner]]
        else:
            at = np.clip(start + first, 0, small.size - WINDOW)
            window = windows(small)[at]
            window[other] = self.ring[call.slot[owner[other]]]
        begin = np.maximum(before, count - WINDOW)[other]
        row, index = spread(begin, count[other] - begin)
        window[other[row], index % WINDOW] = small[(start - before)[other[row]] + index]
        return window, np.where(first < 0, count, WINDOW)

    def _remember(self, call: Call, m: Singles) -> Singles:
        """The median 256 values before every refresh (NaN where there is none), keeping the new ones for later."""
        regular = call.count & (REFRESH - 1) == 0
        slot, place = call.slot[call.owner], call.count // REFRESH % (WINDOW // REFRESH)
        old = np.where(regular, self.past[slot, place], np.float32(np.nan))
        if not call.single:
            ago = call.first + ordinal(np.maximum(call.count - WINDOW, 0)) - ordinal(call.count[call.first])
            here = np.flatnonzero(regular & (ago >= call.first))
            old[here] = m[ago[here]]
        self.past[slot[regular], place[regular]] = m[regular]  # where a place comes twice, the last one stays
        return old

    def _learn(self, call: Call, small: Singles) -> None:
        if call.single:
            self.ring.reshape(-1)[call.slot * WINDOW + (call.before & (WINDOW - 1))] = small
            return
        kept = np.minimum(call.length, WINDOW)
        owner, offset = spread(call.length - kept, kept)
        self.ring[call.slot[owner], (call.before[owner] + offset) % WINDOW] = small[call.start[owner] + offset]

    def history(self, scores: Scores, segment: int) -> Singles:
        """Up to 128 values (on the scale of the series, oldest first) before a segment of the last call."""
        if segment in scores.tail:
            return scores.tail[segment]
        slot = int(scores.slot[segment])
        return self._tail(slot, int(self.count[slot] - scores.length[segment]))

    def last(self, slot: int) -> Singles:
        """Up to 128 values of a series (on its scale, oldest first) that it ends with."""
        return self._tail(slot, int(self.count[slot]))
