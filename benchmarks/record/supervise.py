"""Run one training process and do to it what comes from outside: stop, kill, crowd, restart.

The training prints the number of every finished step; an action for step N happens when N - 1
has ended. Everything done is written to `marks.jsonl` with its time, which the labels use.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.record.faults import INSIDE, Fault

BUSY = (sys.executable, "-c", "while True: pass")


@dataclass(frozen=True)
class Run:
    """One planned run: its name, seed, formats, faults, and options other than the default."""

    number: int
    cause: str
    seed: int
    formats: tuple[str, ...] = ("jsonl",)
    faults: tuple[Fault, ...] = ()
    options: dict[str, float | bool] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.number:02d}-{self.cause.replace('_', '-')}-{self.seed}"

    def command(self, out: Path, restart: str = "") -> list[str]:
        """The training's command line; `restart` is empty, `resume` or `reinit`."""
        words = [sys.executable, "-m", "benchmarks.record.train", "--out", str(out)]
        words += ["--seed", str(self.seed), "--formats", ",".join(self.formats)]
        for name, value in self.options.items():
            flag = f"--{name.replace('_', '-')}"
            words += [flag] if value is True else [flag, str(value)]
        for fault in self.faults:
            if fault.name in INSIDE:
                words += ["--fault", fault.name, "--at", str(fault.at)]
                words += ["--fault-steps", str(fault.steps), "--strength", str(fault.strength)]
        return [*words, f"--{restart}"] if restart else words


class Supervisor:
    """Follows one run from its start to its end, through restarts."""

    def __init__(self, run: Run, out: Path) -> None:
        self._run, self._out = run, out
        self._pending = [f for f in run.faults if f.name not in INSIDE]
        self._busy: list[tuple[int, Fault, list[subprocess.Popen[bytes]]]] = []
        out.mkdir(parents=True)

    def record(self) -> None:
        restart = ""
        while True:
            command = self._run.command(self._out, restart)
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                ended = self._follow(child)
            self._calm(last=True)
            if ended is None:
                if child.returncode != 0:
                    raise RuntimeError(f"{self._run.name}: exit status {child.returncode}")
                return
            if ended.name == "kill":
                return
            time.sleep(ended.strength)
            self._mark(ended, ended.at, "end")
            restart = ended.name

    def _follow(self, child: subprocess.Popen[str]) -> Fault | None:
        """Read the child's steps and act; gives the fault that killed it, if one did."""
        assert child.stdout is not None
        for line in child.stdout:
            step = int(line)
            self._calm(step)
            for fault in [f for f in self._pending if step >= f.at - 1]:
                self._pending.remove(fault)
                if fault.name in ("kill", "resume", "reinit"):
                    child.kill()
                    self._mark(fault, step, "begin")
                    return fault
                self._act(fault, step, child.pid)
        return None

    def _act(self, fault: Fault, step: int, pid: int) -> None:
        self._mark(fault, step, "begin")
        if fault.name == "contention":
            busy = [subprocess.Popen(BUSY) for _ in range(int(fault.strength))]
            self._busy.append((fault.at + fault.steps - 1, fault, busy))
            return
        pids = _children(pid) if fault.name == "loader_stop" else [pid]
        for each in pids:
            os.kill(each, signal.SIGSTOP)
        time.sleep(fault.strength)
        for each in pids:
            os.kill(each, signal.SIGCONT)
        self._mark(fault, step, "end")

    def _calm(self, step: int = 0, *, last: bool = False) -> None:
        """End the busy processes whose time is over."""
        for item in [b for b in self._busy if last or step >= b[0]]:
            self._busy.remove(item)
            for process in item[2]:
                process.kill()
                process.wait()
            self._mark(item[1], step, "end")

    def _mark(self, fault: Fault, step: int, edge: str) -> None:
        mark = {"what": fault.name, "step": step, "edge": edge, "t": round(time.time(), 3)}
        with (self._out / "marks.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(mark) + "\n")


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]
