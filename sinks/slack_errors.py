"""What went wrong at Slack, in our own words: whether to retry, whether it may have happened, and what to do about it.

Nothing of the client's own error texts is passed on: they quote the request. Bounds: none needed, codes are cut.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from sinks.untrusted import clean

if TYPE_CHECKING:
    from slack_sdk.web.async_slack_response import AsyncSlackResponse

_PASSING = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout"})
_LIMITED = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})
_INSTALL = "give a bot token (xoxb-…) of an app that is installed in the workspace"
_INVITE = "invite the bot: /invite it in the channel"
_LIMIT = "a message is over Slack's limits; please report this as a bug"
REMEDIES: Mapping[str, str] = {
    "invalid_auth": _INSTALL,
    "not_authed": _INSTALL,
    "account_inactive": _INSTALL,
    "token_revoked": _INSTALL,
    "token_expired": _INSTALL,
    "not_allowed_token_type": _INSTALL,
    "not_in_channel": _INVITE,
    "channel_not_found": "check the channel id; a private channel is found only after the bot is invited to it",
    "is_archived": "the channel is archived: name another one or bring it back",
    "missing_scope": "add the scope to the app (OAuth & Permissions) and install it again",
    "restricted_action": "an administrator does not let this app post there",
    "ekm_access_denied": "an administrator does not let this app post there",
    "msg_too_long": _LIMIT,
    "msg_blocks_too_long": _LIMIT,
    "invalid_blocks": _LIMIT,
    "edit_window_closed": "the workspace does not let messages be edited any more; updates go to the thread",
    "invalid_arguments": "the configuration names something that Slack does not know",
}


class CallError(Exception):
    """A call to Slack that did not succeed. code: Slack's word, or ours. unknown: it may have happened all the same."""

    def __init__(
        self, method: str, code: str, *, transient: bool, unknown: bool = False, retry_after_s: float = 0.0
    ) -> None:
        remedy = REMEDIES.get(code, "")
        super().__init__(f"slack: {method}: {code}" + (f": {remedy}" if remedy else ""))
        self.code = code
        self.transient = transient
        self.unknown = unknown
        self.retry_after_s = retry_after_s


def refusal(method: str, status: int, code: str, retry_after: str | None = None) -> CallError:
    """Judge an answer by its HTTP status, Slack's error code ("" if there was none) and its Retry-After header."""
    if status == 429 or code in _LIMITED:
        return CallError(method, "ratelimited", transient=True, retry_after_s=_seconds(retry_after))
    if status >= 500 or code in _PASSING or (status == 200 and not code):
        name = code or ("answer not readable" if status == 200 else f"HTTP {status}")
        return CallError(method, name, transient=True, unknown=True, retry_after_s=_seconds(retry_after))
    return CallError(method, code or f"HTTP {status}", transient=False)


async def ask(method: str, request: Awaitable[AsyncSlackResponse]) -> AsyncSlackResponse:
    """Wait for the answer to one call. Raises CallError, which quotes nothing that the client says."""
    import aiohttp  # noqa: PLC0415  (loaded on first use)
    from slack_sdk.errors import SlackApiError, SlackClientError  # noqa: PLC0415

    try:
        return await request
    except SlackApiError as error:
        raise _judge(method, error.response) from None
    except aiohttp.ClientConnectorError:  # no connection, so nothing was sent
        raise CallError(method, "cannot connect", transient=True) from None
    except TimeoutError:
        raise CallError(method, "no answer in time", transient=True, unknown=True) from None
    except (aiohttp.ClientError, OSError):
        raise CallError(method, "connection lost", transient=True, unknown=True) from None
    except (SlackClientError, ValueError, AttributeError):  # the client trips over bodies that are not JSON
        raise CallError(method, "answer not readable", transient=True, unknown=True) from None


def _judge(method: str, response: Any) -> CallError:
    """From the client's response or, where the body could not be read, aiohttp's."""
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0) or 500)
    data = getattr(response, "data", None)
    code = str(data.get("error") or "") if isinstance(data, dict) else ""
    return refusal(method, status, clean(code, 60) if code else "", response.headers.get("Retry-After"))


def _seconds(retry_after: str | None) -> float:
    """The header's seconds; 0 where it has none that can be read."""
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
