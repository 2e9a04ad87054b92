"""What the configuration says about a remote-write receiver, and the source that is made of it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from monitor.fields import Listen, Secret
from monitor.frame import Source
from monitor.sources import named
from monitor.sources.prometheus.section import HostParams, PrometheusQuery
from monitor.sources.selector import Selector
from monitor.web.address import is_loopback, parse_address


class Params(HostParams):
    """Samples that Prometheus, vmagent and their kin push (remote write 1.0). Runs are called as for prometheus."""

    queries: tuple[PrometheusQuery, ...] = Field(
        min_length=1, max_length=50, description="What is taken of what is pushed; the first that selects a series."
    )
    name: str = named("remote_write")
    listen: Listen = Field(
        default="127.0.0.1:9879",
        description="HOST:PORT for POST /api/v1/write; other than loopback needs a token. Port 0: any free one.",
    )
    token: Secret | None = Field(default=None, description="Bearer token that senders must have.")
    step_metric: str = Field(
        default="", max_length=200, description="Metric whose value is the step of the run; empty: rows have no step."
    )
    join_s: float = Field(
        default=2.0, ge=0, le=60, description="Seconds a row waits for samples of its timestamp in other requests."
    )
    max_bytes: int = Field(
        default=16 << 20,
        ge=1 << 16,
        le=1 << 28,
        description="Bytes of one request, also after decompression (16 MiB).",
    )
    max_series: int = Field(
        default=5000, ge=1, le=1_000_000, description="Series of one sender (address); more are dropped, counted."
    )
    max_run_series: int = Field(
        default=1000, ge=1, le=20_000, description="Series of one run; more are dropped, counted."
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.token is None and not is_loopback(parse_address(self.listen)[0]):
            raise ValueError("must have a token to listen on an address that others can reach")
        for query in self.queries:
            try:
                Selector(query.query)
            except ValueError as e:
                raise ValueError(f"has the query {query.query[:60]!r}, which {e}") from None
        return self


def create(params: Params) -> list[Source]:
    """One receiver."""
    from monitor.sources.remote_write.rows import Bounds  # noqa: PLC0415, only what is configured
    from monitor.sources.remote_write.source import Plan, RemoteWriteSource  # noqa: PLC0415
    from monitor.sources.series import Query  # noqa: PLC0415

    plan = Plan(
        listen=params.listen,
        queries=tuple(Query(**query.model_dump()) for query in params.queries),
        token=params.token.get_secret_value() if params.token else "",
        step_metric=params.step_metric,
        presets=params.presets,
        host_label=params.host_label,
        hosts=params.hosts,
        max_bytes=params.max_bytes,
        bounds=Bounds(max_series=params.max_series, max_run_series=params.max_run_series, join_s=params.join_s),
    )
    return [RemoteWriteSource(params.name, plan)]
