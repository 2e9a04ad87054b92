"""What single values do not show: a new cadence, spikes that come again, a loss that never falls, planned changes."""

from __future__ import annotations

from dataclasses import astuple, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Suite
from detectors.cadence import Cadence
from detectors.types import Kind, Phase, Severity
from tests.detectors.series import DATA, GRAD, LOSS, SPEED, STEP, cut, loss, pages, rows, said, steady

SIZE = 700
AT = 100  # row of the first long stride
SPARSE = np.concatenate([np.arange(AT), AT - 1 + 500 * np.arange(1, SIZE - AT + 1)])


def sparse(values, step=SPARSE):
    return replace(rows(values), step=step[: max(v.size for v in values.values())])


def flat_then_falling(size=SIZE):
    return np.concatenate([np.linspace(11, 7, 20), np.full(200, 7.0), 7.0 * np.exp(-np.arange(size - 220) / 400)])


def several():
    """Rows whose findings come of every rule of this file."""
    values = flat_then_falling() * steady(SIZE, 3, noise=0.004)
    values[[5, 400, 415, 430, 520]] *= 1.6
    values[600:] *= 1.9
    grads = steady(SIZE, 4, noise=0.02) * np.where(np.arange(SIZE) < 300, 0.05, 1.0)
    step = np.concatenate([np.arange(300), 299 + 500 * np.arange(1, SIZE - 299)])
    return sparse({LOSS: values, GRAD: grads}, step)


def exact(findings):
    return [repr(astuple(f)) for f in findings]


WHOLE = exact(Suite().update([several()]))


def test_the_rows_of_these_tests_make_every_rule_speak():
    reasons = {f.reason for f in Suite().update([several()])}
    assert reasons >= {"jump", "flat", "recurring", "rebased"}


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, SIZE), max_size=30))
def test_any_cutting_and_restart_gives_the_same_findings(places):
    suite, found = Suite(), []
    for piece in cut(several(), places):
        found += suite.update([piece])
        state = suite.dump("r")
        suite = Suite()
        suite.load("r", state)
    assert exact(found) == WHOLE


