"""`write_lightning.py FOLDER`: a tiny module under Lightning's CSVLogger, whose header grows twice."""

from __future__ import annotations

import sys
import warnings

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from pace import pause
from torch.utils.data import DataLoader

warnings.simplefilter("ignore")


class Tiny(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, index):
        if self.global_step in (8, 20, 29):
            pause(f"step {self.global_step}")
        loss = self.layer(batch).square().mean()
        self.log("train_loss", float("nan") if self.global_step == 25 else loss)
        if self.global_step >= 15:
            self.log("late", float(self.global_step))
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", self.layer(batch).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


torch.manual_seed(0)
data = DataLoader(torch.randn(40, 4), batch_size=4)
trainer = Trainer(
    max_epochs=3, accelerator="cpu", logger=CSVLogger(sys.argv[1], name="exp", flush_logs_every_n_steps=2),
    log_every_n_steps=1, enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
)  # fmt: skip
trainer.fit(Tiny(), data, data)
pause("end")
