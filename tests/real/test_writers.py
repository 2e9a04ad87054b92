"""The trainers' own writers write while the tailer of `runwarden watch` follows: each row once, as they meant it.

The writers are in `writers/`, each a process that goes on when it is told to. They run in an environment of their own,
made by `make writers`.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor.frame import Batch
from monitor.sources.files.source import Watch

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
WRITERS = Path(__file__).parent / "writers"
PATIENCE_S = 120.0


def python() -> str:
    found = os.environ.get("RUNWARDEN_WRITERS") or str(ROOT / ".venv-writers" / "bin" / "python")
    if not Path(found).exists():
        pytest.skip("the writers' environment is not there: make writers, or name its python in $RUNWARDEN_WRITERS")
    return found


def environ(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TMPDIR")}
    offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return kept | offline | {"HOME": str(home), "PYTHONUNBUFFERED": "1"}


class Writer:
    """A process of `writers/`. It stops at its own places until `go`."""

    def __init__(self, home: Path, *command: str) -> None:
        self._errors = (home / "errors").open("w+b")
        self._process = subprocess.Popen(
            [python(), WRITERS / command[0], *command[1:]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environ(home), text=True,
        )  # fmt: skip
        self.said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line.strip())

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-3000:]

    def close(self) -> None:
        if not self.ended:
            self._process.kill()
        self._process.wait(20)
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            assert pipe is not None
            pipe.close()


class Follower:
    """The watch of a folder, and everything that it has said."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self.batches: list[Batch] = []
        self.cursors: dict[str, str] = {}
        self._watch = Watch("files", (self._root,), {}, max_line_bytes=1 << 20)

    def poll(self) -> None:
        batch = self._watch.poll(time.time())
        self.cursors |= batch.cursors
        self.batches.append(batch)

    def restart(self) -> None:
        self._watch.close()
        self._watch = Watch("files", (self._root,), self.cursors, max_line_bytes=1 << 20)

    def close(self) -> None:
        self._watch.close()

    def rows(self, run: str = "") -> list[dict[str, Any]]:
        """In the order of the file, without the clock."""
        found = [
            {
                "row": int(f.row[i]), "step": int(f.step[i]), "generation": f.generation,
                **dict(zip(f.columns, f.values[i].tolist(), strict=True)),
            }
            for b in self.batches for f in b.frames if run in ("", f.run) for i in range(f.row.size)
        ]  # fmt: skip
        return sorted(found, key=lambda r: r["row"])

    def until(self, condition: Callable[[], Any], what: str, writer: Writer) -> None:
        end = time.monotonic() + PATIENCE_S
        while True:
            self.poll()
            if condition():
                return
            if time.monotonic() > end:
                raise AssertionError(f"not within {PATIENCE_S:g} s: {what}\n{writer.said}\n{writer.errors()}")
            time.sleep(0.05)


@contextmanager
def following(tmp_path: Path, *command: str) -> Iterator[tuple[Follower, Writer, Path]]:
    """A writer, told to write into a folder, and a follower of the folder, which is empty when it begins."""
    folder, home = tmp_path / "runs", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    follower = Follower(folder)
    follower.poll()
    writer = Writer(home, *command, str(folder))
    try:
        yield follower, writer, folder
    finally:
        writer.close()
        follower.close()


def ask(script: str, *args: object) -> Any:
    """What a reader of the writers' own package says."""
    command = [python(), WRITERS / script, *map(str, args)]
    home = {"HOME": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S, env=environ(Path("/")) | home)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(done.stdout)


def metrics(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in ("row", "step", "generation")}


def once(rows: list[dict[str, Any]]) -> None:
    """No row number twice."""
    assert len({r["row"] for r in rows}) == len(rows)


def same(found: Any, wanted: Any) -> None:
    """Equal, and NaN is NaN."""
    assert json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


@pytest.mark.parametrize("kind", ["torch", "tensorboardX"])
def test_event_files_are_followed_and_a_restart_is_a_new_attempt(tmp_path: Path, kind: str) -> None:
    with following(tmp_path, "write_events.py", kind) as (follower, writer, folder):
        follower.until(
            lambda: len(follower.rows()) == 20, "the first steps, the last of which no other follows", writer
        )
        writer.go()
        follower.until(lambda: len(follower.rows()) == 30, "ten more", writer)
        follower.restart()
        writer.go()
        follower.until(lambda: len(follower.rows()) == 55, "the restart", writer)
        writer.go()
        follower.until(lambda: writer.ended, "the end", writer)
        rows = follower.rows()
        once(rows)
        assert [(r["generation"], r["step"]) for r in rows] == [
            *((0, s) for s in range(30)), *((1, s) for s in range(15, 40)),
        ]  # fmt: skip
        found = [[r["step"], tag, value] for r in rows for tag, value in metrics(r).items()]
        same(found, ask("read_events.py", *sorted(folder.iterdir())))
        assert [s for s, tag, v in found if math.isnan(v)] == [27, 27]
        assert len({tag for _, tag, _ in found}) == 3


