"""What every part of the configuration shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from monitor.yamlfile import section_of


class Section(BaseModel):
    """A part of the configuration: unknown keys, loose types and later changes are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_means_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        sections = {name for name, f in cls.model_fields.items() if section_of(f.annotation)}
        return {k: {} if v is None and k in sections else v for k, v in data.items()}


def with_kinds(base: type[Section], kinds: Mapping[str, type[Section]]) -> Any:
    """`base` with an optional key for each kind, so that a registry is the only list of kinds."""
    fields: dict[str, Any] = {
        kind: (section | None, Field(default=None, description=(section.__doc__ or "").partition("\n")[0]))
        for kind, section in kinds.items()
    }
    return create_model(base.__name__, __base__=base, __module__=base.__module__, __doc__=base.__doc__, **fields)
