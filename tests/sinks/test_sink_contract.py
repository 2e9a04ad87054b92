"""What every sink in the registry promises: to say a page once, to go on from its receipt, to keep its secrets."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from doubles.slack import CHANNEL, TOKEN, SlackDouble
from pydantic import ValidationError
from sample_pages import NASTY, NOTICE, OPEN, RESOLVED, WORSE, hostile

from monitor.page import Receipt
from monitor.ports import Sink
from monitor.section import Section
from sinks import REGISTRY, create, params
from sinks.slack import SlackSink
from sinks.terminal import TerminalSink


@dataclass
class Place:
    """A destination to look at. open: a new sink onto it, as after a restart; said: everything that it shows."""

    open: Callable[[], Sink]
    said: Callable[[], str]
    sinks: list[Sink] = field(default_factory=list)

    def sink(self) -> Sink:
        self.sinks.append(self.open())
        return self.sinks[-1]


@asynccontextmanager
async def terminal_place() -> AsyncIterator[Place]:
    stream = io.StringIO()
    yield Place(lambda: TerminalSink(stream), lambda: " ".join(stream.getvalue().split()))


@asynccontextmanager
async def slack_place() -> AsyncIterator[Place]:
    async with SlackDouble() as double:
        place = Place(
            lambda: SlackSink(TOKEN, CHANNEL, base_url=double.base_url, timeout_s=5),
            lambda: json.dumps(double.channels, ensure_ascii=False),
        )
        yield place
        for sink in place.sinks:
            await sink.close()


PLACES: dict[str, Callable[[], AbstractAsyncContextManager[Place]]] = {
    "terminal": terminal_place,
    "slack": slack_place,
}


def at(name: str, story: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with PLACES[name]() as place:
            await story(place)

    asyncio.run(main())


def stored(receipt: Receipt) -> Receipt:
    """The receipt after a stay in the store."""
    kept = json.loads(json.dumps({"data": dict(receipt.data), "notes": receipt.notes}))
    return Receipt(sink=receipt.sink, data=kept["data"], notes=tuple(kept["notes"]))


def test_every_registered_sink_is_under_contract() -> None:
    assert set(PLACES) == set(REGISTRY)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_page_is_shown_and_its_receipt_names_the_sink(name: str) -> None:
    async def story(place: Place) -> None:
        receipt = await place.sink().deliver(OPEN, None)
        assert receipt.sink == name
        assert not receipt.intent
        assert "grad_norm left its band before the loss did" in place.said()
        assert "runwarden incidents ack 7c1f09aa" in place.said()

    at(name, story)


@pytest.mark.parametrize("name", REGISTRY)
def test_notes_are_said_once_over_updates_and_restarts(name: str) -> None:
    async def story(place: Place) -> None:
        first = await place.sink().deliver(OPEN, None)
        second = await place.sink().deliver(WORSE, stored(first))
        assert second.notes == ("n1",)
        third = await place.sink().deliver(RESOLVED, stored(second))
        assert third.notes == ("n1", "n2")
        for note in RESOLVED.notes:
            assert note.text in place.said()
        said = place.said()
        again = await place.sink().deliver(RESOLVED, stored(third))
        assert place.said() == said
        assert again.notes == third.notes

    at(name, story)


@pytest.mark.parametrize("name", REGISTRY)
def test_an_update_says_that_the_incident_is_resolved(name: str) -> None:
    async def story(place: Place) -> None:
        receipt = await place.sink().deliver(OPEN, None)
        assert "RESOLVED" not in place.said()
        await place.sink().deliver(RESOLVED, receipt)
        assert "RESOLVED" in place.said()
        assert "back in its band since step 4161" in place.said()

    at(name, story)


@pytest.mark.parametrize("name", REGISTRY)
def test_incidents_do_not_share_a_message(name: str) -> None:
    async def story(place: Place) -> None:
        sink = place.sink()
        first, second = await sink.deliver(OPEN, None), await sink.deliver(NOTICE, None)
        assert OPEN.headline.split(",")[0] in place.said()
        assert NOTICE.headline in place.said()
        await sink.deliver(RESOLVED, first)
        await sink.deliver(NOTICE, second)
        shown = 2 if name == "slack" else 1  # Slack has the header and its fallback
        assert place.said().count(NOTICE.headline) == shown

    at(name, story)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_nasty_text_is_delivered_without_its_controls(name: str) -> None:
    async def story(place: Place) -> None:
        sink = place.sink()
        for text in NASTY:
            await sink.deliver(hostile(text), None)
        for control in ("\x1b", "\x07", "\u202e", "\u200b", "\u2028", "\x00"):
            assert control not in place.said()
            assert json.dumps(control)[1:-1] not in place.said()

    at(name, story)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_check_says_where_pages_go_and_shows_nothing_there(name: str) -> None:
    async def story(place: Place) -> None:
        before = place.said()
        where, *missing = await place.sink().check()
        assert where
        assert TOKEN not in where
        assert not missing
        assert place.said() == before

    at(name, story)


@pytest.mark.parametrize("name", REGISTRY)
def test_an_acknowledgement_is_said_once(name: str) -> None:
    async def story(place: Place) -> None:
        receipt = await place.sink().deliver(OPEN, None)
        before = place.said().count("cknowledged")
        await place.sink().deliver(replace(OPEN, state="acknowledged"), stored(receipt))
        times = 2 if name == "slack" else 1  # Slack has the header and its fallback
        assert place.said().count("cknowledged") == before + times
        assert place.said().count("grad_norm left its band before the loss did") == 1

    at(name, story)


@pytest.mark.parametrize("name", REGISTRY)
def test_closing_twice_does_no_harm(name: str) -> None:
    async def story(place: Place) -> None:
        sink = place.sink()
        await sink.deliver(NOTICE, None)
        await sink.close()
        await sink.close()

    at(name, story)


def made(name: str, value: dict[str, Any]) -> Sink:
    """The sink of a section as the configuration reads it."""
    return create(name, params()[name].model_validate(value, context={"environ": {"TOKEN": TOKEN}}))


def test_sinks_are_made_by_name_from_checked_params() -> None:
    assert made("terminal", {}).name == "terminal"
    assert made("slack", {"channel": CHANNEL, "token": {"env": "TOKEN"}}).name == "slack"
    with pytest.raises(KeyError):
        create("pigeon", Section())
    with pytest.raises(ValidationError, match="extra"):
        made("terminal", {"colour": "red"})


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"channel": "#ops", "token": {"env": "TOKEN"}}, "channel"),
        ({"channel": CHANNEL}, "token"),
        ({"token": {"env": "TOKEN"}}, "channel"),
        ({"channel": CHANNEL, "token": {"env": "TOKEN"}, "base_url": "http://slack.example/api/"}, "https"),
        ({"channel": CHANNEL, "token": {"env": "TOKEN"}, "timeout_s": 0}, "timeout_s"),
        ({"channel": CHANNEL, "token": {"env": "TOKEN"}, "colour": "red"}, "colour"),
    ],
)
def test_slack_params_are_refused_without_repeating_the_token(value: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint) as refused:
        made("slack", value)
    assert TOKEN not in str(refused.value)
