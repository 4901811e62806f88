"""Hugging Face's Trainer."""

from __future__ import annotations

import tempfile
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from tests.trust_peers.work import RATE, Job, Peer, Run, weights_of


class _Steps(TrainerCallback):  # type: ignore[misc]
    def __init__(self, run: Run) -> None:
        self.run = run

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.run.on_step(state.global_step, kwargs["model"])

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.run.log.append(float(logs["loss"]))


@final
class HfTrainer(Peer):
    """``Trainer`` as its documentation uses it; switches for single events where a run asks for them."""

    name = "HF Trainer"
    package = "transformers"
    guards: ClassVar = {"signal": "enable_jit_checkpoint=True", "memory": "auto_find_batch_size=True"}

    def fit(self, run: Run) -> dict[str, Tensor]:
        trainer = self._trainer(
            run.job,
            run.model(),
            folder=run.folder,
            callbacks=[_Steps(run)],
            per_device_train_batch_size=run.batch,
            gradient_accumulation_steps=run.parts,
            num_train_epochs=run.epochs,
            max_grad_norm=1.0 if run.clip else 0.0,
            save_strategy="steps" if run.save_every else "no",
            save_steps=run.save_every or 500,
            eval_strategy="epoch" if run.evaluating else "no",
            logging_strategy="steps" if run.logging else "no",
            logging_steps=1,
            enable_jit_checkpoint=run.guard == "signal",
            auto_find_batch_size=run.guard == "memory",
        )
        trainer.train(resume_from_checkpoint=True if run.resume else None)
        return weights_of(trainer.model)

    def loss(self, job: Job, batch: int) -> float:
        trainer = self._trainer(job, job.model(0.0), per_device_eval_batch_size=batch)
        return float(trainer.evaluate()["eval_loss"])

    def predict(self, job: Job) -> Tensor:
        trainer = self._trainer(
            job, job.model(0.0), per_device_eval_batch_size=8, train_sampling_strategy="group_by_length"
        )
        return torch.tensor(trainer.predict(job.theirs()).predictions).softmax(-1)

    def _trainer(self, job: Job, model: Any, *, folder: Any = None, callbacks: Any = None, **options: Any) -> Any:
        arguments = TrainingArguments(
            output_dir=str(folder or tempfile.mkdtemp()),
            learning_rate=RATE,
            weight_decay=0.01,
            lr_scheduler_type="constant",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
            **options,
        )
        data = job.theirs()
        return Trainer(
            model,
            arguments,
            job.collator(),
            data,
            eval_dataset=data,
            processing_class=job.tokenizer(),
            callbacks=callbacks,
        )
