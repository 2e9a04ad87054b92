"""One outlier is chance, several within a short time are an unstable run.

On healthy runs outliers of the loss are one step long and hundreds of rows apart: see `settings`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Recurrence:
    """Conditions of series that began lately. count, rows: so many within so many values are too many."""

    count: int
    rows: int
    _lately: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def note(self, run: str, metric: str, begun: int) -> bool:
        """A condition has begun after `begun` values of the series; whether that is too often."""
        of_run = self._lately.setdefault(run, {})
        lately = [n for n in of_run.get(metric, []) if begun - self.rows < n < begun]
        of_run[metric] = [*lately, begun][-self.count :]
        return len(lately) + 1 >= self.count

    def forget(self, run: str) -> None:
        """Drop what is known of a run."""
        self._lately.pop(run, None)

    def dump(self, run: str) -> dict[str, list[int]]:
        """State of a run as JSON values."""
        return self._lately.get(run, {})

    def load(self, run: str, state: dict[str, list[int]]) -> None:
        """Put back what `dump` gave."""
        if state:
            self._lately[run] = state
