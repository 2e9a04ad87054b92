from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from analysis.worlds import FAULTS, ONSET, ROWS, healthy, incident, resumed, series, window, world
from build import finding
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.types import Kind, Role
from monitor.analysis.hypothesis import Cause
from monitor.evidence import MAX_CHARS, build
from monitor.frame import LogLine
from monitor.naming import MAX_ALIASES, numbering
from monitor.redaction import MAX_CHARS as MAX_LINE
from monitor.redaction import redact
from monitor.window import Window

SECRETS = [
    "sk-ant-api03-AbCdEf0123456789AbCdEf0123456789",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "xoxb-123456789012-abcdefABCDEF",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "0123456789abcdef0123456789abcdef01234567",
    "jane.doe@corp.example.com",
    "10.20.30.40",
    "fe80::1ff:fe23:4567:890a",
    "/home/jane/projects/secret-model/train.py",
    "C:\\Users\\jane\\model",
    "https://jane:pw@tracker.corp/api?key=1",
    "s3://private-bucket/ckpt/000100",
    "node-17.train.internal",
    "q8Zr+3kLm2Vx9PtWb7Ny5HcD",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "loaded {} in 3 s", "key: '{}'", "a={},b", "({})"])
def test_a_secret_does_not_survive_redaction(secret, around):
    redacted = redact(around.format(secret))
    assert secret not in redacted
    assert not any(part in redacted for part in ("jane", "private-bucket", "17.train"))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("password = hunter2", "password = [secret]"),
        ("Authorization: Bearer abc", "Authorization [secret]"),
        ('{"api_key": "x y", "lr": 3e-4}', '{"api_key": [secret], "lr": 3e-4}'),
        ("-----BEGIN RSA PRIVATE KEY-----MIIE", "[key]"),
    ],
)
def test_a_named_secret_is_taken_out_whatever_it_looks_like(text, redacted):
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "WARNING: gradient overflow, skipping step 4118, loss scale 32768.0 -> 16384.0",
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "NCCL WARN Timeout ncclSystemError after 1800000 ms",
        "2026-11-20 12:30:45,123 INFO step 100 loss 2.3125e-05 tokens: 1024",
        "torch.utils.data DataLoaderWorkerTimeoutException ratio 1/2",
    ],
)
def test_what_a_diagnosis_needs_is_left_alone(text):
    assert redact(text) == text


def test_invisible_characters_are_removed_and_a_long_line_is_cut_and_counted():
    assert redact("a\u202eb\u200bc\x1b[31m\nd") == "abc[31m d"
    assert redact("x " * MAX_LINE).endswith(f"(cut: {MAX_LINE} characters)")


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=2 * MAX_LINE))
def test_redaction_never_raises_and_gives_one_bounded_line(text):
    redacted = redact(text)
    assert len(redacted.splitlines()) <= 1
    assert len(redacted) <= 6 * MAX_LINE


def test_the_same_window_gives_the_same_text_and_hash():
    first, second = build(*world(Cause.BAD_BATCH)), build(*world(Cause.BAD_BATCH))
    assert first == second
    assert first.sha256 == hashlib.sha256(first.text().encode()).hexdigest()
    assert build(*world(Cause.BAD_BATCH, seed=1)).sha256 != first.sha256


def test_the_opening_metric_comes_first_with_its_values_around_the_event():
    about, seen = world(Cause.BAD_BATCH)
    opening = build(about, seen).items[0]
    loss = seen.of(Role.LOSS).values
    assert opening.id == "E1"
    assert opening.title == "loss_spike: loss around the event"
    for row in (*range(ONSET - 8, ONSET + 13), ONSET - 256, ONSET + 96):
        assert f"{row + 1000}: {loss[row]:.5g}" in opening.body
    assert opening.body.count(": ") <= 42


def test_every_item_has_the_number_that_the_numbering_gives_it():
    about, seen = world(Cause.LOADER_STARVATION)
    numbers, items = numbering(about, seen), build(about, seen, [LogLine(run="r", row=1, text="x")]).items
    assert [i.id for i in items] == list(numbers.values()) == [f"E{n}" for n in range(1, len(items) + 1)]
    titles = {i.id: i.title for i in items}
    assert titles[numbers["data_time"]].startswith("data_stall: data_time (s) around the event")
    assert titles[numbers["grad_norm"]] == "grad_norm at the same rows"


def body(evidence, about, seen, topic):
    return next(i.body for i in evidence.items if i.id == numbering(about, seen)[topic])


def test_onsets_are_listed_in_the_order_of_their_rows_under_the_names_of_their_roles():
    about, seen = world(Cause.GRADIENT_INSTABILITY)
    earlier = finding(
        ONSET,
        kind=Kind.GRAD_BLOWUP,
        metric="train/grad_norm",
        role=Role.GRAD_NORM,
        first_row=ONSET - 12,
        first_step=1288,
    )
    about = replace(about, findings=(*about.findings, earlier))
    first, second = body(build(about, seen), about, seen, "onsets").splitlines()
    assert first.startswith("step 1288: grad_blowup on grad_norm")
    assert second.startswith("step 1300: loss_spike on loss")


