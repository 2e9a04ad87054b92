"""The command line. Results go to standard output, progress and errors to standard error.

Exit codes: 0 done; 1 it could not be done (no daemon, state unusable, a sink failed); 2 wrong use, bad config or
unreadable input; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from monitor import __version__
from monitor.cli.say import INTERRUPTED, OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = args.command
    try:
        return command(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`): not an error, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runwarden",
        description="Stands watch over training runs.",
        epilog="Exit codes: 0 done, 1 it could not be done, 2 wrong use or bad input, 130 interrupted.",
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    watch = verb("watch", _watch, "Watch run files below PATH; pages go to the terminal unless Slack is configured.")
    watch.add_argument("path", nargs="+", metavar="PATH")
    watch.add_argument("--config", type=Path, metavar="FILE", help="take everything but the paths from this file")

    run = verb("run", _run, "Run the daemon.")
    run.add_argument("--config", type=Path, required=True, metavar="FILE")

    check = verb("check", _check, "Check a configuration; exit 0 if it is good, 2 if not.")
    check.add_argument("config", type=Path, metavar="FILE")

    inspect = verb("inspect", _inspect, "Show what is seen in a file: format, runs, columns, what could not be read.")
    inspect.add_argument("file", metavar="FILE")
    inspect.add_argument(
        "--pattern",
        action="append",
        default=[],
        metavar="REGEX",
        help="try a regular expression with named groups (step, t, total; others are metrics) in place of the formats",
    )
    inspect.add_argument("--rows", action="store_true", help="print the rows as JSON lines instead")

    backtest = verb("backtest", _backtest, "Say what would have been paged on recorded files.")
    backtest.add_argument("path", nargs="+", metavar="PATH")
    backtest.add_argument("--format", choices=("table", "jsonl"), default="table")
    backtest.add_argument("--config", type=Path, metavar="FILE")
    backtest.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: cores)"
    )

    incidents = verb("incidents", _incidents, "List, show, acknowledge, resolve and judge incidents.")
    incidents.add_argument("--config", type=Path, metavar="FILE", help="the daemon's configuration")
    incidents.add_argument("--state-dir", type=Path, metavar="DIR", help="the daemon's state folder instead")
    what = incidents.add_subparsers(dest="what", required=True, metavar="list|show|evidence|ack|resolve|verdict")
    what.add_parser("list", help="open and recent incidents")
    for name, text in (
        ("show", "everything that is known of one"),
        ("evidence", "what a model sees of it, exactly"),
        ("ack", "say that somebody has it"),
        ("resolve", "close it"),
        ("verdict", "say whether it was real and the hypothesis right"),
    ):
        one = what.add_parser(name, help=text)
        one.add_argument("id", metavar="ID", help="id or its beginning")
        if name == "verdict":
            one.add_argument("verdict", choices=("real", "false-alarm", "hypothesis-right", "hypothesis-wrong"))
            one.add_argument("--cause", metavar="CAUSE", help="what it really was")

    test_page = verb("test-page", _test_page, "Post, edit and thread a test page in every sink.")
    test_page.add_argument("--config", type=Path, metavar="FILE")

    demo = verb("demo", _demo, "A recorded run goes wrong before your eyes; needs no keys.")
    demo.add_argument("--keep", type=Path, metavar="DIR", help="keep state, chart and logs here")

    verb("version", _version, "Print the version.")
    return parser


def _positive(text: str) -> int:
    number = int(text)
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
    from monitor.cli.daemon import check  # noqa: PLC0415

    return check(args.config)


def _inspect(args: argparse.Namespace) -> int:
    from monitor.cli.files import inspect  # noqa: PLC0415

    return inspect(args.file, rows=args.rows, regexes=args.pattern)


def _backtest(args: argparse.Namespace) -> int:
    from monitor.cli.files import backtest  # noqa: PLC0415

    return backtest(args.path, args.format, args.config, args.jobs)


def _incidents(args: argparse.Namespace) -> int:
    from monitor.cli import incidents  # noqa: PLC0415

    return incidents.command(args)


def _test_page(args: argparse.Namespace) -> int:
    from monitor.cli.incidents import test_page  # noqa: PLC0415

    return test_page(args.config)


def _demo(args: argparse.Namespace) -> int:
    from monitor.cli.demo import demo  # noqa: PLC0415

    return demo(args.keep)


def _version(_: argparse.Namespace) -> int:
    print(__version__)
    return OK
