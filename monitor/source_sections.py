"""The parts of the configuration that say what is read from services."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from monitor.fields import PlainUrl, Secret
from monitor.section import Section
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


class PrometheusSection(Section):
    """Samples of a Prometheus server, as they were scraped. Runs are called NAME/VALUE-OF-THE-LABEL."""

    url: PlainUrl = Field(description="What stands before /api/v1; https if there is a token or a password.")
    queries: tuple[PrometheusQuery, ...] = Field(min_length=1, max_length=50, description="What is read.")
    name: str = Field(
        default="prometheus",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Name in metrics and messages; what was read is remembered under it. Unique among the sources.",
    )
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
