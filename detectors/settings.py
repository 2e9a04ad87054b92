"""Every threshold of the detectors, named with its unit. Defaults were measured on healthy and on faulty real runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Thresholds.

    `_z`: robust standard deviations; `_h`, `_k`: level and allowance of a CUSUM, in the same deviations;
    `_floor`: least scale, relative; `_gate`: least effect, relative; `_ratio`: factor; `_rows`: values of the metric.
    """

    loss_floor: float = 0.01
    loss_k: float = 0.5
    loss_h: float = 12.0
    loss_gate: float = 0.05  # median of the last 4 values above the reference …
    loss_gate_z: float = 1.0  # … and by so much: of a signed or noisy loss 5 % is nothing
    loss_planned_gate: float = 0.6  # a rise below this is no page while the gradient norm has not risen
    loss_notice_z: float = 6.0
    loss_notice_gate: float = 0.08
    loss_early_gate: float = 0.10  # median of 8 above the best median of 8 …
    loss_early_z: float = 5.0  # … and by so much: the best of many medians of 8 lies low by chance
    loss_early_rows: int = 128  # how long the early rule holds; the CUSUM takes over
    loss_young_rows: int = 256  # how long a value is also held against the 8 before it
    loss_young_gate: float = 0.08
    loss_jump_gate: float = 0.3  # one of the first 32 values above the 4 before it
    loss_history_cap: float = 0.10  # how far the level of 256 rows ago may lift the reference

    divergence_gate: float = 0.10  # median of 64 above the best median of 64, risen twice running …
    divergence_z: float = 1.5  # … and by so much
    divergence_rows: int = 128  # values before the best median counts

    plateau_gate: float = 0.01  # a median of 64 that fell less within 64 values is flat
    plateau_rows: int = 288  # how long a young loss is expected to fall visibly

    grad_floor: float = 0.10
    grad_k: float = 1.0
    grad_h: float = 12.0
    grad_notice_z: float = 8.0
    grad_notice_ratio: float = 2.0
    grad_jump_gate: float = 3.0  # one of the first 32 values so far above the 4 before it
    grad_page_ratio: float = 4.0  # 3 of the last 5 values above this multiple of the median …
    grad_page_z: float = 4.0  # … and by so much

    time_floor: float = 0.05
    time_k: float = 1.0
    time_h: float = 22.0
    time_gate: float = 0.10  # median of the last 16 values above the reference
    time_notice_z: float = 5.0
    time_notice_ratio: float = 1.25
    time_patience_s: float = 3.0  # nobody is woken for what is over sooner
    time_skip_rows: int = 20  # compilation and warm-up

    stall_lost: float = 0.2  # 4 of the last 8 waits longer than usual by this share of the median step, …
    stall_ratio: float = 1.5  # … and by this factor
    stall_alone_ratio: float = 3.0  # the factor where no step time is logged
    stall_notice_lost: float = 0.25  # one wait: by this share of the median step, …
    stall_notice_z: float = 5.0  # … and an outlier

    silence_least_s: float = 120.0
    silence_early_s: float = 1800.0  # before silence_rows rows were seen: compiling takes long
    silence_pause_s: float = 3600.0  # a longer gap is no pause to get used to
    silence_rows: int = 20
    silence_median_ratio: float = 20.0
    silence_longest_ratio: float = 3.0

    recur_count: int = 3  # so many conditions of a loss …
    recur_rows: int = 64  # … begun within so many values are a page: it is unstable
    calm_share: float = 0.05  # what may be left of an excursion, on the scale of the series, for a value in band
    calm_notice_rows: int = 2  # values in band that end a notice
    calm_page_rows: int = 8  # values in band that end a page
    rebase_rows: int = 256  # after so many values a level that stays becomes the new normal …
    rebase_most_rows: int = 1024  # … and after so many any level does
    fresh_rows: int = 64  # after a new attempt scales and gates are wider …
    fresh_factor: float = 1.5  # … by this factor
