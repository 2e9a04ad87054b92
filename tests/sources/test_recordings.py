"""The same real run, recorded in several formats at once, is read as the same run from each of them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

import pytest

from detectors.types import Role
from monitor.roles import role_of
from monitor.sources.files.inspect import rows

RECORDINGS = Path(__file__).parents[2] / "benchmarks" / "recordings"
TRUTH = json.loads((RECORDINGS / "truth.json").read_text())
FILES = defaultdict(list)
for entry in TRUTH:
    FILES[entry["run"]].append(entry["file"])
PAIRS = sorted((f"{run}.jsonl.gz", file) for run, files in FILES.items() for file in files if file != f"{run}.jsonl.gz")


def curve(file, role):
    """(step, value) of the role's first metric in file order."""
    found = []
    for row in rows(str(RECORDINGS / file)):
        for metric, value in row.items():
            if metric not in ("run", "step", "t") and role_of(metric).role is role and metric != "train/loss":
                found.append((row["step"], value))
                break
    return found


@pytest.mark.parametrize(("reference", "file"), PAIRS)
@pytest.mark.parametrize("role", [Role.LOSS, Role.GRAD_NORM, Role.LEARNING_RATE])
def test_every_format_of_a_run_gives_the_same_curve(reference, file, role):
    found = curve(file, role)
    if not found:
        assert role is not Role.LOSS, "every format has a loss"
        return  # nanoGPT and torchtitan lines have neither gradient norm nor learning rate, or one of them
    # By step, because torchtitan prints validation losses under the name of the loss and a resume repeats steps.
    at = defaultdict(list)
    for step, value in found:
        at[step].append(value)
    for step, value in curve(reference, role):
        assert any(
            (math.isnan(value) and math.isnan(other)) or other == pytest.approx(value, rel=5e-3, abs=5e-5)
            for other in at[step]
        ), (step, value, at[step])
