"""Predictions that can fail: registered with frozen numbers, judged on the rows that arrive later.

What counts is written down at registration: the metric, its band, the first row that was not yet seen, how many rows
of the metric there are. An outcome is decided at the first row at which it can be, so it does not depend on how the
rows arrive. Pure; both types survive a round trip through JSON. Bounds: `MAX_PREDICTIONS`, `MAX_ROWS`.
"""

from __future__ import annotations

import math
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from monitor.analysis.hypothesis import Hypothesis, Prediction, Relation
from monitor.band import Band, band, span
from monitor.scale import between, short

if TYPE_CHECKING:
    from monitor.evidence import Evidence
    from monitor.incident import Incident
    from monitor.window import Series, Window

MAX_PREDICTIONS = 4
MAX_ROWS = 2000
EVEN = 0.5
HELD_ROWS = 3
"""One row proves nothing: a metric is back, or out, when so many values in a row are."""


class Verdict(StrEnum):
    """Where a prediction stands. Undecided is final: the run or the attempt ended first, or it was never testable."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


class Registered(BaseModel):
    """A prediction with everything that will decide it.

    id: stable (incident, episode, author, generation, index). cause: which one it speaks for. metric: the writer's
    name, "" if there is none; name: the one to show. after_row: values of rows beyond it count. lo, hi: the band.
    problem: why it cannot be tested, if so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    id: str
    run: str
    attempt: int
    metric: str
    name: str
    relation: Relation
    within_rows: int
    probability: float
    after_row: int
    lo: float
    hi: float
    problem: str = ""
    cause: str = ""


