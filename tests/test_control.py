"""The control socket over a real ledger: its verbs, what it refuses, and who may speak."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientSession, UnixConnector
from build import batch, falling, frame
from test_ledger import opened

from monitor import control
from monitor.control import MAX_BODY_BYTES, ControlError, ask
from monitor.errors import PermanentError
from monitor.incident import Life
from monitor.page import Page, Receipt
from monitor.reader import Reader
from monitor.state import State
from monitor.verbs import VERDICTS, verbs


@dataclass
class FakeSink:
    name: str = "fake"
    fails: bool = False
    said: list[Page] = field(default_factory=list)

    async def deliver(self, page: Page, prior: Receipt | None) -> Receipt:
        if self.fails:
            raise PermanentError("invalid_auth")
        self.said.append(page)
        return Receipt(sink=self.name)

    async def check(self) -> list[str]:
        if self.fails:
            raise PermanentError(f"{self.name}: invalid_auth")
        return ["fake channel", "missing scope: files:write"]

    async def close(self) -> None:
        pass


@dataclass
class World:
    socket: Path
    state: State
    ids: list[str]
    sinks: list[FakeSink]
    woken: list[int]

    async def ask(self, verb: str, incident: str, **values: str) -> str:
        return await ask(self.socket, verb, incident, **values)

    async def post(self, path: str, **request: object) -> tuple[int, str]:
        async with (
            ClientSession(connector=UnixConnector(path=str(self.socket))) as session,
            session.post(f"http://runwarden/{path}", **request) as response,  # type: ignore[arg-type]
        ):
            return response.status, await response.text()

    def life(self, incident: str) -> Life:
        found = self.state.reader.incident(incident)
        assert found is not None
        return found.state


def play(folder: Path, body: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        ledger = opened(folder)
        ids = []
        for run in ("one", "two"):
            loss = falling(300)
            loss[290:] = np.nan
            ids += [t.incident.id for t in ledger.process(batch(frame({"loss": loss}, run=run))).transitions]
        state = State(ledger, Reader(folder / "state.db"))
        world = World(folder / "c.sock", state, ids, [FakeSink()], [])

        async def changed() -> None:
            world.woken.append(1)

        runner = await control.serve(world.socket, None, verbs(state, world.sinks, changed))
        try:
            async with asyncio.timeout(20):
                await body(world)
        finally:
            await runner.cleanup()
            state.close()

    here = Path.cwd()
    os.chdir(folder)  # a socket path must be short
    try:
        asyncio.run(whole())
    finally:
        os.chdir(here)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("c")


def test_acknowledge_and_resolve_reach_the_state_and_wake_the_outbox(folder):
    async def body(w: World) -> None:
        one, two = w.ids
        assert await w.ask("ack", one) == f"{one} acknowledged"
        assert (w.life(one), w.life(two)) == (Life.ACKNOWLEDGED, Life.OPEN)
        assert await w.ask("resolve", one) == f"{one} resolved"
        assert w.life(one) is Life.RESOLVED
        assert len(w.woken) == 2

    play(folder, body)


def test_the_beginning_of_an_id_is_enough_if_it_is_the_only_one(folder):
    async def body(w: World) -> None:
        one, two = w.ids
        assert one[:4] != two[:4]
        assert one in await w.ask("ack", one[:4])

    play(folder, body)


def test_what_does_not_apply_is_refused_with_the_reason(folder):
    async def body(w: World) -> None:
        one = w.ids[0]
        await w.ask("ack", one)
        for verb, incident, values, why in (
            ("ack", one, {}, "not open, or acknowledged"),
            ("ack", "zzzz", {}, "no incident 'zzzz'"),
            ("resolve", "zzzz", {}, "no incident 'zzzz'"),
            ("verdict", "zzzz", {"verdict": "real"}, "no incident 'zzzz'"),
            ("verdict", one, {"verdict": "maybe"}, "unknown verdict 'maybe'; allowed: real"),
            ("verdict", one, {}, "unknown verdict ''"),
            ("explode", one, {}, "unknown verb; known: ack, resolve, test-page, verdict"),
        ):
            with pytest.raises(ControlError, match=why):
                await w.ask(verb, incident, **values)

    play(folder, body)


@pytest.mark.parametrize("said", VERDICTS)
def test_a_verdict_is_kept_and_said_in_the_thread(folder, said):
    async def body(w: World) -> None:
        one = w.ids[0]
        assert await w.ask("verdict", one, verdict=said, author="ada", cause="bad disk") == f"{one}: {said}"
        rows = w.state.reader._db.execute("SELECT incident, author, verdict, cause FROM verdicts").fetchall()
        assert rows == [(one, "ada", said, "bad disk")]
        assert [n.text for n in w.state.reader.notes(one)] == [f"Verdict by ada: {said}, cause bad disk."]

    play(folder, body)


def test_a_test_page_says_how_each_sink_did(folder):
    async def body(w: World) -> None:
        w.sinks.append(FakeSink("broken", fails=True))
        said = (await w.ask("test-page", "all")).split("\n")
        assert said == [
            "fake: fake channel", "fake: MISSING scope: files:write", "fake: posted a test page",
            "fake: edited it to resolved and answered in its thread", "broken: FAILED: invalid_auth",
        ]  # fmt: skip
        assert [p.state for p in w.sinks[0].said] == ["open", "resolved"]

    play(folder, body)


def test_a_body_that_is_too_large_is_refused(folder):
    async def body(w: World) -> None:
        status, _ = await w.post("ack", data=b"x" * (MAX_BODY_BYTES + 1))
        assert status == 413
        assert w.life(w.ids[0]) is Life.OPEN

    play(folder, body)


@pytest.mark.parametrize(
    "data", [b"{", b"\xff\xfe", b"[]", b'"ack"', b'{"verdict": 3}', b'{"a": {"b": "c"}}', b"[" * 5000]
)
def test_a_body_that_is_no_object_of_strings_is_refused_with_a_reason(folder, data):
    async def body(w: World) -> None:
        status, text = await w.post("verdict", data=data)
        assert status == 400
        assert "error" in json.loads(text)

    play(folder, body)


@pytest.mark.parametrize("odd", ["a/b", "a?b", "a#b", "../x", "%00", "é", " ", "a" * 5000])
def test_an_odd_id_is_refused_as_unknown_not_taken_for_a_dead_daemon(folder, odd):
    async def body(w: World) -> None:
        with pytest.raises(ControlError, match="no incident"):
            await w.ask("ack", odd)
        assert w.life(w.ids[0]) is Life.OPEN

    play(folder, body)


def test_a_wildcard_is_no_id(folder):
    async def body(w: World) -> None:
        for wild in ("%", "_", "*"):
            with pytest.raises(ControlError):
                await w.ask("ack", wild)

    play(folder, body)


def test_only_owner_and_group_may_speak(folder):
    async def body(w: World) -> None:
        found = w.socket.stat().st_mode
        assert stat.S_ISSOCK(found)
        assert stat.S_IMODE(found) == 0o660

    play(folder, body)


def test_a_socket_that_a_killed_daemon_left_is_replaced(folder):
    async def leave() -> None:
        server = await asyncio.start_unix_server(lambda *_: None, folder / "old")
        server.close()
        await server.wait_closed()

    asyncio.run(leave())
    if (folder / "old").exists():
        (folder / "old").rename(folder / "c.sock")

    async def body(w: World) -> None:
        assert await w.ask("ack", w.ids[0])

    play(folder, body)


def test_a_file_that_is_no_socket_is_never_deleted_for_one(folder):
    (folder / "precious").write_text("data")

    async def body() -> None:
        runner = await control.serve(folder / "precious", None, {})
        await runner.cleanup()

    with pytest.raises(OSError, match=r".*"):
        asyncio.run(body())
    assert (folder / "precious").read_text() == "data"


def test_where_no_daemon_answers_the_error_says_what_to_do(tmp_path):
    with pytest.raises(ControlError, match="is `runwarden run` active"):
        asyncio.run(ask(tmp_path / "none", "ack", "x"))


def test_no_other_method_is_answered(folder):
    async def body(w: World) -> None:
        async with (
            ClientSession(connector=UnixConnector(path=str(w.socket))) as session,
            session.get("http://runwarden/ack") as response,
        ):
            assert response.status == 405

    play(folder, body)
