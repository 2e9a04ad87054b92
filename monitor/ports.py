"""The protocols that adapters fulfil."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from monitor.analysis.hypothesis import Answer
from monitor.evidence import Evidence
from monitor.frame import Batch
from monitor.page import Page, Receipt


class Source(Protocol):
    """Where rows come from. Safe to abandon at any await."""

    name: str

    def batches(self, cursors: Mapping[str, str]) -> AsyncIterator[Batch]:
        """Yield batches for ever, beginning after the committed cursors; at least one per poll, even if empty."""
        ...


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

    async def close(self) -> None:
        """Release connections."""
        ...
