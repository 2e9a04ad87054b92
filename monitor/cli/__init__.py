"""The command line. Results go to standard output, progress and errors to standard error.

Exit codes: 0 done; 1 it could not be done (no daemon, state unusable, a sink failed); 2 wrong use, bad config or
unreadable input; 130 interrupted, 143 terminated. Each command says its own in its help.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from monitor.cli.parser import parser
from monitor.cli.say import FAILED, INTERRUPTED, OK, TERMINATED, Terminated, fail, open_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    open_streams()
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
        _give_up_output()
        return OK
    except OSError as e:  # the commands report their own; without a name it is the output, on a full disk perhaps
        _give_up_output()
        return fail(f"{e.filename or 'standard output'}: {e.strerror}", FAILED)
    return code


def _give_up_output() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
