"""Loggers of trackers that are packages of their own."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping
from typing import Any, final

from sftlib.loggers.base import Logger
from sftlib.support.checking import checked
from sftlib.support.extras import require

_LOG = logging.getLogger("sftlib")


@final
class TensorBoard(Logger):
    """Writes event files that ``tensorboard --logdir`` shows.

    Args:
        folder: of the files.
        config: values that describe the run.
        every: optimizer steps between two points of the training curve.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    @checked
    def __init__(
        self, folder: str | os.PathLike[str], *, config: Mapping[str, Any] | None = None, every: int = 1
    ) -> None:
        super().__init__(config, every=every)
        require("tensorboard", extra="tensorboard", purpose="TensorBoard()")
        self.folder = os.fspath(folder)
        self._writer: Any = None

    def open(self, run: str | None, last: int) -> str:
        writer = require("torch.utils.tensorboard", extra="tensorboard", purpose="TensorBoard()").SummaryWriter
        # What was written after the checkpoint, by a run that was killed, is hidden by the viewer.
        self._writer = writer(self.folder, purge_step=None if run is None else last + 1)
        if run is None and self.config:
            self._writer.add_text("config", "\n".join(f"    {name}: {value}" for name, value in self.config.items()))
        return self.folder

    def write(self, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


@final
class MLflow(Logger):
    """Logs to an MLflow experiment, wherever ``MLFLOW_TRACKING_URI`` or ``tracking_uri`` says.

    Args:
        experiment: its name.
        name: of the run; MLflow makes one up when None.
        tracking_uri: where to; as MLflow is set up when None.
        config: values that describe the run.
        every: optimizer steps between two points of the training curve.

    Raises:
        MissingExtraError: mlflow is not installed.
    """

    @checked
    def __init__(
        self,
        experiment: str = "sftlib",
        *,
        name: str | None = None,
        tracking_uri: str | None = None,
        config: Mapping[str, Any] | None = None,
        every: int = 1,
    ) -> None:
        super().__init__(config, every=every)
        library = require("mlflow.tracking", extra="mlflow", purpose="MLflow()")
        self._client = library.MlflowClient(tracking_uri=tracking_uri)
        self._experiment, self._name = experiment, name
        self._id = ""
        self._seen: dict[str, int] = {}  # the last step of each curve that is there already

    def open(self, run: str | None, last: int) -> str:
        if run is not None:
            self._id = run
            found = self._client.get_run(run).data.metrics
            self._seen = {n: max(p.step for p in self._client.get_metric_history(run, n)) for n in found}
            return run
        experiment = self._client.get_experiment_by_name(self._experiment)
        number = self._client.create_experiment(self._experiment) if experiment is None else experiment.experiment_id
        self._id = self._client.create_run(number, run_name=self._name).info.run_id
        self._seen = {}
        for name, value in self.config.items():
            self._client.log_param(self._id, name, str(value)[:500])
        return self._id

    def write(self, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            if step > self._seen.get(name, -1):  # a run that goes on makes the same points again
                self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


@final
class WandB(Logger):
    """Logs to Weights & Biases; without a key it writes offline and says so, and never asks for one.

    Args:
        project: its name.
        name: of the run; made up when None.
        mode: ``"online"``, ``"offline"`` or ``"disabled"``; None for online where a key is at hand, else offline.
        config: values that describe the run.
        every: optimizer steps between two points of the training curve.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    @checked
    def __init__(
        self,
        project: str = "sftlib",
        *,
        name: str | None = None,
        mode: str | None = None,
        config: Mapping[str, Any] | None = None,
        every: int = 1,
    ) -> None:
        super().__init__(config, every=every)
        self._library: Any = require("wandb", extra="wandb", purpose="WandB()")
        self._project, self._name = project, name
        self._mode = mode or os.environ.get("WANDB_MODE") or ("online" if self._has_key() else "offline")
        if mode is None and self._mode == "offline":
            _LOG.warning("WandB: no key is at hand, so it writes offline; `wandb login` and `wandb sync` send it later")
        self._writer: Any = None

    def _has_key(self) -> bool:
        return bool(os.environ.get("WANDB_API_KEY") or getattr(getattr(self._library, "api", None), "api_key", None))

    def open(self, run: str | None, last: int) -> str:
        self._writer = self._library.init(
            project=self._project,
            name=self._name,
            id=run or uuid.uuid4().hex[:12],
            resume="allow",
            mode=self._mode,
            config=self.config,
        )
        return str(self._writer.id)

    def write(self, values: Mapping[str, float], *, step: int) -> None:
        if step >= int(getattr(self._writer, "step", 0) or 0):  # points before are there already
            self._writer.log(dict(values), step=step)

    def close(self) -> None:
        self._writer.finish()


@final
class Trackio(Logger):
    """Logs to Trackio, which keeps runs on this machine.

    Args:
        project: its name.
        name: of the run; made up when None.
        config: values that describe the run.
        every: optimizer steps between two points of the training curve.

    Raises:
        MissingExtraError: trackio is not installed.
    """

    @checked
    def __init__(
        self,
        project: str = "sftlib",
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        every: int = 1,
    ) -> None:
        super().__init__(config, every=every)
        self._library: Any = require("trackio", extra="trackio", purpose="Trackio()")
        self._project, self._name = project, name
        self._seen = 0  # the last step of a run that goes on

    def open(self, run: str | None, last: int) -> str:
        name = run or self._name or f"run-{uuid.uuid4().hex[:8]}"
        writer = self._library.init(project=self._project, name=name, config=self.config, resume="allow", embed=False)
        self._seen = 0 if run is None else getattr(writer, "_next_step", 1) - 1
        return name

    def write(self, values: Mapping[str, float], *, step: int) -> None:
        if step >= self._seen:  # a run that goes on makes the same points again, but may have ended within a step
            self._library.log(dict(values), step=step)

    def close(self) -> None:
        self._library.finish()


@final
class Aim(Logger):
    """Logs to an Aim repository.

    Args:
        repo: its folder; Aim's own choice when None.
        experiment: its name.
        config: values that describe the run.
        every: optimizer steps between two points of the training curve.

    Raises:
        MissingExtraError: aim is not installed.
    """

    @checked
    def __init__(
        self,
        repo: str | os.PathLike[str] | None = None,
        *,
        experiment: str = "sftlib",
        config: Mapping[str, Any] | None = None,
        every: int = 1,
    ) -> None:
        super().__init__(config, every=every)
        self._library: Any = require("aim", extra="aim", purpose="Aim()")
        self._repo, self._experiment = None if repo is None else os.fspath(repo), experiment
        self._writer: Any = None

    def open(self, run: str | None, last: int) -> str:
        self._writer = self._library.Run(run_hash=run, repo=self._repo, experiment=self._experiment)
        if run is None:
            self._writer["config"] = self.config
        return str(self._writer.hash)

    def write(self, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            self._writer.track(value, name=name, step=step)

    def close(self) -> None:
        self._writer.close()
