"""What exporters of hosts say, beside the rows of the runs that are there: columns of context, and lines for faults.

A run is on the hosts that its own series name (`label`, its port cut off), and where the configuration puts it. A row
gets, per name of monitor/hardware.py, the worst of what its hosts had said last when the row was written, not older
than FRESH_MS: no rows of its own, so that a run whose hosts go on talking still falls silent. Context is as of the
moment of reading; what comes later changes no row. Bounds: MAX_SERIES series of hosts (the first seen make room),
`kept` samples of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from monitor.hardware import PRESETS, Gauge

FRESH_MS = 120_000
MAX_SERIES = 20_000
MAX_HOSTS = 20_000
MAX_LINES = 20
"""Of one call: a host that breaks says so often."""
_DEVICE = ("gpu", "device", "export")

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]


@dataclass(slots=True)
class _Said:
    """Of one series. t: ms, ascending; values: as the gauge means them; last: as it was sent."""

    gauge: Gauge
    host: str
    what: str
    t: Int = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    values: Float = field(default_factory=lambda: np.empty(0))
    last: float = float("nan")
    last_t: int = -1


class Hosts:
    """The hosts of all runs of one source."""

    def __init__(
        self, presets: Iterable[str], label: str, placed: Mapping[str, Sequence[str]], *, kept: int = 16
    ) -> None:
        """presets: keys of `PRESETS`. placed: host → runs that are there besides."""
        self._gauges = {gauge.series: gauge for preset in presets for gauge in PRESETS[preset]}
        self._label = label
        self._kept = kept
        self._hosts: dict[str, set[str]] = {}  # run → hosts
        self._runs: dict[str, set[str]] = {}  # host → runs
        self._said: dict[frozenset[tuple[str, str]], _Said] = {}
        self._of: dict[str, list[_Said]] = {}  # host → series
        for host, runs in placed.items():
            for run in runs:
                self._place(host.lower(), run)

    @property
    def selector(self) -> str:
        """What selects the series of the presets; "" if there are none."""
        return '{__name__=~"' + "|".join(self._gauges) + '"}' if self._gauges else ""

    def wants(self, labels: Mapping[str, str]) -> bool:
        """Whether a series belongs to a preset."""
        return labels.get("__name__", "") in self._gauges

    def learn(self, labels: Mapping[str, str], run: str) -> None:
        """A series with these labels belongs to the run."""
        if self._gauges and (host := self._host(labels)):
            self._place(host, run)

    def put(self, labels: Mapping[str, str], t: Int, values: Float) -> list[tuple[str, str]]:
        """Take in samples in order of time; (run, line) of the faults among them."""
        said = self._series(labels)
        new = t > said.last_t
        t, values = t[new], values[new]
        if not t.size:
            return []
        before, before_t = np.r_[said.last, values[:-1]], np.r_[said.last_t, t[:-1]]
        said.last, said.last_t = float(values[-1]), int(t[-1])
        rise = values - before
        faults = np.flatnonzero((rise > 0) if said.gauge.counter else (rise != 0) & (values != 0) & ~np.isnan(before))
        lines = [
            f"Hardware: {said.what}: {said.gauge.series} went from {before[i]:g} to {values[i]:g}"
            for i in (faults if said.gauge.fault else ())
        ]
        if said.gauge.counter:
            with np.errstate(invalid="ignore"):
                good = rise >= 0  # not after a reset, nor at the first sample
            t, values = t[good], rise[good] / ((t[good] - before_t[good]) / 1000.0)
        said.t = np.concatenate([said.t, t])[-self._kept :]
        said.values = np.concatenate([said.values, values])[-self._kept :]
        return [(run, line) for line in lines[-MAX_LINES:] for run in sorted(self._runs.get(said.host, ()))]

    def context(self, run: str, times: Sequence[int]) -> list[dict[str, float]]:
        """For each moment (ms): column → worst of what the hosts of the run had said last."""
        found: list[dict[str, float]] = [{} for _ in times]
        moments = np.array(times, dtype=np.int64)
        for said in (s for host in sorted(self._hosts.get(run, ())) for s in self._of.get(host, ())):
            at = np.searchsorted(said.t, moments, side="right") - 1
            for i in np.flatnonzero(at >= 0):
                age, value = moments[i] - said.t[at[i]], float(said.values[at[i]])
                if age <= FRESH_MS and value == value:  # noqa: PLR0124, not NaN
                    column, worst = said.gauge.column, min if said.gauge.low else max
                    found[i][column] = worst(found[i].get(column, value), value)
        return found

    def _host(self, labels: Mapping[str, str]) -> str:
        return labels.get(self._label, "").rpartition(":")[0].lower() or labels.get(self._label, "").lower()

    def _place(self, host: str, run: str) -> None:
        if host in self._runs or len(self._runs) < MAX_HOSTS:
            self._runs.setdefault(host, set()).add(run)
            self._hosts.setdefault(run, set()).add(host)

    def _series(self, labels: Mapping[str, str]) -> _Said:
        key = frozenset(labels.items())
        said = self._said.get(key)
        if said is None:
            if len(self._said) >= MAX_SERIES:
                gone = self._said.pop(next(iter(self._said)))
                self._of[gone.host].remove(gone)
            host = self._host(labels)
            devices = [f"{name} {labels[name][:40]}" for name in _DEVICE if labels.get(name)]
            said = self._said[key] = _Said(self._gauges[labels["__name__"]], host, " ".join((host, *devices)))
            self._of.setdefault(host, []).append(said)
        return said
