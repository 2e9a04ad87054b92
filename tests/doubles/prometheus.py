"""A Prometheus server on loopback with scripted samples: GET /api/v1/query for time(), `up == 0` and raw ranges."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

_RANGE = re.compile(
    r"(?P<name>\w*)(\{__name__=~\"(?P<names>[\w|]+)\"\}|\{(?P<label>\w+)=\"(?P<value>[^\"]*)\"\})?\[(?P<ms>\d+)ms\]"
)


@dataclass
class Sample:
    """value: as the server writes it. seen: server time from which on it is in the answers, ms."""

    t: int
    value: str
    seen: int


@dataclass
class PrometheusDouble:
    """now: the server's clock, ms. left_open: ranges without their first moment, as version 3 has them.

    victoria: like VictoriaMetrics, whose time() lies half a minute back.
    answer: takes the place of the next answers; may raise or be any web.Response. asked: all queries.
    """

    now: int = 1_000_000_000
    left_open: bool = False
    series: dict[tuple[tuple[str, str], ...], list[Sample]] = field(default_factory=dict)
    down: list[dict[str, str]] = field(default_factory=list)
    answer: Callable[[str], web.Response | None] = lambda _: None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    most_samples: int = 0
    victoria: bool = False

    def add(self, t: int, value: float | str, *, seen: int | None = None, **labels: str) -> None:
        """A sample; labels with the metric as `name`."""
        labels["__name__"] = labels.pop("name", "loss")
        text = value if isinstance(value, str) else repr(value)
        key = tuple(sorted(labels.items()))
        self.series.setdefault(key, []).append(Sample(t, text, t if seen is None else seen))

    async def _query(self, request: web.Request) -> web.Response:
        response = self._answered(request)
        if self.victoria:
            response.headers["X-Server-Hostname"] = "vm"
        return response

    def _answered(self, request: web.Request) -> web.Response:
        query = request.query["query"]
        self.asked.append((query, dict(request.headers)))
        other = self.answer(query)
        if other is not None:
            return other
        if query == "time()" and self.victoria:
            value = [self.now / 1000, f"{self.now / 1000 - 30:.3f}"]
            return _ok("vector", [{"metric": {}, "value": value}])
        if query == "time()":
            return _ok("scalar", [self.now / 1000, f"{self.now / 1000:.3f}"])
        end = round(float(request.query["time"]) * 1000)
        if query == "up == 0":
            return _ok("vector", [{"metric": d, "value": [end / 1000, "0"]} for d in self.down])
        found = _RANGE.fullmatch(query)
        if found is None:
            return web.json_response({"status": "error", "errorType": "bad_data", "error": "parse error"}, status=400)
        start = end - int(found["ms"])
        result = []
        for key, samples in self.series.items():
            labels = dict(key)
            name, label = labels["__name__"], found["label"]
            if name not in (found["names"] or found["name"]).split("|") or (
                label and labels.get(label) != found["value"]
            ):
                continue
            inside = [
                [s.t / 1000, s.value]
                for s in samples
                if (start < s.t if self.left_open else start <= s.t) and s.t <= end and s.seen <= self.now
            ]
            if inside:
                result.append({"metric": labels, "values": inside})
        self.most_samples = max([self.most_samples, *(len(r["values"]) for r in result)])
        return _ok("matrix", result)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """The base URL of the running server."""
        app = web.Application()
        app.router.add_get("/api/v1/query", self._query)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def _ok(kind: str, result: object) -> web.Response:
    return web.Response(
        text=json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}),
        content_type="application/json",
    )
