"""The arguments of every command, and its help. Each command loads what it needs only when it runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monitor import __version__

Command = Callable[[argparse.Namespace], int]

_STOPPED = (
    "0 stopped by Ctrl-C or SIGTERM, what was read is stored and what was due is delivered; 1 the state, an address or "
    "the control socket cannot be used; 2 {}"
)
_INTERRUPTED = "130 interrupted, 143 terminated"
_VERDICTS = ("real", "false-alarm", "hypothesis-right", "hypothesis-wrong")


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(
        prog="runwarden",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28),
        description="Stands watch over training runs and pages when one goes wrong.",
        epilog=f"Exit codes: 0 done; 1 it could not be done; 2 wrong use or bad input; {_INTERRUPTED}. "
        "`runwarden COMMAND --help` says more.",
    )
    verbs = top.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, command: Command, text: str, exits: str, more: str = "") -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=f"{text} {more}", epilog=f"Exit codes: {exits}.")
        sub.set_defaults(command=command)
        return sub

    watch = verb(
        "watch",
        _watch,
        "Watch files and folders, without a configuration.",
        _STOPPED.format("a path is not there, or the configuration is bad"),
        "Pages go to the terminal, and to Slack if SLACK_BOT_TOKEN and SLACK_CHANNEL are set. What is there already is "
        "history and pages nobody.",
    )
    watch.add_argument("path", nargs="+", type=_path, metavar="PATH", help="a run's file, or a folder that is searched")
    watch.add_argument("--config", type=Path, metavar="FILE", help="take everything but the sources from this file")

    run = verb("run", _run, "Run the daemon.", _STOPPED.format("the configuration is bad"))
    run.add_argument("--config", type=Path, required=True, metavar="FILE", help="see config/runwarden.example.yaml")

    check = verb(
        "check",
        _check,
        "Check a configuration.",
        "0 good, with or without warnings; 2 not good",
        "Errors are what stops the start. Warnings are what this machine and user lack for it, so run it as the user "
        "of the daemon.",
    )
    check.add_argument("config", type=Path, metavar="FILE")

    inspect = verb(
        "inspect",
        _inspect,
        "Show what is seen in files, and what is missing.",
        "0 done; 2 nothing could be read, or a file only in part",
        "Of several files, or below a folder, a line for each.",
    )
    inspect.add_argument("file", nargs="+", type=_path, metavar="FILE", help="a file, .gz too, or a folder")
    inspect.add_argument(
        "--pattern",
        action="append",
        default=[],
        metavar="REGEX",
        help="try this RE2 expression in place of the formats; groups step, t and total, others are metrics",
    )
    inspect.add_argument("--rows", action="store_true", help="print the rows as JSON lines instead")

    backtest = verb(
        "backtest",
        _backtest,
        "Say what would have been paged on recorded files.",
        f"0 done, with or without incidents; 2 no file could be read, or the configuration is bad; {_INTERRUPTED}",
    )
    backtest.add_argument(
        "path", nargs="+", type=_path, metavar="PATH", help="a file, .gz too, or a folder that is searched"
    )
    backtest.add_argument(
        "--format", choices=("table", "jsonl"), default="table", help="text, or one incident a line as JSON"
    )
    backtest.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="take line patterns, the longest line and the age that pages from it",
    )
    cores = os.cpu_count() or 1
    backtest.add_argument("--jobs", type=_positive, default=cores, metavar="N", help="processes (default: cores)")

    _add_incidents(verb)

    test_page = verb(
        "test-page",
        _test_page,
        "Post, edit and thread a test page in every sink.",
        "0 every sink did all of it; 1 one failed or lacks a permission; 2 the configuration is bad",
        "Each sink is checked before. Through the running daemon; where none answers, directly by the configuration, "
        "or by SLACK_BOT_TOKEN and SLACK_CHANNEL as `watch` would.",
    )
    _add_place(test_page, None)

    demo = verb(
        "demo",
        _demo,
        "A recorded run goes wrong before your eyes; needs no keys.",
        "0 it was paged, explained, scored and resolved; 1 it was not; 2 LIVE=1 without its keys; " + _INTERRUPTED,
        "With LIVE=1 it posts to SLACK_CHANNEL with SLACK_BOT_TOKEN and asks Claude with ANTHROPIC_API_KEY.",
    )
    demo.add_argument("--keep", type=Path, metavar="DIR", help="keep state, chart and run here")

    verb("version", _version, "Print the version.", "0")
    return top


def _add_incidents(verb: Callable[..., argparse.ArgumentParser]) -> None:
    incidents = verb(
        "incidents",
        _incidents,
        "List, show, acknowledge, resolve and judge incidents.",
        "0 done; 1 no daemon answers, it refused, or the state cannot be read; 2 no state there, or no such incident",
        "Reading needs no running daemon, the rest does. Options may stand before or after the verb.",
    )
    _add_place(incidents, None)
    what = incidents.add_subparsers(dest="what", required=True, metavar="VERB")
    for name, text in (
        ("list", "open and recent incidents"),
        ("show", "everything that is known of one"),
        ("evidence", "what a model sees of it, exactly"),
        ("ack", "say that somebody has it"),
        ("resolve", "close it"),
        ("verdict", "say whether it was real, or the hypothesis right"),
    ):
        one = what.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        _add_place(one, argparse.SUPPRESS)  # else the default would undo what stood before the verb
        if name != "list":
            one.add_argument("id", metavar="ID", help="id or its beginning")
        if name == "verdict":
            one.add_argument("verdict", choices=_VERDICTS, metavar="VERDICT", help=", ".join(_VERDICTS))
            one.add_argument("--cause", metavar="CAUSE", help="what it really was")


def _add_place(to: argparse.ArgumentParser, default: Any) -> None:
    """Where the daemon is. Default: the state folder of the service."""
    to.add_argument("--config", type=Path, metavar="FILE", default=default, help="the daemon's configuration")
    to.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        default=default,
        help="the daemon's state folder, as it says at its start",
    )


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty")  # an unset variable of a script, not the working folder
    return text


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _watch(args: argparse.Namespace) -> int:
    from monitor.cli.daemon import watch  # noqa: PLC0415, each command loads only what it needs

    return watch(args.path, args.config)


def _run(args: argparse.Namespace) -> int:
    from monitor.cli.daemon import run  # noqa: PLC0415

    return run(args.config)


def _check(args: argparse.Namespace) -> int:
    from monitor.cli.check import check  # noqa: PLC0415

    return check(args.config)


def _inspect(args: argparse.Namespace) -> int:
    from monitor.cli.inspect import inspect  # noqa: PLC0415

    return inspect(args.file, rows=args.rows, regexes=args.pattern)


def _backtest(args: argparse.Namespace) -> int:
    from monitor.cli.backtest import backtest  # noqa: PLC0415

    return backtest(args.path, args.format, args.config, args.jobs)


def _incidents(args: argparse.Namespace) -> int:
    from monitor.cli import incidents  # noqa: PLC0415

    return incidents.command(args)


def _test_page(args: argparse.Namespace) -> int:
    from monitor.cli.testpage import test_page  # noqa: PLC0415

    return test_page(args.config, args.state_dir)


def _demo(args: argparse.Namespace) -> int:
    from monitor.cli.demo import demo  # noqa: PLC0415

    return demo(args.keep)


def _version(_: argparse.Namespace) -> int:
    print(__version__)
    return 0
