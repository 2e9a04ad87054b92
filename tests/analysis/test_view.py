"""What a person reads of a hypothesis: the writer's names, and never a refuted cause on top without a word."""

from __future__ import annotations

import pytest
from analysis.worlds import ONSET, world

from monitor.analysis.differential import diagnose
from monitor.analysis.hypothesis import Cause, Check, Claim, Hypothesis, Prediction, RankedCause, Relation
from monitor.analysis.predictions import Outcome, Verdict, judge, register
from monitor.analysis.verify import verify
from monitor.analysis.view import view
from monitor.evidence import build
from monitor.page import HypothesisView

ABOUT, SEEN = world(Cause.BAD_BATCH, rows=ONSET + 5)
EVIDENCE = build(ABOUT, SEEN)
FALSE = Claim(text="loss never moved", cites=["E1"], check=Check.UNCHANGED, metric="loss")
TRUE = Claim(text="grad_norm jumped", cites=["E1"], check=Check.CHANGED_AT, metric="grad_norm", step=ONSET + 1000)
EXPECTED = Prediction(metric="loss", relation=Relation.BACK_IN_BAND, within_rows=8, probability=0.8)


def hypothesis(*causes: RankedCause, predictions: tuple[Prediction, ...] = ()) -> Hypothesis:
    return Hypothesis(causes=list(causes), ruled_out=[], predictions=list(predictions), experiment=None, urgency="Now!")


def cause(name: Cause, *claims: Claim) -> RankedCause:
    return RankedCause(cause=name, summary=f"{name.value} it is.", claims=list(claims))


def shown(given: Hypothesis, outcome: Verdict = Verdict.OPEN) -> HypothesisView:
    registered = register(given, EVIDENCE, ABOUT, SEEN, "x")
    pairs = [(r, Outcome(outcome=outcome, found="9.1 after 8 rows")) for r in registered]
    return view(verify(given, EVIDENCE, ABOUT, SEEN), EVIDENCE.names, "x", pairs, "", given.causes[0].cause)


def test_everything_a_person_reads_has_the_names_of_the_writer():
    made = diagnose(ABOUT, SEEN)
    registered = register(made, EVIDENCE, ABOUT, SEEN, "built-in")
    pairs = [(r, judge(r, None)) for r in registered]
    read = view(verify(made, EVIDENCE, ABOUT, SEEN), EVIDENCE.names, "built-in", pairs)
    claims, predictions = [c.text for c in read.claims], [p.text for p in read.predictions]
    assert any(text.startswith("train/loss rose to ") for text in claims)
    assert any(text.startswith("train/grad_norm changed at ") for text in claims)
    assert "train/learning_rate kept its course" in claims
    assert predictions[0].startswith("train/loss back in band")
    assert predictions[1].startswith("train/grad_norm ")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("loss rose, then grad_norm", "lm loss rose, then optim/norm"),
        ("the loss scale and the loss spike", "the loss scale and the loss spike"),
        ("train/loss and step_time", "train/loss and step_time"),
    ],
)
def test_an_id_is_replaced_once_and_a_word_is_left_alone(text, read):
    claim = Claim(text=text, cites=["E1"], check=Check.UNCHANGED, metric="learning_rate")
    names = {**EVIDENCE.names, "loss": "lm loss", "grad_norm": "optim/norm", "step_time": "step_time"}
    checked = verify(hypothesis(cause(Cause.BAD_BATCH, claim)), EVIDENCE, ABOUT, SEEN)
    assert [c.text for c in view(checked, names, "x").claims] == [read]


def test_a_first_cause_that_the_check_contradicts_gives_way_to_the_rival_and_the_view_says_so():
    read = shown(hypothesis(cause(Cause.DATA_MIXTURE_CHANGE, FALSE), cause(Cause.BAD_BATCH, TRUE)))
    assert (read.cause, read.stands) == ("bad_batch", True)
    assert read.fallen.startswith("data mixture change: it rests on “train/loss never moved”; found ")
    assert not any("mixture" in rival for rival in read.rivals)
    assert "Now!" not in read.summary


def test_a_first_cause_whose_prediction_failed_gives_way_as_well():
    given = hypothesis(cause(Cause.BAD_BATCH, TRUE), cause(Cause.DATA_CORRUPTION, TRUE), predictions=(EXPECTED,))
    assert shown(given).cause == "bad_batch"
    read = shown(given, Verdict.REFUTED)
    assert read.cause == "data_corruption"
    assert "bad batch: it predicted “train/loss back in band" in read.fallen
    assert "found 9.1 after 8 rows" in read.fallen


def test_without_a_rival_the_refuted_cause_stays_but_never_silently():
    read = shown(hypothesis(cause(Cause.BAD_BATCH, TRUE), predictions=(EXPECTED,)), Verdict.REFUTED)
    assert (read.cause, read.stands) == ("bad_batch", False)
    assert read.fallen


def test_a_prediction_that_spoke_for_another_cause_refutes_nothing():
    given = hypothesis(cause(Cause.BAD_BATCH, TRUE), cause(Cause.DATA_CORRUPTION, TRUE), predictions=(EXPECTED,))
    (registered,) = register(given, EVIDENCE, ABOUT, SEEN, "x")
    other = registered.model_copy(update={"cause": Cause.LR_TOO_HIGH.value})
    pairs = [(other, Outcome(outcome=Verdict.REFUTED))]
    read = view(verify(given, EVIDENCE, ABOUT, SEEN), EVIDENCE.names, "x", pairs, "", Cause.BAD_BATCH)
    assert (read.cause, read.fallen) == ("bad_batch", "")
