"""Questions to a Prometheus server and their answers, checked and bounded.

Only what the HTTP API documents is used: GET /api/v1/query. Redirects are refused: the answer must come from the host
that was configured. VictoriaMetrics answers the same questions with two differences, known by its header: every NaN is
a staleness mark (it stores no other), and `time()` lies behind its now, which is the moment of the answer. Bounds:
`timeout_s` for each question, `max_bytes` for each answer after decompression.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt
import orjson

from monitor.errors import PermanentError, TransientError
from monitor.sources.http import TooLargeError, read, untrusted, wait_s

MAX_SAID = 300
VICTORIA_METRICS = "X-Server-Hostname"


class RefusedError(Exception):
    """The server does not accept this query; others may do."""


class TooMuchError(Exception):
    """The answer is larger than the bound: ask for less time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Samples of one series. t: int64[n], ascending ms since 1970; values: float64[n]."""

    labels: Mapping[str, str]
    t: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


@dataclass(slots=True)
class Answer:
    """What a query selects. bad: samples that are no numbers. warned: the server calls its answer incomplete."""

    series: list[Series] = field(default_factory=list)
    bad: int = 0
    warned: int = 0

    @property
    def size(self) -> int:
        """Samples in it."""
        return sum(s.t.size for s in self.series)

    def bound(self, left: int) -> None:
        """TooMuchError if fewer than none are left of what a window may hold."""
        if left < 0:
            raise TooMuchError("more samples than one window may hold")


class Api:
    """One server; the session is the caller's, with its credentials."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, timeout_s: float, max_bytes: int) -> None:
        self._session = session
        self._url = url.rstrip("/") + "/api/v1/query"
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._marks = False

    async def now(self) -> int:
        """The server's clock, ms since 1970: ours may be another one. Raises TransientError, PermanentError."""
        try:
            data = (await self._ask({"query": "time()"}))["data"]
            value = data["result"] if data["resultType"] == "scalar" else data["result"][0]["value"]
            return round(float(value[0]) * 1000)
        except (LookupError, TypeError, ValueError, OverflowError) as e:
            raise TransientError(f"{self._url}: an answer that is none of Prometheus ({type(e).__name__})") from e
        except (RefusedError, TooMuchError) as e:
            raise PermanentError(f"{self._url}: does not say its time ({e})") from e

    async def samples(self, selector: str, start: int, end: int) -> Answer:
        """The raw samples from `start` to `end` (ms); one before `start` may be among them, staleness marks never are.

        Raises RefusedError, TooMuchError, TransientError, PermanentError.
        """
        body = await self._ask({"query": f"{selector}[{max(1, end - start)}ms]", "time": f"{end / 1000:.3f}"})
        try:
            return await asyncio.to_thread(_answer, body, marks=self._marks)
        except (LookupError, TypeError, ValueError, AttributeError) as e:
            raise TransientError(f"{self._url}: an answer that is none of Prometheus ({type(e).__name__})") from e

    async def down(self, end: int) -> set[tuple[str, str]] | None:
        """(job, instance) of the targets that cannot be scraped; None if the server cannot say."""
        try:
            body = await self._ask({"query": "up == 0", "time": f"{end / 1000:.3f}"})
            return {(s["metric"].get("job", ""), s["metric"].get("instance", "")) for s in body["data"]["result"]}
        except (RefusedError, TooMuchError, LookupError, TypeError, AttributeError):
            return None

    async def _ask(self, params: Mapping[str, str]) -> dict[str, Any]:
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.get(self._url, params=params, allow_redirects=False) as response,
            ):
                text = await read(response, self._max_bytes)
                status, headers = response.status, response.headers
        except TimeoutError as e:
            raise TransientError(f"{self._url}: no answer within {self._timeout_s:g} s") from e
        except aiohttp.ClientConnectorCertificateError as e:
            raise untrusted(self._url, e) from e
        except TooLargeError as e:
            raise TooMuchError(str(e)) from e
        except (aiohttp.ClientError, OSError) as e:
            raise TransientError(f"{self._url}: {e or type(e).__name__}") from e
        self._judge(status, headers, text)
        self._marks = VICTORIA_METRICS in headers
        try:
            body = orjson.loads(text)
        except orjson.JSONDecodeError as e:
            raise TransientError(f"{self._url}: an answer that is no JSON") from e
        if not isinstance(body, dict) or body.get("status") != "success":
            raise TransientError(f"{self._url}: an answer that is none of Prometheus")
        return body

    def _judge(self, status: int, headers: Mapping[str, str], text: bytes) -> None:
        if status == 200:
            return
        if status in {400, 422}:
            said = _said(text)
            if status == 422 and "too many samples" in said:
                raise TooMuchError(said)
            raise RefusedError(said)
        what = f"{self._url}: HTTP {status}"
        if status in {401, 403}:
            raise PermanentError(f"{what}: the credentials are not accepted")
        if 300 <= status < 400:
            raise PermanentError(f"{what}: a redirect, which is not followed; set url to where it leads")
        if status == 404:
            raise PermanentError(f"{what}: no Prometheus API there; url is what stands before /api/v1")
        raise TransientError(what, wait_s(headers, "Retry-After"))


def _said(text: bytes) -> str:
    try:
        return str(orjson.loads(text)["error"])[:MAX_SAID]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return "refused without a reason"


def _answer(body: Mapping[str, Any], *, marks: bool) -> Answer:
    """marks: every NaN is a staleness mark."""
    data, answer = body["data"], Answer(warned=len(body.get("warnings") or ()))
    if data["resultType"] != "matrix":
        raise TypeError(data["resultType"])
    for item in data["result"]:
        labels = {str(k): str(v) for k, v in item["metric"].items()}
        answer.bad += len(item.get("histograms", ()))
        t, values = [], []
        for at, text in item.get("values", ()):
            try:
                moment, value = round(at * 1000), float(text)
            except (TypeError, ValueError, OverflowError):
                answer.bad += 1
                continue
            if not 0 <= moment < 1 << 53:
                answer.bad += 1
                continue
            if marks and math.isnan(value):
                continue
            t.append(moment)
            values.append(value)
        if t:
            times, first = np.unique(np.array(t, dtype=np.int64), return_index=True)
            answer.series.append(Series(labels=labels, t=times, values=np.array(values)[first]))
    return answer
