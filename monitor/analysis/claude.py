"""Asks Claude for a hypothesis about evidence, with every limit on the outside of the client library.

One request per model of the chain, no tools, no forced choice: the answer is JSON in the schema of `Hypothesis`. The
stop reason is looked at before the text is believed. A refusal is an ordinary event (classifiers react to machine
learning work) and moves on to the next model. The library is imported in a thread on first use (seconds), so that
start-up and every other command do without it. Bounds: `timeout_s` around everything, because the library obeys
`retry-after` without a cap and times only single reads; `max_tokens`; no retries here, the outbox retries.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pydantic

from monitor.analysis.hypothesis import Answer, Hypothesis
from monitor.errors import PermanentError, TransientError
from monitor.redaction import redact

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import Message, Usage

    from monitor.evidence import Evidence

MAX_REASON_CHARS = 200
MAX_RETRY_AFTER_S = 3600.0
_TRANSIENT_STATUS = frozenset({408, 409, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Dollars per million tokens: fresh input, output, input written to the cache (1 h) and read from it."""

    input: float
    output: float
    write: float
    read: float


# As published; where a cache price is not, the usual factors on the input price: 2 for a 1 h write, 0.1 for a read.
# An id that is not here costs an unknown amount: its answers are counted in `unpriced`.
PRICES: Mapping[str, Price] = MappingProxyType(
    {
        "claude-opus-5-5": Price(input=4.0, output=20.0, write=8.0, read=0.20),
        "claude-sonnet-5-5": Price(input=2.0, output=10.0, write=4.0, read=0.10),
        "claude-haiku-5-5": Price(input=0.10, output=0.50, write=0.20, read=0.01),
        "claude-fable-5-1": Price(input=10.0, output=50.0, write=20.0, read=1.0),
    }
)


