"""One log writer per format, each with the lines that the real program prints.

Every line is flushed when it is written, so a stop or a kill leaves what a real log would hold.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FIELDS = ("step", "t", "loss", "grad_norm", "lr", "tokens_per_s", "step_time", "data_time")
NOMINAL_FLOPS = 3e11  # what "mfu" is measured against: one CPU core at its best


@dataclass(frozen=True)
class Row:
    """What one training step gives."""

    step: int
    t: float
    loss: float
    grad_norm: float
    lr: float
    tokens_per_s: float
    step_time: float
    data_time: float
    wall: float  # seconds since the row before, pauses included: what nanoGPT and titan show
    skipped: bool  # the update was thrown away because a gradient was not finite
    memory: int  # resident bytes of the process

    def public(self) -> dict[str, float]:
        """The named fields, rounded to six digits (the clock to a millisecond)."""
        values = {name: getattr(self, name) for name in FIELDS}
        out = {k: v if isinstance(v, int) else _six(v) for k, v in values.items()}
        return out | {"t": round(self.t, 3)}


@dataclass(frozen=True)
class Pause:
    """An evaluation or a checkpoint, when it has ended; the losses are the evaluation's."""

    step: int
    t: float
    train_loss: float = math.nan
    val_loss: float = math.nan


@dataclass(frozen=True)
class Job:
    """What a writer has to know of the run."""

    total: int
    batch: int
    tokens: int
    flops: float
    size: int
    ram: int
    resumed: bool


