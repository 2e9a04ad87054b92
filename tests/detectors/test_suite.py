"""What every detector promises: the same answer for any cutting, restart, scale and company."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import REGISTRY, Suite
from detectors.types import Kind, Role, Severity
from tests.detectors.series import DATA, GRAD, LOSS, SKIPPED, SPEED, STEP, cut, loss, rows, said, steady

SIZE = 900


def troubled(seed: int, **more):
    """A run in which every detector has something to say, with missing columns and a loss that turns negative."""
    rng = np.random.default_rng(seed)
    values = {
        LOSS: loss(SIZE, seed),
        GRAD: steady(SIZE, seed + 1, noise=0.2),
        STEP: steady(SIZE, seed + 2),
        DATA: steady(SIZE, seed + 3, level=0.2),
        SPEED: 1000 / steady(SIZE, seed + 4),
        SKIPPED: np.cumsum(np.arange(SIZE) == 640).astype(float),
        ("loss_cls", Role.LOSS): steady(SIZE, seed + 5),
        ("accuracy", Role.OTHER): steady(SIZE, seed + 6),
    }
    for start, length, factor in ((60, 1, 3.0), (300, 30, 1.5), (340, 1, 2.5), (500, 400, 1.3)):
        values[LOSS][start : start + length] *= factor
        values["loss_cls", Role.LOSS][start : start + length] *= factor
    values[LOSS][820] = -0.5
    values[GRAD][300:308] *= 8
    values[GRAD][640] = np.inf
    values[LOSS][700:704] = np.nan
    values[STEP][400:450] *= 1.3
    values[DATA][550:570] *= 4
    values[DATA][200] *= 30
    gone = {name: np.flatnonzero(rng.random(SIZE) < keep) for name, keep in (("grad_norm", 0.9), ("data_time", 0.8))}
    return rows(values, present=gone, **more)


def exact(findings):
    return [repr(astuple(f)) for f in findings]


WHOLE = {seed: exact(Suite().update([troubled(seed)])) for seed in (1, 2)}


def test_the_troubled_run_makes_every_detector_of_the_registry_speak():
    suite = Suite()
    found = suite.update([troubled(1, seen=0.0)]) + suite.idle(1e6)
    quiet = {Kind.DIVERGENCE, Kind.PLATEAU}  # these have runs of their own
    assert {f.kind for f in found} >= set(REGISTRY) - quiet
    assert all(f.key == f"{f.kind}:{f.metric or ''}" for f in found)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([1, 2]), st.lists(st.integers(0, SIZE), max_size=30))
def test_any_cutting_of_the_rows_gives_the_same_findings(seed, places):
    suite = Suite()
    assert exact(f for b in cut(troubled(seed), places) for f in suite.update([b])) == WHOLE[seed]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 40), st.lists(st.integers(0, 120), max_size=20))
def test_a_loss_that_turns_negative_while_young_may_be_cut_anywhere(turn, places):
    values = np.abs(np.random.default_rng(turn).normal(0, 1, 120))
    values[turn::2] *= -1
    values[[5, 33, 36]] = np.nan, 0.0, np.nan
    values[80:100] += 8
    block, suite = rows({LOSS: values, ("loss_b", Role.LOSS): values[::-1]}), Suite()
    found = exact(f for b in cut(block, places) for f in suite.update([b]))
    assert found == exact(Suite().update([block]))
    assert len(found) > 3


def test_row_by_row_gives_the_same_findings():
    suite = Suite()
    assert exact(f for b in cut(troubled(1), range(SIZE)) for f in suite.update([b])) == WHOLE[1]


def test_pieces_in_one_call_give_the_same_findings():
    assert exact(Suite().update(cut(troubled(1), range(0, SIZE, 7)))) == WHOLE[1]


def test_a_block_longer_than_a_piece_gives_the_same_findings_as_short_ones():
    size = 40_000
    values = loss(size, 3)
    values[20_000:20_200] *= 1.4
    values[30_000] = -1.0
    block = rows({LOSS: values})
    short = Suite()
    assert exact(Suite().update([block])) == exact(
        f for b in cut(block, range(0, size, 997)) for f in short.update([b])
    )


@settings(deadline=None, max_examples=15)
@given(st.integers(0, SIZE), st.integers(0, SIZE))
def test_a_restart_anywhere_gives_the_same_findings(a, b):
    suite, found = Suite(), []
    for piece in cut(troubled(1), [a, b]):
        found += suite.update([piece])
        state = suite.dump("r")
        suite = Suite()
        suite.load("r", state)
        assert suite.dump("r") == state
    assert exact(found) == WHOLE[1]


def test_a_signed_loss_keeps_its_scale_across_a_restart():
    values = np.random.default_rng(1).normal(0.0, 0.1, 600)
    values[500] = 5.0
    first, second = cut(rows({LOSS: values}), [400])
    suite, other = Suite(), Suite()
    suite.update([first])
    other.load("r", suite.dump("r"))
    assert exact(other.update([second])) == exact(suite.update([second])) != []


def test_state_of_another_format_is_refused():
    with pytest.raises(ValueError, match="unknown format"):
        Suite().load("r", b"????0000")


def test_the_scale_of_the_metrics_does_not_matter():
    block = troubled(1)
    times = replace(block, columns=tuple(replace(c, values=c.values * 1000) for c in block.columns))
    one, other = Suite().update([block]), Suite().update([times])
    brief = [(f.kind, f.phase, f.severity, f.row, f.first_row, f.last_row, f.reason) for f in one]
    assert brief == [(f.kind, f.phase, f.severity, f.row, f.first_row, f.last_row, f.reason) for f in other]
    assert brief


def test_runs_in_one_call_equal_each_run_alone():
    blocks = [troubled(seed, run=f"r{seed}") for seed in range(4)]
    together = Suite().update([b for i in range(9) for block in blocks for b in [cut(block, range(0, SIZE, 100))[i]]])
    alone = [f for block in blocks for f in Suite().update([block])]
    assert exact(together) == exact(alone)


def test_forgetting_a_run_leaves_the_others_alone():
    suite = Suite()
    pieces = cut(troubled(1), [450])
    found = suite.update([pieces[0], troubled(2, run="s")])
    suite.forget("s")
    suite.forget("never seen")
    found += suite.update([pieces[1], troubled(3, run="new")])
    assert exact(f for f in found if f.run == "r") == WHOLE[1]
    assert exact(f for f in found if f.run == "new") == exact(Suite().update([troubled(3, run="new")]))


def test_every_condition_begins_once_and_ends_at_most_once():
    for seed in range(6):
        state: dict[str, int] = {}
        severity: dict[str, Severity] = {}
        for f in Suite().update([troubled(seed)]):
            if f.phase == "begins":
                assert state.get(f.key, 0) == 0
                state[f.key] = 1
            else:
                assert state[f.key] == 1
                state[f.key] = int(f.phase != "ends")
                assert f.severity > severity[f.key] or f.phase == "ends"
            severity[f.key] = f.severity
            assert f.first_row <= f.last_row <= f.row


def test_nothing_is_said_before_its_row():
    whole = Suite().update([troubled(1)])
    for until in (61, 310, 341, 560, 702):
        short = Suite().update([cut(troubled(1), [until])[0]])
        assert exact(short) == exact(f for f in whole if f.row < until)


def test_components_are_recorded_and_never_noticed():
    found = [f for f in Suite().update([troubled(1)]) if f.metric == "loss_cls"]
    assert found
    assert {f.severity for f in found} == {Severity.RECORD}


def test_a_new_attempt_ends_what_is_open_and_is_no_spike_by_itself():
    suite = Suite()
    values = loss(400, 1)
    values[390:] *= 2
    before = suite.update([rows({LOSS: values})])
    after = suite.update([rows({LOSS: loss(800, 2)[400:]}, attempt=1, first=400)])
    assert [f.kind for f in said(before)] == [Kind.LOSS_SPIKE]
    assert [(f.reason, f.attempt, f.row) for f in after if f.kind is Kind.LOSS_SPIKE] == [("attempt_ended", 0, 400)]


ODD = {
    "nan": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "huge": 1e300,
    "denormal": 5e-324,
    "zero": 0.0,
    "negative": -1e300,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("metric", [LOSS, GRAD, STEP, DATA, SPEED])
def test_an_odd_value_never_poisons_the_baseline(metric, odd):
    values = steady(900, 4)
    values[500:504] = ODD[odd]
    factor = 1 / 3 if metric is SPEED else 3.0
    values[600:700] *= factor
    found = Suite().update([rows({metric: values})])
    late = [f for f in found if f.row >= 600 and f.kind is not Kind.NONFINITE]
    assert late[0].row <= 610, "the slow-down after the odd values is seen"
    assert late[0].expected == pytest.approx(1.0, rel=0.05)


def test_a_loss_changes_its_scale_beside_the_largest_number_there_is():
    values = np.concatenate([[1.797641780514629e308, 0.0], steady(900, 4)])
    values[700] = 50.0
    assert [f.row for f in said(Suite().update([rows({LOSS: values})])) if f.row > 256] == [700]


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0, 1e300, 5e-324, np.nan])
@pytest.mark.parametrize("metric", [LOSS, GRAD, STEP, DATA, SPEED])
def test_a_constant_is_no_level_change(metric, value):
    found = Suite().update([rows({metric: np.full(2000, value)})])
    assert {f.kind for f in found} <= {Kind.NONFINITE, Kind.PLATEAU}  # a loss that never falls is one


def test_a_quantised_clock_is_quiet():
    rng = np.random.default_rng(0)
    ticks = np.round(steady(5000, 1, level=12.4, noise=0.02) + rng.normal(0, 0.1, 5000))
    assert Suite().update([rows({STEP: ticks})]) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_run_of_ten_thousand_rows_is_quiet(seed):
    values = {
        LOSS: loss(10_000, seed, noise=0.04, tau=1500),
        GRAD: steady(10_000, seed, noise=0.3),
        STEP: steady(10_000, seed),
        DATA: steady(10_000, seed, level=0.25, noise=0.1),
    }
    assert Suite().update([rows(values)]) == []


def test_importing_the_detectors_is_light():
    code = "import sys, detectors; print(sorted({'sklearn', 'scipy', 'pandas', 'monitor'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(("restarts", "paged"), [(True, False), (False, True)])
def test_evidence_gathered_before_a_new_attempt_does_not_count_after_it(restarts, paged):
    values = steady(807, 7, noise=0.01)
    values[800:] *= 1.1
    whole = rows({LOSS: values})
    first, second = cut(whole, [804])
    suite = Suite()
    suite.update([first])
    found = suite.update([replace(second, attempt=int(restarts))])
    assert any(f.severity is Severity.PAGE for f in found) is paged


def test_an_outlier_right_after_a_new_attempt_must_be_larger():
    values = steady(900, 7, noise=0.01)
    values[[810, 890]] *= 1.11
    first, second = cut(rows({LOSS: values}), [800])
    suite = Suite()
    suite.update([first])
    assert [f.row for f in said(suite.update([replace(second, attempt=1)]))] == [890]
