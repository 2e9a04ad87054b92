"""What counts as a number, a step and a clock, whoever wrote it.

A number is a JSON number or text that spells one ("2.345", "NaN", "Infinity"); booleans and other text are none.
|x| >= 1.79e308 is an infinity that the writer could not spell. A clock is Unix seconds; epochs in ms, µs or ns become
seconds; ISO-8601 text without a zone is UTC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

EPOCH_S = 1e9
HUGE = 1.79e308

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NUMBERS = frozenset({int, float})


def number(value: object) -> float | None:
    """The number that `value` is or spells, None if it is none."""
    kind = type(value)
    if kind is float or kind is int or kind is str:
        try:
            x = float(value)  # type: ignore[arg-type]
        except ValueError:
            return None
        except OverflowError:
            x = math.inf if value > 0 else -math.inf  # type: ignore[operator]
        if kind is str and "_" in value:  # type: ignore[operator]
            return None
        return math.copysign(math.inf, x) if abs(x) >= HUGE else x
    return None


def spelled(values: Floats) -> Floats:
    """`values`, in place, with what its writer could not spell as the infinity that it was."""
    huge = np.abs(values) >= HUGE
    if huge.any():
        values[huge] = np.copysign(np.inf, values[huge])
    return values


def clock(value: object, *, sure: bool) -> float | None:
    """Unix seconds of a clock value; None if it is none. sure: a small number is a time as well."""
    x = number(value)
    if x is None:
        if type(value) is not str:
            return None
        try:
            moment = datetime.fromisoformat(value.replace(",", "."))
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if x <= EPOCH_S:
        return x if sure else None
    return float(seconds(np.array([x]))[0])


def seconds(t: Floats) -> Floats:
    """Epochs in ms, µs and ns to seconds, told apart by their size."""
    if not (np.abs(t) > 1e11).any():
        return t
    out = t.copy()
    for limit, unit in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)):
        big = (t > limit) & (out == t)
        out[big] = t[big] / unit
    return out


def steps(values: Floats) -> Ints:
    """Whole steps; -1 for what cannot be one."""
    usable = (values >= 0) & (values < 2.0**62)
    return np.where(usable, np.where(usable, values, 0.0).astype(np.int64), -1)


def numbers(column: Sequence[Any]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The numbers of a column and where there are any."""
    if set(map(type, column)) <= NUMBERS:
        try:
            return spelled(np.array(column, np.float64)), np.ones(len(column), np.bool_)
        except OverflowError:
            pass
    found = [number(v) for v in column]
    present = np.array([x is not None for x in found], np.bool_)
    return np.array([math.nan if x is None else x for x in found], np.float64), present
