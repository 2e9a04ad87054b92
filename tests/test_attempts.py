"""Attempts are recognised from steps alone, however the rows are cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.attempts import PATIENCE, Attempt


def starts(steps: list[int], cuts: list[int] = ()) -> list[int]:
    attempt, found, edges = Attempt(), [], [0, *sorted(cuts), len(steps)]
    for a, b in pairwise(edges):
        found += [a + at for at in attempt.starts(np.array(steps[a:b], dtype=np.int64))]
    return found


def test_growing_steps_are_one_attempt():
    assert starts(list(range(100))) == []


def test_a_single_row_that_goes_back_stays_where_it_is():
    assert starts([1, 2, 3, 1, 4, 5, 6]) == []


def test_rows_without_a_step_neither_begin_nor_break_a_step_back():
    assert starts([5, 6, 7, 2, -1, 3, -1, 4, 5, 6]) == [7]


def test_a_resume_is_a_new_attempt_at_the_last_of_patience_rows():
    assert starts([10, 11, 12, *range(5, 20)]) == [3 + PATIENCE - 1]


def test_two_restarts_are_two_attempts():
    assert len(starts([*range(50), *range(10, 50), *range(20, 60)])) == 2


def test_rows_with_step_zero_between_others_are_no_attempt():
    assert starts([1, 0, 2, 0, 3, 0, 4, 0, 5]) == []


def test_repeated_steps_are_no_step_back():
    assert starts([1, 1, 2, 2, 2, 2, 3]) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-1, 12), max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_any_cut_gives_the_same_attempts(steps, cuts):
    assert starts(steps, [min(c, len(steps)) for c in cuts]) == starts(steps)


def test_a_new_generation_is_a_new_attempt_even_if_steps_go_on():
    attempt = Attempt()
    assert not attempt.begin(0)
    attempt.starts(np.arange(10))
    assert attempt.begin(1)
    assert attempt.ordinal == 1
    assert attempt.starts(np.arange(10)) == []
