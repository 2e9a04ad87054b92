"""One run that cannot be read must not stop the others: it is asked alone, then less and less often.

After PATIENCE failures in a row the run counts as broken and is left alone for a while that doubles up to MAX_WAIT_S;
then one question tries it again (half open). Pure: time is an argument.
"""

from __future__ import annotations

import math

PATIENCE = 3
WAIT_S = 30.0
MAX_WAIT_S = 900.0


class Breaker:
    """Of one run. why: what the last failure said."""

    def __init__(self) -> None:
        self.failures = 0
        self.why = ""
        self._until = -math.inf

    @property
    def open(self) -> bool:
        """Whether the run counts as broken, also while it is tried again."""
        return self.failures >= PATIENCE

    def allows(self, now: float) -> bool:
        """Whether it may be asked at `now`, seconds; a clock that was set back must not keep it from that."""
        return not self._until - MAX_WAIT_S <= now < self._until

    def fail(self, why: str, now: float) -> None:
        """It could not be read."""
        self.failures += 1
        self.why = why
        if self.open:
            self._until = now + min(MAX_WAIT_S, WAIT_S * 2.0 ** min(20, self.failures - PATIENCE))

    def succeed(self) -> None:
        """It was read."""
        self.failures, self._until, self.why = 0, -math.inf, ""