class Writer:
    """Base: an appending, line-flushed file."""

    suffix = ".log"

    def __init__(self, folder: Path, job: Job) -> None:
        self.job = job
        path = folder / f"log{self.suffix}"
        self.fresh = not path.exists()
        self._out = path.open("a", encoding="utf-8", newline="")

    def put(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def begin(self) -> None:
        """Lines before the first step."""

    def row(self, row: Row) -> None:
        raise NotImplementedError

    def evaluation(self, at: Pause) -> None:
        """Called after an evaluation."""

    def checkpoint(self, at: Pause) -> None:
        """Called after a checkpoint was written."""


class JsonLines(Writer):
    suffix = ".jsonl"

    def row(self, row: Row) -> None:
        self.put(json.dumps(row.public()) + "\n")

    def evaluation(self, at: Pause) -> None:
        values = {"step": at.step, "t": round(at.t, 3), "val_loss": _six(at.val_loss)}
        self.put(json.dumps(values) + "\n")


class Csv(Writer):
    suffix = ".csv"

    def begin(self) -> None:
        if self.fresh:
            self.put(",".join((*FIELDS, "val_loss")) + "\n")

    def row(self, row: Row) -> None:
        self.put(",".join(str(v) for v in row.public().values()) + ",\n")

    def evaluation(self, at: Pause) -> None:
        gap = "," * (len(FIELDS) - 1)
        self.put(f"{at.step},{round(at.t, 3)}{gap}{_six(at.val_loss)}\n")


class NanoGpt(Writer):
    """nanoGPT's train.py; `time` holds evaluation pauses too, as it does there."""

    suffix = ".nanogpt.log"

    def begin(self) -> None:
        start = "Resuming training from out" if self.job.resumed else "Initializing a new model"
        self.put(f"tokens per iteration will be: {self.job.tokens:,}\n{start}\n")
        self.put(f"number of parameters: {self.job.size / 1e6:.2f}M\n")
        self._mfu = -1.0

    def row(self, row: Row) -> None:
        mfu = self.job.flops / row.wall / NOMINAL_FLOPS
        self._mfu = mfu if self._mfu < 0 else 0.9 * self._mfu + 0.1 * mfu
        self.put(f"iter {row.step}: loss {row.loss:.4f}, time {row.wall * 1000:.2f}ms, mfu {self._mfu * 100:.2f}%\n")

    def evaluation(self, at: Pause) -> None:
        self.put(f"step {at.step}: train loss {at.train_loss:.4f}, val loss {at.val_loss:.4f}\n")

    def checkpoint(self, _at: Pause) -> None:
        self.put("saving checkpoint to out\n")


class Megatron(Writer):
    """Megatron-LM's training log; a loss that is NaN takes its key with it, as it does there."""

    suffix = ".megatron.log"

    def row(self, row: Row) -> None:
        nan = math.isnan(row.loss)
        loss = "" if nan else f" lm loss: {row.loss:.6E} |"
        self.put(
            f" iteration {row.step:8d}/{self.job.total:8d} |"
            f" consumed samples: {row.step * self.job.batch:12d} |"
            f" elapsed time per iteration (ms): {row.step_time * 1000:.1f} |"
            f" learning rate: {row.lr:.3E} | global batch size: {self.job.batch:5d} |{loss}"
            f" loss scale: 1.0 | grad norm: {row.grad_norm:.3f} |"
            f" number of skipped iterations: {int(row.skipped):3d} |"
            f" number of nan iterations: {int(nan):3d} |\n"
        )

    def evaluation(self, at: Pause) -> None:
        loss = at.val_loss
        ppl = math.exp(min(20.0, loss)) if math.isfinite(loss) else loss
        line = f" validation loss at iteration {at.step} | lm loss value: {loss:.6E} | lm loss PPL: {ppl:.6E} | "
        rule = "-" * (len(line) + 1)
        self.put(f"{rule}\n{line}\n{rule}\n")

    def checkpoint(self, at: Pause) -> None:
        self.put(f"  successfully saved checkpoint from iteration {at.step:7d} to out\n")


class Titan(Writer):
    """torchtitan's metrics line: ANSI colours between the fields, a logging prefix in front."""

    suffix = ".titan.log"
    RED, GREEN, BLUE, CYAN, PINK = (f"\033[{n}m" for n in (31, 32, 34, 36, 35))
    ORANGE, TURQUOISE = "\033[38;2;180;60;0m", "\033[38;2;54;234;195m"
    RESET = "\033[39m"

    def _log(self, t: float, text: str) -> None:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(t))
        self.put(f"[titan] {clock},{int(t % 1 * 1000):03d} - root - INFO - {text}\n")

    def begin(self) -> None:
        self._log(time.time(), f"Model size: {self.job.size:,} total parameters")
        self._log(time.time(), f"Training starts at step {1 if not self.job.resumed else 'N'}")

    def _memory(self, used: int) -> str:
        return f"{self.TURQUOISE}memory: {used / 2**30:5.2f}GiB({used / self.job.ram:.2%})"

    def row(self, row: Row) -> None:
        rate = self.job.flops / row.wall
        self._memory_used = row.memory
        self._log(
            row.t,
            f"{self.RED}step: {row.step:2}  {self.GREEN}loss: {row.loss:8.5f}  "
            f"{self.ORANGE}grad_norm: {row.grad_norm:7.4f}  {self._memory(row.memory)}  "
            f"{self.BLUE}tps: {round(self.job.tokens / row.wall):,}  "
            f"{self.CYAN}tflops: {rate / 1e12:,.2f}  "
            f"{self.PINK}mfu: {rate / NOMINAL_FLOPS:.2%}{self.RESET}",
        )

    def evaluation(self, at: Pause) -> None:
        self._log(
            at.t,
            f"{self.GREEN}validate step: {at.step:2}  {self.GREEN}loss: {at.val_loss:7.4f}  "
            f"{self._memory(self._memory_used)}{self.RESET}",
        )

    def checkpoint(self, at: Pause) -> None:
        self._log(at.t, "Saving the checkpoint (or staging if async is enabled).")


class Tqdm(Writer):
    """A progress bar: the line is rewritten after a carriage return, and never ends."""

    suffix = ".tqdm.log"

    def begin(self) -> None:
        self._start, self._first = time.time(), -1

    def row(self, row: Row) -> None:
        if self._first < 0:
            self._first = row.step - 1
        done, total, spent = row.step, self.job.total, row.t - self._start
        rate = (done - self._first) / max(spent, 1e-9)
        cells = done * 10 / total
        bar = ("█" * int(cells) + " ▏▎▍▌▋▊▉"[int(cells % 1 * 8)])[:10].ljust(10)
        self.put(
            f"\rtrain: {done * 100 // total:3d}%|{bar}| {done}/{total}"
            f" [{_clock(spent)}<{_clock((total - done) / rate)}, {rate:.2f}it/s,"
            f" loss={row.loss:.4f}, grad_norm={row.grad_norm:.3f}, lr={row.lr:.2e}]"
        )


WRITERS: dict[str, Callable[[Path, Job], Writer]] = {
    "jsonl": JsonLines,
    "csv": Csv,
    "nanogpt": NanoGpt,
    "megatron": Megatron,
    "titan": Titan,
    "tqdm": Tqdm,
}
SUFFIXES: dict[str, str] = {name: f".{name}" if name in ("jsonl", "csv") else f".{name}.log" for name in WRITERS}


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
