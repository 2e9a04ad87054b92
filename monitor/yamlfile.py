"""A YAML file becomes plain values whose places are known, and validation errors become problems at those places.

The dialect is small on purpose. Scalars are read as YAML 1.2 does: 1e-3 is a number, 12:30:00, no and on are text.
Aliases, anchors, tags and duplicate keys are refused. Bounds: the MAX_ constants below.
No message repeats a value that could be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import errno
import math
import os
import re
import stat
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

MAX_BYTES = 1 << 20
MAX_DEPTH = 50
MAX_VALUES = 10_000
MAX_DIGITS = 18
MAX_PROBLEMS = 50

Loc = tuple[int | str, ...]
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a mapping of keys",
    "path_type": "a path",
    "is_instance_of": "a path",
    "finite_number": "a finite number",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong at a place; line and column count from 1, line 0 is the file as a whole."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.message}"


class ConfigError(Exception):
    """Everything wrong with a configuration, in the order of the file; at most MAX_PROBLEMS of them are kept."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.column)))[:MAX_PROBLEMS]
        self.left_out = len(problems) - len(self.problems)
        more = [f"… and {self.left_out} more"] if self.left_out else []
        super().__init__("\n".join([*map(str, self.problems), *more]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """value: dict, tuple, str, int, float, bool or None. problems: what was wrong without stopping the reading."""

    file: str
    value: object
    root: yaml.Node | None = None
    problems: list[Problem] = field(default_factory=list)

    def problem(self, loc: Loc, message: str, *, at_key: bool = False) -> Problem:
        """A problem at the value (or its key) that `loc` leads to, or at the nearest thing above it that exists."""
        node = last = self.root
        for part in loc:
            if isinstance(node, yaml.MappingNode):
                hit = next((pair for pair in node.value if pair[0].value == str(part)), None)
                if hit is None:
                    break
                last, node = hit
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = last = node.value[part]
        at = node if isinstance(node, yaml.ScalarNode) and not at_key else last
        mark = at.start_mark if at is not None else None
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return Problem(file=self.file, line=line, column=column, message=message)


def read_document(path: Path) -> Document:
    """Read and build the one document of a file. Raises ConfigError if there is nothing to build."""
    file = str(path)
    text = _read_text(path)
    try:
        root = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
        message = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        raise ConfigError([Problem(file=file, line=line, column=column, message=message)]) from None
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        message = ": ".join(part for part in ("not valid YAML", error.context, error.problem) if part)
        if "'\\t'" in message:
            message += "; indent with spaces, not with tabs"
        raise ConfigError([Problem(file=file, line=line, column=column, message=message)]) from None
    document = Document(file=file, value=None, root=root)
    value = None if root is None else _build(root, document)
    return Document(file=file, value=value, root=root, problems=document.problems)


def _read_text(path: Path) -> str:
    """The text of the file, which must be UTF-8 and no larger than MAX_BYTES."""

    def refuse(message: str, line: int = 0, column: int = 0) -> ConfigError:
        return ConfigError([Problem(file=str(path), line=line, column=column, message=message)])

    try:
        data = read_regular(path, MAX_BYTES + 1)
    except IsADirectoryError:
        raise refuse("is a directory; name the file in it") from None
    except OSError as error:
        remedy = {errno.ENOENT: "; check the path", errno.EACCES: "; the user who runs this must be able to read it"}
        raise refuse(f"cannot be read: {error.strerror}{remedy.get(error.errno or 0, '')}") from None
    if len(data) > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES} bytes; is this the right file?")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("is UTF-16 or UTF-32; save it as UTF-8")
    if b"\0" in data:
        raise refuse("is a binary file, not YAML")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]  # the codec has taken the byte order mark off
        column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        raise refuse("is not UTF-8 from here on; save it as UTF-8", before.count(b"\n") + 1, column) from None


