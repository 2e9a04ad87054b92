"""OTLP exports become rows once, and no exporter hears of success before they are committed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from doubles.otlp import collection, export, metric, point, resource
from doubles.remote_write import sender
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_remote_write import T0, Rig, run

from monitor.frame import Status
from monitor.sources.otlp import message
from monitor.sources.otlp.message import Stepped, parse, plain, wire
from monitor.sources.otlp.section import Params, create
from monitor.sources.remote_write.message import MalformedError, TooManyError, labels_of
from monitor.sources.remote_write.rows import Bounds
from monitor.sources.remote_write.source import RemoteWriteSource
from monitor.sources.series import Query

STEPPED = Stepped(attribute="step", run_label="run")


def rig(stepped: Stepped | None = STEPPED, **options: Any) -> Rig:
    queries = (Query(query='{__name__=~"loss|lr|step|tokens_total"}'), Query(query="temp", metric="t", labels=("gpu",)))
    bounds = Bounds(repeats=True)
    return Rig({"wire": wire(stepped), "queries": queries, "bounds": bounds} | options)


def test_gauges_and_sums_become_columns_under_the_names_of_prometheus() -> None:
    labels = {"run": "a", "service__name": "train", "service__namespace": "lab", "service__instance__id": "i-1"}
    metrics = metric("loss.ce", [point(T0, 2.5, gpu=3, ok=True, x=0.5)])
    metrics += metric("tokens.total", [point(T0, 7)], kind=7) + metric("h", [point(T0, 1.0)] * 2, kind=9)
    request = parse(resource(metrics, **labels))
    found = [(labels_of(s.labels), s.points) for s in request.series]
    shared = {"run": "a", "service_name": "train", "service_namespace": "lab", "service_instance_id": "i-1"}
    shared |= {"job": "lab/train", "instance": "i-1"}
    assert found == [
        ({**shared, "__name__": "loss_ce", "gpu": "3", "ok": "true", "x": "0.5"}, [(T0, 2.5)]),
        ({**shared, "__name__": "tokens_total"}, [(T0, 7.0)]),
    ]
    assert (request.size, request.histograms) == (2, 2)


def test_an_attribute_of_a_point_wins_over_one_of_its_resource() -> None:
    body = resource(metric("loss", [point(T0, 1.0, run="own")]), run="shared")
    (series,) = parse(body).series
    assert labels_of(series.labels)["run"] == "own"


def test_the_step_is_an_attribute_that_tells_no_series_apart() -> None:
    request = parse(
        b"".join(collection(T0 + i, {"loss": 1.0, "lr": 2.0, "step": i}, run="a") for i in range(3)), STEPPED
    )
    found = {labels_of(s.labels)["__name__"]: s.points for s in request.series}
    assert {name: len(points) for name, points in found.items()} == {"loss": 3, "lr": 3, "step": 3}
    assert found["step"] == [(T0, 0.0), (T0 + 1, 1.0), (T0 + 2, 2.0)]


def test_a_point_without_a_value_ends_its_series() -> None:
    (series,) = parse(resource(metric("loss", [point(T0, 1.0), point(T0 + 1, None)]), run="a")).series
    assert series.points == [(T0, 1.0), (T0 + 1, None)]


def test_rows_have_the_steps_and_values_of_the_exports_plain_and_compressed() -> None:
    async def main() -> None:
        world = rig()
        async with world.reading(), sender() as session:
            for i, loss in enumerate((1.0, math.nan, math.inf, 4.0)):
                body = collection(T0 + i * 1000, {"loss": loss, "lr": 0.5, "step": i}, run="a")
                assert await export(session, world.url, body, raw=bool(i % 2)) == 200
                assert await export(session, world.url, body) == 200  # again: its answer was lost, say
            world.now += 5000
            await world.tick()
        assert [(r[1], r[2]) for r in world.rows()] == [(i, (T0 + i * 1000) / 1000) for i in range(4)]
        assert repr([float(x) for x in world.values()]) == "[1.0, nan, inf, 4.0]"
        assert world.counts()["otlp_duplicate"] == 12

    run(main())


def test_what_an_exporter_says_again_is_no_row_so_that_a_silent_run_is_silent() -> None:
    async def main() -> None:
        world = rig()
        async with world.reading(), sender() as session:
            for i, step in enumerate((0, 1, 1, 1, 2)):
                body = collection(T0 + i * 1000, {"loss": 9.0, "step": step}, run="a")
                assert await export(session, world.url, body) == 200
            world.now += 5000
            await world.tick()
        async with world.reading(), sender() as session:  # also over a restart
            body = collection(T0 + 7000, {"loss": 9.0, "step": 2}, run="a")
            assert await export(session, world.url, body) == 200
            world.now += 500_000
            await world.tick()
            assert (world.batches[-1].at_head, world.batches[-1].status) == (True, Status.OK)
        assert [r[1] for r in world.rows()] == [0, 1, 2]
        assert world.counts()["otlp_repeated_row"] == 3

    run(main())


def test_success_is_said_after_the_commit_only() -> None:
    async def main() -> None:
        world = rig(answer_s=5.0)
        async with world.reading(), sender() as session:
            world.committing = False
            sent = asyncio.create_task(export(session, world.url, collection(T0, {"loss": 1.0}, run="a")))
            while not any(b.cursors for b in world.batches):
                await world.tick(1)
            assert not sent.done()
            world.committing = True
            world.commit()
            assert await sent == 200

    run(main())


def test_no_commit_in_time_and_a_stop_ask_the_exporter_to_come_again() -> None:
    async def main() -> None:
        world = rig(answer_s=0.01)
        async with world.reading(), sender() as session:
            world.committing = False
            assert await export(session, world.url, collection(T0, {"loss": 1.0}, run="a")) == 503

    run(main())


REFUSED: list[tuple[str, bytes, dict[str, Any], int]] = [
    ("no message", b"\xff" * 20, {}, 400),
    ("no gzip", b"\x1f\x8b broken", {"raw": True, "Content_Encoding": "gzip"}, 400),
    ("cut gzip", gzip.compress(b"x" * 1000)[:-9], {"raw": True, "Content_Encoding": "gzip"}, 400),
    ("two gzip streams", gzip.compress(b"") * 2, {"raw": True, "Content_Encoding": "gzip"}, 400),
    ("bomb", bytes(50 << 20), {}, 413),
    ("too large", bytes(900_000), {"raw": True}, 413),
    ("JSON", b"{}", {"raw": True, "Content_Type": "application/json"}, 415),
    ("other encoding", b"", {"raw": True, "Content_Encoding": "zstd"}, 415),
    ("snappy", b"", {"raw": True, "Content_Encoding": "snappy"}, 415),
]


@pytest.mark.parametrize(("body", "options", "status"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_cannot_be_taken_is_refused_for_good(body: bytes, options: dict[str, Any], status: int) -> None:
    async def main() -> None:
        world = rig(max_bytes=800_000)
        async with world.reading(), sender() as session:
            assert await export(session, world.url, body, **options) == status
            assert await export(session, world.url, collection(T0, {"loss": 1.0}, run="a")) == 200
            await world.tick()
        assert sum(many for what, many in world.counts().items() if what.startswith("otlp_")) == 1

    run(main())


def test_a_token_is_asked_for_and_the_path_is_the_one_of_the_protocol() -> None:
    async def main() -> None:
        world = rig(token="secret")
        async with world.reading(), sender() as session:
            body = collection(T0, {"loss": 1.0}, run="a")
            assert await export(session, world.url, body) == 401
            assert await export(session, world.url, body, Authorization="Bearer secret") == 200
            assert await export(session, world.url + "/x", body) == 404

    run(main())


def test_series_beyond_the_bounds_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    many = resource(metric("loss", [point(T0, 1.0, **{f"l{i}": i for i in range(message.MAX_LABELS)})]), run="a")
    wide = resource(metric("loss", [point(T0, 1.0)]), **{f"l{i}": i for i in range(message.MAX_LABELS)})
    long = resource(metric("loss", [point(T0, 1.0, x="y" * message.MAX_LABEL_BYTES)]), run="a")
    request = parse(many + wide + long)
    assert (request.series, request.overlong) == ([], 3)
    monkeypatch.setattr(message, "MAX_SAMPLES", 2)
    with pytest.raises(TooManyError):
        parse(resource(metric("loss", [point(T0 + i, 1.0) for i in range(3)]), run="a"))


def section(**keys: Any) -> Params:
    return Params.model_validate({"listen": "127.0.0.1:0", "queries": ({"query": "loss"},)} | keys)


def test_a_step_attribute_of_the_configuration_is_the_step_of_its_run() -> None:
    async def main() -> None:
        (source,) = create(section(step_attribute="train.step", queries=({"query": "loss", "run_label": "job"},)))
        assert isinstance(source, RemoteWriteSource)
        now = round(time.time() * 1000)
        body = resource(metric("loss", [point(now, 1.0, **{"train.step": 7})]), service__name="a")
        async with contextlib.aclosing(source.batches({})) as batches, sender() as session:
            sent = None
            async for batch in batches:
                source.committed(batch)
                sent = sent or asyncio.create_task(export(session, source.url, body))
                if batch.frames:
                    assert [(f.run, f.columns, f.step.tolist()) for f in batch.frames] == [("otlp/a", ("loss",), [7])]
                    assert await sent == 200
                    return

    run(main())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"step_attribute": "a", "step_metric": "b"}, "keep one of them"),
        ({"listen": "0.0.0.0:4318"}, "must have a token"),
        ({"queries": ({"query": "a.b"},)}, "should match pattern"),
    ],
)
def test_what_the_configuration_may_not_say(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        section(**keys)


def damaged(body: bytes, at: int, byte: int) -> bytes:
    return body[: at % len(body)] + bytes([byte]) + body[at % len(body) + 1 :]


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 500), st.integers(0, 255), st.sampled_from([damaged, lambda body, at, _: body[: at % len(body)]]))
def test_damage_is_a_request_or_an_error_of_its_own(at: int, byte: int, harm: Callable[..., bytes]) -> None:
    body = collection(T0, {"loss": 1.0, "lr": 2.0, "step": 3}, run="a", rank=1)
    with contextlib.suppress(MalformedError, TooManyError):
        for series in parse(harm(body, at, byte), STEPPED).series:
            labels_of(series.labels)


@pytest.mark.parametrize(("name", "spelled"), [("megatron.training.loss", "megatron_training_loss"), ("1x/y", "_1x_y")])
def test_names_are_spelled_as_prometheus_does(name: str, spelled: str) -> None:
    assert plain(name) == spelled


def test_a_whole_number_of_64_bits_is_read() -> None:
    (series,) = parse(resource(metric("n", [point(T0, -(1 << 40))]), run="a")).series
    assert series.points == [(T0, float(-(1 << 40)))]
