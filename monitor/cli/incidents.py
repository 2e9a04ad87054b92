"""`incidents`. What changes something goes through the running daemon; reading goes to the database."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sqlite3
import sys
from pathlib import Path

from monitor.cli.say import FAILED, MISUSED, OK, fail, fit, plain
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


def _place(config: Path | None, state_dir: Path | None) -> tuple[Path, Path]:
    """State folder and control socket of the daemon."""
    if config is not None:
        loaded: Config = load(config, os.environ, secrets=False)
        return loaded.state_dir, loaded.control_socket
    folder = state_dir or Path(os.environ.get("STATE_DIRECTORY", _STATE_DIR))
    return folder, folder / "control.sock"


def _tell(socket: Path, verb: str, incident: str, values: dict[str, str]) -> int:
    try:
        answer = asyncio.run(ask(socket, verb, incident, **values))
    except ControlError as e:
        return fail(e, FAILED)
    print(plain(answer))
    return OK


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

    incidents = reader.incidents()
    if not incidents:
        print("no incidents")
        return OK
    form = "{:<12}  {:<12}  {:<6}  {:<23}  {}"
    print(fit(form.format("id", "state", "tier", "opened", "what")))
    for i in incidents:
        tier, what = i.severity.name.lower(), headline(i, moves(accounts(reader, i)))
        print(fit(form.format(i.id, standing(i), tier, moment(i.opened_t), plain(what))))
    return OK


def _show(reader: Reader, incident: Incident) -> int:
    from monitor.exhibits import accounts, explanation, moves  # noqa: PLC0415, see `_list`

    answers = accounts(reader, incident)
    print(fit(plain(headline(incident, moves(answers)))))
    print(f"{standing(incident)}, {incident.severity.name.lower()}, id {incident.id}, episode {incident.episode}")
    for label, value in facts(incident, moves(answers)):
        print(fit(f"  {label}: {plain(value)}"))
    hypothesis = explanation(reader, incident, answers)
    if hypothesis is not None:
        _explain(hypothesis)
    print("\nWhat happened, and why it was or was not paged:")
    for change in reader.changes(incident.id):
        print(f"  {moment(change.t)}  episode {change.episode}, revision {change.revision}: {change.reason}")
    for note in reader.notes(incident.id):
        print(fit(f"  thread: {plain(note.text)}"))
    for d in reader.deliveries(pending=False):
        if d.incident == incident.id:
            state = "delivered" if d.delivered >= d.wanted else f"dead: {d.error}" if d.dead else f"pending {d.error}"
            print(f"  {d.sink}: {state}")
    return OK


def _explain(hypothesis: HypothesisView) -> None:
    cause = f"{hypothesis.cause.replace('_', ' ')}. {plain(hypothesis.summary)}"
    print(f"\n{fit(f'Hypothesis ({plain(hypothesis.author)}): {cause}')}")
    if hypothesis.fallen:
        print(fit(f"  refuted: {plain(hypothesis.fallen)}"))
    for claim in hypothesis.claims:
        print(fit(f"  {claim.verdict}: {plain(claim.text)} ({plain(claim.found)})"))
    for rival in hypothesis.rivals:
        print(fit(f"  rival: {plain(rival)}"))
    for p in hypothesis.predictions:
        text = f"  prediction, {p.outcome}: {plain(p.text)}, p={p.probability:.2f}"
        print(fit(f"{text} {plain(p.found)}" if p.found else text))
    if hypothesis.experiment:
        print(fit(f"  experiment: {plain(hypothesis.experiment)}"))
    if hypothesis.note:
        print(fit(f"  note: {plain(hypothesis.note)}"))


def _evidence(reader: Reader, incident: Incident) -> int:
    text = reader.evidence(incident.id)
    if text is None:
        return fail(f"no evidence was made for {incident.id}", FAILED)
    sys.stdout.write(text)
    return OK
