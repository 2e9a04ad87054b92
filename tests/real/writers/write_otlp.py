"""`write_otlp.py URL`: an OpenTelemetry SDK exports the gauges and the counter of a run, the step as a metric."""

from __future__ import annotations

import math
import sys

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from pace import pause

exporter = OTLPMetricExporter(endpoint=sys.argv[1], compression=Compression.Gzip)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)  # only when it is told to
provider = MeterProvider([reader], resource=Resource.create({"service.name": "train", "run": "live"}))
meter = provider.get_meter("trainer")
loss, step = meter.create_gauge("trainer.loss"), meter.create_gauge("trainer.step")
tokens = meter.create_counter("trainer.tokens")
for i in range(20):
    loss.set(math.nan if i == 7 else math.inf if i == 8 else 4 / (i + 1))
    step.set(i)
    tokens.add(100)
    assert provider.force_flush()
    if i == 9:
        pause("ten")
assert provider.force_flush()  # nothing new: the SDK says the last values again
pause("end")
