"""What a person can tell the running daemon, and what it answers."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Sequence

from monitor.control import Refused, Verb
from monitor.errors import PermanentError, TransientError
from monitor.pages import test_page
from monitor.ports import Sink
from monitor.state import State

VERDICTS = ("real", "false-alarm", "hypothesis-right", "hypothesis-wrong")


def verbs(state: State, sinks: Sequence[Sink], changed: Callable[[], Awaitable[None]]) -> dict[str, Verb]:
    """The verbs of the control socket by name. changed: called when an incident did."""
    ledger = state.ledger

    async def known(prefix: str) -> str:
        incident = await state.read(state.reader.incident, prefix)
        if incident is None:
            raise Refused(f"no incident {prefix!r}, or more than one that begins so; see `runwarden incidents list`")
        return incident.id

    async def ack(incident: str, _: dict[str, str]) -> str:
        found = await known(incident)
        if not await state.write(ledger.acknowledge, found, time.time()):
            raise Refused(f"{found} is not open, or acknowledged already")
        await changed()
        return f"{found} acknowledged"

    async def resolve(incident: str, _: dict[str, str]) -> str:
        found = await known(incident)
        if not await state.write(ledger.resolve, found, time.time()):
            raise Refused(f"{found} is resolved already")
        await changed()
        return f"{found} resolved"

    async def verdict(incident: str, values: dict[str, str]) -> str:
        found, said = await known(incident), values.get("verdict", "")
        if said not in VERDICTS:
            raise Refused(f"unknown verdict {said!r}; allowed: {', '.join(VERDICTS)}")
        await state.write(ledger.judge, found, said, values.get("cause"), values.get("author", "somebody"), time.time())
        await changed()
        return f"{found}: {said}"

    async def page(_: str, __: dict[str, str]) -> str:
        return "\n".join([await rehearse(sink) for sink in sinks])

    return {"ack": ack, "resolve": resolve, "verdict": verdict, "test-page": page}


async def rehearse(sink: Sink) -> str:
    """Check a sink, then post a test page, edit it and answer in its thread, as an incident would; a line for each.

    A line with FAILED or MISSING is trouble.
    """
    first, second = test_page(time.time())
    said: list[str] = []
    try:
        said += [re.sub("^missing", "MISSING", line) for line in await sink.check()]
        receipt = await sink.deliver(first, None)
        said.append("posted a test page")
        receipt = await sink.deliver(second, receipt)
        said.append("edited it to resolved and answered in its thread")
    except (TransientError, PermanentError) as e:
        said.append(f"FAILED: {str(e).removeprefix(f'{sink.name}: ')}")
    return "\n".join(f"{sink.name}: {line}" for line in said)


def troubled(said: str) -> bool:
    """Whether what `rehearse` said is not all good."""
    return any(line.partition(": ")[2].startswith(("FAILED", "MISSING")) for line in said.splitlines())
