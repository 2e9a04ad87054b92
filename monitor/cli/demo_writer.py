"""The writer of the demo: a process of its own that appends a recorded run to a file, as a trainer would.

The recorded values are untouched; only the clock is moved to now, for rows that are hours old page nobody.
"""

from __future__ import annotations

import gzip
import json
import sys
import time

HASTE_S = 0.006  # per row, until shortly before the fault
CALM_S = 0.08  # per row from there on, so that a person can follow


def main(recording: str, target: str) -> None:
    """Append `recording` (JSON lines, gzipped) to `target`."""
    with gzip.open(recording, "rt") as lines, open(target, "a", buffering=1) as out:  # noqa: PTH123, two plain files
        for line in lines:
            row = json.loads(line)
            row["t"] = time.time()
            out.write(json.dumps(row) + "\n")
            time.sleep(CALM_S if row.get("step", 0) >= CALM_FROM_STEP else HASTE_S)


CALM_FROM_STEP = 605

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
