from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import pytest
from analysis.worlds import world
from doubles.claude import GOOD, SCRIPTS, FakeClaude, Reply

from monitor.analysis.claude import PRICES, ClaudeAnalyst, fenced
from monitor.analysis.hypothesis import Answer, Cause, Hypothesis
from monitor.errors import PermanentError, TransientError
from monitor.evidence import Evidence, build

EVIDENCE = build(*world(Cause.BAD_BATCH))
DOUBLE = Path(__file__).parents[1] / "doubles" / "claude.py"


@pytest.fixture(autouse=True)
def strict_responses(monkeypatch):
    """The client checks every answer of the double against the types of the SDK; nothing of the host leaks in."""
    checked = functools.partial(anthropic.AsyncAnthropic, _strict_response_validation=True)
    monkeypatch.setattr(anthropic, "AsyncAnthropic", checked)
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


def run(script: list[str | Reply], use: Callable[[ClaudeAnalyst, FakeClaude], Awaitable[Any]], **settings: Any) -> Any:
    async def main() -> Any:
        async with FakeClaude(script) as fake:
            analyst = ClaudeAnalyst(api_key="sk-test", base_url=fake.url, **settings)
            try:
                return await use(analyst, fake)
            finally:
                await analyst.close()

    return asyncio.run(main())


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"format": {"type": "json_schema", "schema": schema}}


def explain(script: list[str | Reply], **settings: Any) -> Answer:
    return run(script, lambda analyst, _: analyst.explain(EVIDENCE), **settings)


def failure(script: list[str | Reply], kind: type[Exception], **settings: Any) -> Any:
    with pytest.raises(kind) as caught:
        explain(script, **settings)
    assert "sk-test" not in str(caught.value)
    return caught.value


def test_a_good_answer_becomes_a_hypothesis_with_its_tokens_and_its_price():
    answer = explain(["good"])
    assert answer.hypothesis == Hypothesis.model_validate(GOOD)
    assert (answer.author, answer.tokens_in, answer.tokens_out) == ("claude-opus-5-5", 7000, 500)
    # 1000 fresh at 4, 2000 written at 8, 4000 read at 0.20, 500 out at 20 dollars per million
    assert answer.dollars == pytest.approx(0.0308)
    assert answer.latency_s > 0


def test_the_bytes_sent_are_exactly_the_request_that_can_be_printed_beforehand():
    async def use(analyst, fake):
        await analyst.explain(EVIDENCE)
        return json.loads(fake.received[0]), analyst.request(EVIDENCE, "claude-opus-5-5"), fake.problems

    sent, shown, problems = run(["good"], use)
    assert sent == shown
    assert problems == []
    assert sent["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert not {"tools", "tool_choice", "temperature", "thinking"} & set(sent)


def test_two_requests_for_the_same_evidence_are_the_same_bytes():
    async def use(analyst, fake):
        await analyst.explain(EVIDENCE)
        await analyst.explain(EVIDENCE)
        return fake.received

    first, second = run(["good", "good"], use)
    assert first == second


def test_evidence_cannot_close_the_fence_around_it():
    hostile = Evidence(incident="i", revision=1, items=EVIDENCE.items, names={}, sha256=EVIDENCE.sha256)
    lines = fenced(hostile).splitlines()
    assert lines[0] == lines[-1]
    assert lines.count(lines[0]) == 2
    assert EVIDENCE.sha256 not in hostile.text()


def test_a_refusal_moves_on_to_the_next_model_and_its_tokens_are_counted():
    answer = explain(["refusal", "good"])
    assert answer.author == "claude-opus-4-8"
    assert (answer.tokens_in, answer.tokens_out) == (14000, 1000)


def test_a_refusal_by_every_model_is_permanent_names_the_category_and_is_paid():
    async def use(analyst, _):
        with pytest.raises(PermanentError, match=r"^refused: frontier_llm$"):
            await analyst.explain(EVIDENCE)
        return analyst.spent_dollars, analyst.unpriced

    spent, unpriced = run(["refusal", "refusal"], use)
    assert spent == pytest.approx(0.0308)
    assert unpriced == 1
    assert "claude-opus-4-8" not in PRICES


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ("cut", "stopped: max_tokens"),
        ("not-json", "invalid answer: 1 errors, first json_invalid at the top"),
        ("off-schema", "invalid answer: 1 errors, first enum at causes.0.cause"),
        ("too-long", "invalid answer: 1 errors, first string_too_long at causes.0.summary"),
        (Reply(stop_reason="tool_use"), "stopped: tool_use"),
        (Reply(text=""), "invalid answer: 1 errors, first json_invalid at the top"),
        ("html", "invalid response: not a message"),
        ("unauthorized", "authentication_error 401: as scripted"),
    ],
    ids=str,
)
def test_what_a_repetition_cannot_mend_is_permanent_and_says_what_it_was(reply, says):
    assert str(failure([reply], PermanentError)) == says


