"""Just enough of GraphQL for a strict server: it refuses every field, argument and variable that it does not know."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\.\.\.|[A-Za-z_]\w*|-?\d+|[$!{}():=\[\]@]')
Resolver = Callable[..., Any]


class Refused(Exception):  # noqa: N818  (what the server says)
    """A document or its variables are not acceptable."""


@dataclass
class Field:
    alias: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    selection: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Variable:
    name: str


@dataclass(frozen=True)
class Spread:
    fragment: str


@dataclass
class Document:
    kind: str = ""
    name: str = ""
    declared: dict[str, tuple[bool, Any]] = field(default_factory=dict)  # variable → required, default
    used: set[str] = field(default_factory=set)
    selection: list[Any] = field(default_factory=list)
    fragments: dict[str, list[Any]] = field(default_factory=dict)


class _Parser:
    def __init__(self, text: str) -> None:
        text = re.sub(r"#[^\n]*", "", text)
        self.tokens, self.at = _TOKEN.findall(text), 0
        if "".join(self.tokens) != re.sub(r"[\s,]+", "", text):
            raise Refused("Syntax Error")
        self.document = Document()

    def parse(self) -> Document:
        while self.at < len(self.tokens):
            kind = self.take()
            if kind == "fragment":
                name = self.take()
                self.take("on"), self.take()
                self.document.fragments[name] = self.selection()
            elif kind in ("query", "mutation") and not self.document.kind:
                self.document.kind = kind
                self.document.name = self.take() if self.peek() not in ("(", "{") else ""
                if self.peek() == "(":
                    self.declarations()
                self.document.selection = self.selection()
            else:
                raise Refused(f"Syntax Error: unexpected {kind}")
        if missing := self.document.used - self.document.declared.keys():
            raise Refused(f"Variable ${min(missing)} is not defined")
        if unused := self.document.declared.keys() - self.document.used:
            raise Refused(f"Variable ${min(unused)} is never used")
        return self.document

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise Refused(f"Syntax Error: expected {wanted or 'more'}, found {token!r}")
        self.at += 1
        return token

    def declarations(self) -> None:
        self.take("(")
        while self.peek() != ")":
            self.take("$")
            name, _, required, default = self.take(), self.take(":"), self.type(), None
            if self.peek() == "=":
                self.take()
                default, required = self.value(), False
            self.document.declared[name] = (required, default)
        self.take(")")

    def type(self) -> bool:
        if self.peek() == "[":
            self.take()
            self.type()
            self.take("]")
        else:
            self.take()
        return self.peek() == "!" and bool(self.take())

    def selection(self) -> list[Any]:
        self.take("{")
        found: list[Any] = []
        while self.peek() != "}":
            found.append(self.one())
        self.take("}")
        return found

    def one(self) -> Any:
        if self.peek() == "...":
            self.take()
            return Spread(self.take())
        name = alias = self.take()
        if self.peek() == ":":
            self.take()
            name = self.take()
        made = Field(alias, name)
        if self.peek() == "(":
            self.take()
            while self.peek() != ")":
                key = self.take()
                self.take(":")
                made.arguments[key] = self.value()
            self.take(")")
        if self.peek() == "{":
            made.selection = self.selection()
        return made

    def value(self) -> Any:
        token = self.take()
        if token == "$":
            name = self.take()
            self.document.used.add(name)
            return Variable(name)
        if token in "[{":
            end, items, pairs = {"[": "]", "{": "}"}[token], [], {}
            while self.peek() != end:
                if token == "{":
                    key = self.take()
                    self.take(":")
                    pairs[key] = self.value()
                else:
                    items.append(self.value())
            self.take(end)
            return pairs if token == "{" else items
        return {"true": True, "false": False, "null": None}.get(token, token) if token.isalpha() else json.loads(token)


class Execution:
    """Runs a document against a schema: type → field → (resolver of object and arguments, type of what it gives)."""

    def __init__(
        self, schema: Mapping[str, Mapping[str, tuple[Resolver, str]]], text: str, given: Mapping[str, Any]
    ) -> None:
        self.schema, self.document = schema, _Parser(text).parse()
        self.variables = {}
        if unknown := given.keys() - self.document.declared.keys():
            raise Refused(f"unknown variable ${min(unknown)}")
        for name, (required, default) in self.document.declared.items():
            self.variables[name] = given.get(name, default)
            if required and self.variables[name] is None:
                raise Refused(f"Variable ${name} of required type was not provided")
        self.errors: list[dict[str, Any]] = []

    def run(self, root: object) -> dict[str, Any]:
        kind = {"query": "Query", "mutation": "Mutation"}[self.document.kind]
        data = self._select(kind, root, self.document.selection, [])
        return {"data": data, **({"errors": self.errors} if self.errors else {})}

    def _select(self, kind: str, value: object, selection: list[Any], path: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for item in selection:
            if isinstance(item, Spread):
                found |= self._select(kind, value, self.document.fragments[item.fragment], path)
                continue
            if item.name not in self.schema[kind]:
                raise Refused(f'Cannot query field "{item.name}" on type "{kind}".')
            resolver, child = self.schema[kind][item.name]
            if bool(child) != bool(item.selection):
                raise Refused(f'Field "{item.name}" of type "{child or "scalar"}" and its selection do not fit.')
            try:
                result = resolver(value, **{k: self._bind(v) for k, v in item.arguments.items()})
            except TypeError as e:
                raise Refused(f'"{kind}.{item.name}": {e}') from e
            except LookupError as e:
                self.errors.append({"message": str(e.args[0]), "path": [*path, item.alias]})
                result = None
            if child and result is not None:
                at = [*path, item.alias]
                result = (
                    [self._select(child, r, item.selection, at) for r in result]
                    if isinstance(result, list)
                    else self._select(child, result, item.selection, at)
                )
            found[item.alias] = result
        return found

    def _bind(self, value: Any) -> Any:
        if isinstance(value, Variable):
            return self.variables[value.name]
        if isinstance(value, dict):
            return {k: self._bind(v) for k, v in value.items()}
        return [self._bind(v) for v in value] if isinstance(value, list) else value
