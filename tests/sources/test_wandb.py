"""Rows of W&B runs come once, in order and as they were logged, whatever the server and its runs do."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
from typing import Any

import pytest
from aiohttp import web
from doubles.wandb import WandbDouble
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from wandb_rig import Rig, about, failing

from detectors.types import Origin
from monitor.errors import PermanentError, TransientError
from monitor.frame import RunFacts, Status
from monitor.sources.wandb.run import SAMPLES
from monitor.sources.wandb.section import Params, create
from monitor.sources.wandb.selection import Selection
from monitor.sources.wandb.source import Plan, WandbSource

EARLY = 100_000.0


def test_rows_have_their_step_their_time_and_nested_names_joined_by_dots() -> None:
    rig = Rig()
    run = rig.server.add("a")
    run.log(loss=2.5, grad={"norm": 1.5}, note="text", hist={"_type": "histogram", "bins": [1, 2], "values": [3]})
    rig.poll()
    ((row, step, values, origin, generation),) = rig.rows()
    assert (row, step, origin, generation) == (0, 0, Origin.HISTORY, 0)
    assert values == {"loss": 2.5, "grad.norm": 1.5, "_runtime": 1.0}
    (frame,) = (f for b in rig.batches for f in b.frames)
    assert frame.t.tolist() == [run.created + 1.0]
    assert rig.counts()["wandb_not_a_scalar"] == 1


def test_bare_nan_and_infinities_are_values() -> None:
    rig = Rig()
    run = rig.server.add("a")
    for value in (math.nan, math.inf, -math.inf, 1e-3):
        run.log(loss=value)
    assert "NaN" in run.history[0]
    rig.poll()
    assert repr([v for _, v in rig.values()]) == repr([math.nan, math.inf, -math.inf, 0.001])


def test_what_was_there_is_history_what_follows_live_and_what_was_missed_backlog() -> None:
    rig = Rig()
    run = rig.server.add("a")
    run.log(loss=1.0)
    rig.between = lambda _: run.log(loss=2.0)
    rig.poll(3)
    run.log(loss=3.0)
    rig.poll(1)
    assert [r[3] for r in rig.rows()] == [Origin.HISTORY, Origin.LIVE, Origin.LIVE, Origin.BACKLOG]


def test_a_run_that_begins_while_we_watch_is_no_history_and_one_that_is_found_later_is() -> None:
    rig = Rig(options={"selection": Selection(tags=frozenset({"prod"}))})
    old = rig.server.add("old")
    old.log(loss=1.0)

    def between(poll: int) -> None:
        if poll == 1:
            old.tags = ["prod"]
            rig.server.add("new", tags=["prod"]).log(loss=5.0)

    rig.between = between
    rig.poll(3)
    assert [r[3] for r in rig.rows("wb/old")] == [Origin.HISTORY]
    assert [r[3] for r in rig.rows("wb/new")] == [Origin.BACKLOG]


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 2**32))
def test_any_cuts_and_crashes_give_every_row_once(seed: int) -> None:
    """Runs log at their own pace with gaps in their steps; the process dies between any two batches."""
    rng = random.Random(seed)
    rig = Rig(WandbDouble(by_step=rng.random() < 0.5))
    expected: dict[str, list[tuple[int, float]]] = {}
    for name in "abc":
        rig.server.add(name)
        expected[name] = []

    def between(_: int = 0) -> None:
        for name, run in rig.server.runs.items():
            step = expected[name][-1][0] if expected[name] else -1
            for _ in range(rng.choice((0, 1, 7, 40))):
                step += rng.choice((1, 1, 1, 3, 50, 5000))
                loss = rng.choice((rng.random(), math.inf))
                run.log(loss=loss, _step=step)
                expected[name].append((step, loss))

    rig.poll()
    rig.between = between
    for _ in range(6):
        if rng.random() < 0.5:
            rig.poll(rng.randint(1, 4))
        else:
            rig.poll(until=rng.randint(0, 4))
    rig.between = lambda _: None
    rig.poll(2)
    assert {name: rig.values(run=f"wb/{name}") for name in "abc"} == expected
    assert not rig.server.refused


def test_a_long_backlog_is_read_in_windows_no_wider_than_the_rows_asked_for() -> None:
    rig = Rig(WandbDouble(by_step=True), options={"first_rows": EARLY})
    run = rig.server.add("a")
    rig.poll()
    for i in range(3 * SAMPLES + 7):
        run.log(loss=float(i))
    came = rig.poll()
    assert [v for _, v in rig.values()] == [float(i) for i in range(3 * SAMPLES + 7)]
    windows = [(v["b0"] - v["a0"], v["s0"]) for name, v in rig.server.asked if name == "Rows" and "a0" in v]
    assert all(width <= samples for width, samples in windows)
    assert [b.at_head for b in came] == [False] * (len(came) - 1) + [True]


@pytest.mark.parametrize("by_step", [False, True])
def test_a_gap_in_the_steps_is_crossed_without_a_window_for_each_thousand(by_step: bool) -> None:
    rig = Rig(WandbDouble(by_step=by_step))
    run = rig.server.add("a")
    run.log(loss=0.0)
    rig.poll()
    for i in range(5):
        run.log(loss=1.0 + i, _step=10**9 + i)
    before = len(rig.server.asked)
    rig.poll()
    assert [v for _, v in rig.values()] == [float(i) for i in range(6)]
    assert len(rig.server.asked) - before < 60


def test_only_the_last_rows_of_a_long_run_are_read_at_first_and_the_others_counted() -> None:
    rig = Rig(options={"first_rows": 300})
    run = rig.server.add("a")
    for i in range(5_000):
        run.log(loss=float(i), _step=10 * i)
    rig.poll()
    values = [v for _, v in rig.values()]
    assert values == [float(i) for i in range(5_000 - len(values), 5_000)]
    assert 300 <= len(values) <= 302
    assert abs(rig.counts()["wandb_old_rows_skipped"] - (5_000 - len(values))) <= 2


def test_many_runs_are_asked_for_in_one_query_and_all_in_few() -> None:
    rig = Rig()
    runs = [rig.server.add(f"r{i:02}") for i in range(25)]
    rig.between = lambda _: [run.log(loss=1.0) for run in runs]
    rig.poll(2)
    rig.server.asked.clear()
    rig.poll(1)
    assert [name for name, _ in rig.server.asked].count("Rows") == 3
    assert all(len(rig.rows(f"wb/r{i:02}")) == 1 for i in range(25))


def test_statistics_of_the_machine_are_metrics_of_the_run_once_each() -> None:
    rig = Rig()
    run = rig.server.add("a")
    run.log(loss=1.0)
    t = run.created
    for i in range(3):
        run.measure(t + i, **{"cpu": i, "gpu.0.memory": 50})

    def between(poll: int) -> None:
        run.measure(t + 10 * poll, cpu=10 * poll)
        if poll == 2:  # two at once: the tail has one of them
            run.measure(t + 25, cpu=25)

    rig.between = between
    rig.poll(5)
    assert rig.values("system/cpu") == [(-1, x) for x in (0.0, 1.0, 2.0, 10.0, 20.0, 25.0, 30.0, 40.0)]
    assert rig.values("system/gpu.0.memory") == [(-1, 50.0)] * 3
    origins = [r[3] for r in rig.rows() if r[1] < 0]
    assert origins == [Origin.HISTORY] * 3 + [Origin.LIVE] * 5
    assert "wandb_system_rows_missed" not in rig.counts()


def test_statistics_that_were_not_told_are_counted() -> None:
    rig = Rig()
    run = rig.server.add("a")
    for i in range(300):
        run.measure(run.created + i, cpu=i)
    rig.poll()
    for i in range(300, 303):
        run.measure(run.created + i, cpu=i)
    rig.poll()
    assert rig.values("system/cpu")[-1] == (-1, 302.0)
    assert rig.counts()["wandb_system_rows_missed"] == 2


def test_a_finished_run_is_told_once_after_its_last_row_and_asked_for_no_more() -> None:
    rig = Rig()
    run = rig.server.add("a")
    run.log(loss=1.0)

    def between(poll: int) -> None:
        if poll == 1:
            run.log(loss=2.0)
            run.state = "finished"
        if poll == 3:
            rig.server.asked.clear()

    rig.between = between
    rig.poll(5)
    finished = [i for i, b in enumerate(rig.batches) if b.facts.get("wb/a", RunFacts()).finished]
    last_row = max(i for i, b in enumerate(rig.batches) if b.frames)
    assert len(finished) == 1
    assert finished[0] > last_row
    assert "W&B: the run is finished, it was running" in rig.said()
    assert [name for name, _ in rig.server.asked] == ["Runs", "Runs"]


@pytest.mark.parametrize("state", ["crashed", "failed", "killed"])
def test_a_run_that_ended_badly_is_a_line_and_not_finished(state: str) -> None:
    rig = Rig()
    run = rig.server.add("a")
    rig.between = lambda _: setattr(run, "state", state)
    rig.poll(4)
    assert rig.said().count(f"W&B: the run is {state}, it was running") == 1
    assert not any(f.finished for b in rig.batches for f in b.facts.values())


@pytest.mark.parametrize("seen", [True, False])
def test_a_resumed_run_goes_on_with_its_next_row(seen: bool) -> None:
    """Resumed while we watch it is another attempt; between two looks only its rows can tell."""
    rig = Rig()
    run = rig.server.add("a", state="finished")
    run.log(loss=1.0)
    rig.poll(3)
    if seen:
        run.state = "running"
        rig.poll(2)
    run.log(loss=2.0)
    run.state = "finished"
    rig.poll(3)
    assert rig.values() == [(0, 1.0), (1, 2.0)]
    assert [r[4] for r in rig.rows()] == [0, int(seen)]
    assert [f.finished for b in rig.batches for f in b.facts.values()].count(True) == 2


def test_a_run_that_was_rewound_is_another_attempt_whose_rows_are_history() -> None:
    rig = Rig()
    run = rig.server.add("a")
    for i in range(50):
        run.log(loss=float(i))
    rig.poll()
    del run.history[20:]
    run.log(loss=99.0)
    rig.poll()
    run.log(loss=100.0)
    rig.poll()
    again = rig.rows()[50:]
    assert [(r[1], r[2]["loss"]) for r in again] == [*((i, float(i)) for i in range(20)), (20, 99.0), (21, 100.0)]
    assert {r[4] for r in again} == {1}
    assert [r[3] for r in again] == [Origin.HISTORY] * 21 + [Origin.BACKLOG]
    assert rig.counts()["wandb_run_rewound"] == 1


def test_a_row_that_comes_late_with_a_lower_step_is_missed_and_counted() -> None:
    rig = Rig()
    run = rig.server.add("a")
    run.log(loss=1.0, _step=5)
    rig.poll()
    late = json.dumps({"_step": 3, "_timestamp": run.created, "loss": 9.0})
    run.history.insert(0, late)
    rig.poll(2)
    assert rig.values() == [(5, 1.0)]
    assert rig.counts()["wandb_rows_not_told"] == 1


def test_a_server_that_counts_too_few_rows_hides_none() -> None:
    rig = Rig()
    run = rig.server.add("a", counted=1)
    run.log(loss=1.0)
    rig.poll()
    run.log(loss=2.0, _step=50_000)
    rig.poll(6)
    assert rig.values() == [(0, 1.0), (50_000, 2.0)]


def test_a_heartbeat_that_stops_is_told_once_and_when_it_is_back() -> None:
    rig = Rig()
    run = rig.server.add("a")

    def between(poll: int) -> None:
        run.hangs = poll < 20

    rig.between = between
    rig.poll(24)
    beats = [text for text in rig.said() if "heartbeat" in text]
    assert beats == ["W&B: no heartbeat for 135 s, although the run is in state running", "W&B: the heartbeat is back"]


def test_a_deleted_run_is_told_and_is_finished() -> None:
    rig = Rig()
    rig.server.add("a").log(loss=1.0)
    rig.between = lambda _: rig.server.runs.clear()
    rig.poll(3)
    assert "W&B: the run was deleted on the server" in rig.said()
    assert [f.finished for b in rig.batches for f in b.facts.values()].count(True) == 1


def test_the_planned_length_is_told_only_where_w_and_b_counts_the_steps_of_the_trainer() -> None:
    rig = Rig()
    config = json.dumps({"args": {"value": {"max_steps": 500}}, "lr": {"value": 1}})
    for name, own in (("a", 0), ("b", 10)):
        run = rig.server.add(name, config=config)
        run.log(loss=1.0, global_step=own)
    rig.poll(2)
    facts = rig.batches[-1].facts
    assert (facts["wb/a"].total_steps, facts["wb/b"].total_steps) == (500, -1)


def test_runs_are_selected_by_name_tag_state_and_age_and_the_rest_beyond_the_bound_counted() -> None:
    rig = Rig(
        options={
            "selection": Selection(
                matches="^base", tags=frozenset({"x"}), states=frozenset({"running"}), max_age_s=600.0
            )
        }
    )
    rig.server.add("a", display="base-1", tags=["x", "y"])
    rig.server.add("b", display="base-2", tags=["y"])
    rig.server.add("c", display="other", tags=["x"])
    rig.server.add("d", display="base-3", tags=["x"], state="crashed")
    rig.server.add("e", display="base-4", tags=["x"], beat=rig.server.clock() - 601.0)
    rig.poll()
    assert {line.run for b in rig.batches for line in b.lines} == {"wb/a"}
    many = Rig(options={"max_runs": 3})
    for i in range(5):
        many.server.add(f"r{i}", beat=many.server.clock() - i)
    many.poll()
    assert {line.run for b in many.batches for line in b.lines} == {"wb/r0", "wb/r1", "wb/r2"}
    assert many.counts() == {"wandb_run_limit": 2}
    many.server.runs["r0"].state = "finished"
    many.poll(4)
    assert "wb/r3" in {line.run for b in many.batches for line in b.lines}


TROUBLE = [
    ("bad gateway", {"status": 502, "Retry_After": "7"}, TransientError, "HTTP 502", 7.0),
    (
        "too many requests",
        {"status": 429, "RateLimit_Reset": "42", "RateLimit_Remaining": "0"},
        TransientError,
        "HTTP 429",
        42.0,
    ),
    ("for ever", {"status": 429, "Retry_After": "99999"}, TransientError, "HTTP 429", 300.0),
    ("no key", {"status": 401}, PermanentError, "the key is not accepted", 0.0),
    ("redirect", {"status": 302, "Location": "https://elsewhere.example"}, PermanentError, "a redirect", 0.0),
    ("nothing there", {"status": 404}, PermanentError, "no W&B API there", 0.0),
]


@pytest.mark.parametrize(("name", "answer", "kind", "said", "wait_s"), TROUBLE, ids=[t[0] for t in TROUBLE])
def test_trouble_of_the_server_is_our_outage_and_loses_nothing(
    name: str, answer: dict[str, Any], kind: type[Exception], said: str, wait_s: float
) -> None:
    rig = Rig()
    run = rig.server.add("a")
    run.log(loss=1.0)
    rig.poll()
    run.log(loss=2.0)
    for when in ({}, {"when": lambda operation, _: operation == "Rows"}) if answer["status"] in (429, 401) else ({},):
        rig.server.answer = failing(**answer, **when)
        with pytest.raises(kind, match=said) as caught:
            rig.poll()
        assert getattr(caught.value, "retry_after_s", 0.0) == wait_s
    rig.server.answer = None
    rig.poll()
    assert rig.values() == [(0, 1.0), (1, 2.0)]


GARBAGE = {
    "no JSON": "<html>",
    "a list": "[1]",
    "neither data nor errors": "{}",
    "no data": '{"data": null}',
    "a word for errors": '{"errors": "no", "data": null}',
    "runs without pages": '{"data": {"project": {"runs": {"edges": [], "pageInfo": 7}}}}',
    "runs that are none": '{"data": {"project": {"runs": {"edges": 5}}}}',
    "errors without a path": '{"errors": [{"message": "boom"}], "data": {"project": null}}',
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE)
def test_an_answer_that_is_no_answer_is_transient(text: str) -> None:
    rig = Rig()
    rig.server.add("a")

    async def answer(*_: object) -> web.StreamResponse:
        return web.Response(text=text)

    rig.server.answer = answer
    with pytest.raises(TransientError):
        rig.poll()


NODES: list[Any] = [
    {}, {"history": 3}, {"history": [3, "x", "{", "[]", '{"_step": "1"}', '{"_step": 1e300}', '{"_step": 999999}']},
    {"historyLineCount": "many", "eventsTail": "[", "heartbeatAt": [], "state": 7},
    {"historyKeys": {"lastStep": "x"}, "config": "[",
     "events": [None, "{}", '{"_timestamp": "x"}', '{"_timestamp": NaN}']},
    {"historyLineCount": 10**30, "eventsTail": "3", "eventsLineCount": -5, "historyKeys": []},
]  # fmt: skip


@pytest.mark.parametrize("node", NODES)
def test_nonsense_about_a_run_is_survived(node: dict[str, Any]) -> None:
    rig = Rig()
    rig.server.add("a").log(loss=1.0)
    other = rig.server.add("b")
    other.log(loss=2.0)
    asked = 0

    async def answer(operation: str, variables: dict[str, Any]) -> web.StreamResponse | None:
        nonlocal asked
        if operation != "Rows" or asked > 8:
            return None
        asked += 1
        return web.json_response({"data": {"project": {f"r{i}": node for i in range(2)}}})

    rig.server.answer = answer
    rig.poll(12)
    assert rig.batches[-1].status is Status.OK


def test_a_project_that_is_not_there_is_permanent() -> None:
    with pytest.raises(PermanentError, match=r"project ada/none: there is none, or the key may not see it"):
        Rig(options={"project": "none"}).poll()
    with pytest.raises(PermanentError, match="the key is not accepted"):
        Rig(options={"key": "wrong"}).poll()


def test_an_unreachable_server_a_slow_one_and_a_cut_connection_are_transient() -> None:
    with pytest.raises(TransientError, match=r"127\.0\.0\.1"):
        Rig(options={"url": "http://127.0.0.1:9"}).poll()

    async def slow(*_: object) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    rig = Rig(options={"timeout_s": 0.05})
    rig.server.answer = slow
    with pytest.raises(TransientError, match=r"no answer within 0\.05 s"):
        rig.poll()

    async def cut() -> None:
        async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            writer.close()

        server = await asyncio.start_server(half, "127.0.0.1", 0)
        plan = Plan(entity="e", project="p", key="k", url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(TransientError, match="payload"):
            await anext(WandbSource("wb", plan).batches({}))
        server.close()
        await server.wait_closed()

    asyncio.run(cut())
    rig = Rig(options={"max_bytes": 100})
    rig.server.add("a")
    with pytest.raises(TransientError, match="more than 100 bytes"):
        rig.poll()


def test_one_broken_run_is_lost_and_told_while_the_others_are_read() -> None:
    rig = Rig()
    runs = [rig.server.add(f"r{i}") for i in range(12)]
    rig.between = lambda _: [run.log(loss=1.0) for run in runs]
    rig.poll(1)
    rig.server.answer = failing(when=about("r5"))
    came = [b for b in rig.poll(5) if b.at_head]
    assert [b.lost for b in came] == [frozenset({"wb/r5"})] * 5
    assert [b.status for b in came] == [Status.OK] * 2 + [Status.ERROR] * 3
    assert "run r5: " in came[-1].detail
    assert "HTTP 502" in came[-1].detail
    assert all(len(rig.rows(f"wb/r{i}")) == 4 for i in range(12) if i != 5)
    assert rig.counts()["wandb_run_broken"] == 3
    rig.server.answer = None
    came = [b for b in rig.poll(1) if b.at_head]
    assert came[0].status is Status.OK
    assert len(rig.rows("wb/r5")) == len(rig.rows("wb/r0"))


def test_a_broken_run_is_asked_alone_and_less_and_less_often_until_it_answers() -> None:
    rig = Rig()
    bad, good = rig.server.add("bad"), rig.server.add("good")
    for run in (bad, good):
        run.log(loss=1.0)
    rig.poll(1)
    bad.broken = "deadline exceeded"
    asked: list[int] = []

    def between(poll: int) -> None:
        good.log(loss=2.0)
        asked.append(sum(n == "Rows" and "bad" in v.values() for n, v in rig.server.asked))
        rig.server.asked.clear()
        if poll == 39:
            bad.broken = ""

    rig.between = between
    came = [b for b in rig.poll(80) if b.at_head]
    tries = [i for i, n in enumerate(asked) if n]
    gaps = [b - a for a, b in itertools.pairwise(tries[: tries.index(max(t for t in tries if t < 39)) + 1])]
    assert gaps == sorted(gaps)
    assert max(gaps) >= 8
    assert "deadline exceeded" in came[20].detail
    assert came[-1].status is Status.OK
    assert came[-1].lost == frozenset()
    assert len(rig.values(run="wb/good")) == 80


def test_an_answer_that_is_too_large_is_asked_for_in_smaller_ones() -> None:
    rig = Rig(options={"max_bytes": 30_000, "first_rows": EARLY})
    run = rig.server.add("a")
    for i in range(900):
        run.log(**{f"metric/{j}": float(i) for j in range(10)})
    rig.poll()
    assert [v for _, v in rig.values("metric/3")] == [float(i) for i in range(900)]
    assert rig.batches[-1].status is Status.OK


def test_the_configuration_makes_the_source() -> None:
    given = {"entity": "e", "project": "p", "api_key": SecretStr("k"), "runs": "^a", "tags": ("x",), "first_rows": 300}
    (source,) = create(Params.model_validate(given | {"name": "mine"}))
    assert isinstance(source, WandbSource)
    assert source.name == "mine"
    assert source._plan == Plan(
        entity="e", project="p", key="k", first_rows=300, selection=Selection(matches="^a", tags=frozenset({"x"}))
    )


def test_long_names_are_dropped_and_counted() -> None:
    rig = Rig()
    rig.server.add("a").log(loss=1.0, **{"x" * 301: 2.0})
    rig.poll()
    assert {*rig.rows()[0][2]} == {"loss", "_runtime"}
    assert rig.counts()["wandb_name_too_long"] == 1


def test_no_query_names_what_came_from_outside() -> None:
    """Names of runs travel as variables, and the fields are ones that the server knows."""
    rig = Rig()
    rig.server.add('") { id } #').log(loss=1.0)
    rig.poll(2)
    assert not rig.server.refused
    assert len(rig.rows('wb/") { id } #')) == 1
