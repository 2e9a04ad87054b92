"""When a run begins to log at another cadence: every step so far, from here on every 500th.

Values of so many steps later say nothing against the level of the steps before, so what was learnt begins anew. One
long stride is a gap in the log; two in a row are a cadence: it is known at the second, not before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

import numpy as np

from detectors.kernels import Ints

FACTOR = 8
STRIDES = 8
PART = 4096  # rows that are looked at one by one if any of them may be a long stride


@dataclass(slots=True)
class Cadence:
    """Of one attempt. highest: its largest step. strides: up to STRIDES regular ones. longer: long ones in a row."""

    attempt: int = 0
    highest: int = -1
    strides: list[int] = field(default_factory=list)
    longer: int = 0

    def turns(self, attempt: int, step: Ints) -> list[int]:
        """Take in the next rows; positions at which a longer cadence is certain. step: int64[n], -1 for none."""
        if attempt != self.attempt:
            self.attempt, self.highest, self.strides, self.longer = attempt, -1, [], 0
        if step.size == 1:  # a tick brings one row of every run
            now, before = int(step[0]), self.highest
            self.highest = max(now, before)
            return [0] if 0 <= before < now and self._turns(now - before) else []
        reached = np.maximum.accumulate(np.concatenate([[self.highest], step]))
        at = np.flatnonzero((reached[1:] > reached[:-1]) & (reached[:-1] >= 0))
        stride = reached[at + 1] - reached[at]
        self.highest = int(reached[-1])
        found: list[int] = []
        for low in range(0, at.size, PART):
            part = stride[low : low + PART]
            if part.max() < FACTOR * min(int(part.min()), *self.strides, part.max()):
                self.strides = (self.strides + part[-STRIDES:].tolist())[-STRIDES:]
                self.longer = 0
            else:
                found += [int(at[low + i]) for i, s in enumerate(part.tolist()) if self._turns(s)]
        return found

    def _turns(self, stride: int) -> bool:
        few = len(self.strides) < STRIDES
        if few or stride < FACTOR * min(self.strides) or stride < FACTOR * median(self.strides):
            self.strides = [*self.strides[1 - STRIDES :], stride]
            self.longer = 0
            return False
        self.longer += 1
        if self.longer < 2:
            return False
        self.strides, self.longer = [stride], 0
        return True
