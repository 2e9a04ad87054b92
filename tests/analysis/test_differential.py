from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from analysis.worlds import FAULTS, ONSET, ROWS, healthy, incident, resumed, window, world
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.types import Kind, Role
from monitor.analysis.differential import Differential, diagnose
from monitor.analysis.hypothesis import Cause, Relation
from monitor.analysis.verify import Verdict, verify
from monitor.evidence import build


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cause", FAULTS)
def test_the_cause_that_was_injected_comes_first(cause, seed):
    assert diagnose(*world(cause, seed)).causes[0].cause is cause


@pytest.mark.parametrize("seed", range(4))
def test_a_worse_loss_after_a_resume_is_a_resume_fault(seed):
    assert diagnose(*resumed(seed)).causes[0].cause is Cause.RESUME_FAULT


@pytest.mark.parametrize("seed", range(8))
def test_a_window_in_which_nothing_happens_is_insufficient_evidence(seed):
    hypothesis = diagnose(incident(), window(healthy(seed)))
    assert hypothesis.causes[0].cause is Cause.INSUFFICIENT_EVIDENCE
    assert hypothesis.predictions == []


def test_slower_steps_without_the_wait_for_data_do_not_separate_loader_from_hardware():
    about, full = world(Cause.SLOW_HARDWARE)
    blind = window({s.role: s.values for s in full.series if s.role is not Role.DATA_TIME})
    named = [c.cause for c in diagnose(about, blind).causes]
    assert named[0] is Cause.INSUFFICIENT_EVIDENCE
    assert {Cause.LOADER_STARVATION, Cause.SLOW_HARDWARE} <= set(named)


def test_silence_is_a_hang_unless_the_run_has_paused_as_long_before():
    silent = incident(role=None, kind=Kind.SILENCE, first=ROWS - 1, last=ROWS - 1, expected=60.0)
    rows = np.arange(ROWS)
    steady, paused = 1e9 + 0.5 * rows, 1e9 + 0.5 * rows + 200.0 * (rows > 100)
    assert diagnose(silent, window(healthy(), t=steady)).causes[0].cause is Cause.HANG
    assert diagnose(silent, window(healthy(), t=paused)).causes[0].cause is Cause.BENIGN_PAUSE


@pytest.mark.parametrize("kind", [Kind.DIVERGENCE, Kind.SILENCE])
def test_a_slow_read_explains_neither_a_loss_nor_a_silence(kind):
    about, seen = world(Cause.STORAGE_STALL)
    told = replace(about, kind=kind, findings=tuple(replace(f, kind=kind) for f in about.findings))
    assert Cause.STORAGE_STALL in [c.cause for c in diagnose(about, seen).causes]
    assert Cause.STORAGE_STALL not in [c.cause for c in diagnose(told, seen).causes]


def test_a_bad_batch_explains_no_slow_step():
    about, seen = world(Cause.BAD_BATCH)
    slow = replace(about, kind=Kind.THROUGHPUT_DROP, findings=())
    assert Cause.BAD_BATCH not in [c.cause for c in diagnose(slow, seen).causes]


def test_a_source_that_cannot_be_read_says_nothing_about_the_run():
    lost = incident(role=None, kind=Kind.SOURCE_LOST)
    assert diagnose(lost, window(healthy())).causes[0].cause is Cause.MONITOR_FAULT


@pytest.mark.parametrize("cause", FAULTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_built_in_analyst_makes_no_claim_that_the_data_contradict(cause, seed):
    about, seen = world(cause, seed)
    hypothesis = diagnose(about, seen)
    verified = verify(hypothesis, build(about, seen), about, seen)
    assert verified.count(Verdict.CONTRADICTED) == 0
    assert verified.count(Verdict.UNVERIFIABLE) == 0
    assert verified.count(Verdict.SUPPORTED) >= 1
    assert verified.hypothesis.causes[0].cause is cause


@pytest.mark.parametrize("cause", FAULTS)
def test_every_citation_names_the_item_of_its_metric(cause):
    about, seen = world(cause)
    titles = {item.id: item.title for item in build(about, seen).items}
    claims = [claim for ranked in diagnose(about, seen).causes for claim in ranked.claims]
    assert claims
    assert all(claim.metric in titles[claim.cites[0]] for claim in claims)
    assert all(len(ranked.claims) <= 4 for ranked in diagnose(about, seen).causes)


@pytest.mark.parametrize("cause", FAULTS)
def test_a_leading_cause_predicts_something_and_names_an_experiment_with_a_control(cause):
    hypothesis = diagnose(*world(cause))
    assert 1 <= len(hypothesis.predictions) <= 3
    assert hypothesis.experiment is not None
    assert hypothesis.experiment.control
    assert hypothesis.experiment.gpu_hours is None


def test_a_loss_that_never_left_its_band_is_not_predicted_to_stay_out():
    about, seen = world(Cause.GRADIENT_INSTABILITY)
    calm = window({s.role: s.values for s in seen.series} | {Role.LOSS: healthy()[Role.LOSS]})
    hypothesis = diagnose(about, calm)
    assert Cause.GRADIENT_INSTABILITY in [c.cause for c in hypothesis.causes]
    assert (Role.LOSS.value, Relation.STAYS_OUT) not in [(p.metric, p.relation) for p in hypothesis.predictions]


def test_the_prediction_of_the_rival_stands_beside_that_of_the_leader():
    about, early = world(Cause.BAD_BATCH, rows=ONSET + 5)
    hypothesis = diagnose(about, early)
    assert hypothesis.causes[0].cause is Cause.BAD_BATCH
    relations = {p.relation: p.probability for p in hypothesis.predictions if p.metric == "loss"}
    assert relations[Relation.BACK_IN_BAND] > 0.5 > relations[Relation.STAYS_OUT]


def test_a_run_with_a_single_metric_and_few_rows_is_diagnosed_without_an_error():
    for rows in (1, 5, 9, 40):
        few = window({Role.LOSS: healthy()[Role.LOSS][:rows]})
        assert diagnose(incident(first=rows - 1, last=rows - 1), few).causes


numbers = st.sampled_from([0.0, 1.0, 1.0, 1.5, -2.0, 1e-300, 1e300, np.nan, np.inf, -np.inf])


@settings(deadline=None, max_examples=120)
@given(
    data=st.data(),
    rows=st.integers(1, 60),
    role=st.sampled_from([*healthy()]),
    kind=st.sampled_from(Kind),
    stepless=st.booleans(),
)
def test_any_window_at_all_gets_an_answer_whose_claims_can_be_checked(data, rows, role, kind, stepless):
    values = {r: np.array(data.draw(st.lists(numbers, min_size=rows, max_size=rows))) for r in healthy()}
    first = data.draw(st.integers(0, rows - 1))
    attempt = np.sort(np.array(data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))))
    changes = {"attempt": attempt} | ({"step": np.full(rows, -1)} if stepless else {})
    about, seen = incident(role, first, rows - 1, kind), window(values, **changes)
    hypothesis, evidence = diagnose(about, seen), build(about, seen)
    assert hypothesis == diagnose(about, seen)
    assert verify(hypothesis, evidence, about, seen).hypothesis.causes


def test_the_answer_carries_its_author():
    answer = Differential().answer(*world(Cause.BAD_BATCH))
    assert (answer.author, answer.dollars) == ("built-in", 0.0)
