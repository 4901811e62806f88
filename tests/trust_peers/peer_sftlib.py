"""This library, by the same probes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from sftlib import Callback, FineTuner
from tests.trust_peers.work import RATE, Job, Peer, Run, weights_of


class _Steps(Callback):
    def __init__(self, run: Run) -> None:
        self.run = run

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.run.on_step(training.step, training.model)


@final
class Sftlib(Peer):
    """`FineTuner` with defaults."""

    name = "sftlib"
    package = "sftlib"

    def fit(self, run: Run) -> dict[str, Tensor]:
        rows = run.job.ours()
        more: dict[str, Any] = {"padding_free": False} if run.guard == "memory" else {}  # the probe counts rows
        tuner = self._tuner(
            run,
            epochs=run.epochs,
            batch_size=run.batch * run.parts,
            micro_batch_size=run.batch,
            learning_rate=RATE,
            max_grad_norm=1.0 if run.clip else None,
            **more,
        )
        saving = {"output_dir": run.folder, "save_every": run.save_every, "resume": run.resume}
        try:
            tuner.fit(
                rows,
                rows if run.evaluating else None,
                callbacks=[_Steps(run)],
                progress=run.logging,
                **(saving if run.save_every else {}),
            )
        finally:
            if tuner._fitted is not None:
                run.log.extend(record["loss"] for record in tuner.history.steps)
        return weights_of(tuner.model)

    def loss(self, job: Job, batch: int) -> float:
        return float(self._untrained(job).evaluate(job.ours(), batch_size=batch)["loss"])

    def predict(self, job: Job) -> Tensor:
        tuner = self._untrained(job)
        names = sorted(set(job.columns["label"]))
        return torch.tensor(
            [[row.probabilities[name] for name in names] for row in tuner.predict(list(job.columns["text"]))]
        )

    def _untrained(self, job: Job) -> FineTuner:
        tuner = self._tuner(Run(job, dropout=0.0), max_steps=1, learning_rate=0.0)
        return tuner.fit(job.ours(), progress=False)

    def _tuner(self, run: Run, **options: Any) -> FineTuner:
        usual = {"schedule": "constant", "warmup": 0, "precision": "fp32", "device": "cpu"}
        return FineTuner(
            run.model(), tokenizer=run.job.tokenizer(), max_length=run.job.max_length, **{**usual, **options}
        )
