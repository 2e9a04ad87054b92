"""`write_trainer.py FOLDER`: transformers' Trainer on a tiny model that goes NaN; its output is FOLDER/out.log.

Two checkpoints are kept; the state of the whole run is written at the end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from pace import pause
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

folder = Path(sys.argv[1])
NAN_AT = 42


class Paced(TrainerCallback):
    def on_save(self, args, state, control, **rest):
        pause(f"saved {state.global_step}")


class Failing(Trainer):
    def compute_loss(self, model, inputs, **rest):
        loss = super().compute_loss(model, inputs, **rest)
        return loss * float("nan") if self.state.global_step == NAN_AT else loss


class Tokens(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, i: int):
        ids = torch.arange(i, i + 8) % 16
        return {"input_ids": ids, "labels": ids}


torch.manual_seed(0)
with (folder / "out.log").open("wb", buffering=0) as log:
    os.dup2(log.fileno(), 1)
model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16, n_positions=8))
trainer = Failing(
    model=model,
    train_dataset=Tokens(),
    callbacks=[Paced()],
    args=TrainingArguments(
        output_dir=str(folder / "model"), max_steps=60, logging_steps=5, save_steps=10, save_total_limit=2,
        report_to="none", use_cpu=True, disable_tqdm=True, per_device_train_batch_size=4, learning_rate=1e-2,
    ),
)  # fmt: skip
trainer.train()
trainer.save_state()
pause("end")
