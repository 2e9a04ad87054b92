"""The control socket: verbs that change something reach the running daemon here, never its database.

A Unix socket whose file mode is the authentication: owner and group may speak, nobody else.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import ClientError, ClientSession, UnixConnector, web

MAX_BODY_BYTES = 16 * 1024
Verb = Callable[[str, dict[str, str]], Awaitable[str]]


class ControlError(Exception):
    """The daemon refused or could not be reached; the text says what to do."""


class NoDaemonError(ControlError):
    """There is no socket, or nobody answers on it."""


class Refused(Exception):  # noqa: N818, it is an answer, not a failure
    """A verb does not apply; the text says why."""


async def serve(path: Path, group: str | None, verbs: dict[str, Verb]) -> web.AppRunner:
    """Answer POST /{verb} with a JSON object of strings, `id` among them. OSError if the socket cannot be made."""

    async def handle(request: web.Request) -> web.Response:
        verb = verbs.get(request.match_info["verb"])
        if verb is None:
            return _refusal(404, f"unknown verb; known: {', '.join(sorted(verbs))}")
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict) or not all(isinstance(v, str) for v in body.values()):
            return _refusal(400, "the body must be a JSON object of strings")
        try:
            return web.json_response({"message": await verb(body.pop("id", ""), body)})
        except Refused as e:
            return _refusal(409, str(e))
        except sqlite3.Error as e:
            return _refusal(503, f"the state cannot be written now ({e}); try again")

    _make_way(path)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/{verb}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    before = os.umask(0o117)  # the socket must never be open to others, not even for a moment
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
    if group is not None:
        shutil.chown(path, group=group)
    return runner


def _make_way(path: Path) -> None:
    """Remove the socket that a killed daemon left; refuse anything else. OSError."""
    if not path.exists():
        return
    if not path.is_socket():
        raise FileExistsError(f"{path}: is there and no socket; set control.socket to another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise FileExistsError(f"{path}: another daemon answers there; set control.socket to another path")


def _refusal(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)


async def ask(path: Path, verb: str, incident: str, **values: str) -> str:
    """Send one verb. ControlError if no daemon answers or it refuses."""
    try:
        async with (
            ClientSession(connector=UnixConnector(path=str(path))) as session,
            session.post(f"http://runwarden/{verb}", json={"id": incident, **values}) as response,
        ):
            if response.status == 500:
                raise ControlError("the daemon failed at this; its log says why")
            answer = await response.json()
    except (ClientError, OSError) as e:
        cause = getattr(e, "os_error", e)
        code, why = getattr(cause, "errno", None), getattr(cause, "strerror", None) or e
        kind = NoDaemonError if code in (errno.ENOENT, errno.ECONNREFUSED) else ControlError
        raise kind(
            f"no daemon answers on {path} ({why}); is `runwarden run` active, and may you use its socket?"
        ) from e
    if response.status != 200:
        raise ControlError(str(answer.get("error", f"the daemon answered {response.status}")))
    return str(answer["message"])
