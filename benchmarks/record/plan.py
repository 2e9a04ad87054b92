"""All recorded runs, as data: what each is for, its faults and its settings."""

from __future__ import annotations

from benchmarks.record.faults import FOREVER, Fault
from benchmarks.record.supervise import Run

ALL = ("jsonl", "csv", "nanogpt", "megatron", "titan", "tqdm")
SGD = {"sgd": True, "lr": 0.3}  # where clipping matters: Adam divides the size away

CLEAN = (
    Run(1, "clean", 101),
    Run(2, "clean", 102, ("jsonl", "csv"), options={"width": 128, "lr": 3e-3}),
    Run(3, "clean", 103, options={"pause_in_step": True, "eval_every": 150}),
    Run(4, "clean", 104, ("jsonl", "nanogpt"),
        options={"layers": 3, "width": 192, "eval_every": 250}),
    Run(5, "clean", 105, ("jsonl", "megatron"), options={"eval_every": 100, "eval_batches": 90}),
    Run(6, "clean", 106, ("jsonl", "titan"),
        options={"lr": 1e-3, "checkpoint_every": 100, "checkpoint_copies": 40}),
    Run(7, "clean", 107, ("jsonl", "tqdm"), options={"batch": 4, "steps": 1500, "lr": 1.5e-3}),
    Run(8, "clean-lr-restart", 108, options={"lr_restart": 600, "steps": 1100}),
    Run(9, "clean-hiccup", 109, faults=(Fault("hiccup", 620, 1, 3.0),)),
    Run(10, "clean", 110, ("jsonl", "csv"),
        options={"pause_in_step": True, "warmup": 20, "checkpoint_copies": 60}),
    Run(37, "clean", 227, ("jsonl", "nanogpt"), options={"layers": 1, "width": 256, "steps": 1600}),
    Run(38, "clean", 228, ("jsonl", "megatron"), options={"seq": 32, "batch": 16, "lr": 2e-3}),
    Run(39, "clean", 229, ("jsonl", "csv"), options={"sgd": True, "lr": 0.3, "eval_every": 120}),
    Run(40, "clean", 230, ("jsonl", "titan"),
        options={"layers": 4, "width": 96, "pause_in_step": True, "checkpoint_every": 300}),
)  # fmt: skip

DATA = (
    Run(11, "bad_batch", 201, ALL,
        (Fault("bad_batch", 430), Fault("bad_batch", 820, 1, 0.5))),
    Run(12, "bad_batch", 202, ("jsonl", "nanogpt"), (Fault("bad_batch", 610, 12),)),
    Run(13, "shuffled_labels", 203, ("jsonl", "megatron"),
        (Fault("shuffled_labels", 450), Fault("shuffled_labels", 760, 25))),
    Run(14, "data_rot", 204, ("jsonl", "csv"), (Fault("data_rot", 450, FOREVER, 0.75),)),
    Run(15, "slow_loader", 205, ("jsonl", "csv"), (Fault("slow_loader", 520, 60, 1500),)),
    Run(16, "slow_loader", 206, ("jsonl", "titan"), (Fault("slow_loader", 610, 40, 6000),)),
    Run(17, "loader_stop", 207, faults=(Fault("loader_stop", 550, 1, 40.0),)),
)  # fmt: skip

OPTIMISER = (
    Run(18, "lr_jump", 208, ("jsonl", "titan"), (Fault("lr_jump", 520, FOREVER, 20.0),)),
    Run(19, "lr_jump", 209, ("jsonl", "csv"), (Fault("lr_jump", 480, 40, 10.0),)),
    Run(20, "lr_jump", 210, ("jsonl", "megatron"), (Fault("lr_jump", 660, 15, 30.0),)),
    Run(21, "lr_ramp", 211, faults=(Fault("lr_ramp", 420, FOREVER, 1.01),)),
    Run(22, "clip_off", 212, faults=(Fault("clip_off", 500, FOREVER, 12.0),)),
    Run(23, "clip_off", 213, ("jsonl", "nanogpt"), (Fault("clip_off", 640, 80, 25.0),)),
    Run(34, "clip_off", 224, ("jsonl", "nanogpt"), (Fault("clip_off", 500, 6, 8.0),), SGD),
    Run(35, "clip_off", 225, ("jsonl", "megatron"), (Fault("clip_off", 640, FOREVER, 16.0),), SGD),
    Run(36, "lr_ramp", 226, ("jsonl", "csv"), (Fault("lr_ramp", 400, FOREVER, 1.012),), SGD),
)  # fmt: skip

NUMERIC = (
    Run(24, "weights_overflow", 214, ("jsonl", "megatron"),
        (Fault("weights_overflow", 700, 1, 1e20),), {"keep_nonfinite": True}),
    Run(25, "logits_overflow", 215, ("jsonl", "titan", "megatron"),
        (Fault("logits_overflow", 410, 3, 1e38), Fault("logits_overflow", 830, 1, 1e38))),
    Run(26, "grad_overflow", 216, ("jsonl", "csv"), (Fault("grad_overflow", 620, 5, 1e30),)),
)  # fmt: skip

OUTSIDE = (
    Run(27, "contention", 217, ("jsonl", "nanogpt"), (Fault("contention", 450, 150, 1),)),
    Run(28, "contention", 218, ALL, (Fault("contention", 620, 90, 3),)),
    Run(29, "hang", 219, ("jsonl", "nanogpt"), (Fault("hang", 530, 1, 160.0),)),
    Run(30, "hang", 220, ("jsonl", "titan"), (Fault("hang", 710, 1, 150.0),)),
    Run(31, "kill", 221, ("jsonl", "csv"), (Fault("kill", 1060),), {"steps": 1400}),
    Run(32, "resume", 222, ("jsonl", "megatron"), (Fault("resume", 690, 1, 8.0),)),
    Run(33, "reinit", 223, ("jsonl", "titan"), (Fault("reinit", 600, 1, 5.0),)),
)

RUNS = tuple(sorted(CLEAN + DATA + OPTIMISER + NUMERIC + OUTSIDE, key=lambda run: run.number))
