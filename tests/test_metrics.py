"""The monitor's own metrics: stable names, one registry for each daemon."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from monitor import __version__
from monitor.metrics import Metrics


def families(metrics: Metrics):
    return {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}


def test_the_names_and_labels_that_alert_rules_rely_on_do_not_change():
    metrics = Metrics()
    for collector in list(metrics.registry._collector_to_names):
        labels = getattr(collector, "_labelnames", ())
        if labels and not collector._metrics:
            collector.labels(*("x" for _ in labels))
    samples = {
        (sample.name, tuple(sorted(set(sample.labels) - {"le"})))
        for family in families(metrics).values()
        for sample in family.samples
        if sample.name.startswith("runwarden_") and not sample.name.endswith(("_bucket", "_sum", "_created"))
    }
    assert samples == {
        ("runwarden_rows_total", ()),
        ("runwarden_dropped_total", ("reason",)),
        ("runwarden_batches_total", ("source",)),
        ("runwarden_source_up", ("source",)),
        ("runwarden_source_last_batch_timestamp_seconds", ("source",)),
        ("runwarden_findings_total", ("kind", "severity")),
        ("runwarden_incidents_open", ()),
        ("runwarden_predictions_total", ("outcome",)),
        ("runwarden_pages_total", ("result", "sink")),
        ("runwarden_outbox_pending", ()),
        ("runwarden_outbox_oldest_seconds", ()),
        ("runwarden_delivery_seconds_count", ("sink",)),
        ("runwarden_row_to_page_seconds_count", ()),
        ("runwarden_analysis_seconds_count", ("analyst",)),
        ("runwarden_analysis_total", ("analyst", "result")),
        ("runwarden_commit_seconds_count", ()),
        ("runwarden_build_info", ("version",)),
    }


def test_the_process_and_the_version_are_told():
    told = families(Metrics())
    assert told["process_resident_memory_bytes"].samples[0].value > 0
    assert told["runwarden_build_info"].samples[0].labels == {"version": __version__}


def test_two_daemons_in_one_process_do_not_share_counts():
    one, other = Metrics(), Metrics()
    one.dropped.labels(reason="too_long").inc(3)
    sample = families(one)["runwarden_dropped"].samples[0]
    assert (sample.labels, sample.value) == ({"reason": "too_long"}, 3.0)
    assert families(other)["runwarden_dropped"].samples == []
