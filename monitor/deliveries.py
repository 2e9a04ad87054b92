"""Deliveries as they are stored: which rows are due, the page of each as it stands, and what became of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from monitor.errors import PermanentError, TransientError
from monitor.exhibits import accounts, draw_chart, explanation, last_said, moves
from monitor.metrics import Metrics
from monitor.page import Page, Receipt
from monitor.pages import Exhibits, build
from monitor.reader import Delivery, Reader
from monitor.state import State

log = logging.getLogger(__name__)


class Deliveries:
    """Fulfils `monitor.outbox.Outbox`.

    charts: folder of the PNG files. link: address of an incident's page, "" if it has none.
    """

    def __init__(
        self,
        state: State,
        metrics: Metrics,
        charts: Path,
        link: Callable[[str], str],
        clock: Callable[[], float],
        command: str = "runwarden incidents",
    ) -> None:
        self._state = state
        self._metrics = metrics
        self._charts = charts
        self._link = link
        self._clock = clock
        self._command = command
        self._began: dict[tuple[str, str], float] = {}

    async def due(self, sink: str) -> list[Delivery]:
        """Rows of one sink that are not delivered."""
        rows = await self._state.read(self._state.reader.deliveries)
        self._metrics.outbox_pending.set(len(rows))
        oldest = min((r.created_t for r in rows), default=self._clock())
        self._metrics.outbox_oldest.set(max(0.0, self._clock() - oldest))
        return [r for r in rows if r.sink == sink]

    async def page(self, delivery: Delivery) -> Page:
        """The incident as it stands now."""
        return await self._state.read(self._build, self._state.reader, delivery)

    async def begun(self, delivery: Delivery) -> None:
        """Keep the intent before anything leaves."""
        self._began[delivery.incident, delivery.sink] = self._clock()
        await self._state.write(self._state.ledger.begin_delivery, delivery.incident, delivery.sink, delivery.receipt)

    async def done(self, delivery: Delivery, receipt: Receipt) -> None:
        """Keep the receipt."""
        await self._state.write(self._state.ledger.delivered, delivery.incident, receipt, delivery.wanted)
        self._count(delivery, "ok")
        if delivery.delivered == 0:
            self._metrics.row_to_page.observe(max(0.0, self._clock() - delivery.created_t))

    async def failed(self, delivery: Delivery, error: TransientError | PermanentError, due_t: float) -> None:
        """Keep the error and when to try again."""
        dead = isinstance(error, PermanentError)
        receipt = error.receipt if isinstance(error, TransientError) else None
        await self._state.write(
            self._state.ledger.failed, delivery.incident, delivery.sink, str(error), due_t, dead, receipt
        )
        self._count(delivery, "dead" if dead else "retry")

    def _count(self, delivery: Delivery, result: str) -> None:
        began = self._began.pop((delivery.incident, delivery.sink), self._clock())
        self._metrics.delivery.labels(sink=delivery.sink).observe(max(0.0, self._clock() - began))
        self._metrics.pages.labels(sink=delivery.sink, result=result).inc()

    def _build(self, reader: Reader, delivery: Delivery) -> Page:
        incident = reader.incident(delivery.incident)
        assert incident is not None, "an outbox row always has its incident"
        page_id = f"{incident.id}.{delivery.wanted}"
        answers = accounts(reader, incident)
        chart = draw_chart(reader, incident, answers)
        if chart is not None:
            try:
                (self._charts / f"{incident.id}.png").write_bytes(chart[0])
            except OSError as e:  # the page carries its chart itself
                self._metrics.dropped.labels(reason="chart_file").inc()
                log.warning("chart_not_written incident=%s error=%s", incident.id, e)
        address = self._link(incident.id)
        beside = Exhibits(
            notes=reader.notes(incident.id),
            hypothesis=explanation(reader, incident, answers),
            moves=moves(answers),
            said=last_said(reader, incident),
            chart=chart,
            chart_of=f"{incident.episode}.{max((a.revision for a in answers), default=0)}",
            links=(("Status page", address),) if address else (),
        )
        return build(incident, page_id, beside, self._command)
