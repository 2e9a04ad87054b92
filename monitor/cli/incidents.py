"""`incidents` and `test-page`. What changes something goes through the running daemon; reading goes to the database."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sqlite3
import sys
from pathlib import Path

from monitor.cli.say import FAILED, MISUSED, OK, fail
from monitor.config import Config, ConfigError, load
from monitor.control import ControlError, ask
from monitor.incident import Incident
from monitor.page import HypothesisView
from monitor.pages import facts, headline, moment, standing
from monitor.reader import Reader

_STATE_DIR = Path("/var/lib/runwarden")


def command(args: argparse.Namespace) -> int:
    """Every verb of `runwarden incidents`."""
    try:
        folder, socket = _place(args.config, args.state_dir)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return MISUSED
    if args.what in ("list", "show", "evidence"):
        return _read(folder / "state.db", args)
    values = {}
    if args.what == "verdict":
        values = {"verdict": args.verdict, "author": getpass.getuser()}
        if args.cause:
            values["cause"] = args.cause
    return _tell(socket, args.what, args.id, values)


def test_page(config: Path | None) -> int:
    """Post a test page through the running daemon."""
    try:
        _, socket = _place(config, None)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return MISUSED
    return _tell(socket, "test-page", "all", {})


def _place(config: Path | None, state_dir: Path | None) -> tuple[Path, Path]:
    """State folder and control socket of the daemon."""
    if config is not None:
        loaded: Config = load(config, os.environ)
        return loaded.state_dir, loaded.control_socket
    folder = state_dir or Path(os.environ.get("STATE_DIRECTORY", _STATE_DIR))
    return folder, folder / "control.sock"


def _tell(socket: Path, verb: str, incident: str, values: dict[str, str]) -> int:
    try:
        answer = asyncio.run(ask(socket, verb, incident, **values))
    except ControlError as e:
        return fail(e, FAILED)
    print(answer)
    return FAILED if "FAILED" in answer else OK


def _read(path: Path, args: argparse.Namespace) -> int:
    if not path.exists():
        return fail(f"{path}: no state here; name it with --config FILE or --state-dir DIR", MISUSED)
    try:
        reader = Reader(path)
        if args.what == "list":
            return _list(reader)
        incident = reader.incident(args.id)
        if incident is None:
            return fail(f"no incident {args.id!r}, or more than one that begins so", MISUSED)
        return _evidence(reader, incident) if args.what == "evidence" else _show(reader, incident)
    except sqlite3.Error as e:
        return fail(f"{path}: cannot be read ({e})", FAILED)


def _list(reader: Reader) -> int:
    from monitor.exhibits import accounts, moves  # noqa: PLC0415, no verb that goes to the daemon needs it

    form = "{:<12} {:<13} {:<7} {:<24} {}"
    print(form.format("id", "state", "tier", "opened", "what"))
    for i in reader.incidents():
        what = headline(i, moves(accounts(reader, i)))
        print(form.format(i.id, standing(i), i.severity.name.lower(), moment(i.opened_t), what))
    return OK


def _show(reader: Reader, incident: Incident) -> int:
    from monitor.exhibits import accounts, explanation, moves  # noqa: PLC0415, see `_list`

    answers = accounts(reader, incident)
    print(headline(incident, moves(answers)))
    print(f"{standing(incident)}, {incident.severity.name.lower()}, id {incident.id}, episode {incident.episode}")
    for label, value in facts(incident, moves(answers)):
        print(f"  {label}: {value}")
    hypothesis = explanation(reader, incident, answers)
    if hypothesis is not None:
        _explain(hypothesis)
    print("\nWhat happened, and why it was or was not paged:")
    for change in reader.changes(incident.id):
        print(f"  {moment(change.t)}  episode {change.episode}, revision {change.revision}: {change.reason}")
    for note in reader.notes(incident.id):
        print(f"  thread: {note.text}")
    for d in reader.deliveries(pending=False):
        if d.incident == incident.id:
            state = "delivered" if d.delivered >= d.wanted else f"dead: {d.error}" if d.dead else f"pending {d.error}"
            print(f"  {d.sink}: {state}")
    return OK


def _explain(hypothesis: HypothesisView) -> None:
    print(f"\nHypothesis ({hypothesis.author}): {hypothesis.cause.replace('_', ' ')}. {hypothesis.summary}")
    if hypothesis.fallen:
        print(f"  refuted: {hypothesis.fallen}")
    for claim in hypothesis.claims:
        print(f"  {claim.verdict}: {claim.text} ({claim.found})")
    for rival in hypothesis.rivals:
        print(f"  rival: {rival}")
    for p in hypothesis.predictions:
        print(f"  prediction, {p.outcome}: {p.text}, p={p.probability:.2f} {p.found}")
    if hypothesis.experiment:
        print(f"  experiment: {hypothesis.experiment}")
    if hypothesis.note:
        print(f"  note: {hypothesis.note}")


def _evidence(reader: Reader, incident: Incident) -> int:
    text = reader.evidence(incident.id)
    if text is None:
        return fail(f"no evidence was made for {incident.id}", FAILED)
    sys.stdout.write(text)
    return OK
