from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from analysis.worlds import ONSET, ROWS, healthy, incident, series, window, world
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.types import Role
from monitor.analysis.differential import diagnose
from monitor.analysis.hypothesis import Cause, Check, Claim, Hypothesis, RankedCause
from monitor.analysis.predictions import judge, register
from monitor.analysis.verify import MAX_CLAIMS, Verdict, check, verify
from monitor.analysis.view import view
from monitor.evidence import build
from monitor.window import Window

quick = settings(deadline=None, max_examples=40)


def verdict_of(about: Any, seen: Window, check_: Check, metric: str = "loss", **arguments: Any) -> Verdict:
    claim = Claim(text="x", cites=["E1"], check=check_, metric=metric, **arguments)
    return check(claim, build(about, seen), about, seen).verdict


def jump(at: int, factor: float, role: Role = Role.LOSS, seed: int = 0) -> Window:
    values = healthy(seed)
    values[role][at:] *= factor
    return window(values)


@quick
@given(factor=st.floats(1.3, 20), error=st.floats(0.05, 3), seed=st.integers(0, 99))
def test_a_ratio_is_supported_as_found_and_contradicted_above_it(factor, error, seed):
    seen, about = jump(ONSET, factor, seed=seed), incident()
    loss = seen.of(Role.LOSS).values
    ratio = loss[ONSET : ONSET + 60].max() / np.median(loss[ONSET - 256 : ONSET])
    assert verdict_of(about, seen, Check.RATIO_AT_LEAST, value=ratio * 0.999) is Verdict.SUPPORTED
    assert verdict_of(about, seen, Check.RATIO_AT_LEAST, value=ratio * (1 + error)) is Verdict.CONTRADICTED


@quick
@given(at=st.integers(ONSET - 10, ONSET + 10), off=st.integers(8, 80), before=st.booleans(), seed=st.integers(0, 99))
def test_a_change_is_supported_at_its_step_and_contradicted_at_another(at, off, before, seed):
    seen, about = jump(at, 1.8, seed=seed), incident(first=at, last=at + 4)
    wrong = at - off if before else at + off + 8
    assert verdict_of(about, seen, Check.CHANGED_AT, step=1000 + at) is Verdict.SUPPORTED
    assert verdict_of(about, seen, Check.CHANGED_AT, step=1000 + wrong) is Verdict.CONTRADICTED


@quick
@given(lead=st.integers(1, 14), seed=st.integers(0, 99))
def test_the_order_of_two_metrics_is_supported_one_way_only(lead, seed):
    values = healthy(seed)
    values[Role.GRAD_NORM][ONSET - lead :] *= 8
    values[Role.LOSS][ONSET:] *= 1.5
    about, seen = incident(), window(values)
    assert verdict_of(about, seen, Check.ROSE_BEFORE, "grad_norm", other="loss") is Verdict.SUPPORTED
    assert verdict_of(about, seen, Check.ROSE_BEFORE, "loss", other="grad_norm") is Verdict.CONTRADICTED


def test_one_outlier_before_the_onset_is_no_departure():
    values = healthy()
    values[Role.GRAD_NORM][ONSET - 9] *= 30
    values[Role.GRAD_NORM][ONSET + 2 :] *= 8
    values[Role.LOSS][ONSET:] *= 1.5
    about, seen = incident(), window(values)
    assert verdict_of(about, seen, Check.ROSE_BEFORE, "grad_norm", other="loss") is Verdict.CONTRADICTED


def test_two_metrics_that_leave_on_the_same_row_do_not_precede_each_other():
    about, seen = world(Cause.DATA_CORRUPTION)
    assert verdict_of(about, seen, Check.ROSE_BEFORE, "grad_norm", other="loss") is Verdict.CONTRADICTED
    assert verdict_of(about, seen, Check.ROSE_BEFORE, "loss", other="grad_norm") is Verdict.CONTRADICTED


