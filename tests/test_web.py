"""The status page and the metrics endpoint, asked over a real socket on loopback."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.metrics import Metrics
from monitor.page import Claim, HypothesisView, Note, PredictionView
from monitor.web.address import is_loopback, parse_address
from monitor.web.app import metrics_app, serve, status_app
from monitor.web.render import MAX_ROWS, MAX_TEXT, duration, esc, incident_page, moment, status_page
from monitor.web.view import IncidentDetail, IncidentRow, Readiness, RunRow, RunState

EVIL = """<script>alert(1)</script>'"><img src=x onerror=alert(1)>{{7*7}}${7*7}&lt;\u202e\u200b\x00\x1b[2J"""
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
WELL = Readiness(ready=True)


def row(text: str = "r7: loss 9.7", *, incident: str = "ab12", state: str = "open", resolved: float | None = None):
    return IncidentRow(
        id=incident, run=text, kind=text, state=state, severity="page", headline=text, hypothesis=text,
        opened_t=1.7e9, updated_t=1.7e9 + 600, resolved_t=resolved,
    )  # fmt: skip


def detail(text: str) -> IncidentDetail:
    hypothesis = HypothesisView(
        author=text, cause=text, summary=text, claims=(Claim(text=text, verdict=text, found=text),), rivals=(text,),
        predictions=(PredictionView(text=text, probability=0.7, outcome=text, found=text),), experiment=text, note=text,
    )  # fmt: skip
    notes = (Note(id="n1", text=text),)
    return IncidentDetail(
        row=row(text), facts=((text, text),), hypothesis=hypothesis, notes=notes, chart=True, chart_alt=text
    )


class Stored:
    def __init__(self, text: str = "r7") -> None:
        self.text = text

    async def runs(self):
        return [RunRow(run=self.text, state=RunState.GROWING, step=4120, age_s=3.0, loss=math.nan, incidents=1)]

    async def incidents(self):
        return [row(self.text)]

    async def incident(self, incident):
        return detail(self.text) if incident == "ab12" else None

    async def chart(self, incident):
        return PNG if incident == "ab12" else None


def ask(app, path: str, method: str = "GET", headers: dict[str, str] | None = None):
    async def go():
        runner, url = await serve(app, "127.0.0.1:0")
        try:
            async with aiohttp.ClientSession() as session, session.request(method, url + path, headers=headers) as got:
                return got.status, got.headers, await got.read()
        finally:
            await runner.cleanup()

    return asyncio.run(go())


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[str] = []
        self.tags: set[str] = set()
        self.links: set[str] = set()
        self.handlers: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.all.append(tag)
        self.tags.add(tag)
        self.links |= {value for name, value in attrs if name in {"href", "src"}}
        self.handlers |= {name for name, _ in attrs if name.startswith("on") or name == "style"}


def test_the_status_page_shows_runs_and_incidents_and_is_locked_down():
    status, headers, body = ask(status_app(Stored()), "/")
    text = body.decode()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; img-src 'self'; ")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["Server"]) == ("nosniff", "runwarden")
    for part in (
        "4,120",
        ">nan<",
        "3 s",
        "growing",
        "1 open incident",
        "since 2023-11-14 22:13 UTC",
        "/incidents/ab12",
    ):
        assert part in text


@pytest.mark.parametrize("path", ["/", "/incidents/ab12"])
def test_no_field_can_bring_markup_of_its_own(path):
    _, _, body = ask(status_app(Stored(EVIL), lambda: Readiness(ready=False, reasons=(EVIL,))), path)
    clean = Seen(ask(status_app(Stored("x"), lambda: Readiness(ready=False, reasons=("x",))), path)[2].decode())
    seen = Seen(body.decode())
    assert (seen.tags, seen.links, seen.handlers) == (clean.tags, clean.links, set())
    assert "script" not in seen.tags
    assert all(link.startswith("/") for link in seen.links)
    assert not set("\u202e\u200b\x00\x1b") & set(body.decode())


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(), min_size=1, max_size=60))
def test_no_text_at_all_can_bring_markup_of_its_own(text):
    def pages(text: str) -> str:
        return status_page([RunRow(run=text, state=RunState.SILENT)], [row(text)], WELL) + incident_page(detail(text))

    assert Seen(pages(text)).all == Seen(pages("x")).all
    assert pages(text).count("<") == pages("x").count("<")
    pages(text).encode()  # no lone surrogate is left


def test_a_loss_that_is_no_number_is_text_in_json():
    _, headers, body = ask(status_app(Stored()), "/api/v1/runs")
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {
        "runs": [{"run": "r7", "state": "growing", "step": 4120, "age_s": 3.0, "loss": "nan", "incidents": 1}],
        "left_out": 0,
    }


def test_incidents_are_json_too_and_strange_names_do_not_break_it():
    status, _, body = ask(status_app(Stored("\ud800" + EVIL)), "/api/v1/incidents")
    (incident,) = json.loads(body)["incidents"]
    assert (status, incident["id"], incident["resolved_t"], incident["run"][0]) == (200, "ab12", None, "?")


