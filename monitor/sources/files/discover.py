"""Which files below a path belong together: a log and its rotated predecessors are one family, one run.

A scan looks at names and types only (stat is for each `STATE`), so that a rescan per second is cheap. Bounds: depth 8,
100,000 files, hidden names skipped, links to folders followed once; what is left out is counted.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath

from monitor.sources.files.rows import Unusable
from monitor.sources.files.tailer import GRAIN_NS

MAX_DEPTH = 8
MAX_FILES = 100_000
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".log", ".logs", ".txt", ".out", ".err", ".wandb")
SEQUENCE = "events.out.tfevents"
"""The family of a folder's event files: each start of a trainer writes one of its own, with the time in its name."""

STATE = "trainer_state.json"
"""Hugging Face's, of which each checkpoint has one of its own that continues the one before."""

_EVENTS = re.compile(r".*tfevents\.(?P<time>\d{1,19})(?P<rest>(\..*)?)")
_CHECKPOINT = re.compile(r"checkpoint-\d{1,19}")
_ROTATED = re.compile(r"(?P<base>.+)[.-](?P<number>\d{1,3}|\d{8}(?:[T_-]?\d{2,6})?(?:-\d+)?)")


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One file of a family; members sort from the oldest to the one being written."""

    age: tuple[int, str, int]
    path: str
    inode: int = 0


@dataclass(slots=True)
class Scan:
    """families: path of the file being written (it may be absent) → members, oldest first. errors: (path, text)."""

    families: dict[str, list[Member]] = field(default_factory=dict)
    refused: dict[str, Unusable] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)


def scan(root: str, max_files: int = MAX_FILES) -> Scan:
    """Everything below `root`, which may be a file. Never raises; an unreadable root is an error of the scan."""
    out = Scan()
    if not os.path.isdir(root):
        _scan_file(root, out)
        return out
    for count, entry in enumerate(_walk(root, out)):
        if count == max_files:
            out.refused[root] = Unusable.TOO_MANY_FILES
            break
        if entry.name == STATE:
            above = os.path.dirname(os.path.dirname(entry.path))
            base = os.path.join(above, STATE) if _is_checkpoint(entry.path) and above.startswith(root) else entry.path
            out.families.setdefault(base, []).extend(_states([entry.path]))
            continue
        base, age = family_of(entry.name)
        folder = entry.path[: len(entry.path) - len(entry.name)]
        inode = entry.stat().st_ino if entry.is_symlink() else entry.inode()
        out.families.setdefault(folder + base, []).append(Member(age, entry.path, inode))
    for base, members in out.families.items():
        out.families[base] = _in_order(members)
    return out


def _in_order(members: list[Member]) -> list[Member]:
    """The oldest first; without archives that are being made: their file is there still."""
    plain = {m.path for m in members}
    return sorted(m for m in members if not (m.path.endswith(".gz") and m.path[:-3] in plain))


def expand(pattern: str) -> tuple[str, list[str]]:
    """The folder that run ids are relative to and the paths to scan; a path without wildcards stands for itself."""
    if not glob.has_magic(pattern):
        return pattern, [pattern]
    return fixed(pattern), sorted(itertools.islice(glob.iglob(pattern, recursive=True), MAX_FILES))


def fixed(pattern: str) -> str:
    """The part of a path before its wildcards; looks at no file."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def _scan_file(root: str, out: Scan) -> None:
    try:
        os.stat(root)
    except OSError as error:
        out.errors.append((root, error.strerror or str(error)))
        return
    out.families[root] = family(root)


def family(path: str) -> list[Member]:
    """The files that belong to `path` as they are now, oldest first; it need not be among them. Never raises."""
    folder, name = os.path.split(path)
    folder = folder or "."
    if name == STATE:
        checkpoints = glob.iglob(os.path.join(glob.escape(folder), "checkpoint-*", STATE))
        return sorted(_states([path, *filter(_is_checkpoint, checkpoints)]))
    try:
        changed_ns = os.stat(folder).st_mtime_ns
        # A folder that changed this very moment may change again without another time stamp.
        fresh = time.time_ns() - changed_ns < GRAIN_NS
        listed = _list(folder) if fresh else _listed(folder, changed_ns)
    except OSError:
        return []  # what is gone in this moment is found by the next call
    return _in_order(listed.get(name, []))


