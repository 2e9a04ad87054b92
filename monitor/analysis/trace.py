"""One metric measured against its band around one event: what signs and checks are both made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitor.band import Band, Span, axis, band, departure

if TYPE_CHECKING:
    import numpy.typing as npt

    from monitor.window import Series

BRIEF_ROWS = 2
"""99 % of natural outliers are one row long: up to two rows count as one blow."""
HELD_ROWS = 3
"""So many rows in a row are no accident."""
LASTING_ROWS = 16


@dataclass(frozen=True, slots=True)
class Trace:
    """A series, its band before the event and the index of the first value outside it (None: it never left)."""

    series: Series
    band: Band
    at: int | None

    @property
    def after(self) -> npt.NDArray[np.float64]:
        """float64[k]: values from the departure on; empty if there is none."""
        return self.series.values[len(self.series.values) if self.at is None else self.at :]

    def row(self, index: int) -> int:
        """Row of a value."""
        return int(self.series.row[index])

    def label(self, index: int) -> int:
        """Step of a value, its row where the log has no steps."""
        return int(axis(self.series)[1][index])

    def brief(self) -> bool:
        """Whether it left for a row or two and then held; later outliers count if they are frequent."""
        out = self.band.outside(self.after)
        held = out[BRIEF_ROWS : BRIEF_ROWS + HELD_ROWS]
        return len(held) == HELD_ROWS and not held.any() and out.sum() <= BRIEF_ROWS + len(out) // 64

    def sustained(self) -> bool:
        """Whether it was out for a good part of the rows that followed."""
        out = self.band.outside(self.after[:LASTING_ROWS])
        return len(out) >= HELD_ROWS and out.mean() >= 0.4

    def returned(self) -> bool:
        """Whether it left and its last values are inside again."""
        out = self.band.outside(self.after)
        return len(out) > HELD_ROWS and not out[-HELD_ROWS:].any()


def trace(series: Series, event: Span) -> Trace | None:
    """The trace of a series over an event; None where too little came before for a band."""
    normal = band(series, event.first_row)
    return None if normal is None else Trace(series, normal, departure(series, normal, event.first_row))
