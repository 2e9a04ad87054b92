"""What the configuration says about a W&B project, and the source that is made of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from monitor.fields import Secret, Url
from monitor.frame import Source
from monitor.sources import SourceSection, named

WORD = r"^[^\s/:?#%]{1,128}$"


def _pattern(value: str) -> str:
    if value:
        import re2  # noqa: PLC0415, only who has a pattern loads it

        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(value, options)
        except re2.error:
            raise ValueError("is not RE2 (which has no look-around and no back-references)") from None
    return value


class Params(SourceSection):
    """Live runs of a Weights & Biases project. Runs are called NAME/ID-OF-THE-RUN."""

    entity: str = Field(pattern=WORD, description="User or team that owns the project.")
    project: str = Field(pattern=WORD, description="The project.")
    api_key: Secret = Field(description="Key that may read the project.")
    base_url: Url = Field(
        default="https://api.wandb.ai", description="What stands before /graphql; of a server of your own, its address."
    )
    name: str = named("wandb")
    runs: Annotated[str, AfterValidator(_pattern)] = Field(
        default="", max_length=1000, description="RE2 expression that a run's display name or id holds; empty: all."
    )
    tags: tuple[str, ...] = Field(default=(), max_length=50, description="Runs with any of these tags; empty: all.")
    states: tuple[str, ...] = Field(
        default=(), max_length=10, description="States in which a run is taken up, such as running; empty: all."
    )
    max_age_s: float = Field(
        default=86400.0,
        ge=60,
        le=31_536_000,
        description="Runs with a younger heartbeat are taken up (seconds, 1 day).",
    )
    max_runs: int = Field(
        default=100, ge=1, le=1000, description="Runs followed at once; more wait until others end, counted."
    )
    first_rows: int = Field(
        default=2000, ge=256, le=1_000_000, description="Rows of a run that are read at first sight; older are counted."
    )
    poll_s: float = Field(
        default=15.0,
        ge=15,
        le=20,
        description="Seconds between two polls: the SDK sends every 15 s, and more would starve the watchdog.",
    )
    timeout_s: float = Field(default=30.0, gt=0, le=300, description="Seconds one answer may take.")


def create(params: Params) -> list[Source]:
    """One source for the project."""
    from monitor.sources.wandb.selection import Selection  # aiohttp: only what is configured  # noqa: PLC0415
    from monitor.sources.wandb.source import Plan, WandbSource  # noqa: PLC0415

    plan = Plan(
        entity=params.entity,
        project=params.project,
        key=params.api_key.get_secret_value(),
        url=params.base_url,
        selection=Selection(
            matches=params.runs,
            tags=frozenset(params.tags),
            states=frozenset(params.states),
            max_age_s=params.max_age_s,
        ),
        poll_s=params.poll_s,
        first_rows=params.first_rows,
        max_runs=params.max_runs,
        timeout_s=params.timeout_s,
    )
    return [WandbSource(params.name, plan)]