def read_regular(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a regular file. Raises OSError; a FIFO or device is refused, never waited for."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "a path has no NUL character")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(limit)
    finally:
        os.close(descriptor)


class _Loader(yaml.SafeLoader):
    """Composes nodes, refusing what this dialect does not have before it can cost anything."""

    depth = 0
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        refused = {
            "aliases (*name) are not supported": isinstance(event, yaml.AliasEvent),
            "anchors (&name) are not supported": getattr(event, "anchor", None) is not None,
            "tags (!name) are not supported": getattr(event, "tag", None) is not None,
            f"nested more than {MAX_DEPTH} levels deep": self.depth >= MAX_DEPTH,
            f"more than {MAX_VALUES} keys and values; is this the right file?": self.values >= MAX_VALUES,
        }
        for problem in (problem for problem, holds in refused.items() if holds):
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        self.values += 1
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _build(node: yaml.Node, document: Document) -> object:
    """Plain values out of nodes; sequences become tuples. Recursion is bounded by MAX_DEPTH."""

    def report(at: yaml.Node, message: str) -> None:
        line, column = at.start_mark.line + 1, at.start_mark.column + 1
        document.problems.append(Problem(file=document.file, line=line, column=column, message=message))

    if isinstance(node, yaml.SequenceNode):
        return tuple(_build(item, document) for item in node.value)
    if isinstance(node, yaml.ScalarNode):
        # Quoted and block scalars are text.
        if node.style is None and _INT.fullmatch(node.value) and len(node.value) > MAX_DIGITS:
            report(node, f"a number of {len(node.value)} digits; at most {MAX_DIGITS} are read")
            return 0
        return node.value if node.style is not None else _plain(node.value)
    out: dict[str, object] = {}
    first: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            report(key, "a key must be a word")
        elif key.value in out:
            report(key, f"duplicate key {_short(key.value)!r}; line {first[key.value]} has it already")
        else:
            first[key.value] = key.start_mark.line + 1
            out[key.value] = _build(value, document)
    return out


def _plain(text: str) -> object:
    """An unquoted scalar, by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> Iterator[Problem]:
    """One problem for each error of a validation, naming the keys allowed there and the nearest of them."""
    for detail in error.errors(include_url=False):
        if detail["type"] == "too_short" and len(detail["input"]):
            continue  # it has items, and what is wrong with them is said
        sentence = _sentence(detail, detail["loc"], model)
        yield document.problem(detail["loc"], sentence, at_key=detail["type"] == "extra_forbidden")


def section_of(annotation: object) -> type[BaseModel] | None:
    """The model inside `Model`, `Model | None` or `tuple[Model, ...]`, if there is one."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((m for m in map(section_of, get_args(annotation)) if m is not None), None)


def _sentence(detail: ErrorDetails, loc: Loc, model: type[BaseModel]) -> str:
    name, level, key = dotted(loc), dotted(loc[:-1]), _short(str(loc[-1] if loc else ""))
    found, context = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            text = f"missing key {key!r} in {level}"
        case "extra_forbidden":
            text = f"unknown key {key!r} in {level}{_suggest(key, sorted(_level(model, loc[:-1]).model_fields))}"
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", context["expected"])
            text = f"{name} has an unknown value{_suggest(str(found), allowed)}"
        case "value_error":
            text = f"{name} {context['error']}"
        case "too_short":
            text = f"{name} must have at least {context['min_length']} item"
        case kind if kind in _EXPECTED:
            text = f"{name} must be {_EXPECTED[kind]}, found {_found(found)}"
        case _:
            text = f"{name} {detail['msg'].replace('Input should', 'must')}"
    return text


def _suggest(word: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(word[:80], allowed, n=1)
    return f"; allowed: {', '.join(allowed)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _level(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
    for part in loc:
        if isinstance(part, str):
            model = section_of(model.model_fields[part].annotation) or model
    return model


def _short(key: str) -> str:
    return key if len(key) <= 80 else key[:79] + "…"


def _found(value: object) -> str:
    if isinstance(value, float) and not value.is_integer():
        return "a fraction" if math.isfinite(value) else "NaN or infinity"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", tuple: "a list", dict: "a mapping"}
    return names.get(type(value), "nothing")


def dotted(loc: Loc) -> str:
    """`sources[0].files.paths`, the way a person says where a key is."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".") or "the top level"
