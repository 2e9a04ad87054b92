"""Listen addresses and base URLs, checked in one place for the configuration and the servers. Resolves no names."""

from __future__ import annotations

import contextlib
import ipaddress
from urllib.parse import urlsplit


def parse_address(text: str) -> tuple[str, int]:
    """Split "127.0.0.1:9878" or "[::1]:9878" into host and port (0 to 65535, 0: any free one). Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host != bare
    if (
        not colon
        or not bare
        or (":" in bare) != bracketed
        or not (port.isascii() and port.isdigit() and len(port) <= 5)
    ):
        raise ValueError("must be HOST:PORT such as 127.0.0.1:9878 or [::1]:9878")
    if int(port) > 65535:
        raise ValueError("must have a port between 0 and 65535")
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost counts as reachable from elsewhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_base_url(url: str, *, plain: bool = False) -> None:
    """Refuse a URL that a client must not be pointed at: https only, http only on loopback. Raises ValueError.

    plain: http is allowed everywhere, for what carries no secret.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("must be a URL such as https://example.com/") from None
    if parts.scheme not in {"http", "https"} or not host or any(c.isspace() for c in url):
        raise ValueError("must be a URL such as https://example.com/")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("must be a URL without user, password, query and fragment")
    if parts.scheme == "http" and not plain and not is_loopback(host):
        raise ValueError("must begin with https:// (http is allowed to this machine only)")
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_link_local:
            host = "metadata"
    if host in {"metadata", "metadata.google.internal"}:
        raise ValueError("must not lead to a link-local or cloud metadata address")
