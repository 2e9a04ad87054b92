"""Questions to a W&B server and their answers, checked and bounded.

GraphQL over POST with HTTP basic authentication, user `api` and the key, as W&B's own clients send it. Redirects are
refused: the key goes to the host that was configured and nowhere else. Bounds: `timeout_s` for each question,
`max_bytes` for each answer after decompression.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson

from monitor.errors import PermanentError, TransientError
from monitor.sources.http import TooLargeError, read, untrusted, wait_s

MAX_SAID = 300


class FailedError(TransientError):
    """This question failed; another one may be answered."""


class TooMuchError(FailedError):
    """The answer is larger than the bound: ask for less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """data: what was asked for. complaints: first field of the project → what is wrong with it, "" for all.

    now: the server's clock, Unix seconds, NaN if it does not say.
    """

    data: Mapping[str, Any]
    complaints: Mapping[str, str] = field(default_factory=dict)
    now: float = float("nan")


class Api:
    """One server; the session is the caller's."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str, *, timeout_s: float, max_bytes: int) -> None:
        self._session = session
        self._url = url.rstrip("/") + "/graphql"
        self._headers = {"Authorization": "Basic " + base64.b64encode(f"api:{key}".encode()).decode()}
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes

    async def ask(self, query: str, variables: Mapping[str, Any]) -> Answer:
        """The answer. Raises FailedError, TooMuchError; other TransientError, PermanentError for the server itself."""
        body = {"query": query, "variables": dict(variables)}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.post(self._url, json=body, headers=self._headers, allow_redirects=False) as response,
            ):
                text = await read(response, self._max_bytes)
                status, headers = response.status, response.headers
        except TimeoutError as e:
            raise FailedError(f"{self._url}: no answer within {self._timeout_s:g} s") from e
        except aiohttp.ClientConnectorCertificateError as e:
            raise untrusted(self._url, e) from e
        except TooLargeError as e:
            raise TooMuchError(f"{self._url}: {e}") from e
        except aiohttp.ClientConnectorError as e:
            raise TransientError(f"{self._url}: {e}") from e
        except (aiohttp.ClientError, OSError) as e:
            raise FailedError(f"{self._url}: {e or type(e).__name__}") from e
        self._judge(status, headers, text)
        try:
            answer = await asyncio.to_thread(orjson.loads, text)
        except orjson.JSONDecodeError as e:
            raise FailedError(f"{self._url}: an answer that is no JSON") from e
        return self._unwrap(answer, _clock(headers.get("Date", "")))

    def _unwrap(self, answer: Any, now: float) -> Answer:
        if not isinstance(answer, dict) or not {"data", "errors"} & answer.keys():
            raise FailedError(f"{self._url}: an answer that is none of GraphQL")
        errors = answer.get("errors") or []
        complaints: dict[str, str] = {}
        for error in errors if isinstance(errors, list) else [errors]:
            complaints.setdefault(_field(error), _message(error))
        data = answer.get("data")
        if not isinstance(data, dict) or "" in complaints:
            raise FailedError(f"{self._url}: {next(iter(complaints.values()), 'an answer without data')}")
        return Answer(data=data, complaints=complaints, now=now)

    def _judge(self, status: int, headers: Mapping[str, str], text: bytes) -> None:
        if status == 200:
            return
        what = f"{self._url}: HTTP {status}"
        if status in {401, 403}:
            raise PermanentError(f"{what}: the key is not accepted")
        if 300 <= status < 400:
            raise PermanentError(f"{what}: a redirect, which is not followed; set base_url to where it leads")
        if status == 404:
            raise PermanentError(f"{what}: no W&B API there; base_url is what stands before /graphql")
        if status == 429:
            raise TransientError(f"{what}: too many requests", wait_s(headers, "RateLimit-Reset", "Retry-After"))
        if status >= 500:
            raise FailedError(what, wait_s(headers, "RateLimit-Reset", "Retry-After"))
        raise FailedError(f"{what}: {_said(text)}")


def _clock(text: str) -> float:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _field(error: Any) -> str:
    """The alias below `project` that an error is about."""
    path = error.get("path") if isinstance(error, dict) else None
    return str(path[1]) if isinstance(path, Sequence) and len(path) > 1 and not isinstance(path, str) else ""


def _message(error: Any) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    return str(said)[:MAX_SAID] if said else "refused without a reason"


def _said(text: bytes) -> str:
    try:
        body = orjson.loads(text)
        return _message(body["errors"][0]) if body.get("errors") else _message(body.get("error") or body.get("message"))
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return "refused without a reason"