@quick
@given(factor=st.floats(4, 50), seed=st.integers(0, 99))
def test_a_spike_of_one_row_is_not_unchanged_and_is_known_to_have_returned(factor, seed):
    values = healthy(seed)
    values[Role.GRAD_NORM][ONSET] *= factor
    about, seen = incident(last=ONSET), window(values)
    assert verdict_of(about, seen, Check.UNCHANGED, "grad_norm") is Verdict.CONTRADICTED
    assert verdict_of(about, seen, Check.UNCHANGED, "step_time") is Verdict.SUPPORTED
    assert verdict_of(about, seen, Check.RETURNED_TO_BAND, "grad_norm") is Verdict.SUPPORTED
    assert verdict_of(about, seen, Check.RETURNED_TO_BAND, "step_time") is Verdict.CONTRADICTED


def test_a_level_that_stays_up_has_not_returned():
    assert verdict_of(incident(), jump(ONSET, 1.8), Check.RETURNED_TO_BAND) is Verdict.CONTRADICTED


def test_a_metric_is_not_finite_at_its_step_and_finite_at_any_other():
    values = healthy()
    values[Role.LOSS][ONSET] = np.nan
    values[Role.GRAD_NORM][ONSET] = -np.inf
    about, seen = incident(last=ONSET), window(values)
    for metric in ("loss", "grad_norm"):
        assert verdict_of(about, seen, Check.NONFINITE_AT, metric, step=1000 + ONSET) is Verdict.SUPPORTED
        assert verdict_of(about, seen, Check.NONFINITE_AT, metric, step=1001 + ONSET) is Verdict.CONTRADICTED


@pytest.mark.parametrize(
    "claim",
    [
        Claim(text="invented metric", cites=["E1"], check=Check.UNCHANGED, metric="gpu_temperature"),
        Claim(text="the run is no metric", cites=["E1"], check=Check.UNCHANGED, metric="R1"),
        Claim(text="invented item", cites=["E99"], check=Check.UNCHANGED, metric="step_time"),
        Claim(text="invented other", cites=[], check=Check.ROSE_BEFORE, metric="loss", other="M9"),
        Claim(text="no other", cites=[], check=Check.ROSE_BEFORE, metric="loss"),
        Claim(text="no step", cites=[], check=Check.CHANGED_AT, metric="loss"),
        Claim(text="no such step", cites=[], check=Check.CHANGED_AT, metric="loss", step=10**18),
        Claim(text="no step", cites=[], check=Check.NONFINITE_AT, metric="loss"),
        Claim(text="no ratio", cites=[], check=Check.RATIO_AT_LEAST, metric="loss"),
    ],
    ids=lambda claim: claim.text,
)
def test_what_cannot_be_checked_is_unverifiable_and_never_supported(claim):
    about, seen = world(Cause.BAD_BATCH)
    assert check(claim, build(about, seen), about, seen).verdict is Verdict.UNVERIFIABLE


@quick
@given(
    check_=st.sampled_from(Check),
    metric=st.sampled_from(["loss", "grad_norm", "learning_rate", "M1", "", "\ufffd"]),
    step=st.none() | st.integers(-(2**70), 2**70),
    value=st.none() | st.floats(),
    rows=st.sampled_from([1, 3, 9, ONSET, ROWS]),
)
def test_no_claim_raises_whatever_it_says(check_, metric, step, value, rows):
    about, full = world(Cause.NUMERICAL_OVERFLOW)
    seen = window({s.role: s.values[:rows] for s in full.series})
    verdict_of(about, seen, check_, metric, other=metric, step=step, value=value)


def test_a_level_that_is_not_a_number_supports_no_ratio():
    about, seen = world(Cause.BAD_BATCH)
    assert verdict_of(about, seen, Check.RATIO_AT_LEAST, value=float("nan")) is Verdict.CONTRADICTED


def hypothesis_of(*causes: RankedCause) -> Hypothesis:
    return Hypothesis(causes=list(causes), ruled_out=[], predictions=[], experiment=None)


def ranked(cause: Cause, **claim: Any) -> RankedCause:
    claims = [Claim(text="x", cites=["E1"], **claim)] if claim else []
    return RankedCause(cause=cause, summary=f"because of R1 {cause}", claims=claims)


