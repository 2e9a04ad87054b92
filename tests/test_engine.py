"""The core as a whole: what it says follows from the rows, never from how, when or after which restart they came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from build import batch, falling, frame, pick, split
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Suite
from detectors.types import Finding, Kind, Origin, Role, Severity
from monitor.engine import Engine, EngineSettings, Step
from monitor.frame import Batch, Frame, RunFacts, Status
from monitor.incident import Incident, Life, Reason
from monitor.incidents import Book, Transition

ROWS = 700
DAY = 86_400.0


def engine(**changes: float) -> Engine:
    return Engine(Suite(), Book(), EngineSettings(**changes))


def run_all(core: Engine, batches: Sequence[Batch]) -> list[Step]:
    return [core.step(b) for b in batches]


def findings(steps: Sequence[Step]) -> list[str]:
    return [repr(f) for s in steps for f in s.findings]  # repr: NaN equals NaN


def transitions(steps: Sequence[Step]) -> list[Transition]:
    return [t for s in steps for t in s.transitions]


def pages(steps: Sequence[Step]) -> list[Transition]:
    return [t for t in transitions(steps) if t.incident.severity is Severity.PAGE]


def kinds(steps: Sequence[Step]) -> set[Kind]:
    return {t.incident.kind for t in pages(steps)}


def eventful() -> tuple[Frame, ...]:
    """One run with metrics on different rows: a spike, NaN, a resume that goes back, a stall of the loader."""
    loss = falling(ROWS)
    loss[300:312] *= 3.0
    loss[420:430] = np.nan
    step = np.arange(ROWS)
    step[500:] -= 200  # resumed from step 300
    loss[500:] = falling(ROWS - 500, seed=1, start=300)
    rng = np.random.default_rng(3)
    data = 0.02 * np.exp(rng.normal(0.0, 0.1, ROWS))
    data[600:660] += 1.0
    grad = np.exp(rng.normal(0.0, 0.1, ROWS))
    grad[300:312] *= 8.0
    odd = np.arange(ROWS) % 2 == 1
    whole = frame({"loss": loss, "data_time": data, "step_time": 0.5 + data}, step=step)
    both = frame({"loss": loss, "data_time": data, "step_time": 0.5 + data, "grad_norm": grad}, step=step)
    evals = frame({"eval/loss": falling(7)}, row=np.arange(ROWS, ROWS + 7), step=np.arange(499, 506))
    a = replace(whole, row=whole.row[odd], step=whole.step[odd], t=whole.t[odd], values=whole.values[odd])
    b = replace(both, row=both.row[~odd], step=both.step[~odd], t=both.t[~odd], values=both.values[~odd])
    return a, b, evals


EVENTFUL = eventful()
NOW = 1e9 + ROWS
WHOLE = [engine().step(batch(*EVENTFUL, t_recv=NOW))]


def test_the_eventful_run_has_the_events_that_the_properties_below_are_about():
    found = {f.kind for f in WHOLE[0].findings}
    assert {Kind.LOSS_SPIKE, Kind.GRAD_BLOWUP, Kind.NONFINITE, Kind.DATA_STALL} <= found
    assert {Kind.NONFINITE, Kind.DATA_STALL} <= kinds(WHOLE)
    assert [a.attempt for a in WHOLE[0].attempts] == [0, 1]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, ROWS + 6), max_size=12))
def test_any_chunking_of_interleaved_frames_gives_the_same_findings_and_transitions(cuts):
    steps = run_all(engine(), split(EVENTFUL, set(cuts), t_recv=NOW))
    assert findings(steps) == findings(WHOLE)
    assert repr(transitions(steps)) == repr(transitions(WHOLE))
    assert [a for s in steps for a in s.attempts] == list(WHOLE[0].attempts)


def test_row_by_row_is_one_of_those_chunkings():
    steps = run_all(engine(), split(EVENTFUL, range(1, ROWS + 7), t_recv=NOW))
    assert findings(steps) == findings(WHOLE)
    assert repr(transitions(steps)) == repr(transitions(WHOLE))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, ROWS + 6), min_size=1, max_size=8), st.data())
def test_dump_and_load_at_any_point_changes_nothing(cuts, data):
    batches = split(EVENTFUL, set(cuts), t_recv=NOW)
    stops = data.draw(st.sets(st.integers(0, len(batches) - 1), min_size=1))
    core, book, steps = engine(), Book(), []
    for n, b in enumerate(batches):
        steps.append(core.step(b))
        if n in stops:
            blob, incidents = core.dump("r"), core.open_incidents()
            known = [t.incident for s in steps for t in s.transitions]
            newest: dict[str, Incident] = {i.id: i for i in known}
            assert {i.id for i in incidents} == {i.id for i in newest.values() if i.state is not Life.RESOLVED}
            book = Book()
            book.restore(sorted(newest.values(), key=lambda i: i.updated_t))
            core = Engine(Suite(), book, EngineSettings())
            core.load("r", blob)
    assert findings(steps) == findings(WHOLE)
    assert repr(transitions(steps)) == repr(transitions(WHOLE))


def test_state_of_another_version_is_refused():
    core = engine()
    core.step(batch(frame({"loss": falling(20)})))
    blob = core.dump("r")
    with pytest.raises(ValueError, match="format"):
        engine().load("r", blob.replace(b"RWD", b"XXX"))


def test_runs_do_not_meet():
    alone = engine().step(batch(*EVENTFUL, t_recv=NOW))
    others = [replace(f, run=f"other-{n}") for n in range(3) for f in EVENTFUL]
    together = engine().step(batch(*others[:4], *EVENTFUL, *others[4:], t_recv=NOW))
    assert [repr(f) for f in together.findings if f.run == "r"] == findings([alone])


# --- attempts


@pytest.mark.parametrize("back", [5, 50, 300])
def test_a_resume_that_goes_back_in_steps_is_a_new_attempt_and_pages_nobody(back):
    step = np.concatenate([np.arange(600), np.arange(600 - back, 900)])
    loss = np.concatenate([falling(600), falling(300 + back, seed=5, start=600 - back)])
    steps = run_all(engine(), split([frame({"loss": loss}, step=step)], range(10, 1200, 10), t_recv=1e9))
    assert [(a.attempt, a.row) for s in steps for a in s.attempts] == [(0, 0), (1, 602)]
    assert pages(steps) == []


def test_a_single_row_that_goes_back_stays_in_its_attempt():
    step = np.arange(300)
    step[200] = 3
    result = engine().step(batch(frame({"loss": falling(300)}, step=step)))
    assert [a.attempt for a in result.attempts] == [0]


def test_a_new_generation_is_a_new_attempt_even_where_steps_go_on():
    first = frame({"loss": falling(300)})
    second = frame({"loss": falling(50, start=300)}, first_row=300, generation=1)
    steps = run_all(engine(), [batch(first), batch(second)])
    assert [(a.attempt, a.row) for s in steps for a in s.attempts] == [(0, 0), (1, 300)]


def epochs(**changes: float) -> Frame:
    """Twelve epochs of 50 steps each, counted anew, with a fault in the eighth."""
    loss = falling(600)
    loss[380:400] *= 2.0
    return frame({"loss": loss}, step=np.arange(600) % 50, **changes)


def test_steps_that_begin_anew_with_every_epoch_are_one_attempt_once_that_is_known():
    steps = run_all(engine(), [batch(epochs(), t_recv=NOW)])
    assert [(a.attempt, a.row) for s in steps for a in s.attempts] == [(0, 0), (1, 52)]
    assert {t.incident.first_row for t in pages(steps)} == {380}


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 599), max_size=12), st.data())
def test_epochs_give_the_same_findings_for_any_chunking_and_any_restart(cuts, data):
    batches = split([epochs()], set(cuts), t_recv=NOW)
    stop = data.draw(st.integers(0, len(batches) - 1))
    core = engine()
    steps = run_all(core, batches[: stop + 1])
    blob, book = core.dump("r"), Book()
    book.restore(core.open_incidents())
    core = Engine(Suite(), book, EngineSettings())
    core.load("r", blob)
    steps += run_all(core, batches[stop + 1 :])
    assert findings(steps) == findings(run_all(engine(), [batch(epochs(), t_recv=NOW)]))
    assert [(a.attempt, a.row) for s in steps for a in s.attempts] == [(0, 0), (1, 52)]


def test_the_same_training_again_into_the_same_file_is_a_new_attempt_each_time_and_pages_nobody():
    loss = np.concatenate([falling(400, seed) for seed in range(4)])
    steps = run_all(engine(), [batch(frame({"loss": loss}, step=np.arange(1600) % 400), t_recv=NOW)])
    assert [(a.attempt, a.row) for s in steps for a in s.attempts] == [(n, 400 * n + 2 * (n > 0)) for n in range(4)]
    assert pages(steps) == []


def test_steps_that_repeat_are_kept_and_no_attempt():
    step = np.repeat(np.arange(100), 3)
    result = engine().step(batch(frame({"loss": falling(300)}, step=step)))
    assert [a.attempt for a in result.attempts] == [0]
    assert result.findings == ()


@pytest.mark.parametrize("largest", [10**18, 2**62 - 1])
def test_enormous_steps_are_steps(largest):
    step = np.linspace(0, largest, 300).astype(np.int64)
    core = engine()
    core.step(batch(frame({"loss": falling(300)}, step=step)))
    assert core.runs["r"].last_step == step[-1]
    core.load("r", core.dump("r"))
    assert core.runs["r"].last_step == step[-1]


# --- history, backlog, live


def old(days: float, run: str = "r", rows: int = 400) -> Frame:
    """A run that spiked, turned NaN and stayed so, `days` ago."""
    loss = falling(rows)
    loss[200:220] *= 4.0
    loss[300:] = np.nan
    return frame({"loss": loss}, run=run, origin=Origin.HISTORY, t=1e9 - days * DAY + np.arange(rows))


def test_a_folder_with_a_year_of_old_logs_pages_nobody_and_falls_silent_nowhere():
    core = engine()
    frames = [old(d, f"run-{d}") for d in range(0, 365, 7)]
    steps = [core.step(batch(*frames, t_recv=1e9))]
    steps += [core.step(batch(t_recv=1e9 + t)) for t in (1.0, 60.0, 3600.0, 7 * DAY)]
    assert pages(steps) == []
    assert all(t.incident.severity is Severity.RECORD for t in transitions(steps))
    assert any(t.incident.reason is Reason.HISTORY for t in transitions(steps))


@pytest.mark.parametrize(
    ("age_s", "severity", "late"),
    [(30.0, Severity.PAGE, False), (3600.0, Severity.PAGE, True), (7 * 3600.0, Severity.RECORD, False)],
)
def test_what_was_missed_pages_if_it_is_young_enough_and_says_that_it_is_late(age_s, severity, late):
    loss = falling(400)
    loss[390:] = np.nan
    missed = frame({"loss": loss}, origin=Origin.BACKLOG, t=1e9 - age_s + np.arange(400) * 1e-3)
    (opened,) = [t.incident for t in engine().step(batch(missed, t_recv=1e9)).transitions][:1]
    assert (opened.severity, opened.late) == (severity, late)
    assert (opened.reason is Reason.TOO_OLD) == (severity is Severity.RECORD)


def test_what_was_missed_without_a_clock_pages():
    missed = frame({"loss": [np.nan] * 3}, origin=Origin.BACKLOG, t=np.full(3, np.nan))
    assert kinds([engine().step(batch(missed, t_recv=1e9))]) == {Kind.NONFINITE}


def alive(n: int = 5, first_row: int = 400, value: float = math.nan) -> Frame:
    return frame({"loss": np.full(n, value)}, first_row=first_row, t=1e9 + np.arange(n))


def test_a_run_that_was_nan_in_history_and_is_alive_pages_because_it_persists():
    core = engine()
    steps = [core.step(batch(old(0.01), t_recv=1e9)), core.step(batch(alive(), t_recv=1e9 + 5))]
    assert pages(steps[:1]) == []
    (paged,) = [t for t in pages(steps) if t.incident.reason is Reason.PERSISTS]
    assert paged.incident.kind is Kind.NONFINITE
    assert paged.incident.first_row == 300


@settings(deadline=None, max_examples=20)
@given(st.sets(st.integers(401, 419)))
def test_whether_a_trouble_of_history_pages_does_not_depend_on_how_the_live_rows_are_cut(cuts):
    frames = [old(0.01), alive(2, 400), alive(18, 402, 2.0)]
    told = []
    for points in ({400}, {400, *cuts}):
        steps = run_all(engine(), split(frames, points, t_recv=1e9 + 20))
        told.append([(t.incident.reason, t.incident.severity, t.incident.paged_row) for t in transitions(steps)])
    assert told[0] == told[1]


# --- silence and lost sources


def living(core: Engine, rows: int = 200, run: str = "r", source: str = "files", **facts: RunFacts) -> float:
    """Feed a healthy live run of one row per second; the time of its last row."""
    f = frame({"loss": falling(rows)}, run=run)
    core.step(batch(f, source=source, facts=facts))
    return float(f.t[-1])


def tick(core: Engine, t: float, **changes: object) -> Step:
    return core.step(batch(t_recv=t, **changes))


def fail(core: Engine, t: float, source: str = "files") -> Step:
    return tick(core, t, source=source, status=Status.ERROR, detail="gone")


def test_a_run_that_stops_growing_is_silent_once_and_speaks_again():
    core = engine()
    t = living(core)
    steps = [tick(core, t + s) for s in range(0, 1200, 5)]
    assert [x.incident.kind for x in transitions(steps)] == [Kind.SILENCE]
    more = frame({"loss": falling(3, start=200)}, first_row=200, t=t + 1300 + np.arange(3))
    (ended,) = core.step(batch(more)).transitions
    assert (ended.incident.state, ended.incident.reason) == (Life.RESOLVED, Reason.RECOVERED)


def test_a_source_that_fails_for_a_minute_is_lost_once_and_resolves():
    core = engine()
    t = living(core)
    steps = [fail(core, t + s) for s in range(0, 600, 5)]
    (lost,) = transitions(steps)
    assert (lost.incident.kind, lost.incident.run, lost.incident.severity) == (
        Kind.SOURCE_LOST,
        "files",
        Severity.PAGE,
    )
    assert not transitions(steps[:12])  # 55 s
    assert transitions(steps[:13])  # 60 s
    more = frame({"loss": falling(3, start=200)}, first_row=200, t=t + 600 + np.arange(3))
    (back,) = core.step(batch(more)).transitions
    assert (back.incident.kind, back.incident.state) == (Kind.SOURCE_LOST, Life.RESOLVED)


def test_a_source_that_fails_briefly_is_not_lost():
    core = engine()
    t = living(core)
    steps = [fail(core, t + 10), fail(core, t + 50), tick(core, t + 55), fail(core, t + 80), fail(core, t + 130)]
    assert transitions(steps) == []


def test_a_lost_source_is_said_once_in_the_findings_too():
    core = engine()
    t = living(core)
    steps = [fail(core, t + s) for s in range(0, 600, 5)]
    assert len(findings(steps)) == 1


def test_no_run_is_silent_while_its_source_cannot_be_read():
    core = engine()
    t = living(core)
    living(core, run="elsewhere", source="other")
    steps = [fail(core, t + s) for s in range(0, 3600, 60)]
    steps += [tick(core, t + s, source="other") for s in range(0, 3600, 60)]
    assert {x.incident.run for x in transitions(steps) if x.incident.kind is Kind.SILENCE} == {"elsewhere"}


def test_after_a_restart_a_run_is_not_silent_before_its_own_source_was_read():
    core = engine()
    t = living(core)
    again = engine()
    again.load("r", core.dump("r"))
    assert tick(again, t + 3600, source="other").transitions == ()


def test_a_run_whose_end_was_told_never_falls_silent():
    core = engine()
    t = living(core)
    tick(core, t + 1, facts={"r": RunFacts(finished=True)})
    assert transitions([tick(core, t + s) for s in range(5, 90_000, 600)]) == []


def test_a_run_whose_end_was_told_with_its_last_rows_never_falls_silent():
    core = engine()
    living(core)
    last = frame({"loss": falling(3, start=200)}, first_row=200)
    core.step(batch(last, facts={"r": RunFacts(finished=True)}))
    assert transitions([tick(core, 1e9 + 203 + s) for s in range(5, 90_000, 600)]) == []


def test_a_run_that_reached_its_planned_end_never_falls_silent():
    core = engine()
    t = living(core, r=RunFacts(total_steps=200))
    assert transitions([tick(core, t + s) for s in range(5, 90_000, 600)]) == []


def test_a_clock_that_goes_back_fires_nothing_and_silence_is_found_by_the_new_clock():
    core = engine()
    t = living(core)
    tick(core, t + 1)  # the host's clock is wrong …
    tick(core, t - 50_000)  # … and is put right
    more = frame({"loss": falling(50, start=200)}, first_row=200, t=t - 50_000 + np.arange(50))
    assert core.step(batch(more, t_recv=t - 49_950)).transitions == ()
    steps = [tick(core, t - 49_950 + s) for s in range(0, 1200, 5)]
    assert {x.incident.kind for x in transitions(steps)} == {Kind.SILENCE}


# --- limits and roles


def test_series_beyond_the_cap_are_dropped_and_counted_and_the_others_watched():
    loss = falling(300)
    loss[290:] = np.nan
    values = {f"a{n:03}": np.ones(300) for n in range(10)} | {"loss": loss}
    late = frame(values)
    first = frame({"loss": falling(1)}, row=np.array([-1]), step=np.array([0]), t=np.array([1e9]))
    result = engine(max_series=4).step(batch(first, late))
    assert dict(result.dropped)["series_limit"] == 7
    assert Kind.NONFINITE in kinds([result])


def many(n: int, first_row: int = 0) -> list[Frame]:
    return [frame({"loss": falling(5)}, first_row=first_row, run=f"r{k}") for k in range(n)]


def test_beyond_the_cap_of_runs_the_oldest_is_forgotten_and_counted():
    core = engine(max_runs=2)
    dropped = [dict(core.step(batch(f, t_recv=1e9 + n)).dropped) for n, f in enumerate(many(3))]
    assert dropped == [{}, {}, {"run_forgotten": 1}]
    assert set(core.runs) == {"r1", "r2"}


def test_more_runs_in_one_batch_than_the_cap_are_no_trouble():
    core = engine(max_runs=2)
    result = core.step(batch(*many(5)))
    assert dict(result.dropped) == {"run_forgotten": 3}
    assert len(core.runs) == 2


def test_the_cap_of_runs_holds_for_runs_that_tell_their_length():
    core = engine(max_runs=2)
    for n in range(4):
        core.step(batch(many(4)[n], facts={f"r{n}": RunFacts(total_steps=100)}, t_recv=1e9 + n))
    assert len(core.runs) == 2


def test_a_run_with_an_open_page_is_not_forgotten_without_a_word():
    core = engine(max_runs=1)
    paged = core.step(batch(frame({"loss": [np.nan] * 4}, run="bad")))
    later = core.step(batch(frame({"loss": falling(5)}, run="new"), t_recv=1e9 + 9))
    (opened,) = {t.incident.id for t in paged.transitions}
    still = {i.id for i in core.open_incidents()}
    ended = {t.incident.id for t in later.transitions if t.incident.state is Life.RESOLVED}
    assert opened in still | ended


def test_the_better_name_of_a_role_takes_over_as_primary():
    core = engine()
    core.step(batch(frame({"aux_loss": falling(100)})))
    assert core.runs["r"].primary[Role.LOSS] == "aux_loss"
    later = frame({"aux_loss": falling(100, start=100), "loss": falling(100, start=100)}, first_row=100)
    core.step(batch(later))
    assert core.runs["r"].primary[Role.LOSS] == "loss"
    bad = falling(20, start=200)
    nan = frame({"aux_loss": bad, "loss": np.full(20, np.nan)}, first_row=200)
    (paged,) = {t.incident.metric for t in pages([core.step(batch(nan))])}
    assert paged == "loss"


def test_the_findings_of_a_batch_stand_in_row_order():
    rows = [f.row for f in WHOLE[0].findings]
    assert rows == sorted(rows)


def test_a_metric_of_nan_alone_pages_once():
    steps = run_all(engine(), split([frame({"loss": np.full(500, np.nan)})], range(1, 500), t_recv=1e9 + 500))
    assert len({t.incident.id for t in pages(steps)}) == 1
    assert pages(steps)[0].incident.reason is Reason.OPENED
    assert len(pages(steps)) <= 2


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=1, max_size=60), st.data())
def test_no_values_steps_or_clocks_break_the_core(values, data):
    n = len(values)
    step = data.draw(st.lists(st.integers(-1, 2**62 - 1), min_size=n, max_size=n))
    t = data.draw(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=n, max_size=n))
    names = ("loss", "grad_norm", "step_time", "tokens_per_s", "data_time", "eval_loss", "lr")
    f = frame(dict.fromkeys(names, values), step=np.array(step, np.int64), t=np.array(t))
    core = engine()
    first, last = pick(f, 0, n // 2), pick(f, n // 2, n)
    steps = [core.step(batch(p, t_recv=1e9)) for p in (first, last) if p is not None]
    core.load("r", core.dump("r"))
    assert all(isinstance(x, Finding) for s in steps for x in s.findings)