@pytest.mark.parametrize(
    ("reply", "says", "retry_after_s"),
    [
        ("rate-limited", "rate_limit_error 429", 7.0),
        ("rate-limited-for-ages", "rate_limit_error 429", 3600.0),
        ("overloaded", "overloaded_error 529", 0.0),
        ("broken", "api_error 500", 0.0),
        ("dropped", "connection: APIConnectionError", 0.0),
    ],
)
def test_what_may_pass_is_transient_and_not_repeated_here(reply, says, retry_after_s):
    async def use(analyst, fake):
        with pytest.raises(TransientError) as caught:
            await analyst.explain(EVIDENCE)
        return caught.value, len(fake.received)

    error, requests = run([reply], use)
    assert (str(error), error.retry_after_s, requests) == (says, retry_after_s, 1)


@pytest.mark.parametrize("reply", ["slow", "drip"])
def test_a_server_that_is_slow_or_trickles_is_left_at_the_limit(reply):
    async def use(analyst, _):
        async with asyncio.timeout(5):  # far below what the server would take, far above the limit
            await analyst.explain(EVIDENCE)

    with pytest.raises(TransientError, match=r"^timeout: "):
        run([reply], use, timeout_s=0.3)


def test_an_unreachable_server_is_transient():
    async def main():
        async with FakeClaude() as gone:
            url = gone.url
        analyst = ClaudeAnalyst(api_key="sk-test", base_url=url)
        with pytest.raises(TransientError, match="connection"):
            await analyst.explain(EVIDENCE)
        await analyst.close()

    asyncio.run(main())


def test_an_unknown_model_is_permanent():
    assert str(failure([], PermanentError, model="claude-opus-0")) == "not_found_error 404: model: claude-opus-0"


def test_the_client_is_made_once_for_requests_at_the_same_time():
    async def use(analyst, fake):
        await asyncio.gather(*(analyst.explain(EVIDENCE) for _ in range(3)))
        return len(fake.received), analyst._client

    requests, client = run([], use)
    assert requests == 3
    assert client is not None


def test_the_key_is_not_in_the_representation():
    assert "sk-test" not in repr(ClaudeAnalyst(api_key="sk-test"))


def test_the_library_is_not_imported_before_it_is_used():
    code = "import sys, monitor.analysis.claude; print('anthropic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("change", "status", "problem"),
    [
        ({"tool_choice": {"type": "any"}}, 400, "forced tool use"),
        ({"temperature": 0.0}, 400, "temperature"),
        ({"messages": [{"role": "user", "content": [{"type": "imagee"}]}]}, 400, "imagee"),
        ({"messages": [{"role": "assistant", "content": "{"}]}, 400, "prefill"),
        ({"model": "claude-3-opus"}, 404, "claude-3-opus"),
        (
            {"output_config": form({"type": "object"})},
            400,
            "additionalProperties",
        ),
        (
            {"output_config": form({"type": "number", "minimum": 0})},
            400,
            "minimum",
        ),
        ({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 5}, 400, "breakpoints"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else None,
)
def test_the_double_refuses_what_the_api_refuses(change, status, problem):
    async def use(analyst, fake):
        body = analyst.request(EVIDENCE, "claude-opus-5-5") | change
        headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{fake.url}/v1/messages", json=body, headers=headers) as response,
        ):
            return response.status, fake.problems

    answered, problems = run([], use)
    assert answered == status
    assert problem in problems[0]


def test_the_double_runs_by_path_and_prints_its_address():
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(DOUBLE), "--script", "refusal", stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            url = json.loads(await process.stdout.readline())["url"]
            analyst = ClaudeAnalyst(api_key="sk-test", base_url=url)
            answer = await analyst.explain(EVIDENCE)
            await analyst.close()
        finally:
            process.terminate()
            code = await process.wait()
        return answer.author, code

    assert asyncio.run(main()) == ("claude-opus-4-8", 0)


def test_every_script_has_a_name_that_a_test_uses():
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{name}"' in text for name in SCRIPTS)
