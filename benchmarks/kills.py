"""SIGKILL at random moments under load: what is lost, what is said twice, and does it still find the same?

A writer appends rows of RUNS runs with faults on a fixed plan, in pieces that end in the middle of lines. The daemon is
killed again and again and started at once; when the writer has ended it delivers what is left. Then the very same bytes
are fed to an undisturbed daemon, as live rows, and the incidents of both are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import ROOT, TERMINAL, Daemon, Slack, make_known, print_table, wait_for
from benchmarks.writer import ROWS_PER_S, RUNS
from monitor.store import incident_of

WAIT_S: Final = (0.05, 1.5)
"""How long after READY the daemon lives."""
THINK_S: Final = 0.05
"""Between what Slack does and its answer: a kill in between is the one that makes others say things twice."""
DRAIN_S: Final = 100.0
"""Less than the 120 s after which a run that has ended counts as silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """expected: incidents of the undisturbed daemon; found: of the killed one; equal: in both.

    An incident is (run, kind, first row, episode, severity). lost: paged incidents without a message; lost_notes: notes
    that are not in their thread. messages, notes, pictures: how many were said more than once. ready_s: seconds from
    start to READY, of every start.
    """

    kills: int
    rows: int
    expected: int
    found: int
    equal: int
    pages: int
    lost: int
    lost_notes: int
    messages: int
    notes: int
    pictures: int
    ready_s: tuple[float, ...]
    drain_s: float
    differences: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether both found the same."""
        return self.expected == self.found == self.equal


Key = tuple[str, str, int, int, str]


def trial(kills: int, seed: int, keep: Path | None = None) -> Result:
    """Kill so often, then compare. keep: folder for everything that was written."""
    with _folder(keep) as folder, Slack(THINK_S) as slack:
        with Daemon(folder / "killed", slack.sink) as daemon:
            ready_s, drain_s = _disturb(daemon, kills, seed)
            said = _said(daemon, slack)
            found = _incidents(daemon)
            rows = sum(daemon.rows_seen().values())
        with Daemon(folder / "calm", TERMINAL) as daemon:
            _feed(daemon, folder / "killed" / "runs")
            expected = _incidents(daemon)
            daemon.stop()
    odd = sorted((expected | found) - (expected & found))
    return Result(
        kills=kills,
        rows=rows,
        expected=len(expected),
        found=len(found),
        equal=len(expected & found),
        ready_s=tuple(ready_s),
        drain_s=drain_s,
        differences=tuple(f"{'missing' if k in expected else 'extra'}: {k}" for k in odd),
        **said,
    )


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="runwarden-kills-"))
    yield folder  # kept where something fails: it is the evidence
    shutil.rmtree(folder)


def _disturb(daemon: Daemon, kills: int, seed: int) -> tuple[list[float], float]:
    """Seconds to READY of every start, and seconds that it took to deliver the rest."""
    rng = random.Random(seed)
    ready_s = [daemon.start()]
    make_known(daemon)
    command = [sys.executable, "-m", "benchmarks.writer", str(daemon.runs), str(seed)]
    writer = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        for _ in range(kills):
            time.sleep(rng.uniform(*WAIT_S))
            daemon.kill()
            ready_s.append(daemon.start())
    finally:
        writer.terminate()
        code = writer.wait(timeout=30)
    if code:
        raise RuntimeError(f"the writer ended with {code}")
    began = time.monotonic()
    _drain(daemon)
    drain_s = time.monotonic() - began
    daemon.stop()
    return ready_s, drain_s


def _drain(daemon: Daemon) -> None:
    """Wait until all rows are read and nothing is left to be said, and has not been for a second."""
    wanted = _rows(daemon.runs)
    quiet = 0

    def done() -> bool:
        nonlocal quiet
        daemon.check()
        left = daemon.ask("SELECT COUNT(*) FROM outbox WHERE wanted > delivered AND dead = 0")
        quiet = quiet + 1 if left == [(0,)] and daemon.rows_seen() == wanted else 0
        return quiet > 10

    wait_for(done, "everything read and delivered", DRAIN_S, every_s=0.1)


def _rows(runs: Path) -> dict[str, int]:
    return {path.stem: path.read_bytes().count(b"\n") for path in runs.iterdir()}


def _said(daemon: Daemon, slack: Slack) -> dict[str, Any]:
    """What of the pages and notes in the store Slack shows, and how often."""
    threads: dict[str, list[str]] = {}
    pictures: Counter[str] = Counter()
    for message in slack.messages():
        thread = _payload(message, "thread")
        threads.setdefault(thread, []).append(message["ts"])
        pictures[thread] += sum(block["type"] == "image" for block in message.get("blocks", ()))
    pages = {i for (i,) in daemon.ask("SELECT DISTINCT id FROM incidents WHERE severity = 2")}
    notes: Counter[str] = Counter()
    for thread, ts in threads.items():
        for reply in (reply for one in ts for reply in slack.replies(one)):
            notes[_payload(reply, "note")] += 1
            pictures[thread] += "files" in reply
    notes.pop("", None)
    stored = {i for (i,) in daemon.ask("SELECT id FROM notes")}
    return {
        "pages": len(pages),
        "lost": len(pages - threads.keys()),
        "lost_notes": len(stored - notes.keys()),
        "messages": sum(len(ts) - 1 for ts in threads.values()),
        "notes": sum(many - 1 for many in notes.values()),
        "pictures": sum(max(0, many - 1) for many in pictures.values()),
    }


def _payload(message: dict[str, Any], key: str) -> str:
    return str(message.get("metadata", {}).get("event_payload", {}).get(key, ""))


def _incidents(daemon: Daemon) -> set[Key]:
    found = [incident_of(body) for (body,) in daemon.ask("SELECT body FROM incidents")]
    return {(i.run, i.kind.value, i.first_row, i.episode, i.severity.name.lower()) for i in found}


def _feed(daemon: Daemon, recorded: Path) -> None:
    """Append what was recorded, ten times as fast as it was, to files that the daemon is watching."""
    daemon.start()
    make_known(daemon)
    left = {path.name: path.read_bytes().splitlines(keepends=True) for path in sorted(recorded.glob("run-*"))}
    at = 0
    while any(at < len(lines) for lines in left.values()):
        daemon.check()
        for name, lines in left.items():
            with (daemon.runs / name).open("ab") as out:
                out.writelines(lines[at : at + ROWS_PER_S // RUNS])
        at += ROWS_PER_S // RUNS
        time.sleep(0.1)
    wanted = _rows(daemon.runs)
    wait_for(lambda: daemon.rows_seen() == wanted, "all rows read", DRAIN_S)


def main() -> int:
    """Print the table; 1 if anything was lost or differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder to make and to leave with all that was written")
    args = parser.parse_args()
    r = trial(args.kills, args.seed, args.keep)
    ready = sorted(r.ready_s)
    print_table(
        f"{r.kills} × SIGKILL, {r.rows:,} rows of {RUNS} runs, {r.pages} pages",
        ("what", "count", "aim"),
        [
            ("incidents expected", r.expected, ""),
            ("incidents found", r.found, r.expected),
            ("incidents equal", r.equal, r.expected),
            ("pages lost", r.lost, 0),
            ("notes lost", r.lost_notes, 0),
            ("duplicate messages", r.messages, 0),
            ("duplicate notes", r.notes, 0),
            ("duplicate pictures", r.pictures, ""),
            ("start to READY, median s", f"{ready[len(ready) // 2]:.2f}", ""),
            ("start to READY, worst s", f"{ready[-1]:.2f}", ""),
            ("last start to READY, s", f"{r.ready_s[-1]:.2f}", ""),
            ("all delivered after the writer's end, s", f"{r.drain_s:.1f}", ""),
        ],
    )
    for text in r.differences[:20]:
        print(text)
    return 0 if r.same and not (r.lost or r.lost_notes or r.messages or r.notes) else 1


if __name__ == "__main__":
    sys.exit(main())
