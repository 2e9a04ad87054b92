"""The command line. Results go to standard output, progress and errors to standard error.

Exit codes: 0 done; 1 it could not be done (no daemon, state unusable, a sink failed); 2 wrong use, bad config or
unreadable input; 130 interrupted, 143 terminated. Each command says its own in its help.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from monitor.cli.parser import parser
from monitor.cli.say import FAILED, INTERRUPTED, OK, TERMINATED, Terminated, fail, open_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    open_streams()
    try:
        return _run(argv)
    finally:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody can be told; what is left unsaid must not become the exit code
            _give_up(sys.stderr)


def _run(argv: Sequence[str] | None) -> int:
    try:
        try:
            args = parser().parse_args(argv)
            code: int = args.command(args)
        finally:
            sys.stdout.flush()
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`): not an error, and nothing more can be written.
        _give_up(sys.stdout)
        return OK
    except OSError as e:  # the commands report their own; without a name it is the output, on a full disk perhaps
        _give_up(sys.stdout)
        return fail(f"{e.filename or 'standard output'}: {e.strerror}", FAILED)
    return code


def _give_up(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
