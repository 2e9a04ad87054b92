"""A certificate that is not trusted is told with what to do."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from monitor.errors import TransientError
from monitor.sources.prometheus.api import Api as Prometheus
from monitor.sources.wandb.api import Api as Wandb

BOUNDS: dict[str, Any] = {"timeout_s": 1.0, "max_bytes": 100}


class Distrustful:
    """A session whose every request ends at the certificate."""

    def get(self, *_: object, **__: object) -> None:
        key = ConnectionKey("h", 443, True, True, None, None, None, None)
        raise aiohttp.ClientConnectorCertificateError(key, ssl.SSLCertVerificationError(1, "self-signed certificate"))

    post = get


@pytest.mark.parametrize(
    "ask",
    [
        lambda session: Prometheus(session, "https://h", **BOUNDS).now(),
        lambda session: Wandb(session, "https://h", "key", **BOUNDS).ask("", {}),
    ],
    ids=["prometheus", "wandb"],
)
def test_the_error_says_how_a_signer_of_ones_own_is_trusted(ask) -> None:
    with pytest.raises(TransientError, match=r"self-signed.*SSL_CERT_FILE"):
        asyncio.run(ask(Distrustful()))
