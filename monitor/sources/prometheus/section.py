"""What the configuration says about a Prometheus server, and the source that is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from monitor.fields import PlainUrl, Secret
from monitor.frame import Source
from monitor.section import Section
from monitor.sources import SourceSection, named
from monitor.web.address import is_loopback

LABEL = r"^[a-zA-Z_][a-zA-Z0-9_]{0,127}$"
SELECTOR = r"^([a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})?|\{.+\})$"
Label = Annotated[str, Field(pattern=LABEL)]


class PrometheusQuery(Section):
    """Series of one metric, and which run each of them belongs to."""

    query: str = Field(
        pattern=SELECTOR,
        max_length=1500,
        description='Series selector such as train_loss{job="trainer"}; no function, operator or range.',
    )
    metric: str = Field(
        default="", max_length=200, description="Name of the metric here; empty: the one of the series."
    )
    run_label: Label = Field(default="run", description="Label that names the run; series without it are dropped.")
    labels: tuple[Label, ...] = Field(
        default=(), max_length=8, description="Labels that tell series of one run apart, such as gpu."
    )


class HostParams(SourceSection):
    """Which exporters of hosts are read for the evidence of the runs there."""

    presets: tuple[Literal["dcgm", "node"], ...] = Field(
        default=(), max_length=2, description="dcgm-exporter, node-exporter: context of pages, never a page itself."
    )
    host_label: Label = Field(
        default="instance", description="Label that names the host of a run's series and of an exporter's; no port."
    )
    hosts: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict, max_length=10_000, description="Host: names of runs that are there besides."
    )


class Params(HostParams):
    """Samples of a Prometheus server, as they were scraped. Runs are called NAME/VALUE-OF-THE-LABEL."""

    url: PlainUrl = Field(description="What stands before /api/v1; https if there is a token or a password.")
    queries: tuple[PrometheusQuery, ...] = Field(min_length=1, max_length=50, description="What is read.")
    name: str = named("prometheus")
    poll_s: float = Field(
        default=15.0, ge=0.1, le=20, description="Seconds between two polls; more would starve the watchdog."
    )
    lookback_s: float = Field(
        default=86400.0,
        ge=60,
        le=31_536_000,
        description="How far back is read at first and after a gap, within the server's retention (seconds, 1 day).",
    )
    late_s: float = Field(
        default=120.0, ge=1, le=86400, description="Seconds a sample may take from its timestamp into the server."
    )
    timeout_s: float = Field(default=30.0, gt=0, le=300, description="Seconds one answer may take.")
    step_metric: str = Field(
        default="", max_length=200, description="Metric whose value is the step of the run; empty: rows have no step."
    )
    max_series: int = Field(
        default=1000, ge=1, le=20_000, description="Series of one query; more are dropped, counted."
    )
    token: Secret | None = Field(default=None, description="Bearer token.")
    username: str | None = Field(default=None, min_length=1, max_length=200, description="User, with a password.")
    password: Secret | None = Field(default=None, description="Password of the user.")

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if self.token is not None and self.username is not None:
            raise ValueError("has a token and a username; keep one of them")
        if (self.username is None) != (self.password is None):
            raise ValueError("must have both username and password, or none")
        parts = urlsplit(self.url)
        secret = self.token is not None or self.password is not None
        if secret and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("must have a url with https:// to send a token or a password")
        return self


def create(params: Params) -> list[Source]:
    """One source for the server."""
    from monitor.sources.prometheus.source import Plan, PrometheusSource, authorization  # noqa: PLC0415, aiohttp
    from monitor.sources.series import Query  # noqa: PLC0415

    token, password = (s.get_secret_value() if s else "" for s in (params.token, params.password))
    plan = Plan(
        url=params.url,
        queries=tuple(Query(**query.model_dump()) for query in params.queries),
        authorization=authorization(token, params.username or "", password),
        step_metric=params.step_metric,
        poll_s=params.poll_s,
        lookback_s=params.lookback_s,
        late_s=params.late_s,
        timeout_s=params.timeout_s,
        max_series=params.max_series,
        presets=params.presets,
        host_label=params.host_label,
        hosts=params.hosts,
    )
    return [PrometheusSource(params.name, plan)]
