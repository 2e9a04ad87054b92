from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from analysis.worlds import ONSET, incident, series, world
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.types import Role
from monitor.analysis.differential import diagnose
from monitor.analysis.hypothesis import Cause, Hypothesis, Prediction, Relation
from monitor.analysis.predictions import (
    MAX_PREDICTIONS,
    MAX_ROWS,
    Outcome,
    Registered,
    Verdict,
    judge,
    register,
    told,
)
from monitor.evidence import build
from monitor.window import Series

IN, OUT, NAN = 2.0, 9.0, math.nan


def registered(relation: Relation, within_rows: int = 6, **changes: Any) -> Registered:
    made = {"id": "i1-1-x-0", "run": "r", "attempt": 0, "metric": "train/loss", "name": "loss", "relation": relation,
            "within_rows": within_rows, "probability": 0.8, "after_row": 9, "lo": 1.0, "hi": 3.0}  # fmt: skip
    return Registered(**(made | changes))


def after(*values: float, **changes: Any) -> Series:
    """Ten values that the author has seen, all of which would decide otherwise, then the new ones."""
    return series("train/loss", Role.LOSS, np.array([NAN] * 10 + list(values)), **changes)


def cut(whole: Series, rows: int) -> Series:
    return replace(whole, **{f: getattr(whole, f)[:rows] for f in ("row", "step", "t", "values", "attempt")})


@pytest.mark.parametrize(
    ("relation", "values", "outcome", "row"),
    [
        (Relation.BACK_IN_BAND, [OUT, IN, IN], "open", -1),
        (Relation.BACK_IN_BAND, [OUT, IN, IN, IN], "confirmed", 13),
        (Relation.BACK_IN_BAND, [IN, OUT, IN, OUT, IN, IN], "refuted", 15),
        (Relation.BACK_IN_BAND, [NAN] * 6, "refuted", 15),
        (Relation.STAYS_OUT, [IN, IN, OUT, IN, IN], "open", -1),
        (Relation.STAYS_OUT, [OUT, IN, IN, IN], "refuted", 13),
        (Relation.STAYS_OUT, [OUT] * 7, "confirmed", 15),
        (Relation.STAYS_IN_BAND, [IN, OUT, OUT, IN, IN, IN], "confirmed", 15),
        (Relation.STAYS_IN_BAND, [IN, OUT, OUT, OUT], "refuted", 13),
        (Relation.STAYS_IN_BAND, [IN, NAN], "refuted", 11),
        (Relation.BECOMES_NONFINITE, [OUT, OUT, math.inf], "confirmed", 12),
        (Relation.BECOMES_NONFINITE, [OUT] * 6 + [NAN], "refuted", 15),
        (Relation.BECOMES_NONFINITE, [OUT] * 5, "open", -1),
    ],
)
def test_each_relation_is_decided_at_the_row_that_decides_it(relation, values, outcome, row):
    judged = judge(registered(relation), after(*values))
    assert (judged.outcome, judged.row) == (outcome, row)


@settings(deadline=None, max_examples=150)
@given(
    relation=st.sampled_from(Relation),
    within_rows=st.integers(3, 12),
    values=st.lists(st.sampled_from([IN, OUT, NAN]), max_size=16),
    new_attempt=st.integers(1, 20),
)
def test_the_outcome_does_not_depend_on_how_the_rows_arrive(relation, within_rows, values, new_attempt):
    attempt = (np.arange(10 + len(values)) >= 10 + new_attempt).astype(np.int64)
    whole = after(*values, attempt=attempt)
    prediction = registered(relation, within_rows)
    final = judge(prediction, whole)
    for rows in range(len(whole.row) + 1):
        early = judge(prediction, cut(whole, rows))
        if early.outcome is not Verdict.OPEN:
            assert early == final
        else:
            assert final.outcome is Verdict.OPEN or final.row >= rows


@pytest.mark.parametrize(
    ("changes", "outcome", "said"),
    [
        ({"lo": -math.inf}, "confirmed", ("loss back in band (below 3) within 6 rows", 0.8, "confirmed")),
        ({"probability": 0.5}, "refuted", ("loss back in band (1 to 3) within 6 rows", 0.5, "refuted")),
        (
            {"relation": Relation.STAYS_OUT, "probability": 0.25},
            "refuted",
            ("loss does not stay out of band (1 to 3) for 6 rows", 0.75, "confirmed"),
        ),
        (
            {"relation": Relation.BECOMES_NONFINITE, "probability": 0.25},
            "confirmed",
            ("loss stays finite within 6 rows", 0.75, "refuted"),
        ),
        ({"relation": Relation.STAYS_IN_BAND, "hi": math.inf}, "open", ("loss stays in band for 6 rows", 0.8, "open")),
        ({"probability": 0.25}, "undecided", ("loss not back in band (1 to 3) within 6 rows", 0.75, "undecided")),
    ],
)
def test_a_prediction_is_told_as_what_is_expected(changes, outcome, said):
    prediction = registered(**{"relation": Relation.BACK_IN_BAND} | changes)
    assert told(prediction, Outcome(outcome=Verdict(outcome))) == said


