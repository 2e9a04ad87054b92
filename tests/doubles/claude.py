"""A stand-in for the Messages API on loopback: strict about what it is asked, scripted in what it answers.

Requests are validated by the request types of the installed SDK, made strict, and by the rules that types cannot say.
Answers are validated as the SDK's own `Message`. The exact bytes received are kept. Run by path it prints its address
as one line of JSON and answers until it is stopped: `python tests/doubles/claude.py [--script refusal,good]`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections.abc
import inspect
import json
import signal
import types
import typing
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pydantic
import typing_extensions
from aiohttp import web
from anthropic.types import Message
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

NO_FORCED_TOOLS = frozenset({"claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1"})
KNOWN_MODELS = NO_FORCED_TOOLS | {"claude-haiku-5-5", "claude-opus-5", "claude-opus-4-8", "claude-opus-4-7"}
VERSION = "2026-10-21"
_CACHED = {"cache_creation_input_tokens": 2000, "cache_read_input_tokens": 4000}
USAGE = {"input_tokens": 1000, "output_tokens": 500, **_CACHED}
MAX_CACHE_BREAKPOINTS = 4
# What the schema compiler does not take; it belongs into descriptions.
OUTSIDE_SUBSET = frozenset({"minimum", "maximum", "exclusiveMinimum", "maxLength", "minLength", "pattern", "oneOf"})

GOOD: dict[str, Any] = {
    "causes": [
        {
            "cause": "bad_batch",
            "summary": "The loss jumped within one row and the grad norm with it; the learning rate did not change.",
            "claims": [
                {"text": "the loss rose", "cites": ["E1"], "check": "ratio_at_least", "metric": "loss", "value": 1.1}
            ],
        },
        {"cause": "data_corruption", "summary": "The same first rows; the loss would stay up.", "claims": []},
    ],
    "ruled_out": [],
    "predictions": [{"metric": "loss", "relation": "back_in_band", "within_rows": 60, "probability": 0.8}],
    "experiment": {
        "what": "Replay without the batch.",
        "control": "Replay with it.",
        "gpu_hours": None,
        "success": "The jump is in the control only.",
    },
    "urgency": "Low.",
}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What to answer. drop: close the connection instead; delay_s: wait first; drip_s: seconds between two bytes."""

    status: int = 200
    text: str = field(default_factory=lambda: json.dumps(GOOD))
    stop_reason: str = "end_turn"
    category: str | None = None
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    delay_s: float = 0.0
    drip_s: float = 0.0
    drop: bool = False


SCRIPTS: dict[str, Reply] = {
    "good": Reply(),
    "refusal": Reply(text="", stop_reason="refusal", category="frontier_llm"),
    "cut": Reply(text=json.dumps(GOOD)[:200], stop_reason="max_tokens"),
    "not-json": Reply(text="I think that it was a bad batch."),
    "off-schema": Reply(text=json.dumps(GOOD | {"causes": [{"cause": "gremlins", "summary": "", "claims": []}]})),
    "too-long": Reply(text=json.dumps(GOOD | {"causes": [{**GOOD["causes"][0], "summary": "x" * 401}]})),
    "rate-limited": Reply(status=429, error="rate_limit_error", headers={"retry-after": "7"}),
    "rate-limited-for-ages": Reply(status=429, error="rate_limit_error", headers={"retry-after": "999999"}),
    "overloaded": Reply(status=529, error="overloaded_error"),
    "broken": Reply(status=500, error="api_error"),
    "unauthorized": Reply(status=401, error="authentication_error"),
    "html": Reply(raw=b"<html>gateway</html>"),
    "slow": Reply(delay_s=30.0),
    "drip": Reply(drip_s=0.02),
    "dropped": Reply(drop=True),
}


class FakeClaude:
    """The server. `script`: answers in order; when they are used up, `good`.

    received: exact bytes of every request body. problems: why a request was refused, one entry per refused request.
    """

    def __init__(self, script: Sequence[Reply | str] = ()) -> None:
        self.script = deque(SCRIPTS[r] if isinstance(r, str) else r for r in script)
        self.received: list[bytes] = []
        self.problems: list[str] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/messages", self._messages)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.received.append(raw)
        if problem := wrong(request, raw):
            status, kind, text = problem
            self.problems.append(text)
            return _error(status, kind, text, {})
        reply = self.script.popleft() if self.script else SCRIPTS["good"]
        await asyncio.sleep(reply.delay_s)
        if reply.drop:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if reply.raw is not None:
            return web.Response(body=reply.raw, content_type="text/html")
        if reply.error:
            return _error(reply.status, reply.error, "as scripted", reply.headers)
        body = json.dumps(answer(json.loads(raw)["model"], reply)).encode()
        if not reply.drip_s:
            return web.Response(body=body, content_type="application/json")
        stream = web.StreamResponse(headers={"content-type": "application/json", "content-length": str(len(body))})
        await stream.prepare(request)
        for byte in body:
            await stream.write(bytes([byte]))
            await asyncio.sleep(reply.drip_s)
        return stream


def answer(model: str, reply: Reply) -> dict[str, Any]:
    """A message as the API sends it; checked against the SDK's own type."""
    content: list[dict[str, Any]] = [{"type": "thinking", "thinking": "", "signature": "c2ln"}]
    if reply.text:
        content.append({"type": "text", "text": reply.text})
    details = {"type": "refusal", "category": reply.category, "explanation": None}
    message = {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "stop_details": details if reply.stop_reason == "refusal" else None,
        "usage": USAGE,
    }
    Message.model_validate(message)
    return message


