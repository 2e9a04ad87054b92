"""Which runs of a project are followed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from monitor.sources.files.values import clock
from monitor.sources.wandb.records import count

MAX_TITLE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A run as the list of a project has it. created: Unix seconds, -inf if unknown. beat: of its last heartbeat."""

    id: str
    title: str
    tags: frozenset[str]
    state: str
    created: float
    beat: float
    lines: int

    @classmethod
    def of(cls, edge: Any) -> Self | None:
        """From an edge of the list, None if it is none."""
        node = edge.get("node") if isinstance(edge, dict) else None
        if not isinstance(node, dict) or not isinstance(node.get("name"), str) or not node["name"]:
            return None
        tags = node.get("tags")
        created, beat = (clock(node.get(key), sure=True) for key in ("createdAt", "heartbeatAt"))
        return cls(
            id=node["name"],
            title=str(node.get("displayName") or "")[:MAX_TITLE],
            tags=frozenset(map(str, tags if isinstance(tags, list) else ())),
            state=str(node.get("state") or ""),
            created=-math.inf if created is None else created,
            beat=math.inf if beat is None else beat,
            lines=count(node.get("historyLineCount")),
        )

    def age_s(self, now: float) -> float:
        """Seconds since its last heartbeat; one that has had none is new."""
        return now - self.beat


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a run must be to be taken up. matches: RE2 that its title or id holds; "" and () take all."""

    matches: str = ""
    tags: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    max_age_s: float = 86_400.0

    def takes(self, run: Listed, now: float) -> bool:
        """Whether it is one."""
        if run.age_s(now) > self.max_age_s or (self.states and run.state not in self.states):
            return False
        return (not self.tags or bool(self.tags & run.tags)) and (not self.matches or self._named(run))

    def _named(self, run: Listed) -> bool:
        import re2  # noqa: PLC0415, only who has a pattern loads it

        return any(re2.search(self.matches, text) is not None for text in (run.title, run.id))