def _is_checkpoint(path: str) -> bool:
    return _CHECKPOINT.fullmatch(os.path.basename(os.path.dirname(path))) is not None


def _states(paths: Iterable[str]) -> Iterator[Member]:
    """Those that are there; the last written is the youngest, whatever its number: a restart may have a lower one."""
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            yield Member((0, f"{status.st_mtime_ns:020}", 0), path, status.st_ino)


@lru_cache(maxsize=64)
def _listed(folder: str, changed_ns: int) -> dict[str, list[Member]]:  # noqa: ARG001 - the key of the cache
    return _list(folder)


def _list(folder: str) -> dict[str, list[Member]]:
    """Every name that stands for a family → its members. One listing serves all families of a folder."""
    listed: dict[str, list[Member]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            base, age = family_of(entry.name)
            try:
                inode = os.stat(entry.path).st_ino if entry.is_symlink() else entry.inode()
            except OSError:
                continue
            for name in {base, entry.name}:
                listed.setdefault(name, []).append(Member(age, entry.path, inode))
    return listed


def settled(path: str) -> list[Member]:
    """The family when no rename is under way, as far as two listings can tell; empty if it does not come to rest."""
    members = family(path)
    for _ in range(10):
        before, members = members, family(path)
        if members == before:
            return members
    return []


def _walk(root: str, out: Scan) -> Iterator[os.DirEntry[str]]:
    seen: set[tuple[int, int]] = set()
    stack = [(root, 0)]
    while stack:
        folder, depth = stack.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda e: e.name)
        except OSError as error:
            out.errors.append((folder, error.strerror or str(error)))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    if depth < MAX_DEPTH:
                        stack.append((entry.path, depth + 1))
                    else:
                        out.refused[entry.path] = Unusable.TOO_DEEP_FOLDER
                elif entry.is_file():
                    yield entry
                else:
                    out.refused[entry.path] = Unusable.NOT_A_FILE
            except OSError:
                out.refused[entry.path] = Unusable.UNREADABLE


def family_of(name: str) -> tuple[str, tuple[int, str, int]]:
    """Name of the file being written that `name` belongs to, and its age: `a.log.2.gz` → `a.log`, second oldest."""
    plain = name.removesuffix(".gz")
    if events := _EVENTS.fullmatch(plain):
        return SEQUENCE, (0, f"{events['time']:>020}{events['rest']}", 0)
    found = _ROTATED.fullmatch(plain)
    if found and found["base"].endswith(SUFFIXES):
        number = found["number"]
        return found["base"], (1, "", -int(number)) if len(number) <= 3 else (0, number, 0)
    return name, (2, "", 0)


def is_sequence(path: str) -> bool:
    """Whether each file of a family has a name of its own for ever, so that `path` is none but stands for all."""
    return os.path.basename(path) in (SEQUENCE, STATE)


def run_of(path: str, root: str) -> str:
    """Run id of a file: its path below the watched root without the suffix of its format.

    The folder, where all files of the format have the same name.
    """
    pure = PurePath(path)
    if pure.name == STATE and _is_checkpoint(path) and pure.parent.parent.name:
        return pure.parent.parent.name
    if family_of(pure.name)[0] in (SEQUENCE, STATE) and pure.parent.name:
        inside = "" if path == root else pure.parent.relative_to(root).as_posix()
        return inside if inside not in ("", ".") else pure.parent.name
    relative = pure.name if path == root else pure.relative_to(root).as_posix()
    plain = relative.removesuffix(".gz")
    for suffix in SUFFIXES:
        if plain.endswith(suffix) and len(PurePath(plain).name) > len(suffix):
            return plain.removesuffix(suffix)
    return plain