def test_a_contradicted_cause_falls_behind_its_rivals_and_a_bare_one_behind_a_grounded_one():
    about, seen = world(Cause.BAD_BATCH)
    lie = ranked(Cause.LR_TOO_HIGH, check=Check.CHANGED_AT, metric="learning_rate", step=1000 + ONSET)
    bare = ranked(Cause.DATA_CORRUPTION)
    true = ranked(Cause.BAD_BATCH, check=Check.RATIO_AT_LEAST, metric="loss", value=2.0)
    verified = verify(hypothesis_of(lie, bare, true), build(about, seen), about, seen)
    assert [c.cause for c in verified.hypothesis.causes] == [
        Cause.BAD_BATCH,
        Cause.DATA_CORRUPTION,
        Cause.LR_TOO_HIGH,
    ]
    assert [len(v) for v in verified.verdicts] == [1, 0, 1]


def test_a_hypothesis_of_which_nothing_holds_becomes_insufficient_evidence():
    about, seen = world(Cause.BAD_BATCH)
    lie = ranked(Cause.LR_TOO_HIGH, check=Check.CHANGED_AT, metric="learning_rate", step=1000 + ONSET)
    for given_ in (hypothesis_of(lie), hypothesis_of()):
        verified = verify(given_, build(about, seen), about, seen)
        assert verified.hypothesis.causes[0].cause is Cause.INSUFFICIENT_EVIDENCE


def test_claims_beyond_the_bound_are_dropped_and_counted():
    about, seen = world(Cause.BAD_BATCH)
    claim = Claim(text="x", cites=["E1"], check=Check.UNCHANGED, metric="step_time")
    many = RankedCause(cause=Cause.BAD_BATCH, summary="", claims=[claim] * (MAX_CLAIMS + 3))
    verified = verify(hypothesis_of(many), build(about, seen), about, seen)
    assert (len(verified.verdicts[0]), verified.dropped) == (MAX_CLAIMS, 3)


def test_a_claim_about_an_alias_is_checked_on_the_metric_behind_it_and_shown_by_its_name():
    values = np.ones(ROWS)
    values[ONSET:] = 5.0
    odd = series("router/entropy", Role.OTHER, values)
    base = window(healthy())
    seen = Window(run="r", first_row=0, last_row=ROWS - 1, series=(*base.series, odd))
    about = incident(metrics=("train/loss", "router/entropy"))
    claim = {"check": Check.CHANGED_AT, "metric": "M1", "step": 1000 + ONSET}
    evidence = build(about, seen)
    given_ = hypothesis_of(
        RankedCause(
            cause=Cause.UNKNOWN,
            summary="M1 moved, see http://evil.example/x",
            claims=[Claim(text="M1 jumped", cites=["E1"], **claim)],
        )
    )
    shown = view(verify(given_, evidence, about, seen), evidence.names, "claude")
    assert (shown.claims[0].verdict, shown.claims[0].text) == ("supported", "router/entropy jumped")
    assert shown.summary == "router/entropy moved, see [link]"


def test_a_view_carries_the_checked_claims_the_rivals_and_the_predictions():
    about, seen = world(Cause.BAD_BATCH, rows=ONSET + 5)
    evidence, hypothesis = build(about, seen), diagnose(about, seen)
    registered = register(hypothesis, evidence, about, seen, "built-in")
    outcomes = [(r, judge(r, None)) for r in registered]
    shown = view(verify(hypothesis, evidence, about, seen), evidence.names, "built-in", outcomes, note="no key")
    assert (shown.cause, shown.author, shown.note) == ("bad_batch", "built-in", "no key")
    assert {c.verdict for c in shown.claims} == {"supported"}
    assert shown.rivals
    assert [p.outcome for p in shown.predictions] == ["open"] * (len(registered) - 1)
    assert not any("stays out" in p.text for p in shown.predictions)  # the rival's, and the contrary of our own
    assert hypothesis.urgency in shown.summary
    assert "Control:" in shown.experiment
