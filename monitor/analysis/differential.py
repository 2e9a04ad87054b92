"""The built-in analyst: a table of causes against signs, weighed in a millisecond, with no model behind it.

The table (causes.py) is data: what a cause needs, what speaks for and against it, what it predicts, the smallest
experiment that tells it from its rivals. Signs come with the claims that prove them, so the answer passes the same gate
as a model's. Where two causes do not separate, the answer is `insufficient_evidence` and the candidates follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectors.types import Kind
from monitor.analysis.causes import TABLE, Row
from monitor.analysis.hypothesis import (
    Answer,
    Cause,
    Claim,
    Experiment,
    Hypothesis,
    Prediction,
    RankedCause,
    Relation,
)
from monitor.analysis.signs import Seen, observe
from monitor.analysis.trace import HELD_ROWS, trace
from monitor.band import Span, span

if TYPE_CHECKING:
    from monitor.incident import Incident
    from monitor.window import Window

AUTHOR = "built-in"
ENOUGH = 3
"""Least weight of a cause that may lead."""
MAX_RIVALS = 3
MAX_CLAIMS = 4


class Differential:
    """The analyst that is always there. It needs the numbers, so it takes the window and not the text."""

    name = AUTHOR

    def answer(self, incident: Incident, window: Window) -> Answer:
        """`diagnose` with its author."""
        return Answer(hypothesis=diagnose(incident, window), author=AUTHOR)


def diagnose(incident: Incident, window: Window) -> Hypothesis:
    """Rank the causes by the signs in the window. Pure; the same window gives the same hypothesis."""
    seen = observe(incident, window)
    kinds = {incident.kind, *(f.kind for f in incident.findings)}
    weighed = [
        (_weight(row, seen), row) for row in TABLE if not row.needs.isdisjoint(seen) and _bears(row.cause, kinds)
    ]
    ranked = [pair for pair in sorted(weighed, key=lambda pair: -pair[0]) if pair[0] > 0][: MAX_RIVALS + 1]
    clear = bool(ranked) and ranked[0][0] >= ENOUGH and (len(ranked) == 1 or ranked[0][0] > ranked[1][0])
    causes = [_ranked(row, seen) for _, row in ranked]
    if not clear:
        summary = "The stored metrics do not separate the causes." if causes else "No sign of a known cause."
        causes.insert(0, RankedCause(cause=Cause.INSUFFICIENT_EVIDENCE, summary=summary, claims=[]))
    rows = [row for _, row in ranked]
    return Hypothesis(
        causes=causes,
        ruled_out=_ruled_out(seen, {c.cause for c in causes}),
        predictions=_predictions(rows, window, span(incident)),
        experiment=rows[0].experiment if rows else _LOOK_CLOSER,
        urgency=rows[0].urgency if clear else "",
    )


_LOOK_CLOSER = Experiment(
    what="Log grad norm, learning rate, step time and the wait for data for the rows to come.",
    control="The same metrics of a healthy stretch of this run.",
    gpu_hours=None,
    success="One of them leaves its band before or with the metric of this incident.",
)


_INSIDE = frozenset({Relation.BACK_IN_BAND, Relation.STAYS_IN_BAND})


_PACE = frozenset({Kind.THROUGHPUT_DROP, Kind.DATA_STALL, Kind.STRAGGLER})
_LEARNING = frozenset(
    {Kind.LOSS_SPIKE, Kind.DIVERGENCE, Kind.NONFINITE, Kind.GRAD_BLOWUP, Kind.PLATEAU, Kind.EVAL_REGRESSION}
)
_FOREIGN = {
    Cause.LOADER_STARVATION: _LEARNING,
    Cause.STORAGE_STALL: _LEARNING | {Kind.SILENCE},  # it is over, a silence is not
    Cause.SLOW_HARDWARE: _LEARNING,
    Cause.CONTENTION: _LEARNING,
    Cause.BENIGN_PAUSE: _LEARNING,
}


def _bears(cause: Cause, kinds: set[Kind]) -> bool:
    """A slow read moves no loss and a bad batch slows no step, however clear the signs of either."""
    return not kinds <= _FOREIGN.get(cause, _PACE)


def _weight(row: Row, seen: Seen) -> int:
    return row.prior + sum(weight for sign, weight in row.weights.items() if sign in seen)


def _ranked(row: Row, seen: Seen) -> RankedCause:
    present = [sign for sign, weight in row.weights.items() if weight > 0 and sign in seen]
    proofs = [claim for sign in present if (claim := seen[sign]) is not None]
    claims: list[Claim] = []
    for claim in proofs:  # two signs may rest on one claim
        if claim not in claims:
            claims.append(claim)
    unproved = "; ".join(sign.value for sign in present if seen[sign] is None)
    summary = f"{row.summary} Seen: {unproved}." if unproved else row.summary  # claims speak for the other signs
    return RankedCause(cause=row.cause, summary=summary, claims=claims[:MAX_CLAIMS])


def _ruled_out(seen: Seen, named: set[Cause]) -> list[str]:
    """The causes that a sign speaks strongly against and that are not among the ranked ones."""
    return [
        f"{row.cause}: {row.excluded_by.value}"
        for row in TABLE
        if row.excluded_by in seen and row.cause not in named and row.excluded_by is not None
    ]


def _predictions(rows: list[Row], window: Window, event: Span) -> list[Prediction]:
    """Those of the leading cause, then the first one of its rival, where their metrics are logged."""
    predictions: list[Prediction] = []
    candidates = [*(rows[0].predictions if rows else ()), *(rows[1].predictions[:1] if len(rows) > 1 else ())]
    for role, relation, within_rows, probability in candidates:
        series = window.of(role)
        if series is None:
            continue
        now = trace(series, event)
        if (
            relation is Relation.STAYS_OUT
            and now is not None
            and not now.band.outside(series.values[-HELD_ROWS:]).any()
        ):
            continue  # it is inside: nothing is there to stay out
        if relation in _INSIDE and now is not None:
            # What is inside already can only stay there, and that can still fail; what is out can only come back.
            out = bool(now.band.outside(series.values[-1:]).any())
            relation = Relation.BACK_IN_BAND if out else Relation.STAYS_IN_BAND  # noqa: PLW2901
        rival = bool(predictions) and len(predictions) >= len(rows[0].predictions)
        prediction = Prediction(
            metric=role.value,
            relation=relation,
            within_rows=within_rows,
            probability=round(1 - probability, 2) if rival else probability,
        )
        if all((p.metric, p.relation) != (prediction.metric, prediction.relation) for p in predictions):
            predictions.append(prediction)
    return predictions
