"""The incident book: joins what has one cause, resolves on recovery, re-opens on relapse, and says why."""

from __future__ import annotations

import math

from build import finding
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.types import Kind, Phase, Role, Severity
from monitor.incident import Life, Reason
from monitor.incidents import Book, Limit

PAGES = Limit()
GRAD = {"kind": Kind.GRAD_BLOWUP, "metric": "grad_norm", "role": Role.GRAD_NORM}


def ends(row, **changes):
    return finding(row, phase=Phase.ENDS, reason=changes.pop("reason", "recovered"), **changes)


def test_a_finding_opens_an_incident_with_its_rows():
    change = Book().apply(finding(20, first_row=18), PAGES, 0.0)
    i = change.incident
    assert (i.reason, i.state, i.first_row, i.detected_row, i.paged_row) == (
        Reason.OPENED,
        Life.OPEN,
        18,
        20,
        20,
    )


def test_a_notice_has_no_paged_row_until_it_grows():
    book = Book()
    first = book.apply(finding(20, severity=Severity.NOTICE), PAGES, 0.0).incident
    second = book.apply(finding(25, phase=Phase.GROWS), PAGES, 0.0)
    assert (first.paged_row, second.incident.reason) == (-1, Reason.ESCALATED)
    assert (second.incident.detected_row, second.incident.paged_row) == (20, 25)


def test_findings_of_one_cause_join_and_keep_the_opening_metric():
    book = Book()
    book.apply(finding(20), PAGES, 0.0)
    joined = book.apply(finding(22, **GRAD), PAGES, 0.0)
    assert joined.incident.reason is Reason.JOINED
    assert (joined.incident.metric, joined.incident.metrics) == ("loss", ("loss", "grad_norm"))


def test_speed_and_training_are_two_causes():
    book = Book()
    a = book.apply(finding(20), PAGES, 0.0).incident
    b = book.apply(finding(21, kind=Kind.THROUGHPUT_DROP, metric="step_time"), PAGES, 0.0).incident
    assert a.id != b.id


def test_a_nan_after_a_spike_is_an_incident_of_its_own():
    book = Book()
    spike = book.apply(finding(20), PAGES, 0.0).incident
    nan = book.apply(finding(24, kind=Kind.NONFINITE), PAGES, 0.0).incident
    assert nan.id != spike.id


def test_it_resolves_when_the_last_condition_ends():
    book = Book()
    book.apply(finding(20), PAGES, 0.0)
    book.apply(finding(21, **GRAD), PAGES, 0.0)
    first = book.apply(ends(30), PAGES, 0.0)
    second = book.apply(ends(31, **GRAD), PAGES, 0.0)
    assert (first.incident.state, second.incident.state) == (Life.OPEN, Life.RESOLVED)
    assert (second.incident.reason, second.incident.resolved_t) == (Reason.RECOVERED, 1031.0)


def test_a_relapse_reopens_the_same_incident_as_its_next_episode():
    book = Book()
    first = book.apply(finding(20), PAGES, 0.0).incident
    book.apply(ends(30), PAGES, 0.0)
    again = book.apply(finding(100), PAGES, 0.0)
    assert (again.incident.reason, again.incident.id, again.incident.episode) == (Reason.RELAPSED, first.id, 2)
    assert again.incident.first_row == 100


def test_long_after_it_is_a_new_incident():
    book = Book()
    first = book.apply(finding(20), PAGES, 0.0).incident
    book.apply(ends(30), PAGES, 0.0)
    assert book.apply(finding(2000), PAGES, 0.0).incident.id != first.id


def test_history_withholds_the_page_until_the_run_is_seen_alive():
    book = Book()
    quiet = book.apply(finding(20), Limit(ceiling=Severity.RECORD, reason=Reason.HISTORY), 0.0).incident
    lifted = book.lift("r", 40, 40, 5.0)
    assert (quiet.severity, quiet.reason) == (Severity.RECORD, Reason.HISTORY)
    assert [(c.incident.reason, c.incident.severity, c.incident.paged_row) for c in lifted] == [
        (Reason.PERSISTS, Severity.PAGE, 40)
    ]


def test_a_lasting_gradient_rise_pages_only_beside_the_loss():
    book = Book()
    alone = book.apply(finding(20, severity=Severity.NOTICE, **GRAD), PAGES, 0.0)
    both = book.apply(finding(24, severity=Severity.NOTICE, reason="outlier"), PAGES, 0.0)
    assert alone.incident.severity is Severity.NOTICE
    assert (both.incident.reason, both.incident.severity) == (Reason.CORROBORATED, Severity.PAGE)


def test_one_step_outliers_in_both_never_page():
    book = Book()
    book.apply(finding(20, severity=Severity.NOTICE, reason="outlier", **GRAD), PAGES, 0.0)
    both = book.apply(finding(20, severity=Severity.NOTICE, reason="outlier"), PAGES, 0.0)
    assert both.incident.severity is Severity.NOTICE


def test_a_component_loss_joins_but_never_opens_or_holds():
    book = Book()
    part = {"metric": "loss_cls", "severity": Severity.RECORD}
    assert book.apply(finding(20, **part), PAGES, 0.0) is None
    book.apply(finding(21), PAGES, 0.0)
    book.apply(finding(22, **part), PAGES, 0.0)
    assert book.apply(ends(30), PAGES, 0.0).incident.state is Life.RESOLVED


def test_said_again_after_a_restart_changes_nothing():
    book = Book()
    opened = book.apply(finding(20), PAGES, 0.0).incident
    restarted = Book()
    restarted.restore([opened])
    assert restarted.apply(finding(20), PAGES, 0.0) is None
    assert restarted.apply(ends(30), PAGES, 0.0).incident.id == opened.id


def test_a_person_can_acknowledge_and_resolve_once():
    book = Book()
    i = book.apply(finding(20), PAGES, 0.0).incident
    assert book.acknowledge(i.id, 5.0).incident.state is Life.ACKNOWLEDGED
    assert book.acknowledge(i.id, 6.0) is None
    assert book.resolve(i.id, 7.0).incident.resolved_t == 7.0
    assert book.resolve(i.id, 8.0) is None


def test_findings_kept_per_incident_are_bounded():
    book = Book()
    for n in range(200):
        change = book.apply(finding(20 + n, metric=f"m{n}", key=f"k{n}"), PAGES, 0.0)
    assert len(change.incident.findings) <= 32


KINDS = st.sampled_from([Kind.LOSS_SPIKE, Kind.GRAD_BLOWUP, Kind.DATA_STALL])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(KINDS, st.sampled_from(list(Phase)), st.sampled_from(list(Severity))), max_size=40))
def test_any_order_of_findings_keeps_the_invariants(said):
    """Severity never falls inside an episode, rows are ordered, resolved incidents hold nothing open."""
    book, before = Book(), {}
    for n, (kind, phase, severity) in enumerate(said):
        change = book.apply(finding(n, kind=kind, metric=kind.value, phase=phase, severity=severity), PAGES, 0.0)
        if change is None:
            continue
        i = change.incident
        old = before.get(i.id)
        if old is not None:
            assert i.revision == old.revision + 1
            assert i.episode == old.episode + (change.incident.reason is Reason.RELAPSED)
            assert i.severity >= old.severity or change.incident.reason is Reason.RELAPSED
        assert (i.state is Life.RESOLVED) == (not i.open)
        assert math.isfinite(i.resolved_t) == (i.state is Life.RESOLVED)
        assert (i.paged_row >= 0) == (i.severity is Severity.PAGE)
        before[i.id] = i
    assert len({i.kind for i in book.open()}) == len(book.open())
