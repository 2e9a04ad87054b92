"""A log that is written fast and rotated, in processes of their own; our tailer and rsyslog's imfile read it at once.

`python -m benchmarks.tail_storm rename|copytruncate FOLDER ROTATIONS LINES_PER_S` writes FOLDER/t.jsonl. A rotation
every 0.1 s; the rotator of copytruncate is a second process and the writer never pauses.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.harness import ROOT, wait_for

EVERY_S: Final = 0.1
FLUSH_S: Final = 0.005
LOG: Final = "t.jsonl"


_ROW: Final = re.compile(rb'\{"step": (\d+), "loss": 2\.5\}')


def line(step: int) -> bytes:
    """A row that is known by its step."""
    return b'{"step": %d, "loss": 2.5}\n' % step


def shift(path: Path) -> None:
    """`t.1` → `t.2` and so on: make place for a new `t.1`; none is deleted."""
    numbers = [int(p.name.rpartition(".")[2]) for p in path.parent.glob(f"{path.name}.*")]
    for n in sorted(numbers, reverse=True):
        path.with_name(f"{path.name}.{n}").rename(path.with_name(f"{path.name}.{n + 1}"))


def write(path: Path, rotations: int, rate: int, *, rename: bool) -> None:
    """Rows at a fixed rate for the time of all rotations, and half a second more."""
    began, step, turned = time.monotonic(), 0, 0
    out = path.open("ab", buffering=0)
    while (passed := time.monotonic() - began) < rotations * EVERY_S + 0.5:
        due = int(passed * rate)
        out.write(b"".join(map(line, range(step, due))))
        step = due
        if rename and turned < min(rotations, int(passed / EVERY_S)):
            shift(path)
            path.rename(path.with_name(f"{path.name}.1"))
            out.close()
            out = path.open("ab", buffering=0)
            turned += 1
        time.sleep(FLUSH_S)
    out.close()


def copytruncate(path: Path, rotations: int) -> None:
    """As logrotate does it."""
    for _ in range(rotations):
        time.sleep(EVERY_S)
        shift(path)
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)


@contextlib.contextmanager
def storm(kind: str, folder: Path, rotations: int, rate: int) -> Iterator[subprocess.Popen[bytes]]:
    """The processes that write and rotate; the one that is given ends last."""
    command = [sys.executable, "-m", "benchmarks.tail_storm", kind, str(folder), str(rotations), str(rate)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def written(folder: Path) -> Counter[int]:
    """The steps of all complete lines in all files of the log: what a reader can know."""
    found: Counter[int] = Counter()
    for path in folder.glob(f"{LOG}*"):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found.update(steps_of(content))
    return found


def steps_of(content: bytes) -> Iterator[int]:
    """Steps of the whole rows among the complete lines."""
    for text in content.split(b"\n")[:-1]:
        if found := _ROW.fullmatch(text):
            yield int(found[1])


_CONFIG: Final = """\
global(workDirectory="{folder}")
module(load="imfile" mode="inotify")
input(type="imfile" File="{log}" Tag="t:" reopenOnTruncate="on" Severity="info" Facility="local7")
template(name="raw" type="string" string="%msg%\\n")
action(type="omfile" file="{folder}/out" template="raw")
"""


class Rsyslog:
    """rsyslog's imfile on one file, with a configuration and a folder of its own."""

    def __init__(self, program: str, log: Path, folder: Path) -> None:
        """program: of an installed one, or of an unpacked package."""
        folder.mkdir()
        self._out = folder / "out"
        (folder / "conf").write_text(_CONFIG.format(folder=folder, log=log))
        libraries = [str(p.parent) for p in Path(program).parents[2].glob("**/libfastjson.so.4")]
        modules = [str(p.parent) for p in Path(program).parents[2].glob("**/rsyslog/imfile.so")]
        environ = {**os.environ, **({"LD_LIBRARY_PATH": libraries[0]} if libraries else {})}
        command = [program, "-n", "-f", str(folder / "conf"), "-i", str(folder / "pid")]
        command += ["-M", modules[0]] if modules else []
        self._process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> Counter[int]:
        """Stop it when nothing comes any more; what it has read."""
        sizes = [-1]

        def quiet() -> bool:
            sizes.append(self._out.stat().st_size if self._out.exists() else 0)
            return len(set(sizes[-4:])) == 1

        wait_for(quiet, "rsyslog at rest", every_s=1.0)
        self._process.terminate()
        self._process.wait(timeout=30)
        content = self._out.read_bytes() if self._out.exists() else b""
        return Counter(steps_of(b"\n".join(text.lstrip() for text in content.split(b"\n"))))


def rsyslog() -> str | None:
    """RSYSLOGD, or what is on the path."""
    return os.environ.get("RSYSLOGD") or shutil.which("rsyslogd")


def main(kind: str, folder: str, rotations: str, rate: str) -> None:
    """Write and rotate."""
    path = Path(folder) / LOG
    path.touch()
    child = os.fork() if kind == "copytruncate" else 0
    if kind == "copytruncate" and not child:
        copytruncate(path, int(rotations))
        os._exit(0)
    write(path, int(rotations), int(rate), rename=kind == "rename")
    if child:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
