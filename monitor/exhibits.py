"""What is shown beside the facts of an incident, from committed state: explanation, chart, last words.

Bounds: of each chart `CHART_MOST` rows; `SAID` lines of `SAID_CHARS` characters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from detectors.types import Kind
from monitor.answers import Stored, read, unpack
from monitor.explain import telling
from monitor.incident import Incident
from monitor.move import Move
from monitor.page import HypothesisView
from monitor.pages import begin
from monitor.reader import Reader
from monitor.redaction import redact

CHART_BEFORE, CHART_AFTER = 160, 400  # rows: few enough before it that a young event can be seen
CHART_MOST = 20_000  # rows in all
SAID, SAID_CHARS = 2, 200
SAID_BEFORE = 2  # rows: a line may be told while the last row still waits for its columns


def accounts(reader: Reader, incident: Incident) -> tuple[Stored, ...]:
    """The answers to the present episode: those of models, the newest first, then our own."""
    kept = (unpack(body) for body, _ in reader.answers(incident.id, incident.episode))
    return tuple(stored for stored in kept if stored is not None)


def moves(answers: Sequence[Stored]) -> Mapping[str, Move]:
    """How far the metrics went, as of the last time that the incident was explained."""
    newest = max(answers, key=lambda a: a.revision, default=None)
    return {} if newest is None else newest.gravity.moves


def explanation(reader: Reader, incident: Incident, answers: Sequence[Stored] | None = None) -> HypothesisView | None:
    """The checked hypothesis of an incident with its predictions as they stand; of the answers one that stands."""
    registered = reader.predictions(incident.id)
    views = []
    for stored in accounts(reader, incident) if answers is None else answers:
        prefix = stored.predicted(incident.id, incident.episode)
        views.append(read(stored, [(r, found) for key, r, _, found in registered if key.startswith(prefix)]))
    return next((view for view in views if view.stands), views[0] if views else None)


def draw_chart(reader: Reader, incident: Incident, answers: Sequence[Stored]) -> tuple[bytes, str] | None:
    """PNG and alt text; None where there are no samples to draw."""
    from monitor import chart  # pillow: only once there is something to draw  # noqa: PLC0415

    first = max(0, incident.first_row - CHART_BEFORE)
    last = min(max(incident.last_row, incident.paged_row) + CHART_AFTER, first + CHART_MOST)
    window = reader.window(incident.run, first, last, telling(incident))
    step, row = begin(incident, moves(answers))
    incident = replace(incident, first_row=row, first_step=step)
    newest = max((int(s.row[-1]) for s in window.series), default=window.first_row)
    window = replace(window, last_row=newest)  # rows that are still to come get no space
    png = chart.draw(window, incident)
    return None if png is None else (png, chart.alt_text(window, incident))


def last_said(reader: Reader, incident: Incident) -> tuple[str, ...]:
    """What was said last of a run that fell silent, redacted: a target that cannot be scraped, the end of a trace."""
    if incident.kind is not Kind.SILENCE:
        return ()
    lines = reader.lines(incident.run, incident.last_row - SAID_BEFORE, 1 << 62, most=SAID)
    return tuple(redact(line.text)[:SAID_CHARS] for line in lines)
