"""The HTTP side: a POST is answered with 2xx only when what it carried is committed. What is posted says `wire`.

The sender's retry is the cursor, so an answer says what a retry can do. 4xx: nothing, it will never be taken (senders
drop it). 503 with Retry-After: it may, because too much waits here, the commit takes too long or we are stopping. Never
429: Prometheus drops on it unless it is told otherwise. Bounds: `max_bytes` of a request, before and after
decompression; `4 * max_bytes` of all that wait; MAX_WAITING requests, a quarter of them from one sender; READ_S for a
body, ANSWER_S for an answer.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from monitor.sources.remote_write.intake import Delivered
from monitor.sources.remote_write.message import MalformedError, TooManyError, WriteRequest
from monitor.sources.remote_write.snappy import CorruptError, TooLargeError
from monitor.sources.remote_write.wire import Wire
from monitor.web.address import is_loopback, parse_address

MAX_WAITING = 64
MAX_OF_SENDER = MAX_WAITING // 4
MAX_TAKEN = 50_000
READ_S = 30.0
RETRY_AFTER_S = 5
PIECE_BYTES = 1 << 16


@dataclass(slots=True, eq=False)
class Waiting:
    """A request whose sender waits. done: True once it is committed, False if it will not be. size: bytes it holds."""

    delivered: Delivered
    done: asyncio.Future[bool]
    size: int


@dataclass(slots=True)
class _Held:
    """What one request counts against the bound, in bytes."""

    bytes: int = 0


class _RefusedError(Exception):
    """A request ends here, with this response."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.text)
        self.response = response


class Receiver:
    """Requests between their arrival and their commit."""

    def __init__(self, wire: Wire, *, token: str, max_bytes: int, answer_s: float) -> None:
        """token: "" for none; then only this machine's own names for itself are answered to."""
        self._wire = wire
        self._token = f"Bearer {token}".encode() if token else b""
        self._max_bytes = max_bytes
        self._answer_s = answer_s
        self._queue: deque[Waiting] = deque()
        self._wake = asyncio.Event()
        self._decoding = asyncio.Lock()  # one at a time: its memory is a multiple of the request
        self._inside: dict[str, int] = {}  # sender → requests that are not finished
        self._bytes = 0
        self._stopped = False
        self.refused: dict[str, int] = {}

    def app(self) -> web.Application:
        """What is served."""
        app = web.Application()
        app.add_routes([web.post(self._wire.path, self._receive)])
        return app

    async def wait(self, most_s: float) -> None:
        """Until there is something to collect, at most so long."""
        if not self._queue:
            self._wake.clear()
            try:
                async with asyncio.timeout(most_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    def collect(self) -> list[Waiting]:
        """The oldest requests, together about MAX_TAKEN samples."""
        taken, samples = [], 0
        while self._queue and samples < MAX_TAKEN:
            taken.append(self._queue.popleft())
            samples += taken[-1].delivered.request.size
        return taken

    def finish(self, waiting: Waiting, *, committed: bool) -> None:
        """Let go of a request and tell its sender, if that one still waits."""
        self._leave(waiting.delivered.sender, waiting.size)
        if not waiting.done.done():
            waiting.done.set_result(committed)

    def stop(self) -> None:
        """Take nothing more; who waits is asked to come again."""
        self._stopped = True
        while self._queue:
            self.finish(self._queue.popleft(), committed=False)

    async def _receive(self, request: web.Request) -> web.Response:
        sender = request.remote or ""
        held = _Held()
        try:
            self._admit(request)
            self._enter(sender)
        except _RefusedError as e:
            return e.response
        try:
            decoded = await self._read(request, held)
        except _RefusedError as e:
            self._leave(sender, held.bytes)
            return e.response
        except BaseException:
            self._leave(sender, held.bytes)
            raise
        return await self._answer(Waiting(Delivered(sender=sender, request=decoded), asyncio.Future(), held.bytes))

    async def _read(self, request: web.Request, held: _Held) -> WriteRequest:
        """The request; `held` is what of it counts against the bound. Raises _RefusedError."""
        body = bytearray()
        try:
            async with asyncio.timeout(READ_S):
                async for piece in request.content.iter_chunked(PIECE_BYTES):
                    body += piece
                    if len(body) > self._max_bytes:
                        raise self._never(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {self._max_bytes} bytes")
                    self._hold(held, len(body))
            async with self._decoding:
                encoding = request.headers.get("Content-Encoding", "")
                decoded = await asyncio.to_thread(self._wire.decode, bytes(body), encoding, self._max_bytes)
        except TimeoutError:
            raise self._never(HTTPStatus.REQUEST_TIMEOUT, f"no whole body within {READ_S:g} s") from None
        except (ConnectionError, web.RequestPayloadError):
            raise self._never(HTTPStatus.BAD_REQUEST, "the body is cut") from None
        except (TooLargeError, TooManyError) as e:
            raise self._never(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(e)) from None
        except (CorruptError, MalformedError) as e:
            raise self._never(HTTPStatus.BAD_REQUEST, str(e)) from None
        self._hold(held, decoded.cost)
        return decoded

    async def _answer(self, waiting: Waiting) -> web.Response:
        if self._stopped:
            self.finish(waiting, committed=False)
        else:
            self._queue.append(waiting)
            self._wake.set()
        try:
            async with asyncio.timeout(self._answer_s):
                committed = await waiting.done
        except TimeoutError:
            return self._later("not_committed").response
        return self._wire.reply(HTTPStatus.OK, "") if committed else self._later("stopping").response

    def _admit(self, request: web.Request) -> None:
        """Raises _RefusedError for what is not even read."""
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if self._token and not hmac.compare_digest(given, self._token):
            raise self._never(HTTPStatus.UNAUTHORIZED, "the bearer token is missing or another one")
        if not self._token and not _local(request.host):  # a name that a web page elsewhere points here
            raise self._never(HTTPStatus.MISDIRECTED_REQUEST, "answers to loopback names only")
        kind = request.headers.get("Content-Type", "application/x-protobuf")
        if not self._wire.reads(kind, request.headers.get("Content-Encoding", "")):
            raise self._never(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, self._wire.wanted)
        if (request.content_length or 0) > self._max_bytes:
            raise self._never(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {self._max_bytes} bytes")

    def _enter(self, sender: str) -> None:
        mine = self._inside.get(sender, 0)
        if self._stopped or mine >= MAX_OF_SENDER or sum(self._inside.values()) >= MAX_WAITING:
            raise self._later("busy")
        self._inside[sender] = mine + 1

    def _leave(self, sender: str, size: int) -> None:
        self._bytes -= size
        self._inside[sender] -= 1
        if not self._inside[sender]:
            del self._inside[sender]

    def _hold(self, held: _Held, size: int) -> None:
        if self._bytes + size - held.bytes > 4 * self._max_bytes:
            raise self._later("full")
        self._bytes += size - held.bytes
        held.bytes = size

    def _never(self, status: HTTPStatus, why: str) -> _RefusedError:
        self._count(f"{self._wire.name}_{status.name.lower()}")
        return _RefusedError(self._wire.reply(status, why))

    def _later(self, why: str) -> _RefusedError:
        self._count(f"{self._wire.name}_{why}")
        response = self._wire.reply(HTTPStatus.SERVICE_UNAVAILABLE, why.replace("_", " "))
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return _RefusedError(response)

    def _count(self, what: str) -> None:
        self.refused[what] = self.refused.get(what, 0) + 1


def _local(host: str) -> bool:
    try:
        return is_loopback(parse_address(host if ":" in host else f"{host}:80")[0])
    except ValueError:
        return False