class Outcome(BaseModel):
    """Verdict of a prediction so far. row: where it was decided, -1 while open or if no row decided it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Verdict
    row: int = -1
    found: str = ""


def register(
    hypothesis: Hypothesis,
    evidence: Evidence,
    incident: Incident,
    window: Window,
    author: str,
    generation: int = 1,
) -> tuple[Registered, ...]:
    """Freeze the predictions of a hypothesis. The window must be the one that the author saw."""
    seen = max((int(s.row[-1]) for s in window.series if len(s.row)), default=-1)
    after = max(seen, incident.detected_row, incident.paged_row)
    start = span(incident).first_row
    registered = []
    for i, prediction in enumerate(hypothesis.predictions[:MAX_PREDICTIONS]):
        metric = evidence.names.get(prediction.metric, "")
        series = next((s for s in window.series if s.metric == metric), None)
        normal = band(series, start) if series is not None else None
        registered.append(
            Registered(
                id=f"{incident.id}-{incident.episode}-{author}-{generation}-{i}",
                run=incident.run,
                attempt=incident.attempt,
                metric=metric if series is not None else "",
                name=(metric if series is not None else prediction.metric)[:60],
                relation=prediction.relation,
                within_rows=min(max(prediction.within_rows, HELD_ROWS), MAX_ROWS),
                probability=_probability(prediction),
                after_row=after,
                lo=normal.lo if normal is not None else -math.inf,
                hi=normal.hi if normal is not None else math.inf,
                problem=_problem(prediction, series, normal),
                cause=hypothesis.candidate or "",
            )
        )
    return tuple(registered)


def judge(registered: Registered, series: Series | None, *, ended: bool = False) -> Outcome:
    """Decide a prediction on the values of its metric beyond `after_row`; earlier ones are ignored.

    ended: no more rows will come, so what is open becomes undecided.
    """
    if registered.problem:
        return Outcome(outcome=Verdict.UNDECIDED, found=registered.problem)
    if series is None:
        return _waiting(registered, 0, ended)
    start = int(np.searchsorted(series.row, registered.after_row, side="right"))
    rows, values = series.row[start:], series.values[start:]
    other = np.flatnonzero(series.attempt[start:] != registered.attempt)
    limit = min(registered.within_rows, int(other[0]) if len(other) else len(values))
    values = values[:limit]
    outcome = _decide(registered, values)
    if outcome is not None:
        at, verdict, found = outcome
        return Outcome(outcome=verdict, row=int(rows[at]), found=found)
    if len(other):
        return Outcome(outcome=Verdict.UNDECIDED, row=int(rows[other[0]]), found="a new attempt began first")
    return _waiting(registered, len(values), ended)


def told(registered: Registered, outcome: Outcome) -> tuple[str, float, Verdict]:
    """The prediction in words, its probability and its verdict, as what is expected to happen.

    An event given less than even odds is told as its contrary: a rival's prediction that fails speaks for the author.
    """
    words = _WORDS[registered.relation]
    holds = registered.probability >= EVEN
    text = f"{registered.name} {words[0] if holds else words[1]}{_band(registered)} {words[2]} {registered.within_rows}"
    verdict = outcome.outcome if holds else _CONTRARY.get(outcome.outcome, outcome.outcome)
    return f"{text} rows", registered.probability if holds else 1.0 - registered.probability, verdict


_WORDS = MappingProxyType(
    {
        Relation.BACK_IN_BAND: ("back in band", "not back in band", "within"),
        Relation.STAYS_OUT: ("stays out of band", "does not stay out of band", "for"),
        Relation.STAYS_IN_BAND: ("stays in band", "leaves its band", "for"),
        Relation.BECOMES_NONFINITE: ("becomes NaN or Inf", "stays finite", "within"),
    }
)
_CONTRARY = MappingProxyType({Verdict.CONFIRMED: Verdict.REFUTED, Verdict.REFUTED: Verdict.CONFIRMED})


def _band(registered: Registered) -> str:
    """The band in brackets, nothing where it does not matter or is not known."""
    if registered.relation is Relation.BECOMES_NONFINITE or not math.isfinite(registered.hi):
        return ""
    return f" ({between(registered.lo, registered.hi)})"


def _decide(registered: Registered, values: np.typing.NDArray[np.float64]) -> tuple[int, Verdict, str] | None:
    """Index of the deciding value, verdict and numbers; None while open. float64[k], k at most `within_rows`."""
    finite = np.isfinite(values)
    inside = finite & (values >= registered.lo) & (values <= registered.hi)
    relation = registered.relation
    if relation is Relation.BECOMES_NONFINITE:
        hit, on_hit = _first(~finite, 1), Verdict.CONFIRMED
    elif relation is Relation.BACK_IN_BAND:
        hit, on_hit = _first(inside, HELD_ROWS), Verdict.CONFIRMED
    elif relation is Relation.STAYS_OUT:
        hit, on_hit = _first(inside, HELD_ROWS), Verdict.REFUTED
    else:
        broken, left = _first(~finite, 1), _first(~inside, HELD_ROWS)
        hit, on_hit = min((h for h in (broken, left) if h is not None), default=None), Verdict.REFUTED
    if hit is not None:
        return hit, on_hit, f"{short(values[hit])} after {hit + 1} rows"
    if len(values) == registered.within_rows:
        verdict = Verdict.REFUTED if on_hit is Verdict.CONFIRMED else Verdict.CONFIRMED
        last = len(values) - 1
        return last, verdict, f"{short(values[last])} after all {len(values)} rows"
    return None


def _first(holds: np.typing.NDArray[np.bool_], in_a_row: int) -> int | None:
    """Index of the value that completes the first stretch of `in_a_row` true ones."""
    if len(holds) < in_a_row:
        return None
    whole = np.convolve(holds, np.ones(in_a_row, dtype=np.int64), mode="valid") == in_a_row
    hits = np.flatnonzero(whole)
    return int(hits[0]) + in_a_row - 1 if len(hits) else None


def _waiting(registered: Registered, seen: int, ended: bool) -> Outcome:
    found = f"{seen} of {registered.within_rows} rows seen"
    return Outcome(outcome=Verdict.UNDECIDED if ended else Verdict.OPEN, found=found)


def _probability(prediction: Prediction) -> float:
    given = prediction.probability
    return min(max(given, 0.0), 1.0) if math.isfinite(given) else 0.0


def _problem(prediction: Prediction, series: Series | None, normal: Band | None) -> str:
    if series is None:
        return "no such metric in the stored data"
    if normal is None and prediction.relation is not Relation.BECOMES_NONFINITE:
        return "too few values before the event"
    return ""
