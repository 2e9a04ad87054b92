"""The protocols that analysts and sinks fulfil; that of sources is in `monitor.frame`."""

from __future__ import annotations

from typing import Protocol

from monitor.analysis.hypothesis import Answer
from monitor.evidence import Evidence
from monitor.page import Page, Receipt


class Analyst(Protocol):
    """Explains evidence. Raises TransientError or PermanentError, whose text names the reason."""

    name: str

    async def explain(self, evidence: Evidence) -> Answer:
        """Answer with a hypothesis; the caller bounds the time."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Sink(Protocol):
    """A destination of pages. Raises TransientError or PermanentError; their texts carry no secret."""

    name: str

    async def deliver(self, page: Page, prior: Receipt | None) -> Receipt:
        """Make the destination show `page`; with a prior receipt edit and continue what it points to."""
        ...

    async def check(self) -> list[str]:
        """Say where pages go and what stands in their way, one line each; nothing is shown there."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
