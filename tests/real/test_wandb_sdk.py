"""The real W&B SDK, online, as the writer and as a reader: what we read while it writes is what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
from doubles.wandb import ENTITY, KEY, PROJECT, WandbDouble

from detectors.types import Origin
from monitor.frame import Batch, Status
from monitor.sources.files.replay import read_file
from monitor.sources.wandb.source import Plan, WandbSource

pytestmark = pytest.mark.real

PATIENCE_S = 90.0
ROWS, STEP_S = 120, 0.2
WRITER = f"""
import math, time, wandb
run = wandb.init(project="{PROJECT}", entity="{ENTITY}", id="run1", name="brisk-sun",
                 config={{"max_steps": {ROWS}}},
                 settings=wandb.Settings(x_stats_sampling_interval=1.0))
for i in range({ROWS}):
    loss = math.nan if i == 7 else math.inf if i == 8 else 4 / (i + 1)
    picture = wandb.Histogram([1, 2, 3])
    run.log({{"train": {{"loss": loss}}, "optim/lr": 1e-3, "global_step": i, "h": picture, "note": "x"}})
    time.sleep({STEP_S})
run.finish()
"""
READER = f"""
import json, wandb
run = wandb.Api().run("{ENTITY}/{PROJECT}/run1")
rows = [[r["_step"], r["_timestamp"], r["train"]["loss"], r["optim/lr"]] for r in run.scan_history()]
print(json.dumps([run.state, rows]))
"""


def writers() -> str:
    """The Python that has the trainers' libraries."""
    found = os.environ.get("RUNWARDEN_WRITERS") or str(Path(__file__).parents[2] / ".venv-writers" / "bin" / "python")
    if not Path(found).exists():
        pytest.skip("the writers' environment is not there: make writers, or name its python in $RUNWARDEN_WRITERS")
    return found


class Following:
    """Follows the project, as the daemon does."""

    def __init__(self, url: str) -> None:
        self.plan = Plan(entity=ENTITY, project=PROJECT, key=KEY, url=url, poll_s=1.0)
        self.batches: list[Batch] = []
        self.cursors: dict[str, str] = {}

    async def follow(self) -> None:
        async for batch in WandbSource("wb", self.plan).batches(self.cursors):
            self.batches.append(batch)
            self.cursors |= batch.cursors

    async def until(self, condition: Any, what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {what}"
            await asyncio.sleep(0.1)


def table(batches: list[Batch]) -> list[tuple[int, float, dict[str, float]]]:
    """(step, time, values) of every row."""
    found = [
        (int(f.row[i]), (int(f.step[i]), float(f.t[i]), dict(zip(f.columns, f.values[i].tolist(), strict=True))))
        for b in batches
        for f in b.frames
        for i in range(f.row.size)
    ]
    assert len({n for n, _ in found}) == len(found)
    return [row for _, row in sorted(found, key=lambda r: r[0])]


def test_the_sdk_writes_while_we_read_and_its_reader_and_its_file_agree(tmp_path: Path) -> None:
    python = writers()

    async def run(code: str, url: str) -> asyncio.subprocess.Process:
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        environ |= {"WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
        return await asyncio.create_subprocess_exec(
            python, "-c", code, env=environ, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )

    async def main() -> None:
        server = WandbDouble(now=None)
        async with server.serve() as url:
            following = Following(url)
            task = asyncio.create_task(following.follow())
            await following.until(lambda: following.batches, "the first look")
            writer = await run(WRITER, url)

            def trained(batches: list[Batch]) -> list[tuple[int, float, dict[str, float]]]:
                return [r for r in table(batches) if r[0] >= 0]

            await following.until(lambda: trained(following.batches), "rows while the SDK writes")
            assert writer.returncode is None
            task.cancel()  # and a restart in the middle
            with contextlib.suppress(asyncio.CancelledError):
                await task
            task = asyncio.create_task(following.follow())
            await following.until(lambda: len(trained(following.batches)) == ROWS, "all rows")
            await following.until(
                lambda: any(f.finished for b in following.batches for f in b.facts.values()), "the end of the run"
            )
            assert await writer.wait() == 0
            reader = await run(READER, url)
            told, _ = await reader.communicate()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert not server.refused
        rows = trained(following.batches)
        state, theirs = json.loads(told)
        assert state == "finished"
        mine = [[step, t, values["train.loss"], values["optim/lr"]] for step, t, values in rows]
        assert repr(mine) == repr([[step, *map(float, numbers)] for step, *numbers in theirs])
        assert math.isnan(mine[7][2])
        assert mine[8][2] == math.inf
        assert {b.status for b in following.batches} == {Status.OK}
        assert {f.origin for b in following.batches for f in b.frames} <= {Origin.LIVE, Origin.BACKLOG}
        assert {f.run for b in following.batches for f in b.frames} == {"wb/run1"}
        totals = {f.total_steps for b in following.batches for f in b.facts.values()}
        assert totals - {-1} == {ROWS}
        filed = table([b for path in tmp_path.glob("wandb/run-*/run-run1.wandb") for b in read_file(str(path))])  # noqa: ASYNC240
        assert repr([r for r in filed if r[0] >= 0]) == repr(rows)
        measured = {name for step, _, values in table(following.batches) if step < 0 for name in values}
        assert measured
        assert measured == {name for step, _, values in filed if step < 0 for name in values}

    asyncio.run(main())
