"""The two HTTP servers: our own metrics and health, and the status page. GET only, no cookies, no scripts.

The status page asks nobody who they are: it listens on loopback only and answers only to a loopback Host, so that a
web page elsewhere cannot read it through a name that it points here. Nothing it shows is loaded from elsewhere.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from monitor.metrics import CONTENT_TYPE, Metrics
from monitor.web import render
from monitor.web.address import is_loopback, parse_address
from monitor.web.view import Readiness, View

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_ID = r"{id:[A-Za-z0-9_:-]{1,100}}"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "runwarden",
}


def metrics_app(metrics: Metrics, health: Callable[[], Readiness]) -> web.Application:
    """/metrics for Prometheus; /healthz: the event loop turns; /readyz: 503 with reasons while the work is not done."""

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        now = health()
        if now.ready:
            return web.Response(text="ready\n")
        return web.Response(text="\n".join(("not ready", *now.reasons)) + "\n", status=HTTPStatus.SERVICE_UNAVAILABLE)

    app = web.Application()
    app.on_response_prepare.append(_protect)
    app.add_routes([web.get("/metrics", show_metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


def status_app(view: View, health: Callable[[], Readiness] = lambda: Readiness(ready=True)) -> web.Application:
    """The status page, its JSON, and one page and chart for each incident."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")

    async def index(_: web.Request) -> web.Response:
        return _html(render.status_page(await view.runs(), await view.incidents(), health()))

    async def incident(request: web.Request) -> web.Response:
        detail = await view.incident(request.match_info["id"])
        if detail is None:
            return _html(render.message_page("There is no such incident."), HTTPStatus.NOT_FOUND)
        return _html(render.incident_page(detail))

    async def chart(request: web.Request) -> web.Response:
        png = await view.chart(request.match_info["id"])
        if png is None:
            return _html(render.message_page("There is no chart of this incident."), HTTPStatus.NOT_FOUND)
        return web.Response(body=png, content_type="image/png")

    async def runs(_: web.Request) -> web.Response:
        return _json("runs", await view.runs())

    async def incidents(_: web.Request) -> web.Response:
        return _json("incidents", await view.incidents())

    async def stylesheet(_: web.Request) -> web.Response:
        return web.Response(text=style, content_type="text/css")

    app = web.Application(middlewares=[_loopback_only])
    app.on_response_prepare.append(_protect)
    app.add_routes(
        [
            web.get("/", index),
            web.get("/style.css", stylesheet),
            web.get(f"/incidents/{_ID}", incident),
            web.get(f"/incidents/{_ID}/chart.png", chart),
            web.get("/api/v1/runs", runs),
            web.get("/api/v1/incidents", incidents),
        ]
    )
    return app


async def serve(app: web.Application, address: str) -> tuple[web.AppRunner, str]:
    """Listen on "HOST:PORT" (port 0: any free one). Returns the runner, to clean up, and the URL.

    Raises OSError, which says what to do.
    """
    host, port = parse_address(address)
    # Bodies stay as they come: who reads them knows how far they may unfold.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, auto_decompress=False)
    await runner.setup()
    starting = asyncio.ensure_future(web.TCPSite(runner, host, port).start())
    try:
        await asyncio.shield(starting)
    except BaseException as e:
        # A start that is cancelled half-way would leave its socket listening, and nobody to close it.
        await asyncio.gather(starting, return_exceptions=True)
        await runner.cleanup()
        if isinstance(e, OSError):
            why = os.strerror(e.errno).lower() if e.errno and e.errno > 0 else e.strerror or e  # below 0: of a name
            raise OSError(f"{address}: cannot be listened on ({why}); choose another port or host") from e
        raise
    bound = runner.addresses[0][1]
    return runner, f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"


async def _protect(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


@web.middleware
async def _loopback_only(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        host = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        host = ""
    if not is_loopback(host):
        return web.Response(text="The status page answers to localhost only.\n", status=HTTPStatus.MISDIRECTED_REQUEST)
    return await handler(request)


def _html(text: str, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(text=text, content_type="text/html", status=status)


def _json(name: str, rows: Sequence[Any]) -> web.Response:
    """JSON has no NaN and Inf: they become the strings "nan", "inf" and "-inf"."""
    shown = [{k: _plain(v) for k, v in dataclasses.asdict(row).items()} for row in rows[: render.MAX_ROWS]]
    body = orjson.dumps(
        {name: shown, "left_out": max(len(rows) - render.MAX_ROWS, 0)}, option=orjson.OPT_APPEND_NEWLINE
    )
    return web.Response(body=body, content_type="application/json")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):  # a lone surrogate is no JSON
        return value.encode("utf-8", "replace").decode()
    return value
