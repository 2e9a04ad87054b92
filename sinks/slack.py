"""Pages in Slack: one message per incident edited in place with its chart, notes in its thread.

Slack has no idempotency key, so every message carries its thread id (a note its note id) as metadata, and where a
delivery was begun but its result is not known (`Receipt.intent`) the sink looks for it before it posts. Order: text,
notes, then the picture, which may fail without harm. A picture is a file that is shown by the message alone, so one
that was uploaded in vain is seen by nobody; it is replaced when it shows something new (`Page.chart_of`). Bounds:
`timeout_s` for text and notes together, again for the picture; REPLIES notes per delivery, the older ones being counted
in the thread and left to `runwarden incidents show`; WAITS tries until Slack is ready to show a picture.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from monitor.errors import PermanentError, TransientError
from monitor.fields import ChannelId, Secret, Url
from monitor.page import Page, Receipt
from monitor.section import Section
from sinks.message import ID, compose, note_text
from sinks.render import fallback, slack, slack_note
from sinks.slack_api import SlackApi, Text
from sinks.slack_errors import CallError
from sinks.untrusted import clean

PUBLIC = "https://slack.com/api/"
REPLIES = 20
WAITS = 6
PAGE_EVENT, NOTE_EVENT = "runwarden_page", "runwarden_note"
_SCOPES = ({"chat:write"}, {"files:write"}, {"channels:history", "groups:history"})  # of each set one is needed
_GONE = frozenset({"message_not_found", "cant_update_message"})  # deleted, or found but not ours: say it anew
_NOT_READY = "uploaded, not yet in the message"
_CLOSED = frozenset({"edit_window_closed"})  # the workspace forbids edits: the thread has to do


class Params(Section):
    """Pages as messages in one channel, edited as the incident goes on."""

    channel: ChannelId = Field(description="Id of the channel, such as C0123456789.")
    token: Secret = Field(description="Bot token (xoxb-…) with the scopes chat:write, files:write, channels:history.")
    base_url: Url = Field(default=PUBLIC, description="Where the Slack API is.")
    timeout_s: float = Field(
        default=30.0, gt=0, le=300, description="Seconds one delivery may take before it is tried again."
    )


def create(params: Params) -> SlackSink:
    """Make the sink; nothing is sent before the first page."""
    token = params.token.get_secret_value()
    return SlackSink(token, params.channel, base_url=params.base_url, timeout_s=params.timeout_s)


@dataclass(slots=True)
class _Progress:
    """What is known to be at Slack so far. data: channel, ts, shown, chart, …; notes: ids said.

    file: the newest picture; chart_of: what it shows; drawn: the one that the message shows; waits: for the newest.

    unsure: something may be there that data and notes do not know of, so look before posting.
    """

    data: dict[str, str]
    notes: list[str]
    unsure: bool

    def receipt(self, sink: str) -> Receipt:
        return Receipt(sink=sink, data=dict(self.data), notes=tuple(self.notes), intent=self.unsure)


class SlackSink:
    """Posts to one channel with a bot token. Needs chat:write, files:write and channels:history (or groups:history)."""

    name = "slack"

    def __init__(self, token: str, channel: str, *, base_url: str = PUBLIC, timeout_s: float = 20.0) -> None:
        self._api = SlackApi(token, base_url, timeout_s)
        self._channel = channel
        self._timeout_s = timeout_s

    async def deliver(self, page: Page, prior: Receipt | None) -> Receipt:
        """Make the message and its thread say what `page` says.

        `prior` is the receipt as it stood before this try was recorded. Raises TransientError, carrying the receipt so
        far, and PermanentError; a permanent failure after something was done is transient once, so that it is not lost.
        """
        done = _Progress({}, [], unsure=False)
        if prior is not None:
            done = _Progress(dict(prior.data), list(prior.notes), unsure=prior.intent)
        before = done.receipt(self.name)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._show(page, done)
                await self._reply(page, done)
        except TimeoutError:
            error = CallError("delivery", "no answer in time", transient=True, unknown=True)
            raise self._failed(error, before, done) from None
        except CallError as error:
            raise self._failed(error, before, done) from None
        if page.chart_png is not None and done.data.get("chart_of") != page.chart_of:
            await self._draw(page, page.chart_png, done)
        if done.data.get("chart") == _NOT_READY and int(done.data.get("waits", "0")) < WAITS:
            done.data["waits"] = str(int(done.data.get("waits", "0")) + 1)
            raise TransientError("slack: the picture is not ready to be shown", receipt=done.receipt(self.name))
        return done.receipt(self.name)

    async def check(self) -> list[str]:
        """Say who the token is and what it may not do. Raises TransientError or PermanentError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                user, team, granted = await self._api.identity()
        except TimeoutError:
            raise TransientError("slack: auth.test: no answer in time") from None
        except CallError as error:
            kind = TransientError if error.transient else PermanentError
            raise kind(str(error)) from None
        missing = [" or ".join(sorted(any_of)) for any_of in _SCOPES if granted and not any_of & granted]
        return [
            f"bot {clean(user, 80)} in workspace {clean(team, 80)}, posts to channel {self._channel}",
            *(f"missing scope: {scope}" for scope in missing),
        ]

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    def _failed(self, error: CallError, before: Receipt, done: _Progress) -> TransientError | PermanentError:
        if not error.transient and done.receipt(self.name) == before:
            return PermanentError(str(error))
        done.unsure |= error.unknown
        return TransientError(str(error), error.retry_after_s, done.receipt(self.name))

    # --- the message

    async def _show(self, page: Page, done: _Progress) -> None:
        """Edit the message; post it where there is none."""
        if "ts" not in done.data and done.unsure:
            await self._adopt(page, done)
        if "ts" in done.data and await self._edit(page, done):
            return
        text = _say(page)
        channel, ts = await self._api.post(self._channel, text)
        done.data |= {"channel": channel, "ts": ts, "shown": _digest(text)}
        done.unsure = False

    async def _edit(self, page: Page, done: _Progress) -> bool:
        """Make the message say what the page says; False if there is no message to edit any more."""
        newest = done.data.get("file", "")
        for file in dict.fromkeys((newest, done.data.get("drawn", ""), "")):
            text = _say(page, file)
            if done.data.get("shown") == _digest(text):
                break
            try:
                await self._api.edit(done.data["channel"], done.data["ts"], text)
            except CallError as error:
                if file and error.code == "invalid_blocks":  # Slack still works on the file: the text goes first
                    done.data["chart"] = _NOT_READY
                    continue
                if error.code in _CLOSED:
                    done.data["edit"] = f"refused: {error.code}"
                    return True
                if error.code in _GONE:
                    return False
                raise
            done.data["shown"] = _digest(text)
            if file:
                done.data["drawn"] = file
            if file and file == newest:
                done.data["chart"] = "shown"
            break
        return True

    async def _adopt(self, page: Page, done: _Progress) -> None:
        """Find the message that an earlier try may have posted."""
        async for message in self._look(done, self._channel):
            if _payload(message, PAGE_EVENT).get("thread") == page.thread:
                done.data |= {"channel": self._channel, "ts": str(message["ts"])}
                return

    # --- the thread

    async def _reply(self, page: Page, done: _Progress) -> None:
        """Say the notes that the thread does not have yet, oldest first."""
        channel, ts = done.data["channel"], done.data["ts"]
        if done.unsure:
            there = {_payload(message, NOTE_EVENT).get("note") async for message in self._look(done, channel, ts)}
            done.notes += [note.id for note in page.notes if note.id in there and note.id not in done.notes]
            done.unsure = False
        fresh = [note for note in page.notes if note.id not in done.notes]
        skipped, fresh = [note.id for note in fresh[:-REPLIES]], fresh[-REPLIES:]
        for note in fresh:
            said = note_text(note.text)
            if skipped:
                show = f"runwarden incidents show {clean(page.incident, ID)}"
                said = f"({len(skipped)} earlier updates are left out here: {show}) {said}"
            text = Text(fallback=fallback(said), blocks=slack_note(said), event=NOTE_EVENT, payload={"note": note.id})
            await self._api.post(channel, text, thread=ts)
            done.notes += [*skipped, note.id]
            skipped = []

    async def _draw(self, page: Page, png: bytes, done: _Progress) -> None:
        """Upload the chart and let the message show it, not an older one; a failure is remembered, not raised."""
        name = f"runwarden-{hashlib.sha256(page.thread.encode()).hexdigest()[:12]}.png"
        try:
            async with asyncio.timeout(self._timeout_s):
                file = await self._api.upload(png, name, _alt(page))
                done.data |= {"file": file, "chart_of": page.chart_of, "chart": "uploaded", "waits": "0"}
                await self._edit(page, done)
        except TimeoutError:
            done.data["chart"] = "failed: no answer in time"
        except CallError as error:
            done.data["chart"] = f"failed: {error}"

    async def _look(self, done: _Progress, channel: str, thread: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """What is there; nothing if Slack does not let us look: to say it twice is better than not at all."""
        try:
            async for message in self._api.messages(channel, thread):
                yield message
        except CallError as error:
            if error.transient:
                raise
            done.data["look"] = f"refused: {error.code}"


def _say(page: Page, file: str = "") -> Text:
    message = compose(page)
    blocks = slack(message, {"id": file, "alt": _alt(page)} if file else None)
    payload = {"thread": page.thread, "incident": page.incident}
    return Text(fallback=fallback(message.summary), blocks=blocks, event=PAGE_EVENT, payload=payload)


def _alt(page: Page) -> str:
    return clean(page.chart_alt or f"Metrics of {page.run} around the event", 500)


def _payload(message: dict[str, Any], event: str) -> dict[str, Any]:
    """The payload of our metadata on a message; empty if it carries none of this kind."""
    metadata = message.get("metadata") or {}
    payload = metadata.get("event_payload") if metadata.get("event_type") == event else None
    return payload if isinstance(payload, dict) else {}


def _digest(text: Text) -> str:
    return hashlib.sha256(json.dumps([text.fallback, text.blocks]).encode()).hexdigest()[:16]
