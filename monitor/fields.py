"""Types of single configuration values: paths, addresses, ids, and secrets.

Secrets are named in the configuration and read from where they live; no message repeats what may be one. Validators
find the folder of the file and the environment in the validation context.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo

from monitor.expression import Expression
from monitor.web.address import check_base_url, is_loopback, parse_address
from monitor.yamlfile import read_regular

MAX_SECRET_BYTES = 64 << 10


class SecretName(BaseModel):
    """Where a secret is: exactly one of these. It is never written in the file itself."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1, "maxProperties": 1})

    env: str = Field("", description="Name of an environment variable.")
    file: str = Field("", description="Path of a file, taken from the folder of the configuration.")
    credential: str = Field("", description="Name of a systemd credential: a file in $CREDENTIALS_DIRECTORY.")


def _resolve(value: Any, info: ValidationInfo) -> object:
    """Validator: {env: NAME}, {file: PATH} or {credential: NAME} becomes a SecretStr. Raises ValueError."""
    match value:
        case SecretStr():
            return value
        case {"env": str()} | {"file": str()} | {"credential": str()} if not (info.context or {}).get("secrets", True):
            return SecretStr("not read")
        case {"env": str(name)} if len(value) == 1:
            text = _from_environ(name, _environ(info))
        case {"file": str(name)} if len(value) == 1:
            shown = f"the file {name}" if name.startswith(("/", "./", "~/")) else "the file named here"
            text = _from_file(_absolute(name, info), shown)
        case {"credential": str(name)} if len(value) == 1:
            text = _from_credential(name, _environ(info))
        case _:
            raise ValueError(
                "must name where the secret is, not hold it; allowed: {env: NAME}, {file: PATH}, {credential: NAME}"
            )
    if not text.isascii() or not text.isprintable() or not text or " " in text:
        raise ValueError("leads to something that is not one word of printable ASCII")
    return SecretStr(text)


def _environ(info: ValidationInfo) -> Mapping[str, str]:
    environ: Mapping[str, str] = (info.context or {}).get("environ", {})
    return environ


def _from_environ(name: str, environ: Mapping[str, str]) -> str:
    if text := environ.get(name, "").strip():
        return text
    # A token that was put here by mistake is not spelt like this.
    shown = f"variable {name}" if re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name) else "variable named here"
    raise ValueError(
        f"is missing: the environment {shown} is not set; set it, or use {{file: PATH}} or {{credential: NAME}}"
    )


def _from_credential(name: str, environ: Mapping[str, str]) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}", name):
        raise ValueError("must name a credential with letters, digits and _.- only")
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ValueError(
            "is missing: $CREDENTIALS_DIRECTORY is not set; run under systemd with LoadCredential=NAME:PATH, "
            "or use {env: NAME} or {file: PATH}"
        )
    return _from_file(Path(folder, name), "the credential named here", "; add LoadCredential=NAME:PATH to the unit")


def _from_file(path: Path, shown: str, remedy: str = "; check the path and who may read it") -> str:
    try:
        data = read_regular(path, MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"is missing: {shown} cannot be read: {error.strerror}{remedy}") from None
    text = data.decode("utf-8", "replace").strip()
    if not text:
        raise ValueError(f"is missing: {shown} is empty")
    return "" if len(data) > MAX_SECRET_BYTES else text


def _absolute(value: Any, info: ValidationInfo) -> Any:
    """Take a path from the configuration's folder; a leading ~ is the home of the user who runs this."""
    if not isinstance(value, str):
        return value
    if not value or "\0" in value or ".." in Path(value).parts:
        raise ValueError("must be a path without '..'")
    context = info.context or {}
    home = context.get("environ", {}).get("HOME", "")
    path = Path(home, value[2:]) if value.startswith("~/") and home else Path(value)
    return Path(context.get("folder", "/"), path)


def _listen(value: str) -> str:
    parse_address(value)
    return value


def _listen_here(value: str) -> str:
    host, _ = parse_address(value)
    if not is_loopback(host):
        raise ValueError("must be a loopback address such as 127.0.0.1: the status page asks nobody who they are")
    return value


def _channel(value: str) -> str:
    if not re.fullmatch(r"[CGD][A-Z0-9]{2,30}", value):
        raise ValueError(
            "must be a channel id such as C0123456789 (channel details in Slack, at the bottom), not a #name"
        )
    return value


def _base_url(value: str) -> str:
    check_base_url(value)
    return value


def _plain_url(value: str) -> str:
    check_base_url(value, plain=True)
    return value


def repeated(names: Sequence[str]) -> str | None:
    """The first name that stands there more than once."""
    return next((name for name in names if names.count(name) > 1), None)


def _expression(value: str) -> str:
    Expression(value)
    return value


AbsolutePath = Annotated[Path, BeforeValidator(_absolute, json_schema_input_type=str)]
Glob = Annotated[str, BeforeValidator(lambda v, i: str(p) if isinstance(p := _absolute(v, i), Path) else p, str)]
Secret = Annotated[SecretStr, BeforeValidator(_resolve, json_schema_input_type=SecretName)]
Url = Annotated[str, AfterValidator(_base_url)]
PlainUrl = Annotated[str, AfterValidator(_plain_url)]
ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/@-]{1,100}$")]
Listen = Annotated[str, AfterValidator(_listen)]
ListenHere = Annotated[str, AfterValidator(_listen_here)]
ChannelId = Annotated[str, AfterValidator(_channel)]
Regex = Annotated[str, AfterValidator(_expression)]
