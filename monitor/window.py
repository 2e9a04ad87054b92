"""A query result: the stored series of one run over a stretch of rows, for evidence, verification and charts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric over a window. row, step: int64[k]; t, values: float64[k]; attempt: int64[k]; rows ascending."""

    metric: str
    role: Role
    primary: bool
    row: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    t: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    attempt: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """All series of `run` with at least one value between first_row and last_row."""

    run: str
    first_row: int
    last_row: int
    series: tuple[Series, ...]

    def of(self, role: Role) -> Series | None:
        """The primary series of a role, if there is one."""
        return next((s for s in self.series if s.role is role and s.primary), None)
