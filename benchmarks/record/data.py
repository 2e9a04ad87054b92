"""Training text, and a dataset whose worker really reads more when it is told to be slow.

The text is the standard library of the running interpreter: real, on every machine, no download.
"""

from __future__ import annotations

import mmap
import os
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarks.record.faults import Faults
from benchmarks.record.model import VOCAB, Shape

PAGE = 4096
SCRATCH_PAGES = 16_384  # 64 MiB to read from
Pair = tuple[Tensor, Tensor]


def corpus(limit: int = 8_000_000) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation bytes; the order of the files is the same on every call."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    random.Random(0).shuffle(files)
    data = np.frombuffer(b"\n".join(f.read_bytes() for f in files)[:limit], dtype=np.uint8)
    cut = int(len(data) * 0.95)
    return data[:cut], data[cut:]


def batch_at(data: np.ndarray, shape: Shape, rng: np.random.Generator) -> Pair:
    """A random batch: inputs and the next byte of each."""
    starts = rng.integers(0, len(data) - shape.seq - 1, size=shape.batch)
    rows = np.stack([data[s : s + shape.seq + 1] for s in starts]).astype(np.int64)
    return torch.from_numpy(rows[:, :-1].copy()), torch.from_numpy(rows[:, 1:].copy())


class SlowDisk:
    """Reads that no cache helps: O_DIRECT, one page at a time, from random places."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path, self._rng, self._fd = path, random.Random(seed), -1
        self._page = mmap.mmap(-1, PAGE)  # page-aligned, as O_DIRECT asks

    def read(self, pages: int) -> None:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECT)
        for _ in range(pages):
            os.preadv(self._fd, [self._page], PAGE * self._rng.randrange(SCRATCH_PAGES))


def make_scratch(path: Path) -> None:
    """Write the file that a slow loader reads from."""
    with path.open("wb") as out:
        for _ in range(SCRATCH_PAGES // 256):
            out.write(os.urandom(PAGE * 256))
        out.flush()
        os.fsync(out.fileno())


class Batches(Dataset[Pair]):
    """Item N is the batch of step N, so that a resumed run repeats the same data."""

    def __init__(self, shape: Shape, seed: int, faults: Faults, scratch: Path) -> None:
        self._data, _ = corpus()
        self._shape, self._seed, self._faults = shape, seed, faults
        self._scratch = scratch
        self._disk: SlowDisk | None = None

    def __getitem__(self, step: int) -> Pair:
        rng = np.random.default_rng((self._seed, step))
        x, y = batch_at(self._data, self._shape, rng)
        if bad := _count(self._faults.bad_rows(step), self._shape.batch):
            noise = rng.integers(0, VOCAB, size=(bad, self._shape.seq + 1))
            x[:bad], y[:bad] = torch.from_numpy(noise[:, :-1]), torch.from_numpy(noise[:, 1:])
        if bad := _count(self._faults.shuffled_rows(step), self._shape.batch):
            order = torch.from_numpy(rng.permutation(bad * self._shape.seq))
            y[:bad] = y[:bad].reshape(-1)[order].reshape(bad, -1)
        if reads := self._faults.slow_reads(step):
            # opened here, in the worker: an mmap does not survive being sent to it
            self._disk = self._disk or SlowDisk(self._scratch, self._seed)
            self._disk.read(reads)
        return x, y


class Steps(Sampler[int]):
    """The step numbers in order."""

    def __init__(self, first: int, last: int) -> None:
        self._range = range(first, last + 1)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


def loader(dataset: Batches, first: int, last: int) -> DataLoader[Pair]:
    """One worker process, two batches ahead, on another core than the training."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=Steps(first, last),
        num_workers=1,
        prefetch_factor=2,
        worker_init_fn=_leave_core,
    )


def _leave_core(_worker: int) -> None:
    """A slow read must be waited for, not fought over: give the training its core."""
    others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
    if others:
        os.sched_setaffinity(0, others)


def _count(share: float, rows: int) -> int:
    return min(rows, round(share * rows)) if share > 0 else 0