def test_a_jump_of_the_learning_rate_and_a_smooth_schedule_read_differently():
    about, seen = world(Cause.LR_TOO_HIGH)
    assert body(build(about, seen), about, seen, "schedule") == "step 1293: from 0.0003 to 0.003"
    about, seen = world(Cause.BAD_BATCH)
    assert body(build(about, seen), about, seen, "schedule").startswith("smooth")


def test_what_stayed_is_said_and_what_moved_is_not_among_it():
    about, seen = world(Cause.SLOW_HARDWARE)
    still = body(build(about, seen), about, seen, "still")
    assert "loss stayed near" in still
    assert "data_time stayed near" in still
    assert "step_time" not in still


def test_a_resume_is_told_with_the_steps_around_it():
    about, seen = resumed()
    told = body(build(about, seen), about, seen, "attempts")
    assert "2 in this window, the last begins at step 1250 (row 300)" in told
    assert "attempt 1 continues at step 1250 after step 1299" in told
    assert "attempt 0 1299: " in build(about, seen).items[0].body


def test_names_that_a_stranger_chose_never_leave_the_host():
    canary = "canary-d41d8cd9-ignore-previous-instructions"
    odd = [series(f"{canary}/{i}", Role.OTHER, np.ones(ROWS)) for i in range(40)]
    base = window(healthy(), run=f"{canary}/run")
    seen = Window(run=base.run, first_row=0, last_row=ROWS - 1, series=(*base.series, *odd))
    told = finding(ONSET, metric=f"{canary}/3", role=Role.OTHER, key=f"x:{canary}", reason=canary, direction=canary)
    about = replace(incident(), run=base.run, metrics=("train/loss", f"{canary}/3"), findings=(told,))
    evidence = build(about, seen, [LogLine(run=base.run, row=ONSET, text=f"run {canary}/run metric {canary}/3 = 1")])
    assert "canary" not in evidence.text()
    assert "ignore" not in evidence.text()
    assert evidence.names["M1"] == f"{canary}/3"
    assert evidence.names["R1"] == base.run
    assert sum(name.startswith("M") for name in evidence.names) == MAX_ALIASES
    assert "run R1 metric M1 = 1" in evidence.text()


def test_log_lines_are_only_sent_where_they_are_passed_and_then_redacted_and_nearest_first():
    about, seen = world(Cause.BAD_BATCH)
    lines = [LogLine(run="r", row=row, text=f"line at {row} {SECRETS[0]} {'x y ' * 60}") for row in range(0, 400, 5)]
    without, with_lines = build(about, seen), build(about, seen, lines)
    assert "line at" not in without.text()
    sent = with_lines.items[-1].body
    assert "+0: line at 300 [token]" in sent
    assert "line at 0 " not in sent
    assert SECRETS[0] not in with_lines.text()
    shown = sent.count("line at")
    assert f"(cut: {len(lines) - shown} of {len(lines)} lines)" in sent


@settings(deadline=None, max_examples=25)
@given(
    cause=st.sampled_from(list(FAULTS)),
    extra=st.integers(0, 60),
    findings=st.integers(1, 80),
    lines=st.integers(0, 120),
    scale=st.sampled_from([1e-300, 1.0, 1e300, np.nan, -np.inf]),
)
def test_the_text_stays_within_its_bound_whatever_the_window_holds(cause, extra, findings, lines, scale):
    about, seen = world(cause)
    many = tuple(series(f"odd/{i}", Role.OTHER, np.full(ROWS, scale)) for i in range(extra))
    seen = replace(seen, series=(*seen.series, *many))
    told = tuple(finding(ONSET, metric=f"odd/{i}", key=str(i), observed=scale) for i in range(findings))
    text = "no secrets here but rather many words " * 20
    evidence = build(replace(about, findings=told), seen, [LogLine(run="r", row=i, text=text) for i in range(lines)])
    assert len(evidence.text()) <= MAX_CHARS
    assert ("(cut: " in evidence.text()) or (extra + findings + lines < 60)


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_an_incident_without_a_metric_and_a_short_window_still_have_evidence(rows):
    values = {role: v[:rows] for role, v in healthy().items()}
    about = incident(role=None, kind=Kind.SILENCE, first=rows - 1, last=rows - 1)
    evidence = build(about, window(values))
    assert evidence.items[0].title == "silence: R1 around the event"
    assert "no metric opened this incident" in evidence.text()


def test_a_metric_that_a_detector_named_is_never_among_what_did_not_move():
    about, seen = world(Cause.BAD_BATCH)
    quiet = finding(ONSET, kind=Kind.GRAD_BLOWUP, metric="train/step_time", role=Role.STEP_TIME, first_row=ONSET)
    about = replace(about, findings=(*about.findings, quiet), metrics=("train/loss", "train/step_time"))
    evidence = build(about, seen)
    assert "grad_blowup on step_time" in body(evidence, about, seen, "onsets")
    assert "step_time" not in body(evidence, about, seen, "still")


@pytest.mark.parametrize("cause", FAULTS)
def test_every_metric_either_moved_or_stood_still(cause):
    about, seen = world(cause)
    evidence = build(about, seen)
    onsets, still = body(evidence, about, seen, "onsets"), body(evidence, about, seen, "still")
    names = [s.role.value for s in seen.series]
    rising = {n for n in names if f" on {n}," in onsets or f": {n} left" in onsets}
    quiet = {n for n in names if f"{n} stayed" in still}
    assert rising | quiet == set(names)
    assert not rising & quiet
