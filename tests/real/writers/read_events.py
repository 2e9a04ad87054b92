"""`read_events.py FILE…`: [step, tag, value] of every scalar as TensorBoard's own EventFileLoader reads it."""

from __future__ import annotations

import json
import sys

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

found = []
for path in sys.argv[1:]:
    for event in EventFileLoader(path).Load():
        for value in event.summary.value:
            number = tensor_util.make_ndarray(value.tensor)
            if number.shape == () and number.dtype.kind == "f":
                found.append([event.step, value.tag, float(number)])
sys.stdout.write(json.dumps(found))
