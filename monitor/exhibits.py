"""What is shown beside the facts of an incident, from committed state: its checked explanation and its chart.

Bounds: of each chart `CHART_MOST` rows.
"""

from __future__ import annotations

import json
from dataclasses import replace

from monitor.explain import telling, unpack
from monitor.incident import Incident
from monitor.page import HypothesisView
from monitor.reader import Reader

CHART_BEFORE, CHART_AFTER = 160, 400  # rows: few enough before it that a young event can be seen
CHART_MOST = 20_000  # rows in all


def explanation(reader: Reader, incident: Incident) -> HypothesisView | None:
    """The checked hypothesis of an incident with its predictions as they stand."""
    body = reader.answer(incident.id, incident.episode)
    if body is None:
        return None
    prefix = f"{incident.id}-{incident.episode}-{json.loads(body)['author']}-"
    mine = [(r, found) for key, r, _, found in reader.predictions(incident.id) if key.startswith(prefix)]
    return unpack(body, mine)


def draw_chart(reader: Reader, incident: Incident) -> tuple[bytes, str] | None:
    """PNG and alt text; None where there are no samples to draw."""
    from monitor import chart  # pillow: only once there is something to draw  # noqa: PLC0415

    first = max(0, incident.first_row - CHART_BEFORE)
    last = min(max(incident.last_row, incident.paged_row) + CHART_AFTER, first + CHART_MOST)
    window = reader.window(incident.run, first, last, telling(incident))
    newest = max((int(s.row[-1]) for s in window.series), default=window.first_row)
    window = replace(window, last_row=newest)  # rows that are still to come get no space
    png = chart.draw(window, incident)
    return None if png is None else (png, chart.alt_text(window, incident))
