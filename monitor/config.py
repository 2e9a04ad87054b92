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
from typing import Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from monitor.fields import AbsolutePath, ChannelId, Glob, Listen, ListenHere, ModelId, Regex, Secret, Url, repeated
from monitor.section import Section
from monitor.source_sections import PrometheusSection
from monitor.yamlfile import ConfigError, Document, Problem, explain, read_document

__all__ = ["Config", "ConfigError", "Problem", "default", "json_schema", "load"]

MAX_SOCKET_PATH = 107  # bytes in sockaddr_un, less the closing NUL


class LinePattern(Section):
    """Lines of text that no known trainer writes, by a regular expression with named groups."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="What it is called in messages; unique.")
    regex: Regex = Field(
        description="RE2 expression with named groups: step, t, total; all others are metrics. Try: inspect --pattern."
    )


class FilesSource(Section):
    """Metrics and logs in files, followed as they grow."""

    paths: tuple[Glob, ...] = Field(
        min_length=1, max_length=1000, description="Files, folders (searched below) and glob patterns; no '..'."
    )
    name: str = Field(
        default="files",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Name in metrics and messages; what was read is remembered under it. Unique among the sources.",
    )
    poll_s: float = Field(default=0.25, ge=0.01, le=10, description="Seconds between two looks at the files.")
    max_line_bytes: int = Field(
        default=1 << 20, ge=1024, le=1 << 26, description="Longer lines are skipped and counted (bytes, default 1 MiB)."
    )
    patterns: tuple[LinePattern, ...] = Field(
        default=(), max_length=50, description="Tried on lines of text before the patterns of the known trainers."
    )

    @model_validator(mode="after")
    def _each_pattern_once(self) -> Self:
        if twice := repeated([pattern.name for pattern in self.patterns]):
            raise ValueError(f"has two patterns named {twice!r}; give one of them another `name`")
        return self


class SourceItem(Section):
    """One source: exactly one key, its kind."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    files: FilesSource | None = Field(default=None, description="Follow files.")
    prometheus: PrometheusSection | None = Field(default=None, description="Poll a Prometheus server.")

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
    def name(self) -> str:
        """The name of the source that is set."""
        return str(getattr(self, self.kind).name)


class TerminalSink(Section):
    """Pages as text on the standard output."""


class SlackSink(Section):
    """Pages as messages in one channel, edited as the incident goes on."""

    channel: ChannelId = Field(description="Id of the channel, such as C0123456789.")
    token: Secret = Field(description="Bot token (xoxb-…) with the scopes chat:write, files:write, channels:history.")
    base_url: Url = Field(default="https://slack.com/api/", description="Where the Slack API is.")
    timeout_s: float = Field(
        default=30.0, gt=0, le=300, description="Seconds one delivery may take before it is tried again."
    )


class Sinks(Section):
    """Where pages go: all of these."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    terminal: TerminalSink | None = Field(default=None, description="Standard output.")
    slack: SlackSink | None = Field(default=None, description="A Slack channel.")

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.model_fields_set:
            raise ValueError(f"must name at least one; allowed: {', '.join(type(self).model_fields)}")
        return self


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
        if twice := repeated([source.name for source in self.sources]):
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


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read, check and resolve everything; secrets come from `environ` and from files. Raises ConfigError."""
    document = read_document(path)
    if document.value is None:
        raise ConfigError([document.problem((), "is empty; config/minimal.yaml shows the least that works")])
    return _validate(document, environ, path.absolute().parent)


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


def _validate(document: Document, environ: Mapping[str, str], folder: Path) -> Config:
    value = document.value
    if isinstance(value, dict) and "state_dir" not in value and environ.get("STATE_DIRECTORY"):
        value = {**value, "state_dir": environ["STATE_DIRECTORY"].partition(":")[0]}
    try:
        config = Config.model_validate(value, context={"environ": environ, "folder": folder})
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
