"""The state of all series of all runs, as columns: what the baseline keeps between calls.

What: per series a ring of its last 256 values, the medians of the last 256 values, counters, and the present level,
scale and CUSUM; and how it is scored. A series is a slot; a slot that was dropped is used again.
Why: one numpy operation serves all series. Bounds: about 1.1 kB per series; grows by half, never shrinks.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.kernels import FIXED, REFRESH, TINY, WINDOW, Singles, asinh, unscaled
from detectors.scores import Tuning


class Columns:
    """See the module."""

    _COLUMNS: Final = (
        ("ring", np.float32, WINDOW, np.inf),
        ("past", np.float32, WINDOW // REFRESH, np.nan),
        ("count", np.int64, 0, 0),
        ("fresh", np.int64, 0, 0),  # gates are wide below this count
        ("g", np.int64, 0, 0),
        ("m", np.float32, 0, np.nan),
        ("s", np.float32, 0, np.nan),
        ("old", np.float32, 0, np.nan),  # median of 256 values before the last refresh
        ("unit", np.float64, 0, 0.0),  # of the asinh scale; 0: log scale
    )

    def __init__(self, fresh_factor: float) -> None:
        self.factor = fresh_factor
        self._free: list[int] = []
        self._size = 0
        self._tunings: list[Tuning] = []
        self.ring, self.past = np.zeros((0, WINDOW), np.float32), np.zeros((0, WINDOW // REFRESH), np.float32)
        self.count, self.fresh, self.g = (np.zeros(0, np.int64) for _ in range(3))
        self.m, self.s, self.old = (np.zeros(0, np.float32) for _ in range(3))
        self.unit = np.zeros(0)
        self.code = np.zeros(0, np.uint8)
        self.signed = False
        # By code.
        self.floor, self.sign, self.cap = (np.zeros(0) for _ in range(3))
        self.k = np.zeros(0, np.int64)
        self.falling, self.lopsided = np.zeros((2, 0), np.bool_)

    def add(self, tuning: Tuning) -> int:
        """Give a new series a slot."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        for name, _, _, fill in self._COLUMNS:
            getattr(self, name)[slot] = fill
        if tuning not in self._tunings:
            self._tunings.append(tuning)
            self.floor = np.array([t.floor for t in self._tunings])
            self.k = np.array([round(t.k * FIXED) for t in self._tunings])
            self.sign = np.array([float(t.sign) for t in self._tunings])
            self.cap = np.array([t.history_cap for t in self._tunings])
            self.falling = np.array([t.falling for t in self._tunings])
            self.lopsided = np.array([t.lopsided for t in self._tunings])
        self.code[slot] = self._tunings.index(tuning)
        return slot

    def drop(self, slot: int) -> None:
        """Take the slot back."""
        self._free.append(slot)

    def _grow(self) -> None:
        more = max(64, self._size // 2)
        for name, kind, width, fill in self._COLUMNS:
            block = np.full((more, width) if width else more, fill, kind)
            setattr(self, name, np.concatenate([getattr(self, name), block]))
        self.code = np.concatenate([self.code, np.zeros(more, np.uint8)])
        self._free.extend(range(self._size + more - 1, self._size - 1, -1))
        self._size += more

    def restart(self, slot: int, rows: int) -> None:
        """Begin a new attempt: level and scale stay, the CUSUM begins again, gates are wide for `rows` values."""
        self.g[slot] = 0
        self.fresh[slot] = self.count[slot] + rows

    def clear(self, slot: int) -> None:
        """Forget the values of a series; its scale stays."""
        unit = self.unit[slot]
        for name, _, _, fill in self._COLUMNS:
            getattr(self, name)[slot] = fill
        self.unit[slot] = unit

    def scale(self, slot: int, value: float) -> float:
        """`value` on the scale of the series."""
        if self.unit[slot] > 0:
            return float(asinh(np.float64(value), float(self.unit[slot])))
        return float(self.sign[self.code[slot]]) * float(np.log(max(value, TINY)))

    def unscale(self, slot: int, y: float) -> float:
        """The value whose place on the scale is `y`."""
        return float(unscaled(np.float64(self.sign[self.code[slot]] * y), float(self.unit[slot])))

    def _tail(self, slot: int, count: int) -> Singles:
        kept = min(count, WINDOW // 2)
        last: Singles = self.ring[slot, np.arange(count - kept, count) % WINDOW]
        return last

    def dump(self, slot: int) -> tuple[list[object], bytes]:
        """The state of one series: small values, and the ring with the past medians as little-endian float32."""
        small: list[object] = [getattr(self, name)[slot].item() for name, _, width, _ in self._COLUMNS if not width]
        kept = min(int(self.count[slot]), WINDOW)
        return small, np.concatenate([self.past[slot], self.ring[slot, :kept]]).astype("<f4").tobytes()

    def load(self, slot: int, small: list[object], blob: bytes) -> None:
        """Put back what `dump` gave."""
        for (name, *_), value in zip([c for c in self._COLUMNS if not c[2]], small, strict=True):
            getattr(self, name)[slot] = value
        self.signed |= bool(self.unit[slot] > 0)
        both = np.frombuffer(blob, "<f4")
        keep = WINDOW // REFRESH
        self.past[slot] = both[:keep]
        self.ring[slot, : both.size - keep] = both[keep:]
