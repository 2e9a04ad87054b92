"""Destinations of pages: one file per destination, over one renderer.

A sink module offers `Params` (its section of the configuration), `create(params)` and a class that fulfils
`monitor.ports.Sink`. To add one: its file and its line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from monitor.ports import Sink
from monitor.section import Section

REGISTRY: Mapping[str, str] = {
    "terminal": "sinks.terminal",
    "slack": "sinks.slack",
}


def params() -> dict[str, type[Section]]:
    """The section of each sink."""
    return {name: import_module(module).Params for name, module in REGISTRY.items()}


def create(name: str, section: Section) -> Sink:
    """Make the sink `name`. Raises KeyError."""
    return cast("Sink", import_module(REGISTRY[name]).create(section))
