"""When an incident has become another one than the explanation saw: the rule by which it is explained anew. Pure.

Material is a higher severity, a kind or metric that joined, a value half as far out again as the worst one so far, one
that is not finite any more, a prediction that was refuted, the end. Bounds: `REVISIONS` explanations per episode
besides the one at its end, `ASKS` of them put to a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detectors.types import Severity
from monitor.incident import Life
from monitor.move import Move, worsened

if TYPE_CHECKING:
    from monitor.incident import Incident

REVISIONS = 8
ASKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Gravity:
    """What an explanation was made for.

    said: kind and metric of every finding; refuted: whether a prediction
    for a leading cause has failed.
    """

    severity: int
    said: frozenset[tuple[str, str]]
    moves: Mapping[str, Move]
    over: bool
    refuted: bool = False


def gravity(incident: Incident, moves: Mapping[str, Move], refuted: bool = False) -> Gravity:
    """How bad an incident is by now."""
    return Gravity(
        severity=int(incident.severity),
        said=frozenset((f.kind.value, f.metric or "") for f in incident.findings if f.severity >= Severity.NOTICE),
        moves=moves,
        over=incident.state is Life.RESOLVED,
        refuted=refuted,
    )


def material(before: Gravity, now: Gravity) -> bool:
    """Whether the explanation made for `before` has to be made again."""
    return (
        now.severity > before.severity
        or not now.said <= before.said
        or now.over != before.over
        or now.refuted > before.refuted
        or bool(worsened(before.moves, now.moves))
    )
