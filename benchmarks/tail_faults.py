"""What can happen to log files, on real files: how many rows were written, read, lost and read twice.

Written is what stands in any file that the tailer may see. Beside ours, rsyslog's imfile reads the two storms of
rotation, if there is one (RSYSLOGD or on the path). Kills of the daemon are in `kills`, random lives in `tail_model`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.harness import print_table
from benchmarks.tail_reader import LIMIT_S, Outcome, Reader, compare
from benchmarks.tail_storm import LOG, Rsyslog, line, rsyslog, storm, written
from monitor.sources.files.rows import Unusable

NOBODY: Final = 65534


def _rotated(kind: str, folder: Path, rotations: int) -> list[Outcome]:
    logs, reader, program = folder / "logs", None, rsyslog()
    logs.mkdir()
    (logs / LOG).touch()
    other = Rsyslog(program, logs / LOG, folder / "rsyslog") if program else None
    time.sleep(1.0 if other else 0.0)
    reader = Reader(logs)
    reader.poll()
    with storm(kind, logs, rotations, 50_000) as process:
        while process.poll() is None:
            if not reader.poll():
                time.sleep(0.05)
        reader.rest()
    wanted: Counter[object] = Counter(written(logs))
    out = [compare(wanted, reader.steps(), note=f"{rotations} rotations at 50,000 lines/s")]
    if other is not None:
        out.append(compare(wanted, Counter(other.close()), reader="rsyslog imfile"))
    return out


def renamed(folder: Path, scale: float) -> list[Outcome]:
    """F1."""
    return _rotated("rename", folder, int(100 * scale))


def copied_and_truncated(folder: Path, scale: float) -> list[Outcome]:
    """F2."""
    return _rotated("copytruncate", folder, int(20 * scale))


def made_again(folder: Path, _: float) -> list[Outcome]:
    """F3: deleted and made again, shorter, equal and longer, while up and while down; F4: truncated and regrown."""
    path, reader, step, same = folder / LOG, Reader(folder), 0, 0
    wanted: Counter[object] = Counter()

    def append(many: int) -> None:
        nonlocal step
        with path.open("ab") as out:
            out.write(b"".join(map(line, range(step, step + many))))
        wanted.update(range(step, step + many))
        step += many

    append(100)
    reader.rest()
    for down in (False, True):
        for again in (1, 100, 500):
            for delete in (True, False):
                inode = path.stat().st_ino
                if down:
                    reader.down()
                if delete:
                    path.unlink()
                else:
                    os.truncate(path, 0)
                append(again)
                same += delete and path.stat().st_ino == inode
                if down:
                    reader.up()
                reader.rest()
    return [compare(wanted, reader.steps(), note=f"12 times; same inode in {same} of 6")]


def alike(folder: Path, _: float) -> list[Outcome]:
    """F5: two files whose first 4 KiB are the same."""
    head = b"".join(map(line, range(200)))
    assert len(head) > 4096
    for i, name in enumerate(("a", "b")):
        (folder / f"{name}.jsonl").write_bytes(head + line(1000 + i))
    reader = Reader(folder)
    reader.rest()
    wanted = Counter[object]((name, s) for i, name in enumerate(("a", "b")) for s in (*range(200), 1000 + i))
    return [compare(wanted, reader.rows)]


def torn(folder: Path, _: float) -> list[Outcome]:
    """F7: bytes come one by one, with restarts, split characters, CRLF, BOM and NUL; then a line of 100 MB."""
    path, reader = folder / LOG, Reader(folder)
    whole = [f'{{"step": {i}, "größe": 1}}'.encode() + (b"\r\n" if i % 2 else b"\n") for i in range(20)]
    data = b"\xef\xbb\xbf" + b"\0\0\0".join(whole)
    with path.open("ab", buffering=0) as out:
        for i in range(len(data)):
            out.write(data[i : i + 1])
            reader.poll()
            if i % 7 == 0:
                reader.down()
                reader.up()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(100):
            out.write(b"x" * 1_000_000)
        out.write(b"\n" + line(20))
        reader.rest()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    counted = reader.counts[Unusable.LINE_TOO_LONG]
    note = f"line of 100 MB: {counted} counted, {grown} MiB of memory"
    return [compare(Counter(range(21)), reader.steps(), note=note)]


def many(folder: Path, scale: float) -> list[Outcome]:
    """F9: 10,000 files appear at once."""
    count, reader = int(10_000 * scale), Reader(folder)
    reader.poll()
    began = time.monotonic()
    for i in range(count):
        (folder / f"r{i}.jsonl").write_bytes(line(0))
    made_s, began = time.monotonic() - began, time.monotonic()
    while len(reader.rows) < count and time.monotonic() - began < LIMIT_S:
        reader.poll()
    note = f"made in {made_s:.1f} s, all read {time.monotonic() - began:.1f} s later"
    return [compare(Counter((f"r{i}", 0) for i in range(count)), reader.rows, note=note)]


def strange(folder: Path, _: float) -> list[Outcome]:
    """F10: a FIFO, /dev/zero, a folder called like a log, a link that is turned to another file."""
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "zero.jsonl").symlink_to("/dev/zero")
    (folder / "folder.jsonl").mkdir()
    store = Path(tempfile.mkdtemp(dir=folder.parent))
    link = folder / LOG
    reader = Reader(folder)
    wanted: Counter[object] = Counter()
    for i in range(10):
        (store / str(i)).write_bytes(line(2 * i))
        (folder / ".new").symlink_to(store / str(i))
        (folder / ".new").rename(link)
        reader.rest()
        with (store / str(i)).open("ab") as out:
            out.write(line(2 * i + 1))
        reader.rest()
        wanted.update((2 * i, 2 * i + 1))
    return [compare(wanted, reader.steps(), note=f"{reader.counts[Unusable.NOT_A_FILE]} counted as no file")]


def forbidden(folder: Path, _: float) -> list[Outcome]:
    """F10: permission lost and regained, seen by somebody who is not root."""
    folder.chmod(0o777)
    (folder / LOG).write_bytes(line(0))
    outcomes: multiprocessing.Queue[Outcome] = multiprocessing.Queue()

    def read() -> None:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            os.chown(folder / LOG, NOBODY, NOBODY)
            os.setuid(NOBODY)
        path, reader = folder / LOG, Reader(folder)
        reader.rest()
        for step, restart in ((1, False), (2, True)):
            with path.open("ab") as out:
                path.chmod(0)
                if restart:
                    reader.down()
                    reader.up()
                out.write(line(step))
                reader.rest()
            path.chmod(0o644)
            reader.rest()
        note = f"{reader.counts[Unusable.UNREADABLE]} counted as unreadable"
        outcomes.put(compare(Counter(range(3)), reader.steps(), note=note))

    process = multiprocessing.get_context("fork").Process(target=read)
    process.start()
    outcome = outcomes.get(timeout=LIMIT_S)
    process.join()
    return [outcome]


def deleted(folder: Path, scale: float) -> list[Outcome]:
    """F11: deleted while we lag, and written to after that."""
    path, reader, count = folder / LOG, Reader(folder), int(500_000 * scale)
    with path.open("ab") as out:
        out.write(b"".join(map(line, range(count))))
        out.flush()
        reader.poll()
        left = count - reader.rows.total()
        path.unlink()
        out.write(line(count))
        out.flush()
        reader.rest()
    return [compare(Counter(range(count + 1)), reader.steps(), note=f"{left:,} rows unread when it was deleted")]


def jumping(folder: Path, _: float) -> list[Outcome]:
    """F12: the clock jumps by a day, forth and back, and files appear and grow."""
    reader, wanted = Reader(folder), Counter[object]()
    for i, jump in enumerate((0, 86_400, -86_400, -86_400, 86_400, 0)):
        reader.now += jump
        for name in (f"r{i}", "r0"):
            with (folder / f"{name}.jsonl").open("ab") as out:
                out.write(line(i))
            wanted[name, i] += 1
        reader.rest()
    return [compare(wanted, reader.rows)]


Fault = Callable[[Path, float], list[Outcome]]
FAULTS: Final[dict[str, Fault]] = {
    "renamed": renamed,
    "copied and truncated, copies in view": copied_and_truncated,
    "deleted and made again, truncated and regrown, up and down": made_again,
    "two files with the same first 4 KiB": alike,
    "torn lines, split characters, CRLF, BOM, NUL, 100 MB": torn,
    "10,000 files at once": many,
    "FIFO, /dev/zero, folder, link turned": strange,
    "permission lost and regained": forbidden,
    "deleted while we lag": deleted,
    "clock jumps": jumping,
}


def main() -> int:
    """Print the table; 1 if ours lost or doubled anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the files are made: another file system")
    args = parser.parse_args()
    rows, bad = [], 0
    for name, fault in FAULTS.items():
        with tempfile.TemporaryDirectory(prefix="faults-", dir=args.folder) as folder:
            Path(folder).chmod(0o755)
            inside = Path(folder) / "runs"
            inside.mkdir()
            began = time.monotonic()
            for o in fault(inside, 1.0):
                took_s = f"{time.monotonic() - began:.1f}"
                rows.append((name, o.reader, f"{o.written:,}", f"{o.read:,}", o.lost, o.doubled, took_s, o.note))
                bad += o.reader == "ours" and bool(o.lost or o.doubled)
    print_table("Faults of log files", ("fault", "reader", "written", "read", "lost", "doubled", "s", ""), rows)
    if rsyslog() is None:
        print("rsyslog: not found, left out (name it in RSYSLOGD)")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
