"""`write_wandb.py FOLDER`: an offline run with a configuration, system metrics, a NaN and an exit code."""

from __future__ import annotations

import math
import sys

import wandb
from pace import pause

run = wandb.init(
    mode="offline", dir=sys.argv[1], project="p", config={"lr": 0.1, "model": {"layers": 2}},
    settings=wandb.Settings(silent=True, x_stats_sampling_interval=0.2),
)  # fmt: skip
FILL = "x" * 40_000  # more than a block, which is then written at once and not after 15 s


def steps(first: int, last: int) -> None:
    for step in range(first, last):
        run.log({"loss": math.nan if step == 12 else 4 / (step + 1), "grad": {"norm": step / 9}, "lr": 1e-3})
    run.log({"note": FILL})


steps(0, 10)
pause("ten")
steps(11, 20)
pause("twenty")
wandb.finish(exit_code=3)