@dataclass(slots=True, kw_only=True)
class ClaudeAnalyst:
    """An `Analyst` over the Messages API.

    model: asked first; fallback_models: asked in order after a refusal. base_url: None for the public API. timeout_s:
    for all of one `explain`, over all models. spent_dollars: of all answers so far, also of those that were of no use;
    unpriced: answers of models without a known price.
    """

    api_key: str = field(repr=False)
    model: str = "claude-opus-5-5"
    fallback_models: tuple[str, ...] = ("claude-opus-4-8",)
    base_url: str | None = None
    timeout_s: float = 180.0
    max_tokens: int = 8000
    effort: str = "medium"
    name: str = field(default="claude", init=False)
    spent_dollars: float = field(default=0.0, init=False)
    unpriced: int = field(default=0, init=False)
    _client: AsyncAnthropic | None = field(default=None, init=False, repr=False)
    _connecting: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def explain(self, evidence: Evidence) -> Answer:
        """Answer with a hypothesis, its tokens and its price.

        Raises:
            TransientError: out of time, rate limited, overloaded, connection lost; `retry_after_s` if one was given.
            PermanentError: refused by every model, cut, not in the schema, or a request the API does not take.
        """
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await self._ask(evidence)
        except TimeoutError:
            raise TransientError(f"timeout: no answer within {self.timeout_s:g} s") from None
        return answer.model_copy(update={"latency_s": asyncio.get_running_loop().time() - began})

    async def close(self) -> None:
        """Release connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def request(self, evidence: Evidence, model: str) -> dict[str, Any]:
        """The body that is sent for this evidence, the same for the same evidence."""
        content = {"type": "text", "text": fenced(evidence)}
        cached = {"type": "ephemeral", "ttl": "1h"}
        return {
            "model": model,
            "max_tokens": self.max_tokens,
            "system": [{"type": "text", "text": _prompt(), "cache_control": cached}],
            "messages": [{"role": "user", "content": [content]}],
            "output_config": {"effort": self.effort, "format": {"type": "json_schema", "schema": _schema()}},
        }

    async def _ask(self, evidence: Evidence) -> Answer:
        client = await self._connected()
        tokens_in = tokens_out = 0
        dollars = 0.0
        refusal = ""
        for model in (self.model, *self.fallback_models):
            message = await _create(client, self.request(evidence, model))
            tokens_in += _tokens_in(message.usage)
            tokens_out += message.usage.output_tokens
            dollars += self._paid(model, message.usage)
            if message.stop_reason == "refusal":
                details = message.stop_details
                refusal = (details.category if details is not None else None) or "no category"
                continue
            return Answer(
                hypothesis=_hypothesis(message),
                author=model,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                dollars=dollars,
            )
        raise PermanentError(f"refused: {refusal}")

    def _paid(self, model: str, usage: Usage) -> float:
        price = PRICES.get(model)
        if price is None:
            self.unpriced += 1
            return 0.0
        dollars = cost(price, usage)
        self.spent_dollars += dollars
        return dollars

    async def _connected(self) -> AsyncAnthropic:
        async with self._connecting:
            if self._client is None:
                self._client = await asyncio.to_thread(self._connect)
            return self._client

    def _connect(self) -> AsyncAnthropic:
        # The import takes seconds; it runs in a thread so that nothing else waits for it.
        from anthropic import AsyncAnthropic  # noqa: PLC0415

        _schema()
        return AsyncAnthropic(
            api_key=self.api_key,
            base_url=self.base_url,
            timeout=self.timeout_s,
            max_retries=0,
            open_telemetry=False,
        )


def cost(price: Price, usage: Usage) -> float:
    """Dollars for one answer."""
    written, read = usage.cache_creation_input_tokens or 0, usage.cache_read_input_tokens or 0
    fresh = usage.input_tokens * price.input + written * price.write + read * price.read
    return (fresh + usage.output_tokens * price.output) / 1e6


def fenced(evidence: Evidence) -> str:
    """The evidence between two lines that its text cannot contain: they carry its own hash."""
    fence = f"==== telemetry {evidence.sha256} ===="
    return f"{fence}\n{evidence.text()}\n{fence}"


async def _create(client: AsyncAnthropic, body: dict[str, Any]) -> Message:
    anthropic = importlib.import_module("anthropic")  # loaded by now: the client exists
    try:
        message: Message = await client.messages.create(**body)
    except anthropic.APIStatusError as error:
        reason = f"{str(error.type or 'http')[:60]} {error.status_code}"
        if error.status_code in _TRANSIENT_STATUS or error.status_code >= 500:
            raise TransientError(reason, _retry_after_s(error.response.headers)) from None
        raise PermanentError(f"{reason}: {redact(str(error.api_message or ''))[:MAX_REASON_CHARS]}") from None
    except anthropic.APIResponseValidationError:
        raise PermanentError("invalid response: not a message") from None
    except anthropic.APITimeoutError:
        raise TransientError("timeout: the connection was silent for too long") from None
    except anthropic.APIConnectionError as error:
        raise TransientError(f"connection: {type(error).__name__}") from None
    except anthropic.AnthropicError as error:
        raise PermanentError(f"client: {type(error).__name__}") from None
    return message


def _hypothesis(message: Message) -> Hypothesis:
    if message.stop_reason != "end_turn":
        raise PermanentError(f"stopped: {message.stop_reason}")
    text = "".join(block.text for block in message.content if block.type == "text")
    try:
        return Hypothesis.model_validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"{error.error_count()} errors, first {first['type']} at {where or 'the top'}"
        raise PermanentError(f"invalid answer: {reason[:MAX_REASON_CHARS]}") from None


def _tokens_in(usage: Usage) -> int:
    return usage.input_tokens + (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds of the header, capped; 0 if it is absent or a date."""
    try:
        return min(max(float(headers.get("retry-after", "0")), 0.0), MAX_RETRY_AFTER_S)
    except ValueError:
        return 0.0


@cache
def _prompt() -> str:
    return Path(__file__).with_name("prompt.md").read_text(encoding="utf-8")


@cache
def _schema() -> dict[str, Any]:
    from anthropic import transform_schema  # noqa: PLC0415 - see _connect

    return transform_schema(Hypothesis)
