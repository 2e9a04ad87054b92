"""The status page's questions, answered from the committed state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from detectors.types import Kind, Role, Severity
from monitor.exhibits import accounts, draw_chart, explanation, last_said, moves
from monitor.incident import Incident, Life
from monitor.pages import UNTOLD, ending, facts, headline, place, standing
from monitor.reader import Reader
from monitor.state import State
from monitor.web.view import IncidentDetail, IncidentRow, RunRow, RunState


class StatusView:
    """Fulfils `monitor.web.view.View`. trouble: sources that cannot be read right now."""

    def __init__(self, state: State, clock: Callable[[], float], trouble: Callable[[], Sequence[str]]) -> None:
        self._state = state
        self._clock = clock
        self._trouble = trouble

    async def runs(self) -> Sequence[RunRow]:
        """Runs with open incidents first, then by their last row."""
        return await self._state.read(self._runs, self._state.reader)

    async def incidents(self) -> Sequence[IncidentRow]:
        """Open and recent incidents of at least notice, and what history left in a bad state."""
        return await self._state.read(self._incidents, self._state.reader)

    async def incident(self, incident: str) -> IncidentDetail | None:
        """One incident with everything that is known of it."""
        return await self._state.read(self._incident, self._state.reader, incident)

    async def chart(self, incident: str) -> bytes | None:
        """Its chart."""
        return await self._state.read(self._chart, self._state.reader, incident)

    def _runs(self, reader: Reader) -> list[RunRow]:
        now, lost = self._clock(), set(self._trouble())
        open_ = [i for i in reader.incidents() if i.state is not Life.RESOLVED and i.severity > Severity.RECORD]
        rows = []
        for name, source, known in reader.runs():
            mine = [i for i in open_ if i.run == name]
            state = RunState.GROWING
            if known["finished"]:
                state = RunState.FINISHED
            elif source in lost:
                state = RunState.UNREACHABLE
            elif any(i.kind is Kind.SILENCE for i in mine) or not known["live"]:
                state = RunState.SILENT
            seen, step = known["seen"], known["last_step"]
            rows.append(
                RunRow(
                    run=name,
                    state=state,
                    step=step if step >= 0 else None,
                    age_s=max(0.0, now - seen) if math.isfinite(seen) else None,
                    loss=_last_loss(reader, name, known["last_row"]),
                    incidents=len(mine),
                )
            )
        return sorted(rows, key=lambda r: (-r.incidents, math.inf if r.age_s is None else r.age_s))

    def _incidents(self, reader: Reader) -> list[IncidentRow]:
        return [_row(reader, i) for i in reader.incidents() if i.severity > Severity.RECORD or _left_bad(i)]

    def _incident(self, reader: Reader, incident_id: str) -> IncidentDetail | None:
        incident = reader.incident(incident_id)
        if incident is None:
            return None
        answers = accounts(reader, incident)
        chart = draw_chart(reader, incident, answers)
        return IncidentDetail(
            row=_row(reader, incident),
            facts=facts(incident, moves(answers), last_said(reader, incident)),
            hypothesis=explanation(reader, incident, answers),
            notes=reader.notes(incident.id),
            chart=chart is not None,
            chart_alt=chart[1] if chart else "",
        )

    def _chart(self, reader: Reader, incident_id: str) -> bytes | None:
        incident = reader.incident(incident_id)
        chart = None if incident is None else draw_chart(reader, incident, accounts(reader, incident))
        return chart[0] if chart else None


def _left_bad(incident: Incident) -> bool:
    """Whether it would have been told, had it happened under our eyes, and is not over."""
    return incident.state is not Life.RESOLVED and incident.withheld > incident.severity


def _why(incident: Incident) -> str:
    """How it ended, or why nobody was told."""
    if incident.state is Life.RESOLVED:
        return ending(incident)
    if incident.severity is Severity.RECORD:
        since = place(incident.first_step, incident.first_row)
        return f"not over since {since}; {UNTOLD.get(incident.reason, 'nobody was paged')}"
    return ""


def _row(reader: Reader, incident: Incident) -> IncidentRow:
    answers = accounts(reader, incident)
    hypothesis = explanation(reader, incident, answers)
    return IncidentRow(
        id=incident.id,
        run=incident.run,
        kind=incident.kind.value,
        state="history" if incident.severity is Severity.RECORD else standing(incident),
        why=_why(incident),
        severity=incident.severity.name.lower(),
        headline=headline(incident, moves(answers)),
        hypothesis=f"{hypothesis.cause.replace('_', ' ')} ({hypothesis.author})" if hypothesis else "",
        opened_t=incident.opened_t,
        updated_t=incident.updated_t,
        resolved_t=incident.resolved_t if math.isfinite(incident.resolved_t) else None,
    )


def _last_loss(reader: Reader, run: str, row: int) -> float | None:
    series = reader.window(run, max(0, row - 20), row).of(Role.LOSS)
    return float(series.values[-1]) if series is not None and series.values.size else None
