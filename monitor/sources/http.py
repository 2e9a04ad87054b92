"""What the sources that ask a server over HTTP share: answers bounded in size, waits that were asked for, remedies."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from monitor.errors import TransientError

PIECE_BYTES = 1 << 16
MAX_WAIT_S = 300.0


class TooLargeError(Exception):
    """An answer over its bound; the text says which."""


async def read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The body after decompression. Raises TooLargeError; what is left of it is not read."""
    pieces = bytearray()
    async for piece in response.content.iter_chunked(PIECE_BYTES):
        pieces += piece
        if len(pieces) > max_bytes:
            response.close()
            raise TooLargeError(f"an answer of more than {max_bytes} bytes")
    return bytes(pieces)


def untrusted(url: str, error: aiohttp.ClientConnectorCertificateError) -> TransientError:
    """The server's certificate is not accepted."""
    why = f"the certificate is not trusted ({error.certificate_error})"
    return TransientError(f"{url}: {why}; if its signer is your own, set SSL_CERT_FILE to his")


def wait_s(headers: Mapping[str, str], *names: str) -> float:
    """How long the server asks us to wait, in seconds, by the first of these headers that says so; 0 if none does."""
    for name in names:
        text = headers.get(name, "")
        if text.isascii() and text.replace(".", "", 1).isdigit() and len(text) < 9:
            return min(MAX_WAIT_S, float(text))
    return 0.0
