"""Destinations of pages: one file per destination, over one renderer.

A sink module offers `Params` (what a configuration may say), `create(params)` and a class that fulfils
`monitor.ports.Sink`. To add one: its file and its line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from monitor.ports import Sink

REGISTRY: Mapping[str, str] = {
    "terminal": "sinks.terminal",
    "slack": "sinks.slack",
}


def create(name: str, params: Mapping[str, object]) -> Sink:
    """Make the sink `name`, secrets in `params` resolved. Raises KeyError or pydantic's ValidationError."""
    module = import_module(REGISTRY[name])
    return cast("Sink", module.create(module.Params.model_validate(params)))