def wrong(request: web.Request, raw: bytes) -> tuple[int, str, str] | None:
    """Status, error type and text for a request that the API would not take; None for a right one."""
    if not request.headers.get("Authorization", "").startswith("Bearer ") and "x-api-key" not in request.headers:
        return 401, "authentication_error", "no key"
    if request.headers.get("anthropic-version") != VERSION:
        return 400, "invalid_request_error", f"anthropic-version is not {VERSION}"
    try:
        body = json.loads(raw)
        REQUEST.validate_python(body)
    except (ValueError, pydantic.ValidationError) as error:
        return 400, "invalid_request_error", str(error)
    if body["model"] not in KNOWN_MODELS:
        return 404, "not_found_error", f"model: {body['model']}"
    if (problem := _beyond_types(body)) is not None:
        return 400, "invalid_request_error", problem
    return None


def _beyond_types(body: dict[str, Any]) -> str | None:
    if body.get("tool_choice", {}).get("type") in {"any", "tool"} and body["model"] in NO_FORCED_TOOLS:
        return "tool_choice: forced tool use is not supported by this model"
    if body["max_tokens"] > 128_000:
        return "max_tokens: above the limit of the model"
    if _count(body, "cache_control") > MAX_CACHE_BREAKPOINTS:
        return f"cache_control: more than {MAX_CACHE_BREAKPOINTS} breakpoints"
    if body["messages"][-1]["role"] != "user":
        return "messages: prefill is not supported by this model"
    form = (body.get("output_config") or {}).get("format")
    return _outside_subset(form["schema"], "schema") if form else None


def _count(value: object, key: str) -> int:
    if isinstance(value, dict):
        return sum((k == key and v is not None) + _count(v, key) for k, v in value.items())
    return sum(_count(v, key) for v in value) if isinstance(value, list) else 0


def _outside_subset(schema: object, where: str) -> str | None:
    if isinstance(schema, list):
        found = (_outside_subset(s, f"{where}[{i}]") for i, s in enumerate(schema))
        return next((f for f in found if f), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return f"{where}: additionalProperties must be false"
    if extra := OUTSIDE_SUBSET.intersection(schema):
        return f"{where}: {min(extra)} is not supported"
    for key, value in schema.items():
        parts = value.items() if key in {"properties", "$defs"} and isinstance(value, dict) else [(key, value)]
        for name, part in parts:
            if (problem := _outside_subset(part, f"{where}.{name}")) is not None:
                return problem
    return None


def _error(status: int, kind: str, text: str, headers: dict[str, str]) -> web.Response:
    body = {"type": "error", "error": {"type": kind, "message": text}}
    return web.json_response(body, status=status, headers={**headers, "request-id": "req_01"})


_WRAPPERS = {getattr(m, n) for m in (typing, typing_extensions) for n in ("Annotated", "Required", "NotRequired")}
_PLAIN = (str, int, float, bool, type(None), object)
_strict_types: dict[Any, Any] = {}


def strict(kind: Any) -> Any:  # noqa: PLR0911 - one case per form of type
    """A request type of the SDK without its leniencies, None if nothing of it is ever on the wire.

    pydantic validates Iterable lazily and the unions contain response models that allow extra keys; so lists are
    lists, typed dictionaries forbid what they do not name, and response models and file handles are left out.
    """
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return None
    if typing_extensions.is_typeddict(kind):
        return _strict_dict(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in _WRAPPERS:
        return strict(arguments[0])
    if origin in (typing.Union, types.UnionType):
        members = tuple(m for m in map(strict, arguments) if m is not None)
        return typing.Union[members] if members else None  # noqa: UP007 - made from a tuple
    if origin in (typing.Literal, typing_extensions.Literal):
        return kind
    if origin in (dict, collections.abc.Mapping):
        return dict[arguments[0], strict(arguments[1]) or object]
    if origin in (list, collections.abc.Iterable, collections.abc.Sequence) or "Sequence" in _name(origin):
        inner = strict(arguments[0])
        return None if inner is None else list[inner]
    if _name(origin) in ("IO", "PathLike") or (inspect.isclass(kind) and kind not in _PLAIN):
        return None
    return kind


def _strict_dict(kind: Any) -> Any:
    if kind not in _strict_types:
        fields = {}
        for name, hint in typing_extensions.get_type_hints(kind).items():
            presence = typing_extensions.Required if name in kind.__required_keys__ else typing_extensions.NotRequired
            inner = strict(hint)
            fields[name] = presence[type(None) if inner is None else inner]
        made: Any = typing_extensions.TypedDict(kind.__name__, fields)
        allowed = (getattr(kind, "__pydantic_config__", None) or {}).get("extra", "forbid")
        made.__pydantic_config__ = pydantic.ConfigDict(extra=allowed)
        _strict_types[kind] = made
    return _strict_types[kind]


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", "") if kind is not None else ""


REQUEST: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(strict(MessageCreateParamsNonStreaming))


async def serve(script: Sequence[str]) -> None:
    """Serve until a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with FakeClaude(script) as fake:
        print(json.dumps({"url": fake.url}), flush=True)  # noqa: T201 - the address is the output
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--script", default="", help="comma-separated names: " + ", ".join(SCRIPTS))
    asyncio.run(serve([name for name in parser.parse_args().script.split(",") if name]))
