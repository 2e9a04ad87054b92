"""Random lives of a log: written, rotated, truncated, deleted, read, killed; nothing knowable lost, nothing twice.

What must hold at every rest: all that is owed (see `tail_world`) was read; every line at most once, in the order of
writing; row numbers ascend; values are what was written. A kill forgets what was read since the last commit.

Left out, because nobody can know: what is written between copy and truncation, and a truncation without a copy that is
followed by another change before anybody looked; and after a kill, whether a short archive was read, whose file was
written to and read after it was compressed.

`python -m benchmarks.tail_model --sequences 10000 --folder FOLDER` is the long run.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.tail_world import Act, World

READING: Final = (Act.POLL, Act.COMMIT, Act.REST)
Action = tuple[Act, int]
ACTIONS: Final = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(Act), st.sampled_from((Act.WRITE, Act.WRITE, Act.WRITE, *READING))),
        st.integers(0, 1 << 16),
    ),
    min_size=3,
    max_size=40,
)


@contextlib.contextmanager
def _world(parent: Path | None) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="model-", dir=parent) as folder:
        world = World(Path(folder))
        try:
            yield world
        finally:
            world.close()


def live(actions: list[Action], parent: Path | None = None) -> World:
    """A world in which this happens, to its rest. Raises AssertionError. parent: where its folder is made."""
    with _world(parent) as world:
        for act, number in actions:
            world.do(act, number)
        world.log.write(1)
        world.rest()
    return world


def trial(sequences: int, parent: Path | None, told: Callable[[World], None] | None = None) -> None:
    """Live so many random lives. Raises AssertionError for the smallest that fails.

    told: hears of each; without it the lives are the same every time.
    """

    @settings(
        deadline=None,
        max_examples=sequences,
        database=None,
        derandomize=told is None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(ACTIONS)
    def each(actions: list[Action]) -> None:
        world = live(actions, parent)
        if told is not None:
            told(world)

    each()


def main() -> int:
    """Live, and say how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where the files are made: another file system")
    args = parser.parse_args()
    lives = rows = 0
    began = time.monotonic()

    def told(world: World) -> None:
        nonlocal lives, rows
        lives += 1
        rows += len(world.seen.rows)

    trial(args.sequences, args.folder, told)
    print(f"{lives:,} sequences, {rows:,} rows: 0 lost, 0 doubled, in order; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
