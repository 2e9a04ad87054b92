"""A W&B server on loopback: GraphQL, the stream of files that the SDK writes, and its uploads, refused where not known.

Good enough for the real SDK, online, as writer and as reader. What it cannot vouch for is the real server's sampling:
windows with more rows than samples are thinned, and with `by_step` windows wider than samples too.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Any

from aiohttp import web
from doubles.graphql import Execution, Refused, Resolver

KEY = "0123456789abcdef0123456789abcdef01234567"
ENTITY, PROJECT = "ada", "nano"


@lru_cache(maxsize=1 << 16)
def _row(line: str) -> dict[str, Any]:
    return json.loads(line)


@dataclass
class Run:
    """name: its id. history, events: lines as they were sent."""

    name: str
    created: float
    beat: float
    display: str = ""
    state: str = "running"
    tags: list[str] = field(default_factory=list)
    config: str = "{}"
    summary: str = "{}"
    history: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    counted: int | None = None
    broken: str = ""
    hangs: bool = False

    def rows(self) -> list[dict[str, Any]]:
        return [_row(line) for line in self.history]

    def log(self, **metrics: Any) -> None:
        """A row with the next step, a second after the one before."""
        last = _row(self.history[-1]) if self.history else {"_step": -1, "_timestamp": self.created}
        step = metrics.pop("_step", last["_step"] + 1)
        t = metrics.pop("_timestamp", last["_timestamp"] + 1.0)
        row = {"_step": step, "_timestamp": t, "_runtime": t - self.created, **metrics}
        self.history.append(json.dumps(row))

    def measure(self, t: float, **metrics: Any) -> None:
        """Statistics of the machine."""
        row = {f"system.{key}": value for key, value in metrics.items()}
        self.events.append(json.dumps({"_timestamp": t, "_runtime": t - self.created, "_wandb": True, **row}))


def iso(t: float) -> str:
    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@dataclass
class WandbDouble:
    """now: the server's clock; None: the real one. answer: may replace an answer. asked: (operation, variables)."""

    now: float | None = 1_800_000_000.0
    by_step: bool = False
    tail: int = 1
    runs: dict[str, Run] = field(default_factory=dict)
    answer: Callable[[str, dict[str, Any]], Awaitable[web.StreamResponse | None]] | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return time.time() if self.now is None else self.now

    def pass_time(self, seconds: float) -> None:
        """The server's clock goes on, and with it the heartbeat of what runs."""
        self.now = self.clock() + seconds
        for run in self.runs.values():
            if run.state == "running" and not run.hangs:
                run.beat = self.now

    def add(self, name: str, **values: Any) -> Run:
        """A run that begins now."""
        self.runs[name] = Run(name, **({"created": self.clock(), "beat": self.clock(), "display": name} | values))
        return self.runs[name]

    # --- what the schema resolves to

    def _project(self, name: str | None = None, entityName: str | None = None) -> dict[str, Any] | None:  # noqa: N803
        return {} if (name, entityName) == (PROJECT, ENTITY) else None

    def _runs(
        self, order: str | None = None, first: int = 50, after: str | None = None, filters: str | None = None
    ) -> dict[str, Any]:
        if json.loads(filters or "{}"):
            raise Refused("filters")
        key: Callable[[Run], Any] = {"-heartbeat_at": lambda r: -r.beat, "+created_at": lambda r: r.created}[
            order or "+created_at"
        ]
        found, start = sorted(self.runs.values(), key=key), int(after or 0)
        page = found[start : start + first]
        return {"edges": page, "end": str(start + len(page)), "next": start + len(page) < len(found)}

    def _history(self, run: Run, minStep: int = 0, maxStep: int = 1 << 62, samples: int = 500) -> list[str]:  # noqa: N803
        if run.broken:
            raise LookupError(run.broken)
        found = [line for line in run.history if minStep <= _row(line)["_step"] < maxStep]
        if self.by_step and maxStep - minStep > samples:
            buckets = {(_row(line)["_step"] - minStep) * samples // (maxStep - minStep): line for line in found}
            found = list(buckets.values())
        return _thin(found, samples)

    def _keys(self, run: Run) -> dict[str, Any]:
        steps = [row["_step"] for row in run.rows()]
        keys = {key: {"typeCounts": [{"type": "number", "count": 1}]} for row in run.rows() for key in row}
        return {"sets": [], "keys": keys, "lastStep": max(steps, default=-1)}

    def _sampled(self, run: Run, specs: list[str]) -> list[list[dict[str, Any]]]:
        return [[r for r in run.rows() if {*json.loads(s).get("keys", ())} <= r.keys()] for s in specs]

    def _upsert(self, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        name = input.get("name") or input.get("id")
        fresh = name not in self.runs
        run = self.add(str(name), display="") if fresh else self.runs[str(name)]
        run.state, run.beat = "running", self.clock()
        run.display = input.get("displayName") or run.display or "brisk-sun-1"
        run.config, run.tags = input.get("config") or run.config, input.get("tags") or run.tags
        return {"bucket": run, "inserted": fresh}

    def _create_files(self, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        return {"runID": input["runName"], "files": [{"name": n} for n in input["files"]]}

    def schema(self) -> dict[str, dict[str, tuple[Resolver, str]]]:
        def own(key: str) -> tuple[Resolver, str]:
            return (lambda o: o[key] if isinstance(o, dict) else getattr(o, key)), ""

        def fixed(value: Any, kind: str = "") -> tuple[Resolver, str]:
            return (lambda _: value), kind

        run: dict[str, tuple[Resolver, str]] = {
            "id": own("name"), "name": own("name"), "displayName": own("display"), "tags": own("tags"),
            "state": own("state"), "config": own("config"), "summaryMetrics": own("summary"),
            "createdAt": ((lambda r: iso(r.created)), ""), "heartbeatAt": ((lambda r: iso(r.beat)), ""),
            "historyLineCount": ((lambda r: len(r.history) if r.counted is None else r.counted), ""),
            "eventsLineCount": ((lambda r: len(r.events)), ""), "logLineCount": fixed(0),
            "history": (self._history, ""), "historyKeys": (self._keys, ""), "sampledHistory": (self._sampled, ""),
            "events": ((lambda r, samples=500: _thin(r.events, samples)), ""),
            "eventsTail": ((lambda r: json.dumps(r.events[-self.tail :])), ""),
            "historyTail": ((lambda r: json.dumps(r.history[-self.tail :])), ""),
            "parquetHistory": ((lambda r, **_: {"parquetUrls": [], "liveData": []}), "ParquetHistory"),
            "projectId": fixed("1"), "project": fixed({}, "Project"),
            "user": fixed({"name": "Ada", "username": ENTITY}, "User"),
            "files": ((lambda r, names=(), **_: {"edges": []}), "Files"),
            "wandbConfig": ((lambda r, keys: "{}"), ""), "systemMetrics": fixed("{}"),
        }  # fmt: skip
        run |= {name: fixed(None) for name in ("sweepName", "group", "jobType", "commit", "description", "notes")}
        run["readOnly"] = fixed(False)
        return {
            "Query": {
                "project": ((lambda _, **a: self._project(**a)), "Project"),
                "model": ((lambda _, **a: self._project(**a)), "Project"),
                "viewer": fixed({"entity": ENTITY, "username": ENTITY}, "User"),
                "serverInfo": fixed({}, "ServerInfo"),
                "entity": ((lambda _, name: {"name": name, "id": "1"}), "Entity"),
            },
            "Mutation": {
                "upsertBucket": ((lambda _, input: self._upsert(input)), "Upsert"),  # noqa: A006
                "createRunFiles": ((lambda _, input: self._create_files(input)), "Created"),  # noqa: A006
            },
            "Project": {
                "id": fixed("1"), "name": fixed(PROJECT), "internalId": fixed("1"), "readOnly": fixed(False),
                "entity": fixed({"name": ENTITY, "id": "1"}, "Entity"),
                "runCount": ((lambda _, filters=None: len(self.runs)), ""),
                "run": ((lambda _, name: self.runs.get(name)), "Run"),
                "bucket": ((lambda _, name, **__: self.runs.get(name)), "Run"),
                "runs": ((lambda _, **a: self._runs(**a)), "Runs"),
            },
            "Run": run,
            "Runs": {"edges": ((lambda r: r["edges"]), "Edge"), "pageInfo": ((lambda r: r), "Page")},
            "Edge": {"node": ((lambda r: r), "Run"), "cursor": fixed("0")},
            "Page": {"endCursor": own("end"), "hasNextPage": own("next")},
            "ParquetHistory": {"parquetUrls": own("parquetUrls"), "liveData": own("liveData")},
            "Files": {"edges": fixed([], "Edge")},
            "Upsert": {"bucket": ((lambda u: u["bucket"]), "Run"), "inserted": own("inserted")},
            "Created": {"runID": own("runID"), "uploadHeaders": fixed([]), "files": ((lambda c: c["files"]), "File")},
            "File": {"name": own("name"), "uploadUrl": ((lambda f: f"{self.url}/storage/{f['name']}"), "")},
            "Entity": {"name": own("name"), "id": own("id"), "organization": fixed(None, "Organization")},
            "Organization": {"coreWeaveOrganizationId": fixed(None)},
            "User": {
                "id": fixed("1"), "entity": own("entity"), "username": own("username"), "name": fixed("Ada"),
                "email": fixed(""),
                "flags": fixed("{}"), "teams": fixed({}, "Teams"),
            },
            "Teams": {"edges": fixed([], "Team")}, "Team": {"node": fixed({}, "Entity")},
            "ServerInfo": {"features": fixed([], "Feature")},
            "Feature": {"name": own("name"), "isEnabled": own("isEnabled")},
        }  # fmt: skip

    # --- HTTP

    url: str = ""

    async def _graphql(self, request: web.Request) -> web.StreamResponse:
        if refused := self._unknown(request):
            return refused
        body = await request.json()
        try:
            execution = Execution(self.schema(), body["query"], body.get("variables") or {})
            name = execution.document.name
            self.asked.append((name, execution.variables))
            if self.answer is not None and (other := await self.answer(name, execution.variables)) is not None:
                return other
            return self._json(execution.run(None))
        except Refused as e:
            self.refused.append(f"{e} in {body['query']}")
            return self._json({"errors": [{"message": str(e)}]}, 400)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if refused := self._unknown(request):
            return refused
        body, run = await request.json(), self.runs[request.match_info["run"]]
        if unknown := body.keys() - {"files", "complete", "exitcode", "uploaded", "dropped", "preempting"}:
            self.refused.append(f"file_stream: {unknown}")
            return self._json({"error": "unknown key"}, 400)
        run.beat = self.clock()
        for name, chunk in (body.get("files") or {}).items():
            lines = {"wandb-history.jsonl": run.history, "wandb-events.jsonl": run.events}.get(name)
            if lines is not None:
                lines[chunk["offset"] :] = [text for text in chunk["content"] if text.strip()]
        if body.get("complete"):
            run.state = "failed" if body.get("exitcode") else "finished"
        return self._json({})

    def _unknown(self, request: web.Request) -> web.Response | None:
        wanted = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
        return (
            None if request.headers.get("Authorization") == wanted else self._json({"errors": [{"message": "no"}]}, 401)
        )

    def _json(self, value: object, status: int = 200) -> web.Response:
        date = format_datetime(datetime.fromtimestamp(self.clock(), UTC), usegmt=True)
        return web.Response(
            text=json.dumps(value), status=status, content_type="application/json", headers={"Date": date}
        )

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """The base URL of the running server."""

        async def stored(request: web.Request) -> web.Response:
            await request.read()
            return web.Response()

        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/graphql", self._graphql)
        app.router.add_post(f"/files/{ENTITY}/{PROJECT}/{{run}}/file_stream", self._stream)
        app.router.add_put("/storage/{name:.*}", stored)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self.url
        finally:
            await runner.cleanup()


def _thin(lines: list[str], samples: int) -> list[str]:
    """At most `samples` of them, evenly."""
    n = len(lines)
    return lines if n <= samples else [lines[i * n // samples] for i in range(samples)]
