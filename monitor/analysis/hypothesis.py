"""A hypothesis as a value: ranked causes from a closed list, claims that name a check, predictions that can fail.

Verdicts and outcomes are ours, never the author's: see verify.py and predictions.py.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Cause(StrEnum):
    """The closed list of causes; `insufficient_evidence` is a normal answer."""

    BAD_BATCH = "bad_batch"
    LR_TOO_HIGH = "lr_too_high"
    GRADIENT_INSTABILITY = "gradient_instability"
    NUMERICAL_OVERFLOW = "numerical_overflow"
    RESUME_FAULT = "resume_fault"
    DATA_MIXTURE_CHANGE = "data_mixture_change"
    LOADER_STARVATION = "loader_starvation"
    STORAGE_STALL = "storage_stall"
    SLOW_HARDWARE = "slow_hardware"
    COMMUNICATION_FAULT = "communication_fault"
    CONTENTION = "contention"
    BENIGN_PAUSE = "benign_pause"
    HANG = "hang"
    MONITOR_FAULT = "monitor_fault"
    DATA_CORRUPTION = "data_corruption"
    UNKNOWN = "unknown"
    INSUFFICIENT_EVIDENCE = "insufficient_evidence"


ABSTENTIONS = frozenset({Cause.INSUFFICIENT_EVIDENCE, Cause.UNKNOWN})
"""Answers that name no cause."""


class Check(StrEnum):
    """What a claim asks the code to recompute from stored data."""

    ROSE_BEFORE = "rose_before"  # metric left its band on a row before `other` did
    CHANGED_AT = "changed_at"  # metric changed by more than its noise within `within` rows of step `step`
    RATIO_AT_LEAST = "ratio_at_least"  # max(observed) / level before >= `value`
    UNCHANGED = "unchanged"  # metric stayed in its band around the event
    RETURNED_TO_BAND = "returned_to_band"  # metric is back in its band after the event
    NONFINITE_AT = "nonfinite_at"  # metric is NaN or Inf at step `step`


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Claim(_Value):
    """A statement with the check that decides it. metric: the id (role name or alias) used in the evidence."""

    text: str = Field(max_length=300)
    cites: list[str]
    check: Check
    metric: str
    other: str | None = None
    step: int | None = None
    value: float | None = None


class Relation(StrEnum):
    """What a prediction says about a metric over the rows to come."""

    BACK_IN_BAND = "back_in_band"
    STAYS_OUT = "stays_out"
    BECOMES_NONFINITE = "becomes_nonfinite"
    STAYS_IN_BAND = "stays_in_band"


class Prediction(_Value):
    """Testable on the incoming stream: `metric` fulfils `relation` within `within_rows` rows after the event."""

    metric: str
    relation: Relation
    within_rows: int
    probability: float


class Experiment(_Value):
    """The smallest experiment that separates the causes, with its control and its criterion fixed beforehand."""

    what: str
    control: str
    gpu_hours: float | None
    success: str


class RankedCause(_Value):
    """One candidate with its claims, for and against."""

    cause: Cause
    summary: str = Field(max_length=400)
    claims: list[Claim]


class Hypothesis(_Value):
    """The analyst's whole answer; causes ranked, likeliest first."""

    causes: list[RankedCause]
    ruled_out: list[str]
    predictions: list[Prediction]
    experiment: Experiment | None
    urgency: str = ""

    @property
    def candidate(self) -> Cause | None:
        """The likeliest cause that is one; predictions speak for it."""
        return next((c.cause for c in self.causes if c.cause not in ABSTENTIONS), None)


class Answer(_Value):
    """A hypothesis and what it cost. author: "built-in" or the model id that answered."""

    hypothesis: Hypothesis
    author: str
    tokens_in: int = 0
    tokens_out: int = 0
    dollars: float = 0.0
    latency_s: float = 0.0
