"""Recomputes every claim of a hypothesis from the stored window, whoever made it.

A verdict is ours, never the author's: supported, contradicted, or unverifiable where the data or the claim do not
allow a check. A cause with a contradicted claim falls behind its rivals; if all fall, the answer becomes
`insufficient_evidence`. Pure. Bounds: `MAX_CAUSES` causes of `MAX_CLAIMS` claims are looked at, the rest is dropped and
counted in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from monitor.analysis.hypothesis import ABSTENTIONS, Cause, Check, Claim, Hypothesis, RankedCause
from monitor.analysis.trace import HELD_ROWS, LASTING_ROWS, Trace, trace
from monitor.band import WIDTH, axis, span
from monitor.evidence import Evidence
from monitor.scale import between, short

if TYPE_CHECKING:
    import numpy.typing as npt

    from monitor.band import Span
    from monitor.incident import Incident
    from monitor.window import Series, Window

MAX_CAUSES = 6
MAX_CLAIMS = 6
WITHIN_ROWS = 3
"""A step that a claim names may be off by so many values of its metric."""
ROUNDING = 0.02
"""A ratio that a claim names may be rounded by this much."""
_AROUND_ROWS = 3
_MAX_STEP = 2**60  # differences of two steps stay inside an int64


class Verdict(StrEnum):
    """What the stored data say about a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNVERIFIABLE = "unverifiable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The verdict on one claim and the numbers it rests on."""

    verdict: Verdict
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A hypothesis re-ranked by its verdicts. verdicts: one tuple per cause, one entry per claim, in order.

    dropped: causes and claims beyond the bounds that were not looked at.
    """

    hypothesis: Hypothesis
    verdicts: tuple[tuple[Checked, ...], ...]
    dropped: int = 0

    def count(self, verdict: Verdict) -> int:
        """How many claims got a verdict."""
        return sum(c.verdict is verdict for checked in self.verdicts for c in checked)


def verify(hypothesis: Hypothesis, evidence: Evidence, incident: Incident, window: Window) -> Verified:
    """Check every claim against the window and rank the causes anew: grounded, then bare, then contradicted."""
    causes = [
        cause.model_copy(update={"claims": cause.claims[:MAX_CLAIMS]}) for cause in hypothesis.causes[:MAX_CAUSES]
    ]
    kept = sum(len(c.claims) + 1 for c in causes)
    dropped = sum(len(c.claims) + 1 for c in hypothesis.causes) - kept
    pairs = [(c, tuple(check(claim, evidence, incident, window) for claim in c.claims)) for c in causes]
    pairs.sort(key=lambda pair: _standing(*pair))
    if all(_standing(*pair) == _FALLEN for pair in pairs):
        summary = (
            "Every proposed cause rests on a claim that the stored data contradict." if pairs else "No cause named."
        )
        pairs.insert(0, (RankedCause(cause=Cause.INSUFFICIENT_EVIDENCE, summary=summary, claims=[]), ()))
    return Verified(
        hypothesis=hypothesis.model_copy(update={"causes": [cause for cause, _ in pairs]}),
        verdicts=tuple(checked for _, checked in pairs),
        dropped=dropped,
    )


def check(claim: Claim, evidence: Evidence, incident: Incident, window: Window) -> Checked:
    """Recompute one claim."""
    items = {item.id for item in evidence.items}
    if unknown := [c for c in claim.cites if c not in items]:
        return _unverifiable(f"cites {unknown[0][:40]}, which is not in the evidence")
    event = span(incident)
    metric = _trace(claim.metric, evidence.names, window, event)
    if isinstance(metric, str):
        return _unverifiable(metric)
    return _CHECKS[claim.check](claim, metric, lambda name: _trace(name, evidence.names, window, event), event)


_FALLEN = 2
_Lookup = Callable[[str], "Trace | str"]


def _standing(cause: RankedCause, checked: Sequence[Checked]) -> int:
    verdicts = {c.verdict for c in checked}
    if Verdict.CONTRADICTED in verdicts:
        return _FALLEN
    return 0 if Verdict.SUPPORTED in verdicts or cause.cause in ABSTENTIONS else 1


def _trace(name: str, names: Mapping[str, str], window: Window, event: Span) -> Trace | str:
    """The trace of a metric by its id in the evidence, or why there is none."""
    written = names.get(name)
    series = next((s for s in window.series if s.metric == written), None)
    if written is None or series is None:
        return f"no metric {name[:40]} in the stored data"
    return trace(series, event) or f"too few values of {name} before the event"


def _rose_before(claim: Claim, metric: Trace, look: _Lookup, _: Span) -> Checked:
    other = look(claim.other or "")
    if isinstance(other, str):
        return _unverifiable(other)
    if metric.at is None:
        return _contradicted(f"{claim.metric} did not leave its band")
    mine = f"{claim.metric} left its band at {_place(metric, metric.at)}"
    if other.at is None:
        return _contradicted(f"{mine}, {claim.other} did not leave its own")
    found = f"{mine}, {claim.other} at {_place(other, other.at)}"
    return _decided(metric.row(metric.at) < other.row(other.at), found)


def _changed_at(claim: Claim, metric: Trace, _: _Lookup, event: Span) -> Checked:
    if claim.step is None:
        return _unverifiable("names no step")
    at = _index(metric.series, claim.step, event)
    if at is None:
        return _unverifiable(f"no value of {claim.metric} near {claim.step}")
    values = metric.series.values
    scaled = metric.band.scaled(values)
    for i in range(max(at - WITHIN_ROWS, 1), min(at + WITHIN_ROWS + 1, len(values))):
        if np.isfinite(values[i]) != np.isfinite(values[i - 1]):
            return _decided(True, f"{short(values[i - 1])} → {short(values[i])} at {_place(metric, i)}")
        before = scaled[max(0, i - 8) : i]
        before = before[np.isfinite(before)]
        if len(before) and abs(scaled[i] - np.median(before)) > WIDTH * metric.band.noise:
            level = float(np.exp(np.median(before)) if metric.band.log else np.median(before))
            return _decided(True, f"{short(level)} → {short(values[i])} at {_place(metric, i)}")
    return _contradicted(f"no change beyond its noise within {WITHIN_ROWS} values of {_place(metric, at)}")


def _ratio_at_least(claim: Claim, metric: Trace, _: _Lookup, event: Span) -> Checked:
    if claim.value is None or not metric.band.centre > 0:
        return _unverifiable("names no ratio" if claim.value is None else f"{claim.metric} has no positive level")
    values = _around(metric.series, event, 4 * LASTING_ROWS)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return _unverifiable(f"no finite value of {claim.metric} in the event")
    ratio = float(finite.max()) / metric.band.centre
    found = f"{short(metric.band.centre)} → {short(finite.max())}, {ratio:.3g}×"
    return _decided(ratio >= claim.value * (1 - ROUNDING), found)


def _unchanged(claim: Claim, metric: Trace, _: _Lookup, event: Span) -> Checked:
    values = _around(metric.series, event, _AROUND_ROWS)
    if not len(values):
        return _unverifiable(f"no value of {claim.metric} in the event")
    out = metric.band.outside(values)
    found = (
        f"{int(out.sum())} of {len(values)} values outside {_band(metric)}"
        if out.any()
        else f"all within {_band(metric)}"
    )
    return _decided(int(out.sum()) <= len(values) // 32, found)  # over many rows one outlier is natural


def _returned(claim: Claim, metric: Trace, _: _Lookup, __: Span) -> Checked:
    if metric.at is None:
        return _contradicted(f"{claim.metric} did not leave its band")
    if len(metric.after) <= HELD_ROWS:
        return _unverifiable(f"only {len(metric.after)} values since it left its band")
    last = metric.series.values[-1]
    return _decided(metric.returned(), f"last value {short(last)}, band {_band(metric)}")


def _nonfinite_at(claim: Claim, metric: Trace, _: _Lookup, event: Span) -> Checked:
    if claim.step is None:
        return _unverifiable("names no step")
    at = _index(metric.series, claim.step, event)
    if at is None or axis(metric.series)[1][at] != claim.step:
        return _unverifiable(f"no value of {claim.metric} at {claim.step}")
    value = metric.series.values[at]
    return _decided(not np.isfinite(value), f"{short(value)} at {_place(metric, at)}")


_CHECKS: Mapping[Check, Callable[[Claim, Trace, _Lookup, Span], Checked]] = MappingProxyType(
    {
        Check.ROSE_BEFORE: _rose_before,
        Check.CHANGED_AT: _changed_at,
        Check.RATIO_AT_LEAST: _ratio_at_least,
        Check.UNCHANGED: _unchanged,
        Check.RETURNED_TO_BAND: _returned,
        Check.NONFINITE_AT: _nonfinite_at,
    }
)


def _index(series: Series, label: int, event: Span) -> int | None:
    """Where a step lies in a series: in the attempt of the event if it has the step, else in the latest that does."""
    labels = axis(series)[1]
    if not len(labels) or abs(label) > _MAX_STEP:
        return None
    distance = np.abs(labels - label)
    usual = int(np.median(np.abs(np.diff(labels)))) if len(labels) > 1 else 1
    nearest = np.flatnonzero((distance == distance.min()) & (distance.min() <= max(usual, 1)))
    own = nearest[series.attempt[nearest] == event.attempt]
    chosen = own if len(own) else nearest
    return int(chosen[-1]) if len(chosen) else None


def _around(series: Series, event: Span, more: int) -> npt.NDArray[np.float64]:
    """The values of the event, a few before it and `more` after it."""
    first = int(np.searchsorted(series.row, event.first_row)) - _AROUND_ROWS
    last = int(np.searchsorted(series.row, event.last_row, side="right")) + more
    return series.values[max(first, 0) : last]


def _place(metric: Trace, index: int) -> str:
    return f"{axis(metric.series)[0]} {metric.label(index)}"


def _band(metric: Trace) -> str:
    return between(metric.band.lo, metric.band.hi)


def _decided(holds: bool, found: str) -> Checked:
    return Checked(verdict=Verdict.SUPPORTED if holds else Verdict.CONTRADICTED, found=found)


def _contradicted(found: str) -> Checked:
    return Checked(verdict=Verdict.CONTRADICTED, found=found)


def _unverifiable(found: str) -> Checked:
    return Checked(verdict=Verdict.UNVERIFIABLE, found=found)
