"""Where one attempt of a run ends and the next begins, from its steps and its loss; pure.

Rows are never sorted: a single row that goes back stays where it is, `PATIENCE` consecutive rows below the largest step
are a step back, and that is a new attempt. It is known at the last of them, not before: a live monitor cannot say it
earlier. A count that begins anew with every epoch is no attempt: from its second turn on, a step back from where the
one before began, down to where the run began, stays in its attempt unless the loss is higher after it.
Bounds: a few numbers of state; a step back costs what three rows cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

PATIENCE = 3
FEW = 8  # so many rows are faster one by one than together
RISEN = 1.1  # all losses after a step back above all before it by so much: training did not go on


@dataclass(slots=True)
class Attempt:
    """Progress of the current attempt.

    behind: rows in a row that lay below max_step, at the end of what was seen; landed: the step of the first of them.
    stride: the last step forward. lowest: where the count of steps begins. top: max_step at the last step back.
    before: the last losses up to max_step, after: those of the rows behind it.
    """

    ordinal: int = 0
    max_step: int = -1
    behind: int = 0
    generation: int = -1
    landed: int = -1
    stride: int = 1
    lowest: int = -1
    top: int = -1
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    def starts(self, step: npt.NDArray[np.int64], loss: npt.NDArray[np.float64]) -> list[int]:
        """Take in the next rows of one generation; positions at which a new attempt is recognised.

        step: int64[n], -1 where a row has none (such rows neither begin nor continue a step back).
        loss: float64[n], NaN where a row has none.
        """
        at = np.flatnonzero(step >= 0)
        if not at.size:
            return []
        if self.lowest < 0:
            self.lowest = int(step[at[0]])
        rest = at[self._skip(step[at], loss[at]) :] if at.size > FEW else at
        found = []
        for place, now, value in zip(rest.tolist(), step[rest].tolist(), loss[rest].tolist(), strict=True):
            values = [value] if math.isfinite(value) else []
            if now >= self.max_step:
                self._advances(self.max_step, now, values)
            elif self._falls(now, values):
                found.append(place)
        return found

    def _skip(self, step: npt.NDArray[np.int64], loss: npt.NDArray[np.float64]) -> int:
        """Take in the rows before the first that is behind; how many they are."""
        highest = np.maximum.accumulate(np.concatenate(([self.max_step], step)))
        below = np.flatnonzero(step < highest[:-1])
        ahead = int(below[0]) if below.size else step.size
        if ahead:
            reached = np.searchsorted(highest, highest[ahead])
            seen = loss[:ahead]
            seen = seen[np.isfinite(seen)][-PATIENCE:]
            self._advances(int(highest[max(reached - 1, 0)]), int(highest[ahead]), seen.tolist())
        return ahead

    def _advances(self, last: int, now: int, losses: list[float]) -> None:
        """Rows that are not behind: the largest step was `last` and is `now`."""
        if now > last >= 0:
            self.stride = now - last
        self.max_step, self.behind = now, 0
        self.before = [*self.before, *self.after, *losses][-PATIENCE:]
        self.after = []

    def _falls(self, now: int, losses: list[float]) -> bool:
        """One row that is behind; True if it begins a new attempt."""
        if not self.behind:
            self.landed = now
        self.behind += 1
        self.after += losses
        if self.behind < PATIENCE:
            return False
        begins = not self._turns()
        self.ordinal += begins
        self.top, self.lowest = self.max_step, min(self.lowest, self.landed)
        self.max_step, self.behind = now, 0
        self.before, self.after = self.after, []
        return begins

    def _turns(self) -> bool:
        """Whether the count began anew while training went on."""
        again = abs(self.max_step - self.top) < self.stride
        whole = self.landed - self.lowest < self.stride
        return again and whole and not self._risen()

    def _risen(self) -> bool:
        if not self.before or not self.after or min(self.before) <= 0:
            return False
        return min(self.after) > RISEN * max(self.before)

    def begin(self, generation: int) -> bool:
        """Note the generation of the next rows; True if it began a new attempt."""
        new = self.generation >= 0 and generation != self.generation
        self.generation = generation
        if new:
            self.ordinal += 1
            self.max_step, self.behind = -1, 0
            self.before, self.after = [], []
        return new
