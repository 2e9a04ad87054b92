"""Where one attempt of a run ends and the next begins, from its steps alone; pure.

Rows are never sorted: a single row that goes back stays where it is, `PATIENCE` consecutive rows below the largest step
are a new attempt. It is known at the last of them, not before: a live monitor cannot say it earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PATIENCE = 3


@dataclass(slots=True)
class Attempt:
    """Progress of the current attempt. behind: rows in a row that lay below max_step, at the end of what was seen."""

    ordinal: int = 0
    max_step: int = -1
    behind: int = 0
    generation: int = -1

    def starts(self, step: npt.NDArray[np.int64]) -> list[int]:
        """Take in the next rows of one generation; positions at which a new attempt is recognised.

        step: int64[n], -1 where a row has none (such rows neither begin nor continue a step back).
        """
        found: list[int] = []
        at = np.flatnonzero(step >= 0)
        while at.size:
            s = step[at]
            highest = np.maximum.accumulate(np.concatenate(([self.max_step], s)))
            below = s < highest[:-1]
            if not below.any():
                self.max_step, self.behind = int(highest[-1]), 0
                break
            # Length of the stretch of rows below the maximum that ends at each row.
            place = np.arange(at.size)
            last_up = np.maximum.accumulate(np.where(below, -1, place))
            stretch = np.where(last_up < 0, place + 1 + self.behind, place - last_up)
            full = np.flatnonzero(below & (stretch >= PATIENCE))
            if not full.size:
                self.max_step = int(highest[-1])
                self.behind = int(stretch[-1]) if below[-1] else 0
                break
            first = int(full[0])
            found.append(int(at[first]))
            self.ordinal += 1
            self.max_step, self.behind = int(s[first]), 0
            at = at[first + 1 :]
        return found

    def begin(self, generation: int) -> bool:
        """Note the generation of the next rows; True if it began a new attempt."""
        new = self.generation >= 0 and generation != self.generation
        self.generation = generation
        if new:
            self.ordinal += 1
            self.max_step, self.behind = -1, 0
        return new
