"""The bank against its plain definition, one series and one value at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.baseline import Bank
from detectors.kernels import CLIP, FIXED, count_at, cusum, level, ordinal, ragged_cusum, refreshed, size_at
from detectors.scan import first_run
from detectors.scores import Tuning

TUNING = Tuning(floor=0.01, k=0.5, history_cap=0.1)


def plain(values, tuning=TUNING):
    """m, ref, s and g of every value, by the definition."""
    y = np.log(values)
    seen, medians, out, g = y.astype(np.float32), {}, [], 0
    m = s = old = np.nan
    for i in range(values.size):
        if i and i % (8 if i <= 256 else 32) == 0:
            last = seen[max(0, i - min(256, max(min(i, 32), i // 4) if tuning.falling else i)) : i]
            m = np.float32(np.median(last.astype(np.float64)))
            mad = np.median(np.abs(last - m).astype(np.float64))
            s = np.float32(
                max(1.4826 * mad * (1 if last.size == 256 else 1 + 16 / last.size), np.float32(tuning.floor))
            )
            medians[i] = m
            old = medians.get(i - 256, np.nan) if i % 32 == 0 else np.nan
        ref = np.fmax(float(m), min(float(old), float(m) + tuning.history_cap)) if np.isfinite(old) else float(m)
        z = (y[i] - ref) / float(s)
        z = 0.0 if np.isnan(z) else float(np.clip(z, -CLIP, CLIP))
        g = max(0, g + round(z * FIXED) - round(tuning.k * FIXED))
        out.append((float(m), ref, float(s), (y[i] - float(m)) / float(s), g))
    return np.array(out).T


def stream(bank, slot, values, places):
    parts = np.split(values, sorted({p % (values.size + 1) for p in places} - {0}))
    scores = [bank.score(np.array([slot]), np.array([p.size]), p) for p in parts if p.size]
    return np.array([np.concatenate([getattr(s, name) for s in scores]) for name in ("m", "ref", "s", "z", "g")])


@pytest.mark.parametrize("falling", [True, False])
def test_scores_follow_their_definition_bit_for_bit(falling):
    tuning = Tuning(floor=0.01, k=0.5, history_cap=0.1, falling=falling)
    values = np.exp(np.random.default_rng(0).normal(0, 0.1, 1200) + 3 * np.exp(-np.arange(1200) / 200))
    bank = Bank(1.5)
    np.testing.assert_array_equal(stream(bank, bank.add(tuning), values, []), plain(values, tuning))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 1200), max_size=40), st.integers(0, 5))
def test_scores_do_not_depend_on_the_cutting(places, seed):
    values = np.exp(np.random.default_rng(seed).normal(0, 1, 1200))
    one, other = Bank(1.5), Bank(1.5)
    whole = stream(one, one.add(TUNING), values, [])
    np.testing.assert_array_equal(whole, stream(other, other.add(TUNING), values, places))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 400)), min_size=1, max_size=12), st.integers(0, 5))
def test_many_series_in_one_call_are_scored_as_each_alone(calls, seed):
    rng = np.random.default_rng(seed)
    together, alone = Bank(1.5), [Bank(1.5) for _ in range(10)]
    slots = [together.add(TUNING) for _ in range(10)]
    single = [bank.add(TUNING) for bank in alone]
    for at in range(0, len(calls), 4):
        sizes = dict(calls[at : at + 4])
        values = {i: rng.lognormal(0, 1, n) for i, n in sizes.items()}
        length = np.array(list(sizes.values()))
        got = together.score(np.array([slots[i] for i in sizes]), length, np.concatenate(list(values.values())))
        for nth, i in enumerate(sizes):
            want = alone[i].score(np.array([single[i]]), length[nth : nth + 1], values[i])
            part = slice(got.start[nth], got.start[nth] + got.length[nth])
            for name in ("m", "ref", "s", "z", "g"):
                np.testing.assert_array_equal(getattr(got, name)[part], getattr(want, name))


def test_a_tick_of_many_series_scores_each_as_alone():
    rng = np.random.default_rng(1)
    tunings = [TUNING, Tuning(floor=0.05, k=1.0, sign=-1), Tuning(floor=0.1, k=1.0, falling=True)]
    together, alone = Bank(1.5), [Bank(1.5) for _ in range(9)]
    slots = np.array([together.add(tunings[i % 3]) for i in range(9)])
    single = [bank.add(tunings[i % 3]) for i, bank in enumerate(alone)]
    values = rng.lognormal(0, 0.1, (700, 9))
    ahead = np.arange(9) * 7  # so that refreshes fall on different ticks
    for i, n in enumerate(ahead):
        if n:
            together.score(slots[[i]], np.array([n]), values[:n, i])
    want = [
        bank.score(np.array([s]), np.array([700]), values[:, i])
        for i, (bank, s) in enumerate(zip(alone, single, strict=True))
    ]
    for tick in range(700 - ahead.max()):
        at = ahead + tick
        got = together.score(slots, np.ones(9, np.int64), values[at, np.arange(9)])
        for name in ("n", "y", "m", "ref", "s", "z", "step", "g"):
            expected = [getattr(w, name)[n] for w, n in zip(want, at, strict=True)]
            np.testing.assert_array_equal(getattr(got, name), expected, err_msg=f"{name} at tick {tick}")


def test_a_value_is_scored_before_it_is_learned():
    values = np.ones(600)
    bank, other = Bank(1.5), Bank(1.5)
    spoiled = values.copy()
    spoiled[300:] = 1e9
    a = stream(bank, bank.add(TUNING), values, [])
    b = stream(other, other.add(TUNING), spoiled, [])
    np.testing.assert_array_equal(a[:3, :320], b[:3, :320])


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=60), st.integers(0, 100))
def test_the_cusum_is_its_recursion(steps, g):
    want, now = [], g
    for step in steps:
        now = max(0, now + step)
        want.append(now)
    assert cusum(np.array(steps), g).tolist() == want


@given(st.lists(st.lists(st.integers(-40, 40), min_size=1, max_size=9), min_size=1, max_size=6), st.integers(0, 60))
def test_the_cusums_of_segments_are_those_of_each_alone(segments, g):
    begin = np.arange(len(segments)) * 7 + g
    got = ragged_cusum(np.concatenate(segments), begin, np.array([len(s) for s in segments]))
    want = [cusum(np.array(s), int(b)) for s, b in zip(segments, begin, strict=True)]
    assert got.tolist() == np.concatenate(want).tolist()


def test_a_refresh_is_where_its_ordinal_rises():
    count = np.arange(1, 1000)
    assert refreshed(count).tolist() == np.flatnonzero(ordinal(count) > ordinal(count - 1)).tolist()


@given(st.integers(0, 5000))
def test_refreshes_are_counted_without_gaps(count):
    n = np.array([count])
    assert count_at(ordinal(n))[0] <= count < count_at(ordinal(n) + 1)[0]
    assert 0 <= size_at(n, np.array([True]))[0] <= min(count, 256)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(-5, 5, width=32), st.sampled_from([0.0, 1.0, float(np.float32(1e-30))])),
        min_size=1,
        max_size=256,
    ),
    st.sampled_from([1, 1, 7, 256]),
)
def test_median_and_spread_of_a_window_are_those_of_its_sorted_deviations(values, times):
    values = (values * times)[:256]
    window = np.full((1, 256), np.inf, np.float32)
    window[0, : len(values)] = values
    m, s = level(window, np.array([len(values)]), np.array([False]))
    assert m[0] == np.median(np.array(values))
    deviations = np.abs(np.array(values, np.float32) - np.float32(m[0])).astype(np.float64)
    assert s[0] == 1.4826 * np.median(deviations) * (1 if len(values) == 256 else 1 + 16 / len(values))


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5), st.integers(0, 4))
def test_runs_are_found_across_a_cut(mask, need, carry):
    carry = min(carry, need - 1)
    at, run = -1, carry
    for i, ok in enumerate(mask):
        run = run + 1 if ok else 0
        if run == need and at < 0:
            at = i
    assert first_run(np.array(mask, bool), need, carry) == (at, run)


def test_memory_of_a_series_is_about_a_kilobyte():
    bank = Bank(1.5)
    for _ in range(1000):
        slot = bank.add(TUNING)
    total = sum(getattr(bank, name).nbytes for name, *_ in Bank._COLUMNS)
    assert total / len(bank.count) < 1150
    bank.drop(slot)
    assert bank.add(TUNING) == slot
