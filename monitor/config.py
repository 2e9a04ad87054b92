"""The configuration: a YAML file becomes a validated, frozen `Config`, or a list of everything that is wrong with it.

Durations are numbers in seconds and end in `_s`. A secret never stands in the file: it is named ({env: NAME},
{file: PATH} or {credential: NAME}) and read once, here. Paths are taken from the folder of the file. A section with
nothing below it means its defaults. `python -m monitor.config` prints the JSON schema.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

import sinks
from monitor import sources
from monitor.fields import AbsolutePath, Listen, ListenHere, ModelId, Secret, Url, repeated
from monitor.section import Section, with_kinds
from monitor.yamlfile import ConfigError, Document, Problem, explain, read_document

__all__ = ["Config", "ConfigError", "Problem", "default", "json_schema", "load"]

MAX_SOCKET_PATH = 107  # bytes in sockaddr_un, less the closing NUL


class _SourceItem(Section):
    """One source: exactly one key, its kind."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"must have exactly one kind; allowed: {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """The key that is set."""
        return next(iter(self.model_fields_set))

    @property
    def section(self) -> sources.SourceSection:
        """What stands below it."""
        found: sources.SourceSection = getattr(self, self.kind)
        return found


class _Sinks(Section):
    """Where pages go: all of these."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.sections:
            raise ValueError(f"must name at least one; allowed: {', '.join(type(self).model_fields)}")
        return self

    @property
    def sections(self) -> dict[str, Section]:
        """What is set, by the name of the sink."""
        named = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        return {name: section for name, section in named.items() if section is not None}


if TYPE_CHECKING:
    SourceItem = _SourceItem
    Sinks = _Sinks
else:
    SourceItem = with_kinds(_SourceItem, sources.params())
    Sinks = with_kinds(_Sinks, sinks.params())


class Claude(Section):
    """The model that is asked for a hypothesis. It sees redacted evidence and has no say in whether a page goes out."""

    api_key: Secret = Field(description="Key of the Anthropic API.")
    model: ModelId = Field(default="claude-opus-5-5", description="Asked first.")
    fallback_models: tuple[ModelId, ...] = Field(
        default=("claude-opus-4-8",),
        max_length=5,
        description="Asked in this order when the one before refuses or is overloaded.",
    )
    base_url: Url = Field(default="https://api.anthropic.com", description="Where the API is.")


class Analysis(Section):
    """How a cause is looked for. The built-in diagnosis always answers; Claude as well if it is configured."""

    hold_s: float = Field(
        default=60.0, ge=0, le=900, description="Seconds a page waits for Claude at most; 0: not at all."
    )
    timeout_s: float = Field(
        default=180.0, gt=0, le=900, description="Seconds Claude may take; a late answer edits the page."
    )
    claude: Claude | None = Field(
        default=None, description="Absent: only the built-in diagnosis, nothing is sent to a model."
    )


class Detection(Section):
    """When a finding may page."""

    max_page_age_s: float = Field(
        default=21600.0,
        ge=0,
        description="What happened while this was down pages if it is younger (seconds, default 6 h).",
    )


class StoreLimits(Section):
    """How much is kept. What goes over a limit is deleted, oldest first, and counted."""

    max_gib: float = Field(default=2.0, gt=0, le=4096, description="Size of samples, log lines and evidence (GiB).")
    retain_days: float = Field(
        default=30.0, gt=0, le=3650, description="Age of samples, log lines and evidence (days)."
    )


class Web(Section):
    """The status page."""

    listen: ListenHere | None = Field(
        default="127.0.0.1:9878", description="HOST:PORT, loopback only; null: no status page."
    )


class MetricsEndpoint(Section):
    """/metrics, /healthz and /readyz of the monitor itself."""

    listen: Listen | None = Field(
        default="127.0.0.1:9877", description="HOST:PORT, may be reachable from elsewhere; null: no endpoint."
    )


class Control(Section):
    """The socket on which the command line talks to the running daemon."""

    socket: AbsolutePath | None = Field(
        default=None, description="Path of the socket; null: control.sock in state_dir."
    )
    group: str | None = Field(
        default=None, min_length=1, max_length=32, description="Group that may use it; null: only its user."
    )


class Log(Section):
    """What the monitor says about itself, on the standard error output."""

    format: Literal["console", "json"] = Field(
        default="console", description="Text for people or one JSON object per line."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is said.")


class Config(Section):
    """Runwarden configuration."""

    state_dir: AbsolutePath = Field(
        default=Path("/var/lib/runwarden"),
        description="Folder of the database, mode 0700. Default: $STATE_DIRECTORY, else /var/lib/runwarden.",
    )
    sources: tuple[SourceItem, ...] = Field(min_length=1, max_length=100, description="Where runs are watched.")
    sinks: Sinks = Field(description="Where pages go.")
    analysis: Analysis = Analysis()
    detection: Detection = Detection()
    store: StoreLimits = StoreLimits()
    web: Web = Web()
    metrics: MetricsEndpoint = MetricsEndpoint()
    control: Control = Control()
    log: Log = Log()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if twice := repeated([source.section.name for source in self.sources]):
            raise ValueError(f"has two sources named {twice!r}; give one of them another `name`")
        if len(os.fsencode(self.control_socket)) > MAX_SOCKET_PATH:
            raise ValueError(
                f"has a control.socket path longer than {MAX_SOCKET_PATH} bytes; set control.socket or state_dir"
            )
        return self

    @property
    def control_socket(self) -> Path:
        """Where the control socket is."""
        return self.control.socket or self.state_dir / "control.sock"


def load(path: Path, environ: Mapping[str, str], *, secrets: bool = True) -> Config:
    """Read, check and resolve everything; secrets come from `environ` and from files. Raises ConfigError.

    secrets: False where only the rest is wanted, by somebody who may have none of them.
    """
    document = read_document(path)
    if document.value is None:
        raise ConfigError([document.problem((), "is empty; config/minimal.yaml shows the least that works")])
    return _validate(document, environ, path.absolute().parent, secrets=secrets)


def default(paths: Sequence[str | Path], environ: Mapping[str, str]) -> Config:
    """Watch `paths` without a file: terminal, Slack if SLACK_BOT_TOKEN and SLACK_CHANNEL are set, state in the home.

    The state has a folder for each set of paths and the status page takes any free port, so that two watches do not
    meet. Relative paths are taken from the working directory. Raises ConfigError.
    """
    absolute = sorted({os.path.abspath(os.path.expanduser(path)) for path in paths})  # noqa: PTH100,PTH111  keeps globs
    digest = hashlib.sha256("\0".join(absolute).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    home = environ.get("HOME") or "/var/tmp"  # noqa: S108  only where there is no home
    state = environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path(home, ".local/state")
    sinks: dict[str, object] = {"terminal": {}}
    if environ.get("SLACK_BOT_TOKEN") and environ.get("SLACK_CHANNEL"):
        sinks["slack"] = {"channel": environ["SLACK_CHANNEL"], "token": {"env": "SLACK_BOT_TOKEN"}}
    value = {
        "state_dir": str(base / "runwarden" / digest),
        "sources": ({"files": {"paths": tuple(absolute)}},),
        "sinks": sinks,
        "web": {"listen": "127.0.0.1:0"},
        "metrics": {"listen": None},
    }
    return _validate(Document(file="command line and environment", value=value), environ, Path("/"))


def _validate(document: Document, environ: Mapping[str, str], folder: Path, *, secrets: bool = True) -> Config:
    value = document.value
    if isinstance(value, dict) and "state_dir" not in value and environ.get("STATE_DIRECTORY"):
        value = {**value, "state_dir": environ["STATE_DIRECTORY"].partition(":")[0]}
    try:
        config = Config.model_validate(value, context={"environ": environ, "folder": folder, "secrets": secrets})
    except ValidationError as error:
        said = {(p.line, p.column) for p in document.problems}
        more = [p for p in explain(error, document, Config) if (p.line, p.column) not in said]
        raise ConfigError([*document.problems, *more]) from None
    if document.problems:
        raise ConfigError(document.problems)
    return config


def json_schema() -> str:
    """The JSON schema of the file, for editors; config/schema.json is this text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json_schema())
