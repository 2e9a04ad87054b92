"""A stored window becomes evidence: bounded, redacted, numbered. It is all that a model ever sees.

Pure: the same incident and window give the same text. Recognised metrics appear under the name of their role, those of
hosts as `hardware` calls them, every other name a stranger chose becomes an alias (M1, R1), log lines come only if they
are passed, redacted. The whole text has at most `MAX_CHARS` characters; what a bound cut is counted in the text.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detectors.types import Role
from monitor.band import BASELINE_ROWS, Span, axis, span
from monitor.move import Move, measure
from monitor.naming import RUN_ALIAS, TOPICS, aliases, numbering
from monitor.redaction import redact
from monitor.roles import role_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from detectors.types import Finding
    from monitor.frame import LogLine
    from monitor.incident import Incident
    from monitor.window import Series, Window

MAX_CHARS = 12_000

_NEAR = (16, 24, 32, 48, 64, 96, 128, 192, 256)
_OFFSETS = tuple(sorted({*range(-8, 13), *_NEAR, *(-n for n in _NEAR)}))
_BINS = 16
_BUDGET = {"opening": 1800, "related": 440, "overview": 2400, "onsets": 1200}
_SMALL = 420  # every other topic
_MAX_IN_OVERVIEW = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One numbered piece: id "E1" …, a title and a body of plain text."""

    id: str
    title: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is said about an incident at one revision.

    names: id used in the text (role name or alias M1) → the writer's metric name; it never leaves the host. sha256:
    over the text of all items, so that identical evidence is known.
    """

    incident: str
    revision: int
    items: tuple[Item, ...]
    names: Mapping[str, str]
    sha256: str

    def text(self) -> str:
        """Exactly what is sent."""
        return _text(self.items)


def build(incident: Incident, window: Window, lines: Sequence[LogLine] = ()) -> Evidence:
    """Extract from the window what bears on the incident. `lines`: log lines near it, only where log text may leave."""
    ids = aliases(incident, window)
    numbers = numbering(incident, window)
    event = span(incident)
    moves = measure(incident, window)
    shown = [s for s in window.series if s.metric in ids]
    texts: dict[str, tuple[str, list[str], int]] = {}
    opening, *related = [key for key in numbers if key not in TOPICS]
    by_id = {ids[s.metric]: s for s in shown}
    texts[opening] = (
        f"{incident.kind}: {_titled(opening, by_id)} around the event",
        [*_facts(incident, ids), *_points(by_id.get(opening), event, _OFFSETS)],
        _BUDGET["opening"],
    )
    for key in related:
        points = list(_points(by_id[key], event, _OFFSETS[::3]))
        texts[key] = (f"{_titled(key, by_id)} at the same rows", points, _BUDGET["related"])
    hidden = len(window.series) - len(shown)
    texts |= {
        "overview": ("medians over the whole attempt", list(_overview(shown, ids, event, hidden)), _BUDGET["overview"]),
        "onsets": (
            "order in which metrics left their normal range",
            list(_onsets(incident, ids, moves)),
            _BUDGET["onsets"],
        ),
        "schedule": ("learning rate around the event", list(_schedule(window, event)), _SMALL),
        "attempts": ("attempts and clock", list(_attempts(window, event)), _SMALL),
        "still": ("what did not move", list(_still(shown, ids, event, moves)), _SMALL),
    }
    items = tuple(Item(id=numbers[k], title=t, body=_fit(body, budget)) for k, (t, body, budget) in texts.items())
    if lines:
        title = "log lines around the event (row relative to it), redacted"
        left = MAX_CHARS - len(_text((*items, Item(id=numbers["lines"], title=title, body=""))))
        items += (Item(id=numbers["lines"], title=title, body=_lines(lines, window, ids, event, left)),)
    names = {v: k for k, v in ids.items()} | {RUN_ALIAS: incident.run}
    digest = hashlib.sha256(_text(items).encode()).hexdigest()
    return Evidence(incident=incident.id, revision=incident.revision, items=items, names=names, sha256=digest)


def _titled(key: str, by_id: Mapping[str, Series]) -> str:
    series = by_id.get(key)
    unit = role_of(series.metric).unit if series is not None and key == series.role.value else ""
    return f"{key} ({unit})" if unit else key


def _facts(incident: Incident, ids: Mapping[str, str]) -> list[str]:
    where = _where(incident.first_step, incident.first_row)
    facts = [f"run {RUN_ALIAS}, attempt {incident.attempt}, first anomalous {where} (row {incident.first_row})"]
    if incident.metric in ids:
        facts.append(f"observed {number(incident.observed)}, expected {number(incident.expected)}")
    else:
        facts.append("no metric opened this incident: it is about the run as a whole")
    return facts


def _points(series: Series | None, event: Span, offsets: Sequence[int]) -> Iterator[str]:
    if series is None or not len(series.row):
        return
    name, labels = axis(series)
    middle = int(np.searchsorted(series.row, event.first_row))
    index = sorted({i for o in offsets if 0 <= (i := middle + o) < len(series.row)} | {len(series.row) - 1})
    points = [f"{_label(series, labels, i, event)}: {number(series.values[i])}" for i in index]
    yield f"{name}: value"
    for start in range(0, len(points), 8):
        yield ", ".join(points[start : start + 8])


def _label(series: Series, labels: npt.NDArray[np.int64], i: int, event: Span) -> str:
    other = "" if series.attempt[i] == event.attempt else f"attempt {series.attempt[i]} "
    return f"{other}{labels[i]}"


def _overview(shown: Sequence[Series], ids: Mapping[str, str], event: Span, hidden: int) -> Iterator[str]:
    ranked = sorted(shown, key=lambda s: (ids[s.metric][0] == "M", s.role is Role.OTHER, len(ids[s.metric]), s.metric))
    for series in ranked[:_MAX_IN_OVERVIEW]:
        own = np.flatnonzero(series.attempt == event.attempt)
        if not len(own):
            continue
        bins = [b for b in np.array_split(own, _BINS) if len(b)]
        name, labels = axis(series)
        values = " ".join(number(_median(series.values[b])) for b in bins)
        bad = int(np.count_nonzero(~np.isfinite(series.values[own])))
        yield (
            f"{ids[series.metric]}, {name} {labels[own[0]]} to {labels[own[-1]]}, {len(own)} values: {values}"
            + (f" ({bad} not finite)" if bad else "")
        )
    if left := len(shown) - len(ranked[:_MAX_IN_OVERVIEW]) + hidden:
        yield f"(cut: {left} more metrics)"


def _onsets(incident: Incident, ids: Mapping[str, str], moves: Mapping[str, Move | None]) -> Iterator[str]:
    """What the detectors said, and which other metrics left their band, by the row at which it began."""
    said = [(f.first_row, f.key, _finding(f, ids)) for f in incident.findings]
    named = {f.metric for f in incident.findings}
    for metric, move in moves.items():
        if move is not None and metric not in named and metric in ids:
            text = f"{_where(move.onset_step, move.onset_row)}: {ids[metric]} left its band, no finding, "
            said.append((move.onset_row, metric, f"{text}{number(move.normal)} before, {number(move.onset)} there"))
    yield from (text for _, _, text in sorted(said))


def _finding(f: Finding, ids: Mapping[str, str]) -> str:
    metric = ids.get(f.metric or "", "the run" if f.metric is None else "a metric without alias")
    return (
        f"{_where(f.first_step, f.first_row)}: {f.kind} on {metric}, observed {number(f.observed)}, "
        f"expected {number(f.expected)}, last anomalous {_where(f.last_step, f.last_row)}, {f.phase}"
    )


def _where(step: int, row: int) -> str:
    return f"step {step}" if step >= 0 else f"row {row}"


def _schedule(window: Window, event: Span) -> Iterator[str]:
    series = window.of(Role.LEARNING_RATE)
    if series is None or len(series.values) < 2:
        yield "not logged"
        return
    name, labels = axis(series)
    near = np.flatnonzero((series.row[1:] >= event.first_row - 256) & (series.row[1:] <= event.last_row)) + 1
    jumps = [int(i) for i in near if not math.isclose(series.values[i], series.values[i - 1], rel_tol=0.1, abs_tol=0)]
    for i in jumps:
        label = f"{name} {_label(series, labels, i, event)}"
        yield f"{label}: from {number(series.values[i - 1])} to {number(series.values[i])}"
    if not jumps and len(near):
        first, last = series.values[near[0]], series.values[near[-1]]
        yield f"smooth, no change above 10 % between neighbours: from {number(first)} to {number(last)}"


def _attempts(window: Window, event: Span) -> Iterator[str]:
    longest = max(window.series, key=lambda s: len(s.row), default=None)
    if longest is None:
        yield "no rows"
        return
    name, labels = axis(longest)
    starts = [0, *(np.flatnonzero(np.diff(longest.attempt)) + 1)]
    last = starts[-1]
    yield f"{len(starts)} in this window, the last begins at {name} {labels[last]} (row {longest.row[last]})"
    for i in starts[1:][-4:]:
        yield f"attempt {longest.attempt[i]} continues at {name} {labels[i]} after {name} {labels[i - 1]}"
    gaps = np.diff(longest.t)
    before = gaps[(longest.row[1:] < event.first_row) & np.isfinite(gaps)]
    if len(before):
        usual, most = number(float(np.median(before))), number(float(before.max()))
        yield f"seconds between rows before the event: median {usual}, longest {most}"
    yield f"rows after the first anomalous one: {int(np.count_nonzero(longest.row > event.first_row))}"


def _still(
    shown: Sequence[Series], ids: Mapping[str, str], event: Span, moves: Mapping[str, Move | None]
) -> Iterator[str]:
    """What did not move, by the measurement that says what did."""
    found = False
    for series in shown:
        before = int(np.searchsorted(series.row, event.first_row))
        after = len(series.row) - before
        if after and series.metric in moves and moves[series.metric] is None:
            found = True
            usual = number(_median(series.values[max(0, before - BASELINE_ROWS) : before]))
            yield f"{ids[series.metric]} stayed near {usual} for {after} values"
    if not found:
        yield "nothing that can be shown"


def _lines(lines: Sequence[LogLine], window: Window, ids: Mapping[str, str], event: Span, budget: int) -> str:
    run_parts = (window.run, *window.run.split("/"))
    aliases = dict.fromkeys(run_parts, RUN_ALIAS) | {m: a for m, a in ids.items() if a.startswith("M")}
    near = sorted(lines, key=lambda line: (abs(line.row - event.first_row), line.row))
    kept: list[tuple[int, str]] = []
    room = budget - 40
    for line in near:
        text = line.text
        for name in sorted(aliases, key=len, reverse=True):
            text = text.replace(name, aliases[name]) if len(name) > 3 else text
        text = f"{line.row - event.first_row:+d}: {redact(text)}"
        room -= len(text) + 1
        if room < 0:
            break
        kept.append((line.row, text))
    body = [text for _, text in sorted(kept)]
    if len(kept) < len(lines):
        body.append(f"(cut: {len(lines) - len(kept)} of {len(lines)} lines)")
    return "\n".join(body)


def _fit(lines: Sequence[str], budget: int) -> str:
    if sum(len(line) + 1 for line in lines) <= budget:
        return "\n".join(lines)
    kept = 0
    room = budget - 32
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept += 1
    return "\n".join([*lines[:kept], f"(cut: {len(lines) - kept} of {len(lines)} lines)"])


def _text(items: Sequence[Item]) -> str:
    return "\n\n".join(f"[{i.id}] {i.title}\n{i.body}" for i in items)


def _median(values: npt.NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan


def number(value: float) -> str:
    """Five significant digits; NaN and Inf as they are called."""
    if math.isnan(value):
        return "NaN"
    return f"{value:.5g}" if math.isfinite(value) else ("Inf" if value > 0 else "-Inf")
