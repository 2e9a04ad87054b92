"""What a protocol of pushing is on the wire; `REMOTE_WRITE` is Prometheus's.

The rest is common to all of them: see `receiver` for HTTP, `intake` and `rows` for what the samples mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from monitor.sources.remote_write.message import WriteRequest, parse
from monitor.sources.remote_write.snappy import decompress


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """name: what counts begin with. wanted: what is read, in words.

    reads: whether it is, by content type and encoding ("" for none). decode: a body, its encoding and the bytes that it
    may have after decompression; raises CorruptError, TooLargeError, MalformedError, TooManyError. reply: an answer, ""
    for success. heartbeat: whether a sender speaks even if it has no samples, so that its silence is an outage.
    """

    name: str
    path: str
    wanted: str
    reads: Callable[[str, str], bool]
    decode: Callable[[bytes, str, int], WriteRequest]
    reply: Callable[[HTTPStatus, str], web.Response]
    heartbeat: bool = True


def _reads(kind: str, encoding: str) -> bool:
    return encoding == "snappy" and "v2" not in kind and "protobuf" in kind


def _decode(body: bytes, _: str, most: int) -> WriteRequest:
    return parse(decompress(body, most))


def _reply(status: HTTPStatus, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n") if text else web.Response(status=HTTPStatus.NO_CONTENT)


REMOTE_WRITE = Wire(
    name="remote_write",
    path="/api/v1/write",
    wanted="only protocol 1.0 in snappy blocks is read",
    reads=_reads,
    decode=_decode,
    reply=_reply,
)
