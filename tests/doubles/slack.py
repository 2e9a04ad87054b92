"""A Slack that lives on loopback: it keeps channels, threads and files, refuses what Slack does, and fails on demand.

Used by tests and benchmarks; no test framework in it. Run alone (`python tests/doubles/slack.py --port 0`) it prints
its address as one JSON line and serves until it is ended.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block

TOKEN = "xoxb-double"
CHANNEL = "C0DOUBLE00"
SCOPES = "chat:write,files:write,channels:history"
MAX_BLOCKS, MAX_BLOCK_CHARS, MAX_TEXT, HISTORY_MAX = 50, 13_200, 40_000, 999
_RICH = {"rich_text_section", "rich_text_list", "rich_text_preformatted", "rich_text_quote"}
_INLINE = {"text", "link", "emoji", "user", "usergroup", "channel", "broadcast", "date", "color", "team"}


@dataclass(slots=True, kw_only=True)
class Fault:
    """What happens to the next `times` calls of a method instead of, or after, a proper answer.

    after: so many calls go well before. status: answer with it (429 with `retry_after`). error: answer ok=false with
    it. body: answer 200 with this text. delay_s: wait first; inf waits until the server stops. cut: do the work, then
    drop the connection unanswered.
    """

    times: int = 1
    after: int = 0
    status: int = 0
    retry_after: str | None = None
    error: str = ""
    body: str | None = None
    delay_s: float = 0.0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came in; t: monotonic seconds."""

    method: str
    t: float
    arguments: dict[str, Any]


class Refusal(Exception):  # noqa: N818  (what Slack says, not what went wrong here)
    """ok=false with this error."""


