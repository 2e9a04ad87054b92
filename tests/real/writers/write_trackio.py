"""`write_trackio.py FOLDER`: two runs of one project, values that are no numbers; one is renamed, one resumed."""

from __future__ import annotations

import math
import os
import sys

os.environ["TRACKIO_DIR"] = sys.argv[1]

import trackio
from pace import pause

for name in ("first", "second"):
    trackio.init(project="demo", name=name, embed=False)
    for step in range(10):
        loss = {3: math.nan, 4: math.inf, 5: -math.inf}.get(step, 4 / (step + 1))
        trackio.log({"train": {"loss": loss}, "optim/lr": 1e-3, "note": "x"})
    trackio.finish()
    pause(name)
next(run for run in trackio.Api().runs("demo") if run.name == "first").rename("renamed")
trackio.init(project="demo", name="second", resume="must", embed=False)
for step in range(20, 25):
    trackio.log({"train": {"loss": 1.0}, "optim/lr": 1e-3}, step=step)
trackio.finish()
pause("end")
