"""The calls to Slack that the sink makes, over the official client, one short method each.

The client's own retries are off, because it would post again after a cut connection. Nothing is formatted or linked by
Slack: `parse` is none, names are not linked, addresses not unfurled. Bounds: LOOK_PAGES pages of LOOK_LIMIT messages
when looking; `timeout_s` for each call. Every method raises CallError.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sinks.slack_errors import ask

if TYPE_CHECKING:
    from slack_sdk.web.async_client import AsyncWebClient

LOOK_PAGES, LOOK_LIMIT = 5, 200
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What a message says: blocks, the fallback beside them, and the metadata by which it is found again."""

    fallback: str
    blocks: Sequence[Mapping[str, Any]]
    event: str
    payload: Mapping[str, str]

    def arguments(self) -> dict[str, Any]:
        """As the client takes them, for posting and for editing alike."""
        return {
            "text": self.fallback,
            "blocks": list(self.blocks),
            "metadata": {"event_type": self.event, "event_payload": dict(self.payload)},
            "parse": "none",
            "link_names": False,
        }


class SlackApi:
    """A bot token at one workspace; connections are opened by the first call and shared by all."""

    def __init__(self, token: str, base_url: str, timeout_s: float) -> None:
        from slack_sdk.web.async_client import AsyncWebClient  # noqa: PLC0415  (loaded on first use)

        quiet = logging.getLogger("sinks.slack.client")
        quiet.setLevel(logging.WARNING)  # at DEBUG the client writes whole requests and answers
        self._client: AsyncWebClient = AsyncWebClient(token, base_url=base_url, logger=quiet, retry_handlers=[])
        if urlsplit(base_url).hostname in LOOPBACK:
            self._client.proxy = None  # the client takes a proxy from the environment and knows no exceptions
        self._timeout_s = timeout_s

    async def identity(self) -> tuple[str, str, frozenset[str]]:
        """User and workspace of the token, and its scopes (none if Slack does not say)."""
        answer = await ask("auth.test", self._opened().auth_test())
        scopes = str(answer.headers.get("x-oauth-scopes", "")).split(",")
        return str(answer.get("user")), str(answer.get("team")), frozenset(s.strip() for s in scopes) - {""}

    async def post(self, channel: str, text: Text, thread: str | None = None) -> tuple[str, str]:
        """Post a message, or a reply to `thread`; channel id and ts."""
        call = self._opened().chat_postMessage(
            channel=channel,
            thread_ts=thread,
            mrkdwn=False,
            unfurl_links=False,
            unfurl_media=False,
            **text.arguments(),
        )
        answer = await ask("chat.postMessage", call)
        return str(answer["channel"]), str(answer["ts"])

    async def edit(self, channel: str, ts: str, text: Text) -> None:
        """Replace what a message says."""
        await ask("chat.update", self._opened().chat_update(channel=channel, ts=ts, **text.arguments()))

    async def upload(self, png: bytes, name: str, alt: str) -> str:
        """Keep a picture as a file of the app's own, to be shown by a block and nowhere else; its file id."""
        call = self._opened().files_upload_v2(filename=name, content=png, title=name, alt_txt=alt)
        answer = await ask("files.upload", call)
        return str(answer["files"][0]["id"])

    async def messages(self, channel: str, thread: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Messages of the channel, newest first, or of a thread, with their metadata."""
        cursor = ""
        for _ in range(LOOK_PAGES):
            how: dict[str, Any] = {"channel": channel, "limit": LOOK_LIMIT, "include_all_metadata": True}
            if cursor:
                how["cursor"] = cursor
            if thread is None:
                answer = await ask("conversations.history", self._opened().conversations_history(**how))
            else:
                answer = await ask("conversations.replies", self._opened().conversations_replies(ts=thread, **how))
            for message in answer.get("messages") or []:
                yield message
            cursor = str((answer.get("response_metadata") or {}).get("next_cursor") or "")
            if not cursor:
                return

    async def close(self) -> None:
        """Close the connections."""
        if self._client.session is not None:
            await self._client.session.close()
            self._client.session = None

    def _opened(self) -> AsyncWebClient:
        """The client with one session for all calls, made where a loop runs: alone it connects anew for each call."""
        if self._client.session is None:
            import aiohttp  # noqa: PLC0415  (loaded on first use)

            self._client.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        return self._client