@dataclass(slots=True)
class SlackDouble:
    """The state of a workspace, and an aiohttp app over it."""

    token: str = TOKEN
    scopes: str = SCOPES
    channels: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {CHANNEL: []})
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    base_url: str = ""
    _runner: web.AppRunner | None = None
    _stop: asyncio.Event | None = None
    _count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # --- life

    async def start(self, port: int = 0) -> str:
        """Serve on 127.0.0.1; the API's base address."""
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_route("*", "/api/{method}", self._api)
        app.router.add_post("/upload/{id}", self._upload)
        self._stop = asyncio.Event()
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        host, bound = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{bound}/api/"
        return self.base_url

    async def stop(self) -> None:
        if self._stop is not None:
            self._stop.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # --- what a test asks and sets

    def fail(self, method: str, **fault: Any) -> None:
        """Queue a fault for a method ("upload" for the raw upload)."""
        self.faults.setdefault(method, []).append(Fault(**fault))

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(call.method == method for call in self.calls)

    def messages(self, channel: str = CHANNEL) -> list[dict[str, Any]]:
        """Top-level messages, oldest first."""
        return [m for m in self.channels[channel] if m.get("thread_ts", m["ts"]) == m["ts"]]

    def replies(self, ts: str, channel: str = CHANNEL) -> list[dict[str, Any]]:
        """Replies of a thread, oldest first, without its first message."""
        return [m for m in self.channels[channel] if m.get("thread_ts") == ts and m["ts"] != ts]

    # --- the server

    async def _api(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        arguments = await _arguments(request)
        self.calls.append(Call(method, time.monotonic(), arguments))
        headers = {"x-oauth-scopes": self.scopes}
        fault = self._next_fault(method)
        early = await self._disturb(fault)
        if early is not None:
            return early
        try:
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refusal("invalid_auth")  # noqa: TRY301
            answer = {"ok": True, **self._answer(method, arguments)}
        except Refusal as refusal:
            answer = {"ok": False, "error": str(refusal)}
        if fault is not None and fault.cut:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(answer, headers=headers)

    def _next_fault(self, method: str) -> Fault | None:
        queue = self.faults.get(method)
        if not queue:
            return None
        if queue[0].after > 0:
            queue[0].after -= 1
            return None
        queue[0].times -= 1
        return queue[0] if queue[0].times > 0 else queue.pop(0)

    async def _disturb(self, fault: Fault | None) -> web.Response | None:
        if fault is None:
            return None
        if fault.delay_s:
            assert self._stop is not None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), fault.delay_s if fault.delay_s < 1e6 else None)
        if fault.status:
            headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
            error = "ratelimited" if fault.status == 429 else "internal_error"
            return web.json_response({"ok": False, "error": error}, status=fault.status, headers=headers)
        if fault.error:
            return web.json_response({"ok": False, "error": fault.error})
        if fault.body is not None:
            return web.Response(text=fault.body, content_type="text/html")
        return None

    def _answer(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        answers = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "conversations.history": self._history,
            "conversations.replies": self._replies,
            "files.getUploadURLExternal": self._upload_url,
            "files.completeUploadExternal": self._complete,
        }
        if method not in answers:
            raise Refusal("unknown_method")
        return answers[method](arguments)

    def _auth_test(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "url": self.base_url,
            "team": "Double",
            "user": "runwarden",
            "team_id": "T0",
            "user_id": "U0",
            "bot_id": "B0",
        }

    def _channel(self, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        channel = self.channels.get(str(arguments.get("channel")))
        if channel is None:
            raise Refusal("channel_not_found")
        return channel

    def _content(self, arguments: dict[str, Any]) -> dict[str, Any]:
        text, blocks = arguments.get("text") or "", arguments.get("blocks") or []
        if not text and not blocks:
            raise Refusal("no_text")
        if len(text) > MAX_TEXT:
            raise Refusal("msg_too_long")
        self._check_blocks(blocks)
        metadata = arguments.get("metadata")
        if metadata is not None and not (
            metadata.get("event_type") and isinstance(metadata.get("event_payload"), dict)
        ):
            raise Refusal("invalid_metadata_format")
        return {"text": text, "blocks": blocks, **({"metadata": metadata} if metadata else {})}

    def _check_blocks(self, blocks: list[dict[str, Any]]) -> None:
        if len(blocks) > MAX_BLOCKS:
            raise Refusal("invalid_blocks")
        if len(json.dumps(blocks, ensure_ascii=False, separators=(",", ":"))) > MAX_BLOCK_CHARS:
            raise Refusal("msg_blocks_too_long")
        try:
            parsed = [block and block.to_dict() for block in Block.parse_all(blocks)]
        except (SlackObjectFormationError, TypeError):  # TypeError: the models miss a field
            raise Refusal("invalid_blocks") from None
        if not all(parsed):
            raise Refusal("invalid_blocks")
        for block in blocks:
            self._check_structure(block)

    def _check_structure(self, block: dict[str, Any]) -> None:
        """What the client's own models let pass."""
        if block["type"] == "header" and (block["text"]["type"] != "plain_text" or not block["text"]["text"]):
            raise Refusal("invalid_blocks")
        if block["type"] == "image" and "slack_file" in block:
            file = self.files.get(block["slack_file"].get("id"))
            if file is None or not file["complete"] or not block.get("alt_text"):
                raise Refusal("invalid_blocks")
        if block["type"] == "rich_text":
            for element in _walk(block["elements"], _RICH):
                for inline in element["elements"]:
                    if inline.get("type") in _RICH:
                        continue
                    if inline.get("type") not in _INLINE or (inline["type"] == "text" and not inline.get("text")):
                        raise Refusal("invalid_blocks")
                    if inline["type"] == "link" and not str(inline.get("url", "")).startswith(("http://", "https://")):
                        raise Refusal("invalid_blocks")

    def _post(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel(arguments)
        message = {"type": "message", "user": "U0", "bot_id": "B0", "ts": self._ts(), **self._content(arguments)}
        thread = arguments.get("thread_ts")
        if thread is not None:
            if not any(m["ts"] == thread for m in channel):
                raise Refusal("thread_not_found")
            message["thread_ts"] = thread
        channel.append(message)
        return {"channel": arguments["channel"], "ts": message["ts"], "message": message}

    def _update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        for message in self._channel(arguments):
            if message["ts"] == arguments.get("ts"):
                if message.get("bot_id") != "B0":
                    raise Refusal("cant_update_message")
                message.update(self._content(arguments))
                return {"channel": arguments["channel"], "ts": message["ts"], "text": message["text"]}
        raise Refusal("message_not_found")

    def _history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._channel(arguments)
        return _page(self.messages(str(arguments["channel"]))[::-1], arguments)

    def _replies(self, arguments: dict[str, Any]) -> dict[str, Any]:
        ts = arguments.get("ts")
        parent = [m for m in self._channel(arguments) if m["ts"] == ts]
        if not parent:
            raise Refusal("thread_not_found")
        return _page([*parent, *self.replies(str(ts), str(arguments["channel"]))], arguments)

    def _upload_url(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if not arguments.get("filename") or int(arguments.get("length") or 0) <= 0:
            raise Refusal("invalid_arguments")
        file = f"F{next(self._count):09d}"
        alt, length = arguments.get("alt_txt", ""), int(arguments["length"])
        self.files[file] = {
            "id": file,
            "name": arguments["filename"],
            "alt_txt": alt,
            "length": length,
            "complete": False,
        }
        return {"upload_url": self.base_url.replace("/api/", f"/upload/{file}"), "file_id": file}

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(Call("upload", time.monotonic(), {"id": request.match_info["id"]}))
        early = await self._disturb(self._next_fault("upload"))
        if early is not None:
            return early
        file = self.files[request.match_info["id"]]
        file["content"] = await request.read()
        if len(file["content"]) != file["length"]:
            return web.Response(status=400, text="length differs")
        return web.Response(text=f"OK - {file['length']}")

    def _complete(self, arguments: dict[str, Any]) -> dict[str, Any]:
        named = json.loads(arguments["files"])
        done = [self.files[f["id"]] for f in named]
        if not all("content" in file for file in done):
            raise Refusal("file_not_found")
        for file, given in zip(done, named, strict=True):
            file |= {"complete": True, "title": given.get("title", "")}
        shown = [{"id": f["id"], "name": f["name"], "title": f["title"]} for f in done]
        if arguments.get("channel_id"):
            channel = self._channel({"channel": arguments["channel_id"]})
            message = {"type": "message", "user": "U0", "bot_id": "B0", "ts": self._ts(), "text": "", "files": shown}
            if arguments.get("thread_ts"):
                message["thread_ts"] = arguments["thread_ts"]
            channel.append(message)
        return {"files": shown}

    def _ts(self) -> str:
        return f"1750000000.{next(self._count):06d}"


def _walk(elements: list[dict[str, Any]], kinds: set[str]) -> Iterator[dict[str, Any]]:
    for element in elements:
        if element.get("type") not in kinds or not element.get("elements"):
            raise Refusal("invalid_blocks")
        yield element
        if element["type"] == "rich_text_list":
            yield from _walk(element["elements"], {"rich_text_section"})


def _page(messages: list[dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
    """A page of messages from a cursor; metadata only where it was asked for, as Slack does."""
    begin, limit = int(arguments.get("cursor") or 0), min(int(arguments.get("limit") or 100), HISTORY_MAX)
    wanted = str(arguments.get("include_all_metadata", "")).lower() in {"1", "true"}
    shown = [m if wanted else {k: v for k, v in m.items() if k != "metadata"} for m in messages[begin : begin + limit]]
    more = begin + limit < len(messages)
    after = {"response_metadata": {"next_cursor": str(begin + limit)}} if more else {}
    return {"messages": shown, "has_more": more, **after}


async def _arguments(request: web.Request) -> dict[str, Any]:
    if request.content_type == "application/json":
        return dict(await request.json())
    form = await request.post() if request.method == "POST" else {}
    return {**request.query, **{key: str(value) for key, value in form.items()}}


async def _serve(port: int) -> None:
    double = SlackDouble()
    await double.start(port)
    print(json.dumps({"base_url": double.base_url, "token": double.token, "channel": CHANNEL}), flush=True)  # noqa: T201
    try:
        await asyncio.Event().wait()
    finally:
        await double.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args().port))