@given(st.lists(st.sampled_from([-1, 0, 1, 10, 600]), max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_a_cadence_does_not_depend_on_how_steps_are_cut(strides, places):
    step = np.maximum(np.cumsum(strides), -1) if strides else np.zeros(0, np.int64)
    step = step.astype(np.int64)
    edges = sorted({0, step.size, *(p % (step.size + 1) for p in places)})
    one, many = Cadence(), Cadence()
    whole = one.turns(0, step)
    found = [a + at for a, b in pairwise(edges) for at in many.turns(0, step[a:b])]
    assert (found, many) == (whole, one)


def test_two_long_strides_are_a_cadence_and_one_is_a_gap():
    assert Cadence().turns(0, SPARSE) == [AT + 1]
    gap = np.arange(200)
    gap[100:] += 1000
    assert Cadence().turns(0, gap) == []
    assert Cadence().turns(0, np.arange(0, 100_000, 10)) == []


def test_what_is_learnt_begins_anew_with_another_cadence():
    grads = steady(SIZE, 1, noise=0.1)
    grads[:AT] *= 0.02
    assert pages(Suite().update([sparse({GRAD: grads})])) == []
    assert pages(Suite().update([rows({GRAD: grads})])), "with the old cadence the same values are a page"


def test_a_gap_in_the_log_keeps_what_was_learnt():
    grads = steady(SIZE, 1, noise=0.1)
    grads[AT:] *= 30
    step = np.arange(SIZE)
    step[AT:] += 1000
    assert pages(Suite().update([sparse({GRAD: grads}, step)]))[0].row < AT + 5


def test_a_spike_that_is_open_when_the_cadence_changes_ends_there():
    values = loss(SIZE, 2, tau=20, noise=0.005)
    values[AT - 10 :] *= 3
    found = [f for f in Suite().update([sparse({LOSS: values})]) if f.kind is Kind.LOSS_SPIKE and f.row >= AT]
    assert [(f.row, f.phase, f.reason) for f in found] == [(AT + 1, Phase.ENDS, "rebased")]


@pytest.mark.parametrize(("apart", "severity"), [(20, Severity.PAGE), (100, Severity.NOTICE)])
def test_spikes_that_come_again_and_again_page(apart, severity):
    values = loss(900, 5, tau=50)
    places = [500, 500 + apart, 500 + 2 * apart]
    values[places] *= 1.6
    found = said(Suite().update([rows({LOSS: values})]))
    assert [f.row for f in found] == places
    assert [f.severity for f in found] == [Severity.NOTICE, Severity.NOTICE, severity]


def test_batches_of_two_kinds_are_noise_and_no_spikes():
    rng = np.random.default_rng(7)
    values = loss(1200, 6, tau=50)
    values[rng.random(1200) < 0.35] *= 1.45
    assert said(f for f in Suite().update([rows({LOSS: values})]) if f.row > 320) == []
    values[800:] *= 2
    assert pages(Suite().update([rows({LOSS: values})]))[0].row < 820


def test_a_young_loss_that_does_not_fall_is_a_notice_until_it_does():
    values = flat_then_falling() * steady(SIZE, 3, noise=0.004)
    found = [f for f in Suite().update([rows({LOSS: values})]) if f.kind is Kind.PLATEAU]
    assert [(f.phase, f.severity) for f in found] == [
        (Phase.BEGINS, Severity.NOTICE), (Phase.ENDS, Severity.NOTICE)
    ]  # fmt: skip
    assert 96 <= found[0].row < 220 <= found[1].row < 300
    assert found[1].reason == "recovered"
    assert found[0].first_row < 64


def test_a_loss_that_falls_or_is_flat_late_is_no_plateau():
    for values in (loss(900, 8, tau=300), loss(2000, 9, tau=60)):
        assert not [f for f in Suite().update([rows({LOSS: values})]) if f.kind is Kind.PLATEAU and f.row < 200]
    late = np.concatenate([loss(600, 1, tau=250), np.full(600, 2.7)])
    assert not [f for f in Suite().update([rows({LOSS: late})]) if f.kind is Kind.PLATEAU]


def test_an_old_run_that_is_seen_late_is_flat_by_right():
    values = flat_then_falling() * steady(SIZE, 3, noise=0.004)
    late = sparse({LOSS: values}, 50_000 + 10 * np.arange(SIZE))
    assert not [f for f in Suite().update([late]) if f.kind is Kind.PLATEAU]


def test_an_empty_block_is_nothing():
    suite, whole = Suite(), several()
    assert suite.update([replace(rows({LOSS: np.zeros(0)}), columns=())]) == []
    assert exact(suite.update([replace(whole, attempt=1)])) == exact(Suite().update([replace(whole, attempt=1)]))


def test_one_of_the_first_values_far_above_those_before_is_a_notice():
    found = Suite().update([rows({LOSS: np.array([2.77, 2.78, 2.76, 7.34, 8.7])})])
    assert [(f.row, f.reason, f.severity) for f in found] == [(3, "jump", Severity.NOTICE)]
    assert Suite().update([rows({LOSS: np.array([0.1, -0.2, 0.1, 0.9, -0.1])})]) == []


def test_one_of_the_first_gradient_norms_far_above_those_before_is_a_notice():
    grads = np.array([0.24, 0.95, 2.4, 15.9, 145.0, 960.0])
    found = Suite().update([rows({GRAD: grads})])
    assert [(f.row, f.reason, f.severity) for f in found] == [(3, "jump", Severity.NOTICE)]
    assert Suite().update([rows({GRAD: np.array([0.2, 0.9, 2.4, 6.0])})]) == []


@pytest.mark.parametrize(
    ("rise", "gradient", "paged"), [(1.3, 1.0, False), (1.3, 1.6, True), (2.2, 1.0, True)]
)  # fmt: skip
def test_a_loss_that_rises_without_its_gradient_is_planned_unless_it_is_large(rise, gradient, paged):
    values, grads = loss(1200, 10, tau=50), steady(1200, 11, noise=0.05)
    values[800:] *= rise
    grads[800:] *= gradient
    found = [f for f in Suite().update([rows({LOSS: values, GRAD: grads})]) if f.kind is Kind.LOSS_SPIKE]
    assert bool(pages(found)) is paged
    assert said(found)


@pytest.mark.parametrize("metric", [STEP, SPEED])
def test_one_slow_step_is_a_notice(metric):
    values = steady(600, 12, noise=0.01)
    values[400] *= 1.35 if metric is STEP else 1 / 1.35
    assert [(f.row, f.severity) for f in said(Suite().update([rows({metric: values})]))] == [(400, Severity.NOTICE)]


@pytest.mark.parametrize(
    ("row_s", "severity"), [(0.04, Severity.NOTICE), (1.0, Severity.PAGE), (np.nan, Severity.PAGE)]
)
@pytest.mark.parametrize("metric", [STEP, DATA])
def test_what_is_over_within_seconds_wakes_nobody(metric, row_s, severity):
    values = steady(600, 13, noise=0.02)
    values[400:440] *= 1.8
    block = rows({metric: values} | ({STEP: 1 + values} if metric is DATA else {}))
    block = replace(block, t=1e9 + row_s * np.arange(600))
    found = [f for f in Suite().update([block]) if f.metric == metric[0]]
    assert max(f.severity for f in found) is severity
