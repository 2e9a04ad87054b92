"""Signs: what can be seen in a window around an event, each with the claim that proves it.

A sign is a yes or no about one metric or the order of two, measured against the band of monitor/band.py. The
differential diagnosis weighs signs; the claims they carry are recomputed by verify.py like anyone else's. Pure; a few
numpy operations per metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from detectors.types import Kind, Role
from monitor.analysis.hypothesis import Check, Claim
from monitor.analysis.trace import BRIEF_ROWS, HELD_ROWS, LASTING_ROWS, Trace, trace
from monitor.band import WIDTH, Band, Span, band, span
from monitor.naming import numbering

if TYPE_CHECKING:
    from monitor.incident import Incident
    from monitor.window import Series, Window

NEAR_ROWS = 64
"""How far before the onset a change of schedule or attempt still counts as near."""
WARM_ROWS = 10
"""A warm-up may double the learning rate between its first rows."""
_ANYWHERE = Band(centre=0.0, lo=-math.inf, hi=math.inf, noise=0.0, log=False, rows=0)


class Sign(StrEnum):
    """What can be seen."""

    LOSS_JUMPED = "loss rose within two rows"
    LOSS_RAMPED = "loss rose over many rows"
    LOSS_LASTS = "loss stays up"
    LOSS_FALLING = "loss is on its way back"
    LOSS_RETURNED = "loss came back"
    LOSS_STEADY = "loss did not move"
    LOSS_NONFINITE = "loss is not finite"
    GRAD_FIRST = "grad norm left its band before the loss"
    GRAD_WITH = "grad norm left its band with the loss"
    GRAD_ALONE = "grad norm left its band, the loss did not"
    GRAD_STEADY = "grad norm did not move"
    GRAD_NONFINITE = "grad norm is not finite"
    LR_JUMPED = "learning rate jumped"
    LR_RISING = "learning rate was rising"
    LR_STEADY = "learning rate did not jump"
    LR_RESTARTED = "learning rate differs after the resume"
    SCALE_FELL = "loss scale fell more than once"
    NEW_ATTEMPT = "a new attempt began"
    RESUMED_HIGH = "loss is higher after the resume"
    SLOWER = "steps became slower"
    SLOWER_EVENLY = "steps are slower by the same amount"
    SLOWER_UNEVENLY = "steps are slower by a varying amount"
    PAUSED = "one slow step, then normal speed"
    PACE_STEADY = "step time did not move"
    DATA_SLOWER = "the wait for data grew"
    DATA_PAUSED = "one long wait for data"
    DATA_STEADY = "the wait for data did not move"
    DATA_UNKNOWN = "steps are slower and the wait for data is not logged"
    SILENT = "rows stopped"
    GAPS_BEFORE = "the run has paused as long before"
    SOURCE_GONE = "the source cannot be read"


Seen = dict[Sign, Claim | None]
_Found = Iterator[tuple[Sign, Claim | None]]
_MEASURED = (Role.LOSS, Role.GRAD_NORM, Role.STEP_TIME, Role.DATA_TIME, Role.THROUGHPUT, Role.LOSS_SCALE)


def observe(incident: Incident, window: Window) -> Seen:
    """All signs that the window shows, in a fixed order, each with its claim where a check can prove it."""
    event = span(incident)
    cites = numbering(incident, window)
    series = [s for role in _MEASURED if (s := window.of(role)) is not None]
    traces = {t.series.role: t for s in series if (t := trace(s, event)) is not None}
    loss = traces.get(Role.LOSS)
    step = traces.get(Role.STEP_TIME)
    pace = step or traces.get(Role.THROUGHPUT)
    found = chain(
        _loss(loss),
        _grad(traces.get(Role.GRAD_NORM), loss),
        _schedule(window, event),
        _resume(window, event, loss),
        _scale(traces.get(Role.LOSS_SCALE)),
        _pace(pace),
        _data(traces.get(Role.DATA_TIME), pace, step),
        _source(incident, window),
    )
    return {sign: claim and claim.model_copy(update={"cites": [cites[claim.metric]]}) for sign, claim in found}


def _loss(loss: Trace | None) -> _Found:
    if loss is None:
        return
    if loss.at is None:
        yield Sign.LOSS_STEADY, _claim(loss, Check.UNCHANGED, "loss stayed in its band")
        return
    yield from _nonfinite(Sign.LOSS_NONFINITE, loss)
    out = loss.band.outside(loss.after)
    # A value that is not finite stands for the worst: it neither falls nor comes back.
    rise = np.nan_to_num(loss.band.scaled(loss.after) - loss.band.scaled(np.array([loss.band.centre])), nan=np.inf)
    peak = rise[: 4 * LASTING_ROWS][np.isfinite(rise[: 4 * LASTING_ROWS])].max(initial=0.0)
    proof = _risen(loss, float(peak)) if peak > 0 else None
    if proof is not None:
        jumped = bool((rise[:BRIEF_ROWS] >= 0.5 * peak).any())
        yield (Sign.LOSS_JUMPED if jumped else Sign.LOSS_RAMPED), proof
    if loss.returned():
        yield Sign.LOSS_RETURNED, _claim(loss, Check.RETURNED_TO_BAND, "loss is back in its band")
    elif len(out) > 2 * HELD_ROWS and np.median(rise[-HELD_ROWS:]) < 0.5 * peak:
        yield Sign.LOSS_FALLING, None
    elif len(out) >= LASTING_ROWS and out.mean() >= 0.75:
        yield Sign.LOSS_LASTS, proof


def _grad(grad: Trace | None, loss: Trace | None) -> _Found:
    if grad is None:
        return
    if grad.at is None:
        yield Sign.GRAD_STEADY, _claim(grad, Check.UNCHANGED, "grad_norm stayed in its band")
        return
    yield from _nonfinite(Sign.GRAD_NONFINITE, grad)
    where = grad.label(grad.at)
    changed = _claim(grad, Check.CHANGED_AT, f"grad_norm changed at {where}", step=where)
    if loss is None or loss.at is None:
        yield Sign.GRAD_ALONE, changed
    elif grad.row(grad.at) < loss.row(loss.at):
        text = f"grad_norm left its band at {where}, loss at {loss.label(loss.at)}"
        yield Sign.GRAD_FIRST, _claim(grad, Check.ROSE_BEFORE, text, other=Role.LOSS.value)
    elif grad.row(grad.at) == loss.row(loss.at):
        yield Sign.GRAD_WITH, changed


def _schedule(window: Window, event: Span) -> _Found:
    series = window.of(Role.LEARNING_RATE)
    if series is None or len(series.values) < 2:
        return
    lr = Trace(series, band(series, event.first_row) or _ANYWHERE, None)
    old, new = series.values[:-1], series.values[1:]
    rows = series.row[1:]
    near = (rows >= event.first_row - NEAR_ROWS) & (rows <= event.first_row + HELD_ROWS)
    near[: WARM_ROWS - 1] = False
    jumps = np.flatnonzero(near & ((new > 1.5 * old) | (old > 1.5 * new)) & (old > 0))
    for i in jumps[-1:]:
        text = f"learning_rate went from {old[i]:.3g} to {new[i]:.3g} at {lr.label(i + 1)}"
        proof = _claim(lr, Check.CHANGED_AT, text, step=lr.label(i + 1))
        if series.attempt[i + 1] != series.attempt[i]:
            yield Sign.LR_RESTARTED, proof
        elif new[i] > old[i]:
            yield Sign.LR_JUMPED, proof
    before = series.values[: np.searchsorted(series.row, event.first_row) + 1][-2 * NEAR_ROWS :]
    if not len(jumps) and before[-1] >= 1.2 * before[0]:
        yield Sign.LR_RISING, None
    elif not len(jumps):
        after = series.values[np.searchsorted(series.row, event.first_row) :]
        inside = len(after) > 0 and not lr.band.outside(after).any()
        yield Sign.LR_STEADY, _claim(lr, Check.UNCHANGED, "learning_rate kept its course") if inside else None


def _resume(window: Window, event: Span, loss: Trace | None) -> _Found:
    longest = _longest(window)
    if longest is None:
        return
    rows = longest.row[1:][np.diff(longest.attempt) != 0]
    rows = rows[(rows >= event.first_row - NEAR_ROWS) & (rows <= event.first_row + HELD_ROWS)]
    if not len(rows):
        return
    yield Sign.NEW_ATTEMPT, None
    if loss is None:
        return
    cut = int(np.searchsorted(loss.series.row, int(rows[-1])))
    step, values = loss.series.step, loss.series.values
    repeated = np.isin(step[:cut], step[cut : cut + 8]) & (step[:cut] >= 0)
    old, new = (values[:cut][repeated] if repeated.any() else values[:cut][-8:]), values[cut : cut + 8]
    old, new = old[np.isfinite(old)], new[np.isfinite(new)]
    if min(len(old), len(new)) >= HELD_ROWS:
        was, now = float(np.median(old)), float(np.median(new))
        levels = loss.band.scaled(np.array([was, now]))
        if levels[1] - levels[0] > WIDTH * loss.band.noise:
            text = f"loss was {was:.4g} before the resume and {now:.4g} after it"
            yield Sign.RESUMED_HIGH, _claim(loss, Check.CHANGED_AT, text, step=loss.label(cut))


def _scale(scale: Trace | None) -> _Found:
    if scale is None or scale.at is None:
        return
    if scale.after[np.isfinite(scale.after)].min(initial=math.inf) <= scale.band.centre / 4:
        at = scale.label(scale.at)
        yield Sign.SCALE_FELL, _claim(scale, Check.CHANGED_AT, f"loss_scale fell from {at} on", step=at)


def _pace(pace: Trace | None) -> _Found:
    if pace is None:
        return
    if pace.at is None:
        yield Sign.PACE_STEADY, _claim(pace, Check.UNCHANGED, f"{pace.series.role} stayed in its band")
        return
    at = pace.label(pace.at)
    proof = _claim(pace, Check.CHANGED_AT, f"{pace.series.role} changed at {at}", step=at)
    if pace.brief():
        yield Sign.PAUSED, proof
    elif pace.sustained():
        yield Sign.SLOWER, proof
        level = pace.band.scaled(pace.after)
        level = level[np.isfinite(level)]
        spread = 1.4826 * float(np.median(np.abs(level - np.median(level)))) if len(level) else 0.0
        even = spread <= max(3 * pace.band.noise, 0.05)
        yield (Sign.SLOWER_EVENLY if even else Sign.SLOWER_UNEVENLY), None


def _data(data: Trace | None, pace: Trace | None, step: Trace | None) -> _Found:
    if data is None:
        if pace is not None and pace.at is not None and pace.sustained() and not pace.brief():
            yield Sign.DATA_UNKNOWN, None
        return
    grown = data.after[: 4 * LASTING_ROWS]
    grown = grown[np.isfinite(grown)]
    # A wait that grew by less than a tenth of a step explains nothing.
    small = step is not None and grown.max(initial=0.0) - data.band.centre < 0.1 * step.band.centre
    if data.at is None:
        yield Sign.DATA_STEADY, _claim(data, Check.UNCHANGED, "data_time stayed in its band")
    elif small:
        yield Sign.DATA_STEADY, None
    else:
        at = data.label(data.at)
        proof = _claim(data, Check.CHANGED_AT, f"data_time changed at {at}", step=at)
        yield (Sign.DATA_PAUSED if data.brief() else Sign.DATA_SLOWER), proof


def _source(incident: Incident, window: Window) -> _Found:
    if incident.kind in {Kind.SOURCE_LOST, Kind.MONITOR_STALE}:
        yield Sign.SOURCE_GONE, None
    if incident.kind is Kind.SILENCE:
        yield Sign.SILENT, None
        longest = _longest(window)
        gaps = np.diff(longest.t) if longest is not None else np.empty(0)
        if gaps[np.isfinite(gaps)].max(initial=0.0) >= incident.expected:
            yield Sign.GAPS_BEFORE, None


def _nonfinite(sign: Sign, trace_: Trace) -> _Found:
    bad = np.flatnonzero(~np.isfinite(trace_.after))
    if len(bad) and trace_.at is not None:
        at = trace_.label(trace_.at + int(bad[0]))
        yield sign, _claim(trace_, Check.NONFINITE_AT, f"{trace_.series.role} is not finite at {at}", step=at)


def _risen(loss: Trace, peak: float) -> Claim:
    if not loss.band.log:
        assert loss.at is not None
        return _claim(loss, Check.CHANGED_AT, "loss left its band", step=loss.label(loss.at))
    factor = math.floor(100 * math.exp(min(peak, 600.0))) / 100  # 600: stays finite
    return _claim(loss, Check.RATIO_AT_LEAST, f"loss rose to {factor:.4g} times its level before", value=factor)


def _claim(trace_: Trace, check: Check, text: str, **arguments: float | str) -> Claim:
    metric = trace_.series.role.value
    return Claim.model_validate({"text": text, "cites": [], "check": check, "metric": metric, **arguments})


def _longest(window: Window) -> Series | None:
    return max(window.series, key=lambda s: len(s.row), default=None)
