"""The faults a run can carry, and what each changes at a given step.

Faults that live inside the training process (bad data, wrong learning rate, overflow, slow
reads) are asked for here, step by step. Faults that come from outside (stop, kill, a busy
neighbour) are the supervisor's, in `supervise.py`; nothing here pretends to be one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

DATA = ("bad_batch", "shuffled_labels", "data_rot", "slow_loader")
OPTIMISER = ("lr_jump", "lr_ramp", "clip_off")
NUMERIC = ("weights_overflow", "logits_overflow", "grad_overflow")
INSIDE = DATA + OPTIMISER + NUMERIC
OUTSIDE = ("contention", "hang", "kill", "resume", "reinit", "hiccup", "loader_stop")
FOREVER = 1_000_000  # `steps` of a fault that is never taken back


@dataclass(frozen=True)
class Fault:
    """One injected fault: active on steps `at` to `at + steps - 1`.

    What `strength` means depends on the name: the share of rows made bad (bad_batch,
    shuffled_labels, the peak for data_rot), reads per batch (slow_loader), the factor on the
    learning rate (lr_jump, clip_off; per step for lr_ramp), the factor on the numbers
    (overflows), busy processes (contention), or seconds (hang, hiccup, loader_stop, resume,
    reinit: time until it is over or the process is started again).
    """

    name: str
    at: int
    steps: int = 1
    strength: float = 1.0

    def active(self, step: int) -> bool:
        return self.at <= step < self.at + self.steps

    def as_dict(self) -> dict[str, object]:
        out = asdict(self)
        if self.steps >= FOREVER:
            out["steps"] = None  # to the end of the run
        return out


@dataclass(frozen=True)
class Faults:
    """All faults of one run; every method answers for one step."""

    items: tuple[Fault, ...] = ()

    def active(self, name: str, step: int) -> Fault | None:
        return next((f for f in self.items if f.name == name and f.active(step)), None)

    def bad_rows(self, step: int) -> float:
        """Share of the batch's rows whose bytes are replaced by noise."""
        if fault := self.active("bad_batch", step):
            return fault.strength
        if fault := self.active("data_rot", step):  # grows evenly to its peak, then stays
            ramp = min(fault.steps, 400)
            return fault.strength * min(1.0, (step - fault.at + 1) / ramp)
        return 0.0

    def shuffled_rows(self, step: int) -> float:
        """Share of the batch's rows whose targets are put in a random order."""
        fault = self.active("shuffled_labels", step)
        return fault.strength if fault else 0.0

    def slow_reads(self, step: int) -> int:
        """Uncached 4 KiB reads that the loader makes before it hands over the batch."""
        fault = self.active("slow_loader", step)
        return int(fault.strength) if fault else 0

    def lr_scale(self, step: int) -> float:
        scale = 1.0
        for fault in self.items:
            if fault.active(step) and fault.name in ("lr_jump", "clip_off"):
                scale *= fault.strength
            elif fault.active(step) and fault.name == "lr_ramp":
                scale *= fault.strength ** (step - fault.at + 1)
        return scale

    def clip(self, step: int) -> bool:
        return self.active("clip_off", step) is None

    def weights_scale(self, step: int) -> float:
        """Multiplied into the weights once, when the fault begins."""
        fault = self.active("weights_overflow", step)
        return fault.strength if fault and step == fault.at else 1.0

    def logits_scale(self, step: int) -> float:
        fault = self.active("logits_overflow", step)
        return fault.strength if fault else 1.0

    def loss_scale(self, step: int) -> float:
        """A loss scale too high for the number format: gradients overflow, the loss is fine."""
        fault = self.active("grad_overflow", step)
        return fault.strength if fault else 1.0
