"""Lightning's Trainer."""

from __future__ import annotations

from typing import Any, ClassVar, final

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from tests.trust_peers.work import RATE, Job, Peer, Run, weights_of


class _Module(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self, model: torch.nn.Module, logging: bool) -> None:
        super().__init__()
        self.model = model
        self.logging = logging

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        loss: Tensor = self.model(**batch).loss
        if self.logging:
            self.log("train_loss", loss, batch_size=len(batch["input_ids"]))
        return loss

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        self.log("val_loss", self.model(**batch).loss, batch_size=len(batch["input_ids"]))

    def predict_step(self, batch: dict[str, Any], _: int) -> Tensor:
        scores: Tensor = self.model(**batch).logits
        return scores.softmax(-1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=RATE)


class _Steps(Callback):  # type: ignore[misc]
    def __init__(self, run: Run) -> None:
        self.run = run
        self.done = 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.done = trainer.global_step

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step == self.done:
            return
        self.done = trainer.global_step
        if "train_loss" in trainer.callback_metrics:
            self.run.log.append(float(trainer.callback_metrics["train_loss"]))
        self.run.on_step(self.done, module.model)


@final
class Lightning(Peer):
    """``Trainer`` with `ModelCheckpoint`, and ``seed_everything`` before each run."""

    name = "Lightning"
    package = "lightning"
    guards: ClassVar = {"signal": "save_on_exception=True", "nan": "detect_anomaly=True"}

    def fit(self, run: Run) -> dict[str, Tensor]:
        lightning.seed_everything(0, workers=True, verbose=False)
        callbacks: list[Any] = [_Steps(run)]
        if run.save_every:
            callbacks.append(
                ModelCheckpoint(
                    dirpath=run.folder,
                    every_n_train_steps=run.save_every,
                    save_top_k=-1,
                    save_last=True,
                    save_on_exception=run.guard == "signal",
                )
            )
        trainer = self._trainer(
            callbacks,
            max_epochs=run.epochs,
            accumulate_grad_batches=run.parts,
            gradient_clip_val=1.0 if run.clip else None,
            log_every_n_steps=1,
            detect_anomaly=run.guard == "nan",
            enable_checkpointing=bool(run.save_every),
        )
        module = _Module(run.model(), run.logging).train()
        checks = self._loader(run.job, run.batch) if run.evaluating else None
        trainer.fit(
            module,
            self._loader(run.job, run.batch, shuffle=True),
            checks,
            ckpt_path="last" if run.resume else None,
        )
        return weights_of(module.model)

    def loss(self, job: Job, batch: int) -> float:
        found = self._trainer().validate(_Module(job.model(0.0), False), self._loader(job, batch), verbose=False)
        return float(found[0]["val_loss"])

    def predict(self, job: Job) -> Tensor:
        parts = self._trainer().predict(_Module(job.model(0.0), False), self._loader(job, 8))
        return torch.cat(parts)

    def _trainer(self, callbacks: Any = None, **options: Any) -> Any:
        usual = {"enable_checkpointing": False, "logger": False, "accelerator": "cpu", "devices": 1}
        silent = {"enable_progress_bar": False, "enable_model_summary": False}
        return lightning.Trainer(callbacks=callbacks, **{**usual, **silent, **options})

    def _loader(self, job: Job, batch: int, *, shuffle: bool = False) -> Any:
        return DataLoader(job.theirs(), batch, shuffle=shuffle, collate_fn=job.collator())
