"""Attempts are recognised from steps alone, however the rows are cut."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.attempts import PATIENCE, Attempt


def starts(steps: list[int], cuts: list[int] = (), loss: list[float] | None = None) -> list[int]:
    attempt, found, edges = Attempt(), [], [0, *sorted(cuts), len(steps)]
    values = np.full(len(steps), np.nan) if loss is None else np.array(loss, dtype=np.float64)
    for a, b in pairwise(edges):
        found += [a + at for at in attempt.starts(np.array(steps[a:b], dtype=np.int64), values[a:b])]
        attempt = Attempt(**json.loads(json.dumps(asdict(attempt))))
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


EPOCHS = [*range(40)] * 6


def test_a_count_that_begins_anew_every_epoch_makes_one_step_back_and_no_more():
    assert starts(EPOCHS) == [40 + PATIENCE - 1]
    assert starts([0, 1, 2, 3, 4] * 10_000) == [5 + PATIENCE - 1]


def test_epochs_that_are_no_multiple_of_the_logging_interval_are_epochs():
    steps = [n % 117 for n in range(0, 20_000, 10)]
    assert len(starts(steps)) == 1


def test_a_crash_within_an_epoch_is_a_new_attempt_and_the_epochs_are_learned_again():
    assert starts([*EPOCHS, *range(25), *EPOCHS]) == [42, 240 + 25 + 2, 240 + 25 + 42]


def test_a_loop_of_crashes_back_to_a_checkpoint_makes_attempts():
    assert len(starts([*range(50), *[*range(30, 50)] * 5])) == 5


def test_a_run_that_is_trained_again_from_scratch_into_the_same_file_is_a_new_attempt():
    falling = [9.0 - 0.2 * n for n in range(40)]
    assert len(starts(EPOCHS, loss=falling * 6)) == 5
    level = [2.0 + 0.05 * (-1) ** n for n in range(240)]
    assert len(starts(EPOCHS, loss=level)) == 1


def test_a_step_back_without_a_loss_goes_by_its_steps():
    assert len(starts(EPOCHS, loss=[np.nan] * 240)) == 1


CYCLES = st.builds(
    lambda top, turns, extra: [*range(top), *[*range(top)] * turns, *extra],
    st.integers(1, 9), st.integers(0, 5), st.lists(st.integers(-1, 12), max_size=20),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(CYCLES, st.lists(st.integers(-1, 12), max_size=60)),
    st.lists(st.integers(0, 60), max_size=6),
    st.lists(st.sampled_from([np.nan, 1.0, 1.05, 3.0]), min_size=3, max_size=7),
)
def test_any_cut_and_any_restart_give_the_same_attempts(steps, cuts, losses):
    loss = [losses[n % len(losses)] for n in range(len(steps))]
    assert starts(steps, [min(c, len(steps)) for c in cuts], loss) == starts(steps, loss=loss)


def test_a_new_generation_is_a_new_attempt_even_if_steps_go_on():
    attempt = Attempt()
    assert not attempt.begin(0)
    attempt.starts(np.arange(10), np.full(10, np.nan))
    assert attempt.begin(1)
    assert attempt.ordinal == 1
    assert attempt.starts(np.arange(10), np.full(10, np.nan)) == []
