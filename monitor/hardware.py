"""What exporters of hosts and GPUs say that bears on a training run, under names of our own; a pure table.

A run has one column of each name: the worst of its hosts and devices at the moment of the row. The names are a closed
list and are shown in evidence as they stand. They have no role, so no detector judges them: they explain pages and make
none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """A series of an exporter. low: the least is the worst. counter: its increase per second is meant.

    fault: a new value (of a counter: a rise) is a line for the evidence of its own, with host and device.
    """

    series: str
    column: str
    low: bool = False
    counter: bool = False
    fault: bool = False


PRESETS: Mapping[str, tuple[Gauge, ...]] = {
    "dcgm": (
        Gauge(series="DCGM_FI_DEV_GPU_TEMP", column="gpu_temperature_max_c"),
        Gauge(series="DCGM_FI_DEV_MEMORY_TEMP", column="gpu_memory_temperature_max_c"),
        Gauge(series="DCGM_FI_DEV_POWER_USAGE", column="gpu_power_min_w", low=True),
        Gauge(series="DCGM_FI_DEV_SM_CLOCK", column="gpu_sm_clock_min_mhz", low=True),
        Gauge(series="DCGM_FI_DEV_GPU_UTIL", column="gpu_utilization_min_percent", low=True),
        Gauge(series="DCGM_FI_DEV_XID_ERRORS", column="gpu_xid_last", fault=True),
        Gauge(series="DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", column="gpu_ecc_double_bit_per_s", counter=True, fault=True),
        Gauge(series="DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", column="gpu_ecc_single_bit_per_s", counter=True),
        Gauge(series="DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", column="gpu_remapped_per_s", counter=True, fault=True),
        Gauge(series="DCGM_FI_DEV_ROW_REMAP_FAILURE", column="gpu_row_remap_failure", fault=True),
        Gauge(series="DCGM_FI_DEV_PCIE_REPLAY_COUNTER", column="gpu_pcie_replays_per_s", counter=True),
        # The unit of a violation differs between versions of the exporter: compare it with itself.
        Gauge(series="DCGM_FI_DEV_POWER_VIOLATION", column="gpu_power_throttle_per_s", counter=True),
        Gauge(series="DCGM_FI_DEV_THERMAL_VIOLATION", column="gpu_thermal_throttle_per_s", counter=True),
        Gauge(series="DCGM_FI_DEV_RELIABILITY_VIOLATION", column="gpu_reliability_throttle_per_s", counter=True),
    ),
    "node": (
        Gauge(series="node_load1", column="node_load_max"),
        Gauge(series="node_memory_MemAvailable_bytes", column="node_memory_available_min_bytes", low=True),
        Gauge(series="node_disk_io_time_seconds_total", column="node_disk_busy_share", counter=True),
        Gauge(series="node_pressure_io_waiting_seconds_total", column="node_io_wait_share", counter=True),
        Gauge(series="node_pressure_memory_waiting_seconds_total", column="node_memory_wait_share", counter=True),
        Gauge(
            series="node_mountstats_nfs_operations_request_time_seconds_total",
            column="node_nfs_wait_share",
            counter=True,
        ),
        Gauge(series="node_nfs_rpc_retransmissions_total", column="node_nfs_retransmissions_per_s", counter=True),
        Gauge(series="node_network_receive_errs_total", column="node_network_errors_per_s", counter=True),
        Gauge(series="node_vmstat_oom_kill", column="node_oom_kills_per_s", counter=True, fault=True),
    ),
}
NAMES = frozenset(gauge.column for gauges in PRESETS.values() for gauge in gauges)
