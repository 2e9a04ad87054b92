"""The long run: coverage-guided fuzzing of one parser, with atheris and the project's dependencies installed.

    python -m tests.fuzz.long NAME -max_total_time=600 -timeout=10 NEW_INPUTS tests/fuzz/seeds tests/golden/writers

NAME: a format of `monitor.sources.files.PARSERS`, or `custom`; what follows is libFuzzer's. It stops at the first input
that raises; what it found belongs into the test of the parser that it concerns, or into the seeds.
"""

from __future__ import annotations

import sys
from functools import partial

import atheris

with atheris.instrument_imports(include=["monitor"]):
    from tests.fuzz.target import consume

name = sys.argv.pop(1)
atheris.Setup(sys.argv, partial(consume, name))
atheris.Fuzz()