def test_a_new_attempt_before_the_decision_leaves_it_undecided_for_good():
    whole = after(OUT, OUT, IN, IN, IN, attempt=np.array([0] * 12 + [1] * 3))
    judged = judge(registered(Relation.BACK_IN_BAND), whole)
    assert (judged.outcome, judged.row) == (Verdict.UNDECIDED, 12)


def test_what_is_open_when_the_run_ends_is_undecided():
    whole = after(OUT, OUT)
    assert judge(registered(Relation.STAYS_OUT), whole).outcome is Verdict.OPEN
    assert judge(registered(Relation.STAYS_OUT), whole, ended=True).outcome is Verdict.UNDECIDED
    assert judge(registered(Relation.STAYS_OUT), None, ended=True).outcome is Verdict.UNDECIDED


def test_both_types_survive_json_with_an_open_ended_band():
    prediction = registered(Relation.BACK_IN_BAND, lo=-math.inf)
    assert Registered.model_validate_json(prediction.model_dump_json()) == prediction
    outcome = judge(prediction, after(IN, IN, IN))
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome


def test_the_predictions_of_the_built_in_analyst_come_true_on_the_fault_it_named():
    about, early = world(Cause.BAD_BATCH, rows=ONSET + 5)
    _, whole = world(Cause.BAD_BATCH)
    predictions = register(diagnose(about, early), build(about, early), about, early, "built-in")
    by_relation = {p.relation: judge(p, whole.of(Role.LOSS)).outcome for p in predictions if p.name == "train/loss"}
    assert by_relation == {Relation.BACK_IN_BAND: Verdict.CONFIRMED, Relation.STAYS_OUT: Verdict.REFUTED}


def test_only_rows_that_the_author_has_not_seen_can_decide():
    about, seen = world(Cause.BAD_BATCH, rows=ONSET + 30)
    prediction = register(diagnose(about, seen), build(about, seen), about, seen, "built-in")[0]
    assert prediction.after_row == ONSET + 29
    assert judge(prediction, seen.of(Role.LOSS)).outcome is Verdict.OPEN


def hypothesis_of(*predictions: Prediction) -> Hypothesis:
    return Hypothesis(causes=[], ruled_out=[], predictions=list(predictions), experiment=None)


def test_registration_bounds_what_a_model_may_ask_and_keeps_what_cannot_be_tested_as_undecided():
    about, seen = world(Cause.BAD_BATCH)
    wild = Prediction(metric="loss", relation=Relation.STAYS_OUT, within_rows=10**9, probability=math.nan)
    invented = Prediction(metric="M7", relation=Relation.STAYS_OUT, within_rows=-5, probability=7.0)
    many = register(hypothesis_of(wild, *[invented] * 9), build(about, seen), about, seen, "claude")
    assert len(many) == MAX_PREDICTIONS
    assert (many[0].within_rows, many[0].probability) == (MAX_ROWS, 0.0)
    assert (many[1].within_rows, many[1].probability) == (3, 1.0)
    assert judge(many[1], None).outcome is Verdict.UNDECIDED


def test_ids_are_stable_and_differ_by_author_episode_and_index():
    about, seen = world(Cause.BAD_BATCH)
    hypothesis, evidence = diagnose(about, seen), build(about, seen)
    ids = [
        p.id
        for author in ("built-in", "claude")
        for episode in (1, 2)
        for p in register(hypothesis, evidence, replace(about, episode=episode), seen, author)
    ]
    assert len(set(ids)) == len(ids) == 4 * len(hypothesis.predictions)
    assert ids[0] == "i1-1-built-in-1-0"


def test_a_metric_without_a_past_has_no_band_and_is_not_judged():
    about, seen = incident(first=3), world(Cause.BAD_BATCH)[1]
    prediction = Prediction(metric="loss", relation=Relation.BACK_IN_BAND, within_rows=20, probability=0.5)
    (registered_,) = register(hypothesis_of(prediction), build(about, seen), about, seen, "claude")
    assert judge(registered_, seen.of(Role.LOSS)) == Outcome(
        outcome=Verdict.UNDECIDED, found="too few values before the event"
    )
