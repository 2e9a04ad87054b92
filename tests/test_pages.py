"""An incident reads as a sentence: the loss first, every number once, nothing that says nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from build import finding

from detectors.types import Finding, Kind, Phase, Role, Severity
from monitor.incident import Incident
from monitor.incidents import Book, Limit, Transition
from monitor.move import Move
from monitor.pages import ending, facts, headline, note


def blowup(row: int, **changes: object) -> Finding:
    shape = {"kind": Kind.GRAD_BLOWUP, "metric": "grad_norm", "role": Role.GRAD_NORM, "observed": 14.8, "expected": 1.3}
    return finding(row, **(shape | changes))


def told(*findings: Finding) -> list[Transition]:
    book = Book()
    changes = [book.apply(f, Limit(), 0.0) for f in findings]
    return [c for c in changes if c is not None]


def last(*findings: Finding) -> Incident:
    return told(*findings)[-1].incident


def test_the_headline_names_the_loss_where_it_moved_whichever_metric_moved_first():
    assert headline(last(blowup(610))) == "r: gradient norm blow-up, grad_norm 1.3 → 14.8 (11.4×) at step 610"
    assert headline(last(blowup(610), finding(611))) == "r: loss spike 2.3 → 9.7 (4.22×) at step 610"


def test_a_spike_that_becomes_a_divergence_is_called_one():
    worse = finding(700, kind=Kind.DIVERGENCE, observed=20.7, expected=2.3)
    assert headline(last(finding(610), blowup(610), worse)) == "r: loss diverges 2.3 → 20.7 (9×) at step 610"


def test_a_component_of_the_loss_and_another_kind_never_take_the_headline():
    part = finding(611, metric="loss_cls", severity=Severity.RECORD)
    assert "gradient norm blow-up" in headline(last(blowup(610), part))
    broken = finding(610, kind=Kind.NONFINITE, observed=math.nan)
    assert headline(last(broken, finding(611))) == "r: non-finite values, loss is NaN at step 610"


def test_the_facts_say_what_moved_once_more_than_the_headline_does():
    assert [label for label, _ in facts(last(finding(610)))] == ["Since", "Score"]
    said = dict(facts(last(blowup(610), finding(611))))
    assert said["Moved"] == "grad_norm 1.3 → 14.8 (11.4×); loss 2.3 → 9.7 (4.22×)"


def test_metrics_beyond_the_first_few_are_counted():
    more = [finding(611, metric=f"loss_{i}", key=f"loss_spike:loss_{i}") for i in range(6)]
    assert dict(facts(last(finding(610), *more)))["Moved"].endswith("and 3 more")


@pytest.mark.parametrize(
    ("changes", "wanted"), [({}, {}), ({"attempt": 1}, {"Attempt": "2"}), ({"attempt": 2}, {"Attempt": "3"})]
)
def test_the_first_attempt_and_the_first_episode_are_not_worth_a_line(changes, wanted):
    said = dict(facts(last(finding(610, **changes))))
    assert {k: v for k, v in said.items() if k in ("Attempt", "Episode")} == wanted


def test_a_relapse_counts_its_episodes():
    ended = finding(640, phase=Phase.ENDS, reason="recovered")
    said = dict(facts(last(finding(610), ended, finding(650))))
    assert (said["Episode"], "Attempt" in said) == ("2", False)


def test_a_resolved_incident_says_why_where_and_how_long_it_lasted():
    said = dict(facts(last(finding(610), finding(700, phase=Phase.ENDS, reason="recovered"))))
    assert said["Resolved"] == "back in its band after step 700, 1970-01-01 00:28:20 UTC, 1 min 30 s after it began"


def test_what_joins_is_said_in_the_thread_with_its_size():
    said = note(told(blowup(610), finding(611))[-1])
    assert said is not None
    assert said.text == "Also: loss spike 2.3 → 9.7 (4.22×) at step 611."


def test_what_joins_again_and_again_is_said_once():
    story = told(blowup(610), finding(611), finding(611, phase=Phase.ENDS), finding(640))
    said = [n for n in map(note, story) if n is not None]
    assert len(said) == 2
    assert said[0].id == said[1].id  # and the thread takes an id once


def test_a_source_has_no_rows_and_no_band():
    lost = {"kind": Kind.SOURCE_LOST, "metric": None, "role": None, "unit": "s", "score": 60.0, "observed": 60.0}
    gone = finding(1_795_216_821, step=-1, first_step=-1, t=1_795_216_881.0, run="prometheus", **lost)
    assert headline(last(gone)) == "prometheus: source unreachable for 1 min"
    assert dict(facts(last(gone)))["Since"] == "2026-11-20 23:20:21 UTC"
    back = last(gone, replace(gone, phase=Phase.ENDS, t=gone.t + 60.0))
    assert "row" not in ending(back)
    assert ending(back).startswith("it can be read again")
    assert ending(back).endswith("2 min after it began")


def test_an_acknowledgement_stands_on_the_message_and_not_in_the_thread_as_well():
    book = Book()
    opened = book.apply(finding(610), Limit(), 0.0)
    assert opened is not None
    acknowledged = book.acknowledge(opened.incident.id, 1.0)
    assert acknowledged is not None
    assert note(acknowledged) is None


WORSE = Move(
    metric="loss", normal=2.3, onset=9.7, onset_row=610, onset_step=610, worst=20.7, worst_row=640, worst_step=640
)


def test_the_worst_value_so_far_takes_the_headline_with_its_step_and_where_it_began():
    assert headline(last(finding(610)), {"loss": WORSE}) == "r: loss spike 2.3 → 20.7 (9×) at step 640, since step 610"
    moved = dict(facts(last(finding(610)), {"loss": WORSE}))["Moved"]
    assert moved == "loss 2.3 → 20.7 (9×) at step 640, first 9.7 at step 610"


def test_a_metric_that_is_lost_after_it_was_worst_is_said_to_be():
    lost = replace(WORSE, lost=math.nan, lost_row=650, lost_step=650)
    said = headline(last(finding(610)), {"loss": lost})
    assert said == "r: loss spike 2.3 → 20.7 (9×) at step 640, since step 610, NaN from step 650 on"


def test_a_loss_that_was_never_finite_again_says_where_it_was_lost():
    lost = replace(WORSE, onset=math.nan, worst=math.nan, worst_row=610, lost=math.nan, lost_row=610, lost_step=610)
    broken = finding(610, kind=Kind.NONFINITE, observed=math.nan)
    assert headline(last(broken), {"loss": lost}) == "r: non-finite values, loss is NaN at step 610"


@pytest.mark.parametrize(
    ("reason", "said"), [("recovered", "Resolved: back in its band."), ("rebased", "Closed without recovery: the new")]
)
def test_the_thread_tells_a_recovery_from_a_mere_end(reason, said):
    ended = note(told(finding(610), finding(700, phase=Phase.ENDS, reason=reason))[-1])
    assert ended is not None
    assert ended.text.startswith(said)
