"""Synthetic runs for the tests of the detectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from detectors.types import Block, Column, Finding, Phase, Role, Severity

Metric = tuple[str, Role]
LOSS: Metric = ("loss", Role.LOSS)
GRAD: Metric = ("grad_norm", Role.GRAD_NORM)
STEP: Metric = ("step_time", Role.STEP_TIME)
DATA: Metric = ("data_time", Role.DATA_TIME)
SPEED: Metric = ("tokens_per_s", Role.THROUGHPUT)
SKIPPED: Metric = ("skipped", Role.SKIPPED_STEPS)


def rows(values: Mapping[Metric, np.ndarray], *, run="r", attempt=0, first=0, present=None, **more) -> Block:
    """A block of whole columns; `present`: metric name → positions that have a value."""
    size = max(v.size for v in values.values())
    columns = []
    seen: set[Role] = set()
    for (name, role), v in values.items():
        index = np.arange(v.size) if present is None or name not in present else np.asarray(present[name], np.int64)
        columns.append(Column(name, role, role not in seen, index.astype(np.int64), v[index].astype(np.float64)))
        seen.add(role)
    number = np.arange(first, first + size, dtype=np.int64)
    more = {"seen": 1e9 + first + size, **more}
    return Block(
        run=run,
        attempt=attempt,
        row=number,
        step=number * 10,
        t=1e9 + number.astype(np.float64),
        columns=tuple(columns),
        **more,
    )


def cut(block: Block, places: Iterable[int]) -> list[Block]:
    """The block in pieces that begin at `places`."""
    edges = sorted({0, block.row.size, *(p % (block.row.size + 1) for p in places)})
    return [part(block, a, b) for a, b in pairwise(edges)]


def part(block: Block, low: int, high: int) -> Block:
    """Rows low … high - 1."""
    columns = []
    for c in block.columns:
        a, b = np.searchsorted(c.index, (low, high))
        if b > a:
            columns.append(replace(c, index=c.index[a:b] - low, values=c.values[a:b]))
    return replace(
        block, row=block.row[low:high], step=block.step[low:high], t=block.t[low:high], columns=tuple(columns)
    )


def loss(size: int, seed: int, *, noise=0.02, start=10.0, floor=2.0, tau=300.0) -> np.ndarray:
    """A healthy decaying loss."""
    rng = np.random.default_rng(seed)
    level = floor + (start - floor) * np.exp(-np.arange(size) / tau)
    return level * np.exp(noise * rng.standard_normal(size))


def steady(size: int, seed: int, *, level=1.0, noise=0.03) -> np.ndarray:
    """A stationary positive metric."""
    return level * np.exp(noise * np.random.default_rng(seed).standard_normal(size))


def said(findings: Iterable[Finding], *, phase=Phase.BEGINS, least=Severity.NOTICE) -> list[Finding]:
    return [f for f in findings if f.phase is phase and f.severity >= least]


def pages(findings: Iterable[Finding]) -> list[Finding]:
    """What reached a page."""
    return [f for f in findings if f.severity is Severity.PAGE and f.phase is not Phase.ENDS]
