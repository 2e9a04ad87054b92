"""An explanation follows its incident: made anew when that became another one, never asked twice for the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from analysis.worlds import world
from build import falling
from test_explain import MODEL, FakeAnalyst, World, answer, play

from detectors.types import Kind, Severity
from monitor.analysis.differential import AUTHOR
from monitor.analysis.hypothesis import Answer, Cause, Hypothesis, Prediction, RankedCause, Relation
from monitor.answers import Stored, unpack
from monitor.episode import Case, Episode
from monitor.evidence import build as build_evidence
from monitor.exhibits import accounts, moves
from monitor.gravity import ASKS, REVISIONS, gravity, material
from monitor.incident import Incident, Life
from monitor.ledger import Explained
from monitor.move import Move
from monitor.pages import facts, headline


def answering() -> FakeAnalyst:
    made = FakeAnalyst()
    made.go.set()
    return made


def healthy(first: int, n: int) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(1).normal(0.0, 1.0, 20_000)[first : first + n]
    learnt = 1 + 4 * np.exp(-np.arange(first, first + n) / 60)
    return {"loss": 2.3 * learnt * np.exp(0.01 * noise), "grad_norm": np.exp(-0.05 * noise), "lr": np.full(n, 3e-4)}


def loss_at(row: int, factor: float) -> float:
    return float(healthy(row, 1)["loss"][0]) * factor


NEXT = 406


async def rows(w: World, first: int, factors: list[float], grad: list[float] | None = None) -> None:
    """Rows from `first` on, their loss and grad norm multiplied, one batch a row."""
    for i, factor in enumerate(factors):
        values = healthy(first + i, 1)
        values["loss"] = values["loss"] * factor
        values["grad_norm"] = values["grad_norm"] * (grad[i] if grad else 1.0)
        await w.feed(values, first + i)
        await w.explainer.drain()


async def spiked(w: World) -> Incident:
    """A blow to loss and grad norm at row 400 that pages, and is on its way back."""
    await w.feed(healthy(0, 400), 0)
    await rows(w, 400, [3.0, 2.8, 2.6, 2.4, 2.2, 2.0], [10.0, 8.0, 5.0, 1.0, 1.0, 1.0])
    (incident,) = w.ledger.engine.open_incidents()
    assert incident.severity is Severity.PAGE
    return incident


async def told(w: World, incident: Incident) -> tuple[str, dict[str, str]]:
    """Headline and facts as the page has them now."""
    stored = await w.state.read(w.state.reader.incident, incident.id)
    answers = await w.state.read(accounts, w.state.reader, stored)
    return headline(stored, moves(answers)), dict(facts(stored, moves(answers)))


def test_the_page_shows_the_worst_value_so_far_with_its_step_and_the_one_at_the_onset(tmp_path):
    async def body(w: World) -> None:
        incident = await spiked(w)
        early, _ = await told(w, incident)
        assert "at step 400" in early
        await rows(w, NEXT, [2.0, 4.0, 6.0, 9.0, 9.5, 14.5, *[9.0] * 12], [5.0] * 18)
        late, said = await told(w, incident)
        assert " at step 411, since step 400" in late
        assert late.index("step 411") < 120
        assert f"→ {loss_at(411, 14.5):.4g}" in late
        assert f"at step 411, first {loss_at(400, 3.0):.4g} at step 400" in said["Moved"]

    play(tmp_path, None, body)


def test_a_first_guess_that_later_rows_refute_gives_way_and_the_thread_says_so(tmp_path):
    async def body(w: World) -> None:
        incident = await spiked(w)
        assert (await w.view(incident)).cause == "bad_batch"
        await rows(w, NEXT, [6.0] * 80, [8.0] * 80)
        view = await w.view(incident)
        assert view.cause == "data_corruption"
        assert "Likelier now: data corruption; before: bad batch (built-in)." in await w.notes(incident)

    play(tmp_path, None, body)


def test_predictions_of_an_earlier_hypothesis_are_scored_for_the_cause_that_they_spoke_for(tmp_path):
    async def body(w: World) -> None:
        incident = await spiked(w)
        registered = await w.state.read(w.state.reader.predictions, incident.id)
        await rows(w, NEXT, [6.0] * 80, [8.0] * 80)
        later = await w.state.read(w.state.reader.predictions, incident.id)
        assert {key for key, *_ in registered} < {key for key, *_ in later}
        assert any("It spoke for bad batch." in note for note in await w.notes(incident))
        shown = [p.text for p in (await w.view(incident)).predictions]
        assert shown
        assert not any("back in band" in text for text in shown)

    play(tmp_path, None, body)


def test_the_model_is_asked_again_for_what_is_news_and_a_few_times_only(tmp_path):
    analyst = answering()

    async def body(w: World) -> None:
        incident = await spiked(w)
        first = len(analyst.asked)
        await rows(w, NEXT, [2.0, 4.0], [5.0, 5.0])
        await rows(w, NEXT + 2, [float(2**k) for k in range(3, 11)], [5.0] * 8)
        assert first < len(analyst.asked) <= ASKS
        assert len({e.sha256 for e in analyst.asked}) == len(analyst.asked)
        assert (await w.view(incident)).author == MODEL

    play(tmp_path, analyst, body)


def taken(episode: Episode, *causes: Cause) -> Explained:
    about, seen = world(Cause.BAD_BATCH)
    ranked = [RankedCause(cause=cause, summary="s", claims=[]) for cause in causes]
    expected = Prediction(metric="loss", relation=Relation.BACK_IN_BAND, within_rows=8, probability=0.9)
    said = Hypothesis(causes=ranked, ruled_out=[], predictions=[expected], experiment=None)
    own = Answer(hypothesis=said, author=AUTHOR)
    case = Case(about, seen, build_evidence(about, seen), own, gravity(about, {}, episode.refuted))
    episode.take(case)
    return episode.check(case, own)


def stored(explained: Explained) -> Stored:
    found = unpack(explained.body)
    assert found is not None
    return found


def top(explained: Explained) -> Cause:
    return stored(explained).verified.hypothesis.causes[0].cause


def test_a_cause_that_comes_back_registers_its_predictions_once():
    episode = Episode(world(Cause.BAD_BATCH)[0])
    made = [taken(episode, cause) for cause in (Cause.BAD_BATCH, Cause.LR_TOO_HIGH, Cause.BAD_BATCH, Cause.LR_TOO_HIGH)]
    assert [len(explained.predictions) for explained in made] == [1, 1, 0, 0]
    assert [len(explained.notes) for explained in made] == [0, 1, 0, 0]
    assert [stored(explained).generation for explained in made] == [1, 2, 1, 2]


def test_signs_that_do_not_separate_do_not_unseat_a_cause_that_nothing_speaks_against():
    episode = Episode(world(Cause.BAD_BATCH)[0])
    taken(episode, Cause.LR_TOO_HIGH)
    unclear = (Cause.INSUFFICIENT_EVIDENCE, Cause.BAD_BATCH, Cause.LR_TOO_HIGH)
    assert top(taken(episode, *unclear)) is Cause.LR_TOO_HIGH
    episode.refuted = True
    assert top(taken(episode, *unclear)) is Cause.INSUFFICIENT_EVIDENCE


def test_rows_that_say_nothing_new_ask_nobody(tmp_path):
    analyst = answering()

    async def body(w: World) -> None:
        loss = falling(300)
        loss[290:] = np.nan
        await w.feed({"loss": loss}, 0)
        await w.explainer.drain()
        for n in range(40):
            await w.feed({"loss": [np.nan]}, 300 + n)
            await w.explainer.drain()
        assert len(analyst.asked) == 1

    play(tmp_path, analyst, body)


def test_a_restart_goes_on_with_what_was_said_and_asks_nobody_again(tmp_path):
    asked: list[int] = []
    again = answering()

    async def first(w: World) -> None:
        await spiked(w)

    async def second(w: World) -> None:
        w.explainer.resume(await w.state.read(w.state.reader.open_pages))
        await w.explainer.drain()
        asked.append(len(again.asked))
        (incident,) = w.ledger.engine.open_incidents()
        assert (await w.view(incident)).author == MODEL
        await rows(w, NEXT, [8.0, 20.0], [5.0, 5.0])
        asked.append(len(again.asked))

    play(tmp_path, answering(), first)
    play(tmp_path, again, second)
    assert asked[0] == 0
    assert 1 <= asked[1] < ASKS


def test_an_older_answer_of_the_model_is_checked_on_the_newer_rows(tmp_path):
    from monitor.analysis.hypothesis import Check, Claim  # noqa: PLC0415

    back = Claim(text="loss is back", cites=["E1"], check=Check.UNCHANGED, metric="grad_norm")
    causes = [
        RankedCause(cause=Cause.DATA_MIXTURE_CHANGE, summary="Harder data.", claims=[back]),
        RankedCause(cause=Cause.BAD_BATCH, summary="A bad batch.", claims=[]),
    ]
    said = Hypothesis(causes=causes, ruled_out=[], predictions=[], experiment=None)
    analyst = FakeAnalyst(result=answer().model_copy(update={"hypothesis": said}))
    analyst.go.set()

    async def body(w: World) -> None:
        await w.feed(healthy(0, 400), 0)
        await rows(w, 400, [3.0] * 6)
        (incident,) = w.ledger.engine.open_incidents()
        view = await w.view(incident)
        assert (view.author, view.cause, view.fallen) == (MODEL, "data_mixture_change", "")
        await rows(w, NEXT, [9.0] * 8, [30.0] * 8)
        view = await w.view(incident)
        assert (view.author, view.cause) == (MODEL, "bad_batch")
        assert view.fallen.startswith("data mixture change: it rests on “loss is back”; found ")

    play(tmp_path, analyst, body)


def test_a_model_whose_only_cause_fell_makes_room_for_our_own_answer(tmp_path):
    said = answer(Prediction(metric="loss", relation=Relation.BACK_IN_BAND, within_rows=8, probability=0.9))
    analyst = FakeAnalyst(result=said)
    analyst.go.set()

    async def body(w: World) -> None:
        incident = await spiked(w)
        assert (await w.view(incident)).author == MODEL
        await rows(w, NEXT, [6.0] * 60, [8.0] * 60)
        assert (await w.view(incident)).author == "built-in"

    play(tmp_path, analyst, body)


def grown(incident: Incident, **changes: object) -> Incident:
    return replace(incident, **changes)


@pytest.mark.parametrize(
    ("changes", "news"),
    [
        ({}, False),
        ({"updated_t": 5.0, "revision": 9, "last_row": 500}, False),
        ({"severity": Severity.PAGE}, True),
    ],
)
def test_what_is_news_of_an_incident_is_decided_by_one_rule(changes, news):
    from analysis.worlds import incident  # noqa: PLC0415

    before = incident(severity=Severity.NOTICE)
    assert material(gravity(before, {}), gravity(grown(before, **changes), {})) is news


def test_another_kind_is_news_and_so_is_a_refuted_prediction_once():
    from analysis.worlds import incident  # noqa: PLC0415

    about = incident()
    worse = replace(about, findings=(*about.findings, replace(about.findings[0], kind=Kind.DIVERGENCE, key="d")))
    assert material(gravity(about, {}), gravity(worse, {}))
    doubted = gravity(about, {}, refuted=True)
    assert material(gravity(about, {}), doubted)
    assert not material(doubted, doubted)


def test_the_explanations_of_an_episode_are_bounded_but_for_the_one_at_its_end():
    from analysis.worlds import incident  # noqa: PLC0415

    about, made = incident(), 0
    episode = Episode(about, settled=True)
    for k in range(50):
        here = dict.fromkeys(("onset_row", "onset_step", "worst_row", "worst_step"), 1)
        now = gravity(about, {"loss": Move(metric="loss", normal=1.0, onset=2.0, worst=2.0**k, **here)})
        if episode.calls_for(now):
            episode.gravity, episode.revision, made = now, episode.revision + 1, made + 1
    assert made == REVISIONS
    assert episode.calls_for(gravity(replace(about, state=Life.RESOLVED), {}))


def test_an_answer_of_another_release_counts_as_none():
    assert unpack('{"hypothesis": {"causes": []}, "author": "built-in"}') is None