def test_a_wandb_log_is_followed_with_the_machine_and_the_end(tmp_path: Path) -> None:
    with following(tmp_path, "write_wandb.py") as (follower, writer, folder):

        def trained() -> list[dict[str, Any]]:
            return [r for r in follower.rows() if "loss" in r]

        follower.until(lambda: len(trained()) == 10, "ten rows while it is written", writer)
        assert not writer.ended
        assert not any(f.finished for b in follower.batches for f in b.facts.values())
        follower.restart()
        writer.go()
        follower.until(lambda: len(trained()) == 19, "nine more", writer)
        writer.go()
        follower.until(lambda: any(f.finished for b in follower.batches for f in b.facts.values()), "the end", writer)
        once(follower.rows())
        wanted = ask("read_wandb.py", *folder.rglob("*.wandb"))
        logged = [{k: v for k, v in r.items() if not k.startswith("_") and k != "note"} for r in wanted["history"]]
        same([{k: v for k, v in metrics(r).items() if k[0] != "_"} for r in trained()], [r for r in logged if r])
        assert [r["step"] for r in trained()] == [r["_step"] for r in wanted["history"] if "loss" in r]
        machine = [metrics(r) for r in follower.rows() if any(k.startswith("system/") for k in r)]
        same(machine, [{f"system/{k}": v for k, v in r.items()} for r in wanted["stats"]])
        assert machine
        assert wanted["exit"] == [3]
        assert [x.text for b in follower.batches for x in b.lines] == ["wandb: the run ended with exit code 3"]


def test_a_table_whose_header_grows_is_followed_and_no_row_is_doubled(tmp_path: Path) -> None:
    with following(tmp_path, "write_lightning.py") as (follower, writer, folder):

        def pass_on(until: int, what: str) -> None:
            follower.until(lambda: len(follower.rows()) >= until, what, writer)
            writer.go()

        follower.until(lambda: "step 8" in writer.said, "step 8", writer)
        pass_on(6, "rows before there is a validation")
        pass_on(19, "rows of the wider table")
        follower.restart()
        pass_on(28, "rows of the widest table")
        follower.until(lambda: "end" in writer.said, "the end", writer)
        (path,) = folder.rglob("metrics.csv")
        with path.open(newline="") as file:
            table = [{k: v for k, v in r.items() if v} for r in csv.DictReader(file)]
        follower.until(lambda: len(follower.rows()) >= len(table), "all rows", writer)
        rows = follower.rows()
        once(rows)
        same(
            [{"step": r["step"], **metrics(r)} for r in rows],
            [{k: int(v) if k == "step" else float(v) for k, v in r.items()} for r in table],
        )
        assert len({frozenset(r) for r in table}) >= 3
        assert {r["generation"] for r in rows} == {0}


def test_a_trainer_is_followed_by_its_output_and_by_the_states_of_its_checkpoints(tmp_path: Path) -> None:
    with following(tmp_path, "write_trainer.py") as (follower, writer, folder):
        for step in range(10, 70, 10):
            follower.until(lambda step=step: f"saved {step}" in writer.said, f"the checkpoint at {step}", writer)
            follower.until(
                lambda step=step: follower.rows("model") and follower.rows("model")[-1]["step"] == step,
                f"the state of step {step}", writer,
            )  # fmt: skip
            if step == 30:
                follower.restart()
            writer.go()
        follower.until(lambda: "end" in writer.said, "the end", writer)
        assert sorted(p.name for p in (folder / "model").glob("checkpoint-*")) == ["checkpoint-50", "checkpoint-60"]
        history = json.loads((folder / "model" / "trainer_state.json").read_text())["log_history"]
        follower.until(lambda: len(follower.rows("model")) >= len(history), "the last state", writer)
        states = follower.rows("model")
        once(states)
        same([{"step": r["step"], **metrics(r)} for r in states], history)
        assert {r["generation"] for r in states} == {0}
        text = (folder / "out.log").read_text()
        spoken = [ast.literal_eval(line) for line in text.splitlines() if line.startswith("{")]
        printed = follower.rows("out")
        same([metrics(r) for r in printed], [{k: float(v) for k, v in d.items()} for d in spoken])
        assert all(isinstance(v, str) for d in spoken for v in d.values())
        for rows in (states, printed):  # the step is hidden in the loss, and seen in the gradient norm
            trained = [r for r in rows if "grad_norm" in r]
            assert [math.isnan(r["grad_norm"]) for r in trained] == [False] * 8 + [True] * 4
            assert not any(math.isnan(r["loss"]) for r in trained)
