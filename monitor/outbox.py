"""Delivery: every sink is brought to what it should show, at least once, and looks before it repeats.

The outbox holds one row per incident and sink, with what is wanted and what is delivered; a worker per sink closes the
gap. A burst of changes therefore folds into one edit, and a sink that was down catches up with the present state.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sqlite3
from collections.abc import Callable
from typing import Protocol

from monitor.errors import PermanentError, TransientError
from monitor.page import Page, Receipt
from monitor.ports import Sink
from monitor.reader import Delivery

log = logging.getLogger(__name__)

RETRY_LEAST_S = 1.0
RETRY_MOST_S = 300.0


class Outbox(Protocol):
    """What a worker needs of the rest: the outbox rows, the pages, and where to write down what became of them."""

    async def due(self, sink: str) -> list[Delivery]:
        """Rows of one sink that are not delivered, most severe and oldest first."""
        ...

    async def page(self, delivery: Delivery) -> Page:
        """The incident as it stands now."""
        ...

    async def begun(self, delivery: Delivery) -> None:
        """Keep the intent before anything leaves."""
        ...

    async def done(self, delivery: Delivery, receipt: Receipt) -> None:
        """Keep the receipt."""
        ...

    async def failed(self, delivery: Delivery, error: TransientError | PermanentError, due_t: float) -> None:
        """Keep the error and when to try again."""
        ...


class Worker:
    """Delivers to one sink, one page at a time. clock: Unix seconds. timeout_s: a backstop, sinks bound themselves."""

    def __init__(self, sink: Sink, outbox: Outbox, clock: Callable[[], float], timeout_s: float = 660.0) -> None:
        self._sink = sink
        self._outbox = outbox
        self._clock = clock
        self._timeout_s = timeout_s
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Deliver for ever; woken when something changed or when the next retry is due."""
        while True:
            self.wake.clear()
            wait = await self.round()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), wait)

    async def round(self) -> float:
        """Deliver everything that is due once; seconds until the next row is due, at most 60."""
        wait = 60.0
        for delivery in await self._outbox.due(self._sink.name):
            left = delivery.due_t - self._clock()
            wait = min(wait, left if left > 0 else await self._deliver(delivery))
        return wait

    async def _deliver(self, delivery: Delivery) -> float:
        try:
            page = await self._outbox.page(delivery)
            await self._outbox.begun(delivery)
            async with asyncio.timeout(self._timeout_s):
                receipt = await self._sink.deliver(page, delivery.receipt)
        except TimeoutError:
            return await self._retry(delivery, TransientError(f"no answer within {self._timeout_s:g} s"))
        except TransientError as e:
            return await self._retry(delivery, e)
        except PermanentError as e:
            log.error(  # noqa: TRY400, the text says all
                "page_dead sink=%s incident=%s error=%s", delivery.sink, delivery.incident, e
            )
            await self._outbox.failed(delivery, e, self._clock())
            return 60.0
        except sqlite3.Error:
            raise
        except Exception as e:
            log.exception("page_broken sink=%s incident=%s", delivery.sink, delivery.incident)
            return await self._retry(delivery, TransientError(f"defect: {e!r}"))
        await self._outbox.done(delivery, receipt)
        return 0.0  # something may have changed meanwhile: look again

    async def _retry(self, delivery: Delivery, error: TransientError) -> float:
        backoff = min(RETRY_MOST_S, RETRY_LEAST_S * 2.0 ** min(delivery.tries, 12)) * (1.0 + random.random() / 4.0)  # noqa: S311
        wait = error.retry_after_s or backoff
        log.warning("page_retry sink=%s incident=%s in_s=%.1f error=%s", delivery.sink, delivery.incident, wait, error)
        await self._outbox.failed(delivery, error, self._clock() + wait)
        return wait
