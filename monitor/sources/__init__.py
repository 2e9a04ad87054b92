"""Where rows come from: one folder per kind of source.

A source module offers `Params`, its section of the configuration, and `create(params)`, the sources that it asks for:
classes that fulfil `monitor.frame.Source`. To add one: its folder and its line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from pydantic import Field

from monitor.frame import Source
from monitor.section import Section

REGISTRY: Mapping[str, str] = {
    "files": "monitor.sources.files.section",
    "otlp": "monitor.sources.otlp.section",
    "prometheus": "monitor.sources.prometheus.section",
    "remote_write": "monitor.sources.remote_write.section",
    "trackio": "monitor.sources.trackio.section",
    "wandb": "monitor.sources.wandb.section",
}


class SourceSection(Section):
    """What every kind of source may say."""

    name: str


def named(kind: str) -> Any:
    """The field `name` of a kind of source."""
    return Field(
        default=kind,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Name in metrics and messages; what was read is remembered under it. Unique among the sources.",
    )


def params() -> dict[str, type[SourceSection]]:
    """The section of each kind."""
    return {kind: import_module(module).Params for kind, module in REGISTRY.items()}


def create(kind: str, section: SourceSection) -> list[Source]:
    """Make the sources of a section. Raises KeyError, PermanentError."""
    return cast("list[Source]", import_module(REGISTRY[kind]).create(section))
