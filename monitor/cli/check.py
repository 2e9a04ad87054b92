"""`check`: errors, which stop the start, and doubts, which are what this machine and user lack for it."""

from __future__ import annotations

import errno
import getpass
import grp
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from monitor.cli.say import MISUSED, OK, plain
from monitor.config import Config, ConfigError, load
from monitor.sources.files.discover import expand
from monitor.sources.files.section import Params as FilesSection
from monitor.web.address import parse_address
from monitor.yamlfile import Loc, read_document


def check(path: Path) -> int:
    """Every problem of a configuration on a line of its own."""
    try:
        config, document = load(path, os.environ), read_document(path)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return MISUSED
    many = 0
    for loc, text in doubts(config):
        many += 1
        print(document.problem(loc, f"warning: {plain(text)}"), file=sys.stderr)
    print(f"{plain(str(path))}: good" + (f", {many} warning{'s' * (many != 1)}" if many else ""))
    return OK


def doubts(config: Config) -> Iterator[tuple[Loc, str]]:
    """(place, what will not work here and now; what to do about it)."""
    found = [
        *_of_sources(config),
        (("state_dir",), _of_folder("state_dir", config.state_dir)),
        (("control", "group"), _of_group(config.control.group)),
        *_of_addresses(config),
    ]
    if config.control.socket is not None:
        found.append((("control", "socket"), _of_folder("its folder", config.control.socket.parent, make=False)))
    yield from ((loc, text) for loc, text in found if text)


def _of_sources(config: Config) -> Iterator[tuple[Loc, str]]:
    for i, item in enumerate(config.sources):
        if isinstance(item.section, FilesSection):
            for j, pattern in enumerate(item.section.paths):
                yield ("sources", i, item.kind, "paths", j), _of_path(pattern)


def _of_addresses(config: Config) -> Iterator[tuple[Loc, str]]:
    if _answers(config.control_socket):
        return  # our own daemon has its ports
    web, metrics = config.web.listen, config.metrics.listen
    for name, address in (("web", web), ("metrics", metrics)):
        if address is not None:
            yield (name, "listen"), _of_address(address)
    if web is not None and web == metrics and parse_address(web)[1]:
        yield ("metrics", "listen"), f"{web} is web.listen as well; give one of them another port"


def _of_path(pattern: str) -> str:
    root, paths = expand(pattern)
    if root != pattern:
        if not Path(root).is_dir():
            return f"{root} is not there, so {pattern} finds nothing; check the path"
        return "" if paths else f"{pattern} finds nothing yet; check the pattern, or wait for the first run"
    try:
        is_folder = Path(pattern).is_dir()
        Path(pattern).stat()
    except FileNotFoundError:
        return f"{pattern} is not there; check the path, or make it before the first run"
    except OSError as e:
        return f"{pattern} cannot be looked at ({e.strerror}); let {getpass.getuser()} read it"
    if not os.access(pattern, os.R_OK | (os.X_OK if is_folder else 0)):
        return f"{pattern} cannot be read; let {getpass.getuser()} read it"
    return ""


def _of_folder(name: str, folder: Path, *, make: bool = True) -> str:
    """make: the start makes it, so the nearest that exists above it decides."""
    here, me = folder, getpass.getuser()
    try:
        while make and not here.exists() and here != here.parent:
            here = here.parent
        if not here.is_dir():
            return f"{name} {folder} is no folder; make it, or set another"
    except OSError as e:
        return f"{name} {folder} cannot be looked at ({e.strerror}); set one that {me} may use"
    if not os.access(here, os.W_OK | os.X_OK):
        what = "written" if here == folder else "made"
        return f"{name} {folder} cannot be {what} by {me}; set one of yours, or run this as the user of the daemon"
    return ""


def _of_group(group: str | None) -> str:
    if group is None:
        return ""
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        return f"the group {group} does not exist; make it (groupadd --system {group}), or leave control.group out"
    if os.geteuid() == 0 or number in (*os.getgroups(), os.getegid()):
        return ""
    return f"{getpass.getuser()} is not in the group {group} and cannot give it the socket; add it to the group"


def _of_address(address: str) -> str:
    host, port = parse_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as e:
        if e.errno == errno.EADDRINUSE:
            return f"{address} is taken by another program; choose another port, or 0 for any free one"
        return f"{address} cannot be listened on ({e.strerror or e}); choose an address of this machine"
    return ""


def _answers(path: Path) -> bool:
    """Whether a daemon of this configuration runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
