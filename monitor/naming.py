"""What metrics and items of evidence are called outside this host: role names, aliases, E1 to En. Pure.

Bounds: `MAX_ALIASES` metrics without a known role get an alias, the others are not named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectors.types import Role
from monitor import hardware

if TYPE_CHECKING:
    from monitor.incident import Incident
    from monitor.window import Window

MAX_ALIASES = 32
RUN_ALIAS = "R1"
RELATED = (
    Role.LOSS,
    Role.GRAD_NORM,
    Role.LEARNING_RATE,
    Role.STEP_TIME,
    Role.DATA_TIME,
    Role.THROUGHPUT,
    Role.LOSS_SCALE,
    Role.EVAL_LOSS,
)
TOPICS = ("overview", "onsets", "schedule", "attempts", "still", "lines")


def numbering(incident: Incident, window: Window) -> dict[str, str]:
    """Metric id or topic → id of its item. E1 is the opening metric; the related metrics follow, then the topics."""
    ids = aliases(incident, window)
    opening = ids.get(incident.metric or "", RUN_ALIAS)
    roles = [r.value for r in RELATED if window.of(r) is not None and r.value != opening]
    return {key: f"E{i}" for i, key in enumerate((opening, *roles, *TOPICS), start=1)}


def aliases(incident: Incident, window: Window) -> dict[str, str]:
    """The writer's metric name → the id used in the text. Joined metrics get their alias before all others."""
    ids = {s.metric: s.role.value for s in window.series if s.primary and s.role is not Role.OTHER}
    ids |= {s.metric: s.metric for s in window.series if s.metric in hardware.NAMES}
    joined = [m for m in (incident.metric, *incident.metrics, *(f.metric for f in incident.findings)) if m is not None]
    rest = [*joined, *sorted(s.metric for s in window.series)]
    unknown = [m for m in dict.fromkeys(rest) if m not in ids]
    return ids | {m: f"M{i}" for i, m in enumerate(unknown[:MAX_ALIASES], start=1)}
