"""What the status page is told of runs that nobody was paged for."""

from __future__ import annotations

import asyncio

import numpy as np
from build import batch, falling, frame
from test_ledger import opened

from detectors.types import Origin
from monitor.reader import Reader
from monitor.state import State
from monitor.status import StatusView


def test_a_run_that_ended_in_nan_before_we_looked_is_listed_with_where_and_why_nobody_was_told(tmp_path):
    loss = falling(300)
    loss[290:] = np.nan
    ledger = opened(tmp_path)
    ledger.process(batch(frame({"loss": loss}, origin=Origin.HISTORY), t_recv=2e9))
    state = State(ledger, Reader(tmp_path / "state.db"))
    view = StatusView(state, lambda: 2e9, lambda: ())

    async def ask():
        return await view.incidents()

    (row,) = asyncio.run(ask())
    state.close()
    assert (row.state, row.unrecovered) == ("history", True)
    assert "loss is NaN at step 290" in row.headline
    assert row.why == "not over since step 290; nobody was paged, it was there before Runwarden was"
