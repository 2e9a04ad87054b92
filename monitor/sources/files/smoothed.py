"""The values behind an exponential mean that a trainer prints instead of them.

nanochat and autoresearch print m_t / (1 - b^(t+1)) of m_t = b m_{t-1} + (1 - b) x_t: one bad step looks like ten that
are a little bad. From two lines that follow each other the value is known exactly, up to the rounding of the printed
digits divided by 1 - b: x_t = (m_t - b m_{t-1}) / (1 - b). The row keeps what the writer wrote and gets the value
beside it, under its name and " (de-smoothed)", which `monitor.roles` ranks before it.

Where the recursion is broken (the first line that is seen, one that is missing, a resumed run) there is nothing to
divide: that row has the mean alone. A mean that is not finite stays so until the run begins again, and so does the
value. A loss below zero proves that the writer does not smooth after all: the mean is then left alone until step 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SUFFIX = " (de-smoothed)"
ROUNDING = 1e-3
UNDONE = -1.0
"""In place of the mean, which is never negative: the writer does not smooth."""


class Mean:
    """The mean of one metric as it was at the last step. State: [step, mean], the mean None if it was not finite."""

    def __init__(self, state: Sequence[Any]) -> None:
        self._step, mean = (int(state[0]), state[1]) if len(state) == 2 else (-1, 0.0)
        self._mean = math.nan if mean is None else float(mean)

    def state(self) -> list[Any]:
        """As given to the constructor; empty before the first line."""
        return [] if self._step < 0 else [self._step, self._mean if math.isfinite(self._mean) else None]

    def undo(self, metric: str, decay: float, values: Mapping[str, Any]) -> dict[str, float]:
        """The value of this step, by its name; nothing where it is not known."""
        step, before = int(values["step"]), self._mean if values["step"] else 0.0
        follows = step in (0, self._step + 1) and before != UNDONE
        self._step, self._mean = step, values[metric] * (1 - decay ** (step + 1))
        if before == UNDONE and step:
            self._mean = UNDONE
        if not follows:
            return {}
        value = (self._mean - decay * before) / (1 - decay)
        if value < -ROUNDING:
            self._mean = UNDONE
            return {}
        return {metric + SUFFIX: value}
