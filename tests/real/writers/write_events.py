"""`write_events.py torch|tensorboardX FOLDER`: a run, and its restart from an earlier step with a writer of its own."""

from __future__ import annotations

import math
import sys

from pace import pause

kind, folder = sys.argv[1:]
if kind == "torch":
    from torch.utils.tensorboard import SummaryWriter

    spellings = {"loss": {}, "acc": {"new_style": True}, "double": {"new_style": True, "double_precision": True}}
    options = {}
else:
    from tensorboardX import SummaryWriter

    spellings = {"loss": {}, "acc": {}, "double": {}}
    options = {"flush_secs": 1}


def steps(writer, first: int, last: int) -> None:
    for step in range(first, last):
        for i, (tag, how) in enumerate(spellings.items()):
            value = math.nan if step == 27 and tag == "loss" else (4.0 + i) / (step + 1)
            writer.add_scalar(tag, value, step, **how)
    writer.flush()


writer = SummaryWriter(folder, **options)
steps(writer, 0, 20)
pause("twenty")
writer.add_text("note", "hello", 20)
steps(writer, 20, 30)
writer.close()
pause("thirty")
writer = SummaryWriter(folder, purge_step=15, filename_suffix=".again", **options)
steps(writer, 15, 40)
pause("again")
writer.close()
