"""What the configuration says about an OTLP receiver, and the source that is made of it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from monitor.fields import Listen
from monitor.frame import Source
from monitor.sources import named
from monitor.sources.remote_write.section import Params as PushParams

ANSWER_S = 8.0  # an SDK gives up after 10 s


class Params(PushParams):
    """Gauges and sums that OpenTelemetry SDKs and collectors push (OTLP over HTTP). Queries are as for prometheus."""

    name: str = named("otlp")
    listen: Listen = Field(
        default="127.0.0.1:4318",
        description="HOST:PORT for POST /v1/metrics; other than loopback needs a token. Port 0: any free one.",
    )
    step_attribute: str = Field(
        default="", max_length=200, description="Attribute of points that holds the step; empty: see step_metric."
    )

    @model_validator(mode="after")
    def _one_step(self) -> Self:
        if self.step_metric and self.step_attribute:
            raise ValueError("has a step_metric and a step_attribute; keep one of them")
        return self


def create(params: Params) -> list[Source]:
    """One receiver."""
    from monitor.sources.otlp.message import Stepped, plain, wire  # noqa: PLC0415, only what is configured
    from monitor.sources.remote_write.rows import Bounds  # noqa: PLC0415
    from monitor.sources.remote_write.source import Plan, RemoteWriteSource  # noqa: PLC0415
    from monitor.sources.series import Query  # noqa: PLC0415

    queries = tuple(Query(**query.model_dump()) for query in params.queries)
    step, stepped = params.step_metric, None
    if params.step_attribute:
        step, label = plain(params.step_attribute), queries[0].run_label
        stepped = Stepped(attribute=params.step_attribute, run_label=label)
        queries = (Query(query=step, run_label=label), *queries)
    plan = Plan(
        listen=params.listen,
        queries=queries,
        token=params.token.get_secret_value() if params.token else "",
        step_metric=step,
        presets=params.presets,
        host_label=params.host_label,
        hosts=params.hosts,
        max_bytes=params.max_bytes,
        bounds=Bounds(
            max_series=params.max_series, max_run_series=params.max_run_series, join_s=params.join_s, repeats=True
        ),
        answer_s=ANSWER_S,
        wire=wire(stepped),
    )
    return [RemoteWriteSource(params.name, plan)]
