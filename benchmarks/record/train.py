"""One real training run on one CPU core, with the faults it was asked to carry.

    python -m benchmarks.record.train --out DIR --seed 1 --fault bad_batch --at 400 \\
        --fault-steps 1 --strength 1.0 --formats jsonl,csv

Faults that come from outside (stop, kill, a busy neighbour) are not this program's: it only
prints the number of each finished step, and `supervise.py` acts on that.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.record import data
from benchmarks.record.faults import INSIDE, Fault, Faults
from benchmarks.record.model import GPT, Shape, flops_per_step, lm_loss
from benchmarks.record.writers import WRITERS, Job, Pause, Row

CHECKPOINT = "checkpoint.pt"
RAM = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Config:
    """Everything that decides one run."""

    out: Path
    seed: int = 1
    steps: int = 1000
    shape: Shape = field(default_factory=Shape)
    lr: float = 2e-3
    sgd: bool = False  # SGD with momentum: Adam divides the size of a gradient away
    warmup: int = 60
    lr_restart: int = 0  # step at which the cosine starts again; 0: one cosine to the end
    clip: float = 1.0
    eval_every: int = 200
    eval_batches: int = 120
    checkpoint_every: int = 250
    checkpoint_copies: int = 1  # a larger model's checkpoint: the same state, this many times
    pause_in_step: bool = False  # whether a pause counts into the next step's `step_time`
    skip_nonfinite: bool = True  # throw an update away whose gradient is not finite
    formats: tuple[str, ...] = ("jsonl",)
    faults: Faults = field(default_factory=Faults)
    resume: bool = False
    reinit: bool = False  # resume the counter but lose the weights: the restart fault


def lr_at(step: int, cfg: Config) -> float:
    """Linear warm-up, then a cosine to a tenth of the peak, once more after `lr_restart`."""
    if step <= cfg.warmup:
        return cfg.lr * step / cfg.warmup
    first, last = cfg.warmup, cfg.steps
    if cfg.lr_restart:
        first, last = (first, cfg.lr_restart) if step < cfg.lr_restart else (cfg.lr_restart, last)
    phase = (step - first) / max(1, last - first)
    return cfg.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * phase)))


class Trainer:
    """Model, optimiser, loader and writers of one run."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        torch.set_num_threads(1)
        torch.manual_seed(cfg.seed)
        cfg.out.mkdir(parents=True, exist_ok=True)
        self.model = GPT(cfg.shape)
        self.optim = _optimiser(cfg, list(self.model.parameters()))
        self.first = self._load() + 1 if cfg.resume else 1
        self.train_text, self.val_text = data.corpus()
        scratch = cfg.out / "scratch.bin"
        if any(f.name == "slow_loader" for f in cfg.faults.items) and not scratch.exists():
            data.make_scratch(scratch)
        batches = data.Batches(cfg.shape, cfg.seed, cfg.faults, scratch)
        self.batches = iter(data.loader(batches, self.first, cfg.steps))
        size = self.model.size()
        flops = flops_per_step(size, cfg.shape)
        job = Job(cfg.steps, cfg.shape.batch, cfg.shape.tokens, flops, size, RAM, cfg.resume)
        self.writers = [WRITERS[name](cfg.out, job) for name in cfg.formats]
        self.marks = (cfg.out / "marks.jsonl").open("a", encoding="utf-8")

    def run(self) -> None:
        for writer in self.writers:
            writer.begin()
        row_end = time.perf_counter()
        for step in range(self.first, self.cfg.steps + 1):
            begin = time.perf_counter()
            x, y = next(self.batches)
            waited = time.perf_counter() - begin
            loss, norm, lr, skipped = self._step(step, x, y)
            now = time.perf_counter()
            spent = now - (row_end if self.cfg.pause_in_step else begin)
            row = Row(
                step, time.time(), loss, norm, lr, self.cfg.shape.tokens / spent, spent,
                waited, now - row_end, skipped, _resident(),
            )  # fmt: skip
            row_end = now
            for writer in self.writers:
                writer.row(row)
            print(step, flush=True)
            if step % self.cfg.eval_every == 0:
                self._evaluate(step)
            if step % self.cfg.checkpoint_every == 0:
                self._save(step)

    def _step(self, step: int, x: Tensor, y: Tensor) -> tuple[float, float, float, bool]:
        """One update; gives loss, gradient norm before clipping, lr, and whether it was skipped."""
        faults, cfg = self.cfg.faults, self.cfg
        if (scale := faults.weights_scale(step)) != 1.0:
            with torch.no_grad():
                for weight in self.model.parameters():
                    weight.mul_(scale)
        lr = lr_at(step, cfg) * faults.lr_scale(step)
        for group in self.optim.param_groups:
            group["lr"] = lr
        scale = faults.loss_scale(step)
        loss = lm_loss(self.model(x) * faults.logits_scale(step), y)
        torch.autograd.backward(loss * scale)
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
        skipped = cfg.skip_nonfinite and not math.isfinite(float(norm))
        if not skipped:
            if faults.clip(step):
                torch._foreach_mul_(grads, torch.clamp(cfg.clip / (norm + 1e-6), max=1.0))
            self.optim.step()
        self.optim.zero_grad(set_to_none=True)
        return float(loss.detach()), float(norm), lr, skipped

    @torch.no_grad()
    def _evaluate(self, step: int) -> None:
        """A real evaluation: a few training batches, then the validation ones."""
        self._mark("eval", step, "begin")
        means = []
        for text, count in ((self.train_text, 10), (self.val_text, self.cfg.eval_batches)):
            rng = np.random.default_rng(7)
            pairs = (data.batch_at(text, self.cfg.shape, rng) for _ in range(count))
            means.append(sum(float(lm_loss(self.model(x), y)) for x, y in pairs) / count)
        for writer in self.writers:
            writer.evaluation(Pause(step, time.time(), *means))
        self._mark("eval", step, "end")

    def _save(self, step: int) -> None:
        """Write the checkpoint under another name, force it to disk, then put it in place."""
        self._mark("checkpoint", step, "begin")
        target = self.cfg.out / CHECKPOINT
        with target.with_suffix(".new").open("wb") as out:
            state = {"step": step, "model": self.model.state_dict()}
            for _ in range(self.cfg.checkpoint_copies):
                out.seek(0)
                torch.save(state | {"optim": self.optim.state_dict()}, out)
                out.flush()
                os.fsync(out.fileno())
        target.with_suffix(".new").replace(target)
        for writer in self.writers:
            writer.checkpoint(Pause(step, time.time()))
        self._mark("checkpoint", step, "end")

    def _load(self) -> int:
        state = torch.load(self.cfg.out / CHECKPOINT)
        if not self.cfg.reinit:
            self.model.load_state_dict(state["model"])
            self.optim.load_state_dict(state["optim"])
        return int(state["step"])

    def _mark(self, what: str, step: int, edge: str) -> None:
        """What really happened and when, for the labels; not part of the recording."""
        mark = {"what": what, "step": step, "edge": edge, "t": round(time.time(), 3)}
        self.marks.write(json.dumps(mark) + "\n")
        self.marks.flush()