def test_an_incident_has_a_page_and_a_chart():
    app_text = ask(status_app(Stored("why")), "/incidents/ab12")[2].decode()
    assert '<img class="chart" src="/incidents/ab12/chart.png" alt="why">' in app_text
    status, headers, body = ask(status_app(Stored()), "/incidents/ab12/chart.png")
    assert (status, headers["Content-Type"], body) == (200, "image/png", PNG)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/incidents/other", 404),
        ("GET", "/incidents/other/chart.png", 404),
        ("GET", "/incidents/%3Cscript%3E", 404),
        ("GET", "/incidents/" + "a" * 101, 404),
        ("GET", "/static/../etc/passwd", 404),
        ("POST", "/", 405),
        ("DELETE", "/incidents/ab12", 405),
        ("GET", "/style.css", 200),
    ],
)
def test_whatever_is_asked_the_answer_is_protected(method, path, expected):
    status, headers, body = ask(status_app(Stored()), path, method)
    assert status == expected
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"<script" not in body


@pytest.mark.parametrize("host", ["evil.example:9878", "169.254.169.254", "[::1", "127.0.0.1.evil.example"])
def test_a_name_that_a_stranger_points_at_loopback_gets_nothing(host):
    status, _, body = ask(status_app(Stored()), "/api/v1/runs", headers={"Host": host})
    assert status in {400, 421}
    assert b"r7" not in body


@pytest.mark.parametrize("host", ["localhost:9878", "127.0.0.1", "[::1]:80"])
def test_every_name_of_this_machine_is_answered(host):
    assert ask(status_app(Stored()), "/", headers={"Host": host})[0] == 200


def test_the_stylesheet_asks_for_nothing_elsewhere():
    style = ask(status_app(Stored()), "/style.css")[2].decode()
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style


def test_metrics_and_health_are_served():
    metrics = Metrics()
    metrics.rows.inc(5)
    status, headers, body = ask(metrics_app(metrics, lambda: WELL), "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert b"runwarden_rows_total 5.0" in body
    assert ask(metrics_app(metrics, lambda: WELL), "/readyz")[::2] == (200, b"ready\n")


def test_not_being_ready_is_not_being_dead():
    app = metrics_app(Metrics(), lambda: Readiness(ready=False, reasons=("source files: no batch for 90 s",)))
    assert ask(app, "/readyz")[::2] == (503, b"not ready\nsource files: no batch for 90 s\n")
    assert ask(metrics_app(Metrics(), lambda: Readiness(ready=False)), "/healthz")[::2] == (200, b"ok\n")


def test_a_monitor_that_is_not_well_says_so_on_the_page():
    page = status_page([], [], Readiness(ready=False, reasons=("no batch for 90 s",)))
    assert "The monitor itself is not well." in page
    assert "<li>no batch for 90 s</li>" in page
    assert "not well" not in status_page([], [], WELL)


def test_resolved_incidents_stand_apart_and_count_as_nothing_open():
    page = status_page([], [row(state="resolved", resolved=1.7e9 + 7200.0)], WELL)
    assert "0 open incidents" in page
    assert "Nothing is wrong that we know of." in page
    assert page.index("<h2>Resolved</h2>") < page.index("resolved after 2 h")


def test_what_ended_without_recovery_is_never_called_well():
    ended = replace(row("r7: loss is NaN", state="closed", resolved=1.7e9 + 60), why="the run made room for newer ones")
    page = status_page([], [ended], WELL)
    assert "Nothing is wrong" not in page
    assert "1 ended without recovery" in page
    assert page.index("<h2>Ended without recovery</h2>") < page.index("r7: loss is NaN")
    assert "the run made room for newer ones" in page
    assert "<title>Runwarden</title>" in page


def test_a_run_whose_last_loss_is_no_number_is_never_called_well():
    lost = RunRow(run="r7", state=RunState.FINISHED, loss=math.nan)
    assert "Nothing is wrong" not in status_page([lost], [], WELL)
    assert "the last loss of 1 run is not a number" in status_page([lost], [], WELL)
    assert "Nothing is wrong" in status_page([replace(lost, loss=2.0)], [], WELL)


def test_long_lists_and_texts_are_cut_and_say_so():
    page = status_page([RunRow(run="r", state=RunState.FINISHED)] * (MAX_ROWS + 3), [], WELL)
    assert page.count('<td class="name">') == MAX_ROWS
    assert "… and 3 more" in page
    assert len(esc("a" * (MAX_TEXT + 1))) == MAX_TEXT


def test_two_servers_cannot_have_one_port():
    async def go() -> str:
        runner, url = await serve(status_app(Stored()), "127.0.0.1:0")
        try:
            with pytest.raises(
                OSError, match=r"^127\.0\.0\.1:\d+: cannot be listened on \(address already in use\); choose"
            ):
                await serve(status_app(Stored()), url.removeprefix("http://"))
        finally:
            await runner.cleanup()
        return url

    assert asyncio.run(go()).startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "–"),
        (math.nan, "–"),
        (-1.0, "0 s"),
        (119.4, "119 s"),
        (120.0, "2 min"),
        (7200.0, "2 h"),
        (172800.0, "2 d"),
    ],
)
def test_ages_are_read_at_a_glance(seconds, expected):
    assert duration(seconds) == expected


def test_a_time_out_of_this_world_is_a_dash():
    assert (moment(math.nan), moment(1e30), moment(0.0)) == ("–", "–", "1970-01-01 00:00 UTC")


@pytest.mark.parametrize(
    "text", ["", "80", ":80", "[]:80", "::1:80", "host:", "host:+1", "host:65536", "host:²", "[h]:1"]
)
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="must"):
        parse_address(text)


def test_addresses_know_whether_only_this_machine_reaches_them():
    assert [is_loopback(parse_address(a)[0]) for a in ("127.3.2.1:1", "[::1]:1", "localhost:1")] == [True] * 3
    assert [is_loopback(parse_address(a)[0]) for a in ("0.0.0.0:1", "[::]:1", "localhost.x:1")] == [False] * 3
