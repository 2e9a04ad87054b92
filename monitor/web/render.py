"""Values become HTML. Pure; all text goes through `esc`, which also takes out what could reorder or hide it.

Bounds: MAX_TEXT characters of any text, MAX_ROWS rows of any list; what is left out is said.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from monitor.page import HypothesisView
from monitor.web.view import IncidentDetail, IncidentRow, Readiness, RunRow, RunState

MAX_TEXT = 2000
MAX_ROWS = 500
REFRESH_S = 10
_BACK = '<p><a href="/">← All runs</a></p>'


def esc(text: str) -> str:
    """Text for element content and quoted attributes; control, bidi and zero-width characters become U+FFFD."""
    cut = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return html.escape("".join(c if c.isprintable() else " " if c in "\n\t" else "\ufffd" for c in cut))


def status_page(runs: Sequence[RunRow], incidents: Sequence[IncidentRow], health: Readiness) -> str:
    """The whole state on one page."""
    bad = [row for row in incidents if row.unrecovered]
    past = [row for row in incidents if row.state == "resolved"]
    live = [row for row in incidents if row.state != "resolved" and not row.unrecovered]
    growing = sum(row.state is RunState.GROWING for row in runs)
    summary = f"{_count(len(live), 'open incident')} · {_count(len(runs), 'run')}, {growing} growing"
    body = (
        f'<p class="summary">{summary}</p>{_banner(health)}'
        f"<h2>Open</h2>{_cards(live) or _nothing_open(runs, bad)}"
        + (f"<h2>Ended without recovery</h2>{_cards(bad)}" if bad else "")
        + f"<h2>Runs</h2>{_runs(runs)}"
        + (f"<h2>Resolved</h2>{_cards(past)}" if past else "")
    )
    return _document("Runwarden" if not live else f"({len(live)}) Runwarden", body)


def _nothing_open(runs: Sequence[RunRow], bad: Sequence[IncidentRow]) -> str:
    """What to say where no incident is open; that all is well only where nothing on the page says otherwise."""
    lost = sum(row.loss is not None and not math.isfinite(row.loss) for row in runs)
    said = [f"{len(bad)} ended without recovery, see below"] if bad else []
    said += [f"the last loss of {_count(lost, 'run')} is not a number"] if lost else []
    text = f"No incident is open; {' and '.join(said)}." if said else "Nothing is wrong that we know of."
    return f'<p class="quiet">{text}</p>'


def incident_page(detail: IncidentDetail) -> str:
    """One incident: facts, chart, checked hypothesis, what was said."""
    row = detail.row
    facts = "".join(f"<dt>{esc(label)}</dt><dd>{esc(value)}</dd>" for label, value in detail.facts[:MAX_ROWS])
    chart = ""
    if detail.chart:
        chart = f'<img class="chart" src="{_href(row.id)}/chart.png" alt="{esc(detail.chart_alt or row.headline)}">'
    notes = "".join(f"<li>{esc(note.text)}</li>" for note in detail.notes[-MAX_ROWS:])
    body = (
        f'{_BACK}<div class="{_tone(row)}"><h2 class="headline">{esc(row.headline)}</h2>{_meta(row)}</div>{chart}'
        + (f"<dl>{facts}</dl>" if facts else "")
        + (_hypothesis(detail.hypothesis) if detail.hypothesis else '<p class="quiet">No hypothesis yet.</p>')
        + (f"<h3>What happened since</h3><ol>{notes}</ol>" if notes else "")
    )
    return _document(f"{row.kind} in {row.run}", body)


def message_page(text: str) -> str:
    """A page that only says why there is none."""
    return _document("Runwarden", f'{_BACK}<p class="quiet">{esc(text)}</p>')


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{REFRESH_S}"><meta name="color-scheme" content="light dark">'
        f'<title>{esc(title)}</title><link rel="stylesheet" href="/style.css"></head>'
        f'<body><header><h1><a href="/">Runwarden</a></h1></header><main>{body}</main></body></html>'
    )


def _banner(health: Readiness) -> str:
    if health.ready:
        return ""
    reasons = "".join(f"<li>{esc(reason)}</li>" for reason in health.reasons[:MAX_ROWS])
    return f'<div class="banner" role="alert"><strong>The monitor itself is not well.</strong><ul>{reasons}</ul></div>'


def _cards(rows: Sequence[IncidentRow]) -> str:
    cards = (
        f'<article class="card {_tone(row)}"><h3><a href="{_href(row.id)}">{esc(row.headline)}</a></h3>'
        + (f'<p class="why">{esc(row.why)}</p>' if row.why else "")
        + (f'<p class="hypothesis">{esc(row.hypothesis)}</p>' if row.hypothesis else "")
        + f"{_meta(row)}</article>"
        for row in rows[:MAX_ROWS]
    )
    return "".join(cards) + _left_out(rows)


def _runs(rows: Sequence[RunRow]) -> str:
    if not rows:
        return '<p class="quiet">No run has been seen yet.</p>'
    lines = "".join(
        f'<tr><td class="name"><bdi>{esc(row.run)}</bdi></td>'
        f'<td class="status"><span class="state {esc(row.state)}">{esc(row.state)}</span>{_badge(row.incidents)}</td>'
        f'<td class="num" data-label="step">{"–" if row.step is None else f"{row.step:,}"}</td>'
        f'<td class="num" data-label="loss">{_number(row.loss)}</td>'
        f'<td class="num" data-label="last row">{duration(row.age_s)}</td></tr>'
        for row in rows[:MAX_ROWS]
    )
    head = '<th>Run</th><th>State</th><th class="num">Step</th><th class="num">Loss</th><th class="num">Last row</th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{_left_out(rows)}"


def _hypothesis(view: HypothesisView) -> str:
    claims = (
        f'<li><span class="verdict {esc(claim.verdict)}">{esc(claim.verdict)}</span> {esc(claim.text)}'
        f'<span class="found">{esc(claim.found)}</span></li>'
        for claim in view.claims
    )
    predictions = (
        f'<li><span class="verdict {esc(p.outcome)}">{esc(p.outcome)}</span> {esc(p.text)} '
        f'<span class="found">given {100 * p.probability:.0f} %{"; " if p.found else ""}{esc(p.found)}</span></li>'
        for p in view.predictions
    )
    fallen = f'<p><span class="verdict refuted">refuted</span> {esc(view.fallen)}</p>' if view.fallen else ""
    return (
        f'<section class="card"><h3>Hypothesis: {esc(view.cause)}</h3>{fallen}<p>{esc(view.summary)}</p>'
        + _list("", claims)
        + _list("Also possible", (f"<li>{esc(rival)}</li>" for rival in view.rivals))
        + _list("Predictions", predictions)
        + (f"<h4>Smallest experiment</h4><p>{esc(view.experiment)}</p>" if view.experiment else "")
        + f'<p class="meta">by {esc(view.author)}{" · " if view.note else ""}{esc(view.note)}</p></section>'
    )


def _list(title: str, items: Iterable[str]) -> str:
    text = "".join(items)
    heading = f"<h4>{title}</h4>" if title and text else ""
    return f"{heading}<ul>{text}</ul>" if text else ""


def _meta(row: IncidentRow) -> str:
    lasted = duration((row.updated_t if row.resolved_t is None else row.resolved_t) - row.opened_t)
    how_long = f"{esc(row.state)}{', seen for' if row.resolved_t is None else ' after'} {lasted}"
    return (
        f'<p class="meta"><span class="severity">{esc(row.severity)}</span> · <bdi>{esc(row.run)}</bdi> · '
        f"{esc(row.kind)} · since {moment(row.opened_t)} · {how_long}</p>"
    )


def _tone(row: IncidentRow) -> str:
    return "resolved" if row.state == "resolved" else "page" if row.severity == "page" else "notice"


def _badge(count: int) -> str:
    return f' <span class="badge">{_count(count, "incident")}</span>' if count else ""


def _left_out(rows: Sequence[object]) -> str:
    return f'<p class="quiet">… and {len(rows) - MAX_ROWS} more</p>' if len(rows) > MAX_ROWS else ""


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _href(incident: str) -> str:
    return f"/incidents/{quote(incident, safe='')}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if math.isfinite(value) else f'<strong class="bad">{value}</strong>'


def duration(seconds: float | None) -> str:
    """`45 s`, `12 min`, `5 h`, `3 d`: what a person needs to judge an age."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    for unit, size, limit in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < limit:
            return f"{max(seconds, 0) / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def moment(t: float) -> str:
    """A point in time in UTC, to the minute."""
    try:
        return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "–"