def _optimiser(cfg: Config, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
    if cfg.sgd:
        return torch.optim.SGD(weights, lr=cfg.lr, momentum=0.9, fused=True)
    return torch.optim.AdamW(weights, cfg.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def parse(argv: list[str] | None = None) -> Config:
    """Read the command line; `--fault`, `--at`, `--fault-steps`, `--strength` go together."""
    plain = argparse.RawDescriptionHelpFormatter
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    ask.add_argument("--out", type=Path, required=True)
    for name in ("seed", "steps", "warmup", "lr-restart", "eval-every", "eval-batches"):
        default = getattr(Config, name.replace("-", "_"))
        ask.add_argument(f"--{name}", type=int, default=default)
    for name in ("checkpoint-every", "checkpoint-copies"):
        ask.add_argument(f"--{name}", type=int, default=getattr(Config, name.replace("-", "_")))
    for name in ("layers", "width", "heads", "seq", "batch"):
        ask.add_argument(f"--{name}", type=int, default=getattr(Shape, name))
    for name in ("lr", "clip"):
        ask.add_argument(f"--{name}", type=float, default=getattr(Config, name))
    for name in ("sgd", "pause-in-step", "keep-nonfinite", "resume", "reinit"):
        ask.add_argument(f"--{name}", action="store_true")
    ask.add_argument("--formats", default="jsonl", help=",".join(WRITERS))
    ask.add_argument("--fault", action="append", default=[], choices=INSIDE)
    ask.add_argument("--at", action="append", type=int, default=[])
    ask.add_argument("--fault-steps", action="append", type=int, default=[])
    ask.add_argument("--strength", action="append", type=float, default=[])
    got = ask.parse_args(argv)
    items = zip(got.fault, got.at, got.fault_steps, got.strength, strict=True)
    return Config(
        out=got.out, seed=got.seed, steps=got.steps, lr=got.lr, sgd=got.sgd, warmup=got.warmup,
        shape=Shape(got.layers, got.width, got.heads, got.seq, got.batch),
        lr_restart=got.lr_restart, clip=got.clip, eval_every=got.eval_every,
        eval_batches=got.eval_batches, checkpoint_every=got.checkpoint_every,
        checkpoint_copies=got.checkpoint_copies, pause_in_step=got.pause_in_step,
        skip_nonfinite=not got.keep_nonfinite,
        formats=tuple(got.formats.split(",")), resume=got.resume or got.reinit,
        reinit=got.reinit, faults=Faults(tuple(Fault(*item) for item in items)),
    )  # fmt: skip


if __name__ == "__main__":
    Trainer(parse()).run()
