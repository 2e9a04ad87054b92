"""Each failure class on the smallest series that shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors import Settings, Suite
from detectors.scored import Round
from detectors.silence import Silence
from detectors.types import Kind, Origin, Phase, Severity
from tests.detectors.series import DATA, GRAD, LOSS, SKIPPED, SPEED, STEP, cut, loss, pages, rows, said, steady


def brief(findings):
    return [(f.kind.value, f.phase.value, f.severity, f.reason) for f in findings]


@pytest.mark.parametrize("at", [40, 200, 1000])
def test_a_one_step_outlier_of_the_loss_is_a_notice_that_ends_at_once(at):
    values = loss(1200, 1)
    values[at] *= 1.6
    found = Suite().update([rows({LOSS: values})])
    assert [(f.phase, f.severity) for f in found] == [(Phase.BEGINS, Severity.NOTICE), (Phase.ENDS, Severity.NOTICE)]
    begin, end = found
    assert (begin.row, begin.first_row, end.last_row) == (at, at, at)
    assert end.row <= at + 3
    assert begin.observed == values[at]


def test_a_second_spike_forty_rows_after_one_of_two_and_a_half_times_is_its_own_condition():
    values = loss(1200, 2, tau=100)
    values[800:805] *= 2.5
    values[845] *= 1.3
    found = said(Suite().update([rows({LOSS: values})]))
    assert [f.row for f in found] == [800, 845]
    assert found[1].expected == pytest.approx(found[0].expected, rel=0.05)


@pytest.mark.parametrize(("size", "limit"), [(1.1, 20), (1.3, 7), (3.0, 7)])
def test_a_loss_that_stays_higher_pages_once_and_becomes_the_new_normal(size, limit):
    values = loss(2500, 3, tau=100)
    values[1500:] *= size
    found = Suite().update([rows({LOSS: values})])
    paged = [f for f in pages(found) if f.kind is Kind.LOSS_SPIKE]
    assert len(paged) == 1
    assert paged[0].row < 1500 + limit
    ends = [f for f in found if f.phase is Phase.ENDS and f.key == paged[0].key]
    assert ends[-1].reason == "rebased"
    assert 1500 + 256 <= ends[-1].row <= 1500 + 300


def test_an_easier_stretch_and_the_way_back_page_nobody():
    values = loss(3000, 4)
    values[2000:2200] *= 0.95
    assert pages(Suite().update([rows({LOSS: values})])) == []


def test_a_young_loss_that_leaves_its_level_pages():
    values = loss(90, 5, tau=20)
    values[70:] *= 1.5
    found = Suite().update([rows({LOSS: values})])
    assert said(found)[0].row == 70
    assert 70 <= pages(found)[0].row < 90


def test_a_loss_that_rises_for_good_diverges():
    values = loss(3000, 6)
    values[1500:] *= np.exp(np.arange(1500) / 500)
    found = [f for f in Suite().update([rows({LOSS: values})]) if f.kind is Kind.DIVERGENCE]
    assert brief(found)[0] == ("divergence", "begins", Severity.PAGE, "median_rising")
    assert 1500 < found[0].first_row < found[0].row < 1664
    suite = Suite()
    pieces = cut(rows({LOSS: values}), range(0, 3000, 17))
    assert [f for b in pieces for f in suite.update([b]) if f.kind is Kind.DIVERGENCE] == found


def test_a_signed_loss_is_watched_on_both_sides_of_zero():
    values = np.random.default_rng(1).normal(0.0, 0.1, 1500)
    values[1000] = 5.0
    values[1200:] += 1.0
    found = Suite().update([rows({LOSS: values})])
    assert said(found)[0].row == 1000
    assert said(found)[0].severity is Severity.NOTICE
    assert 1200 <= pages(found)[0].row < 1210


@pytest.mark.parametrize("first", [-1e-4, -30.0])
def test_an_odd_first_value_of_a_signed_loss_does_not_set_its_scale(first):
    values = np.random.default_rng(1).normal(0.0, 0.1, 250)
    values[0] = first
    values[[100, 200]] = 1.5
    assert [f.row for f in said(Suite().update([rows({LOSS: values})]))] == [100, 200]


def test_three_large_gradients_of_five_page_and_one_is_a_notice():
    values = steady(800, 7, noise=0.2)
    values[400] *= 20
    values[600:603] *= 12
    found = Suite().update([rows({GRAD: values})])
    assert [(f.row, f.severity, f.reason) for f in found if f.phase is not Phase.ENDS] == [
        (400, Severity.NOTICE, "outlier"),
        (600, Severity.NOTICE, found[2].reason),
        (602, Severity.PAGE, "three_of_five"),
    ]


@pytest.mark.parametrize("metric", [STEP, SPEED])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_slow_down_of_an_eighth_pages_within_26_steps(metric, noise):
    values = steady(1000, 8, noise=noise)
    values[600:] *= 1.125
    values = 1 / values if metric is SPEED else values
    found = pages(Suite().update([rows({metric: values})]))
    assert [(f.kind, f.reason) for f in found] == [(Kind.THROUGHPUT_DROP, "cusum")]
    assert 600 < found[0].row <= 626
    assert found[0].direction == ("down" if metric is SPEED else "up")
    assert found[0].expected == pytest.approx(1.0, rel=0.02)


def test_a_slow_down_that_ends_is_recovered_and_a_second_one_is_seen():
    values = steady(1000, 9, noise=0.02)
    values[400:460] *= 1.5
    values[500:560] *= 1.5
    found = Suite().update([rows({STEP: values})])
    assert [f.row // 100 for f in pages(found)] == [4, 5]
    assert [(f.row // 10, f.reason) for f in found if f.phase is Phase.ENDS] == [(46, "recovered"), (56, "recovered")]


def test_brief_dips_and_slow_first_steps_page_nobody():
    values = steady(1000, 10)
    values[:3] *= 50
    values[[300, 301, 500, 750]] *= 8
    found = Suite().update([rows({STEP: values})])
    assert pages(found) == []
    assert [f.row for f in said(found)] == [300, 500, 750]


def test_throughput_is_left_to_the_step_time_where_there_is_one():
    values = steady(1000, 11, noise=0.02)
    values[600:] *= 1.3
    found = pages(Suite().update([rows({STEP: values, SPEED: 1 / values})]))
    assert [f.metric for f in found] == ["step_time"]


@pytest.mark.parametrize("with_step", [True, False])
def test_waiting_for_data_pages_when_it_lasts(with_step):
    wait = steady(900, 12, level=0.2)
    wait[600:620] *= 4
    values = {DATA: wait} | ({STEP: 0.8 + wait} if with_step else {})
    found = [f for f in pages(Suite().update([rows(values)])) if f.kind is Kind.DATA_STALL]
    assert [(f.row, f.reason) for f in found] == [(603, "share")]


def test_a_wait_that_is_short_against_the_step_is_nothing():
    wait = steady(900, 13, level=0.01)
    wait[600:620] *= 4
    assert Suite().update([rows({DATA: wait, STEP: 1.0 + wait})]) == []


@pytest.mark.parametrize("metric", [LOSS, GRAD])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 5, 500])
def test_a_nonfinite_value_pages_on_its_row(metric, value, at):
    values = steady(600, 14)
    values[at:] = value
    found = [f for f in Suite().update([rows({metric: values})]) if f.kind is not Kind.PLATEAU]
    assert brief(found) == [("nonfinite", "begins", Severity.PAGE, "nonfinite")]
    assert found[0].row == at
    assert not np.isfinite(found[0].observed)
    assert (found[0].expected == pytest.approx(1.0, rel=0.1)) == (at == 500)


def skipping(bad):
    gradient = steady(600, 15)
    gradient[bad] = np.inf
    return rows({GRAD: gradient, SKIPPED: np.cumsum(np.isinf(gradient)).astype(float)})


def test_one_step_that_the_loss_scaler_skipped_is_a_notice():
    assert brief(Suite().update([skipping([300])])) == [
        ("nonfinite", "begins", Severity.NOTICE, "nonfinite"),
        ("nonfinite", "ends", Severity.NOTICE, "recovered"),
    ]


def test_skipped_steps_in_a_row_page():
    found = Suite().update([skipping([300, 303])])
    assert [(f.row, f.severity) for f in found[:2]] == [(300, Severity.NOTICE), (303, Severity.PAGE)]
    suite = Suite()
    assert [f for b in cut(skipping([300, 303]), [300, 301, 303]) for f in suite.update([b])] == found


def growing(suite, *, count=50, origin=Origin.LIVE, total_steps=-1, gap_s=1.0):
    block = rows({LOSS: np.ones(count)}, origin=origin, total_steps=total_steps, seen=2e9)
    block.t[:] = 2e9 - gap_s * np.arange(count)[::-1]
    return suite.update([block])


def test_a_run_that_stops_growing_falls_silent_once_and_comes_back():
    suite = Suite()
    assert growing(suite) == []
    assert suite.idle(2e9 + 119) == []
    found = suite.idle(2e9 + 121)
    assert brief(found) == [("silence", "begins", Severity.PAGE, "gap")]
    assert (found[0].row, found[0].observed, found[0].unit) == (49, 121.0, "s")
    assert suite.idle(2e9 + 500) == []
    back = suite.update([rows({LOSS: np.ones(5)}, first=50, seen=2e9 + 600)])
    assert brief(back) == [("silence", "ends", Severity.PAGE, "recovered")]


@pytest.mark.parametrize("at", [0, 3, 5, 10])
def test_rows_without_a_step_are_no_progress_of_a_run_that_has_steps(at):
    suite = Suite()
    growing(suite)
    block = rows({LOSS: np.ones(10)}, first=50, seen=2e9 + 100)
    block.step[:] = -1
    for piece in cut(block, [at]):
        assert suite.update([piece]) == []
    assert brief(suite.idle(2e9 + 121)) == [("silence", "begins", Severity.PAGE, "gap")]
    assert suite.update([replace(block, row=block.row + 10)]) == []
    back = suite.update([rows({LOSS: np.ones(5)}, first=70, seen=2e9 + 600)])
    assert brief(back) == [("silence", "ends", Severity.PAGE, "recovered")]


def test_a_silence_is_not_learned_as_a_usual_gap():
    suite = Suite()
    growing(suite)
    suite.idle(2e9 + 5000)
    block = rows({LOSS: np.ones(5)}, first=50, seen=2e9 + 6000)
    block.t[:] = 2e9 + 6000 + np.arange(5)
    suite.update([block])
    assert brief(suite.idle(2e9 + 6125)) == [("silence", "begins", Severity.PAGE, "gap")]


@pytest.mark.parametrize(("gap_s", "quiet_s", "loud_s"), [(10.0, 199, 201), (1.0, 119, 121)])
def test_slow_runs_are_given_longer(gap_s, quiet_s, loud_s):
    suite = Suite()
    growing(suite, gap_s=gap_s)
    assert suite.idle(2e9 + quiet_s) == []
    assert suite.idle(2e9 + loud_s) != []


def test_single_rows_teach_the_same_gaps_as_a_block():
    clocks = np.array([1.0, 2.0, 4.5, 3.0, np.nan, 9.0, 1e308, -1e308, np.inf, 10.0, 10.0, 5000.0])
    block = rows({LOSS: np.ones(clocks.size)}, seen=2e9)
    block.t[:] = clocks
    block.step[[3, -2]] = -1
    one, many = Silence(Settings()), Silence(Settings())
    for detector, pieces in ((one, [block]), (many, cut(block, range(clocks.size)))):
        for piece in pieces:
            list(detector.update(Round(0, None, {}, {"r": piece}, [], {}, None, [], [], [])))
    assert one.dump("r") == many.dump("r")


def test_a_long_pause_that_was_seen_may_come_again():
    suite = Suite()
    growing(suite)
    block = rows({LOSS: np.ones(2)}, first=50, seen=2e9 + 100)
    block.t[:] = 2e9 + 100 + np.arange(2)
    suite.update([block])
    assert suite.idle(2e9 + 100 + 299) == []
    assert suite.idle(2e9 + 100 + 301) != []


def test_a_young_run_is_given_half_an_hour_to_compile():
    suite = Suite()
    growing(suite, count=19)
    assert suite.idle(2e9 + 1799) == []
    assert suite.idle(2e9 + 1801) != []


def test_a_silence_that_ended_by_itself_alarms_once_and_is_a_pause_from_then_on():
    suite = Suite()
    growing(suite)
    alarms = []
    for n in range(4):
        now = 2e9 + 300.0 * (n + 1)
        alarms += [f for f in suite.idle(now - 1.0) if f.phase is Phase.BEGINS]
        block = rows({LOSS: np.ones(1)}, first=50 + n, seen=now)
        block.t[:] = now
        suite.update([block])
    assert len(alarms) == 1


def test_a_hang_of_hours_is_no_pause_to_get_used_to():
    suite = Suite()
    growing(suite)
    block = rows({LOSS: np.ones(1)}, first=50, seen=2e9 + 40_000)
    block.t[:] = 2e9 + 40_000
    suite.update([block])
    assert suite.idle(2e9 + 40_000 + 130) != []


def test_history_a_finished_run_a_planned_end_an_unreachable_source_and_a_clock_that_goes_back_are_not_silence():
    history, finished, ended, away = Suite(), Suite(), Suite(), Suite()
    growing(history, origin=Origin.HISTORY)
    growing(finished)
    finished.finish("r")
    growing(ended, total_steps=500)
    growing(away)
    assert [s.idle(3e9) for s in (history, finished, ended)] == [[], [], []]
    assert away.idle(3e9, runs=["other"]) == []
    assert away.idle(1e9) == []
    assert away.idle(3e9, runs=["r"]) != []
