"""skorch's NeuralNet."""

from __future__ import annotations

from typing import Any, final

import skorch
import torch
from skorch.callbacks import Callback, Checkpoint, GradientNormClipping, LoadInitState
from skorch.helper import predefined_split
from skorch.history import History
from torch import Tensor

from tests.trust_peers.work import RATE, Criterion, Job, Peer, Run, weights_of


class _Module(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        scores: Tensor = self.model(**inputs).logits
        return scores


class _Steps(Callback):  # type: ignore[misc]
    def __init__(self, run: Run, done: int) -> None:
        self.run = run
        self.done = done
        self.passes = 0

    def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:
        if not training:
            return
        self.passes += 1
        if self.run.logging:
            self.run.log.append(net.history[-1, "batches", -1, "train_loss"])
        if self.passes % self.run.parts == 0:
            self.done += 1
            self.run.on_step(self.done, net.module_.model)


class _Accumulating(skorch.NeuralNet):  # type: ignore[misc]
    """As skorch's FAQ advises: the loss is divided, and only every n-th batch updates; the rest at an epoch's end."""

    def __init__(self, *args: Any, parts: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parts = parts

    def get_loss(self, *args: Any, **kwargs: Any) -> Tensor:
        loss: Tensor = super().get_loss(*args, **kwargs)
        return loss / self.parts

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        step = self.train_step_single(batch, **fit_params)
        if len(self.history[-1, "batches"]) % self.parts == 0:
            self.notify("on_grad_computed", named_parameters=self.get_all_learnable_params(), batch=batch)
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


@final
class Skorch(Peer):
    """``NeuralNet`` with `Checkpoint` and `LoadInitState`; it saves at the end of epochs."""

    name = "skorch"
    package = "skorch"
    saves_inside_epochs = False

    def fit(self, run: Run) -> dict[str, Tensor]:
        torch.manual_seed(0)
        callbacks: list[Any] = [GradientNormClipping(1.0)] if run.clip else []
        done = 0
        if run.save_every:
            checkpoint = Checkpoint(monitor=None, dirname=str(run.folder))
            if run.resume:
                done = len(History.from_file(checkpoint.f_history_))
                callbacks.append(LoadInitState(checkpoint))
            callbacks.append(checkpoint)
        steps = done * -(-len(run.job.theirs()) // (run.batch * run.parts))
        net = self._net(run.job, run.model(), run, [_Steps(run, steps), *callbacks], max_epochs=run.epochs - done)
        net.fit(run.job.theirs(), y=None)
        return weights_of(net.module_.model)

    def loss(self, job: Job, batch: int) -> float:
        run = Run(job, evaluating=True, epochs=1, dropout=0.0)
        torch.manual_seed(0)
        net = self._net(job, run.model(), run, [], max_epochs=1, lr=0.0, iterator_valid__batch_size=batch)
        net.fit(job.theirs(), y=None)
        return float(net.history[-1, "valid_loss"])

    def predict(self, job: Job) -> Tensor:
        net = self._net(job, job.model(0.0), Run(job), []).initialize()
        return torch.tensor(net.predict_proba(job.theirs())).softmax(-1)

    def _net(self, job: Job, model: torch.nn.Module, run: Run, callbacks: list[Any], **options: Any) -> Any:
        padding = job.collator()

        def collate(items: list[dict[str, Any]]) -> tuple[dict[str, Tensor], Tensor]:
            batch = dict(padding(items))
            return {name: value for name, value in batch.items() if name != "labels"}, batch["labels"]

        kind: Any = skorch.NeuralNet if run.parts == 1 else _Accumulating
        return kind(
            _Module,
            module__model=model,
            criterion=Criterion,
            optimizer=torch.optim.AdamW,
            batch_size=run.batch,
            train_split=predefined_split(job.theirs()) if run.evaluating else None,
            iterator_train__collate_fn=collate,
            iterator_train__shuffle=True,
            iterator_valid__collate_fn=collate,
            callbacks=callbacks,
            verbose=0,
            **({} if run.parts == 1 else {"parts": run.parts}),
            **{"lr": RATE, **options},
        )
