"""`export`: a tuned model as a folder that needs no torch, and what that costs in answers, beside what it wins."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import torch

from sftlib._version import __version__
from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import ArtifactError, DataError
from sftlib.export import onnx
from sftlib.export.comparing import agreement, first_metric, seconds_of
from sftlib.finetuner import FineTuner
from sftlib.inside import fitted_of
from sftlib.models.sizes import count_parameters
from sftlib.run.choose import check_data, require_labelled
from sftlib.run.fitted import Fitted
from sftlib.run.inputs import rows_of
from sftlib.run.settle import settled
from sftlib.selection.paired import Difference, Scores
from sftlib.support import storage
from sftlib.support.checking import checked, choice, folder_path, raise_together, true_or_false
from sftlib.support.display import counted, html_table, text_table
from sftlib.tasks.multi_label import MultiLabelTask
from sftlib.tasks.regression import RegressionTask
from sftlib.tasks.text.texts import SequenceTask

if TYPE_CHECKING:
    from sftlib.export.reader import Reader

AGREED: Final = 0.99
_FACTS, _LEAST_ROWS, _TIMED, _BATCHES = "export.json", 20, 64, (1, 32)
_EXACT = 1e-3  # of the largest score
_INT8: Final = {"": True, "the embedding and the last layer stay in fp32": False}  # what is kept -> whether all is int8


@final
@dataclass(frozen=True)
class Export:
    """What was written, and what it costs and wins on this machine; prints as a table.

    Attributes:
        folder: where it lies.
        precision: ``"fp32"`` or ``"int8"``.
        rows: that it was checked on.
        agreement: share of them of which it says the same as the model.
        metric: of ``difference``.
        difference: its score less that of the model, paired by rows, with its 95 % interval; None without labels.
        milliseconds: rows of a call -> (of the model, of the exported one) for each row, tokenizing included, measured
            in turn with as many threads.
        megabytes: (of the model's weights in fp32, of the exported file).
        model: number format in which the model itself computes here.
        kept: what stays in fp32 beside int8, since agreement asked for it; else nothing.
    """

    folder: Path
    precision: str
    rows: int
    agreement: float
    metric: str
    difference: Difference | None
    milliseconds: dict[int, tuple[float, float]]
    megabytes: tuple[float, float]
    model: str
    kept: str = ""

    @property
    def slower(self) -> tuple[int, ...]:
        """The sizes of a call at which the exported model is slower than the model itself."""
        return tuple(size for size, (before, after) in self.milliseconds.items() if after > before)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the folder."""
        apart = None if self.difference is None else vars(self.difference)
        own = {name: value for name, value in vars(self).items() if name not in ("folder", "difference")}
        return {**own, "difference": apart, "milliseconds": {str(k): list(v) for k, v in self.milliseconds.items()}}

    def _lines(self) -> list[list[object]]:
        times = [[f"ms a row, {size} a call", *pair] for size, pair in self.milliseconds.items()]
        return [["MB", *self.megabytes], *times]

    def _header(self) -> list[str]:
        return ["", f"torch, {self.model}", f"onnx, {self.precision}"]

    def _sentence(self) -> str:
        apart = "" if self.difference is None else f"; {self.metric} {self.difference}"
        kept = f"; {self.kept}" if self.kept else ""
        calls = ", ".join(map(str, self.slower))
        slow = f"; it is SLOWER here than torch in {self.model} at {calls} rows a call" if self.slower else ""
        return f"says the same of {self.agreement:.1%} of {counted(self.rows, 'row')}{apart}{kept}{slow}"

    def __str__(self) -> str:
        return f"{text_table(self._header(), self._lines())}\n{self._sentence()}"

    def _repr_html_(self) -> str:
        return html_table(self._header(), self._lines(), caption=self._sentence())


@checked
def export(
    tuner: FineTuner,
    folder: str | os.PathLike[str],
    *,
    check: Any,
    to: str = "onnx",
    precision: str = "int8",
    accept_loss: bool = False,
) -> Export:
    """Write a tuned model of texts as ONNX, beside a tokenizer, its labels and a reader of fifty lines without torch.

    The graph comes from ``torch.export``; in int8 weights are rounded by channel and what goes through them as it
    comes (dynamic quantization of onnxruntime). The written folder is used to answer ``check``, through its own
    reader, and compared with the tuner. Where int8 says another thing of more than one row in a hundred, the embedding
    and the last layer stay in fp32; where that does not mend it, nothing is written.

    Args:
        tuner: fitted or loaded; it is not changed.
        folder: where to write; it must not exist, be empty, or hold an earlier export.
        check: rows to compare on, which the model has not learned from: a list of inputs, or a `TaskDataset`, whose
            labels are used where it has some.
        to: ``"onnx"``.
        precision: ``"int8"`` or ``"fp32"``.
        accept_loss: whether to write it however seldom it agrees.

    Returns:
        Agreement, difference of scores, sizes and speeds; where it is slower, it says so.

    Raises:
        NotFittedError: before ``fit`` or ``load``.
        MissingExtraError: ``sftlib[onnx]`` is not installed.
        OptionError: values that options cannot have, a task over other things than whole texts, a model that cannot be
            traced.
        DataError: too few rows, or rows that are no inputs.
        ArtifactError: agreement below 0.99, or a folder that holds something else.
    """
    raise_together(
        [
            None if isinstance(tuner, FineTuner) else f"tuner={tuner!r:.60}: expected a fitted FineTuner",
            choice("to", to, ["onnx"]),
            choice("precision", precision, ["int8", "fp32"]),
            true_or_false("accept_loss", accept_loss),
        ]
    )
    fitted = fitted_of(tuner, "export").alone()
    if fitted.settings.get("adapter") is not None:
        tuner = tuner.merge()
        fitted = fitted_of(tuner, "export").alone()
    onnx.check_exportable(fitted)
    data, target = _rows(fitted, check), folder_path(folder, option="folder")
    _require_free(target)
    onnx.needed()
    with storage.written_whole(target) as beside:
        made = _Written(tuner, fitted, beside, data).best(precision, accept_loss=accept_loss)
        storage.write_json(beside / _FACTS, {**storage.read_json(beside / _FACTS), "measured": made.to_dict()})
    return Export(**{**vars(made), "folder": target})


def _rows(fitted: Fitted, check: Any) -> TaskDataset:
    task = fitted.task
    if isinstance(check, TaskDataset) and check.is_labelled:
        require_labelled(check, "export (check)", task.name)
        data = check
    else:
        rows = [task.inputs_of(check)] if isinstance(check, str) else rows_of(task, check, use="export (check)")
        data = TaskDataset({role: [row[role] for row in rows] for role in task.reads}, task=task.name)
    check_data(task, data, "export (check)")
    if len(data) < _LEAST_ROWS:
        raise DataError(f"export: {counted(len(data), 'row')} to check on; it takes at least {_LEAST_ROWS}")
    return data


def _require_free(target: Path) -> None:
    if not target.exists() or (target.is_dir() and (not any(target.iterdir()) or (target / _FACTS).is_file())):
        return
    raise ArtifactError(f"{str(target)!r} is there already and is no export; nothing else is replaced: choose another")


@final
class _Written:
    """Writes a folder and compares what its own reader says with the model.

    Args:
        tuner: the model.
        fitted: what it holds.
        folder: to write into.
        data: rows to compare on.
    """

    def __init__(self, tuner: FineTuner, fitted: Fitted, folder: Path, data: TaskDataset) -> None:
        self._tuner, self._fitted, self._folder, self._data = tuner, fitted, folder, data
        assert isinstance(fitted.task, SequenceTask)
        self._task = fitted.task
        columns = [data.column(role) for role in self._task.reads]
        self._texts: list[Any] = list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))
        self._said = tuner.predict(data)

    def best(self, precision: str, *, accept_loss: bool) -> Export:
        """The folder with the first model that agrees.

        Raises:
            ArtifactError: none does.
        """
        onnx.save_tokenizer(self._fitted, self._folder)
        onnx.write_reader(self._folder)
        storage.write_json(self._folder / _FACTS, _facts(self._fitted, precision))
        model = self._folder / onnx.MODEL
        onnx.write_onnx(self._fitted, model)
        self._require_exact(self._reader())
        if precision == "fp32":
            return self._judged(precision, accept_loss=accept_loss)
        whole = model.rename(self._folder / "fp32.onnx")
        kept = self._rounded(whole, model)
        whole.unlink()
        return self._judged(precision, kept=kept, accept_loss=accept_loss)

    def _rounded(self, whole: Path, model: Path) -> str:
        """Write what agrees in eight bits, or the last that was tried; returns what stays in fp32."""
        for kept, everything in _INT8.items():
            onnx.write_int8(whole, model, whole=everything)
            if agreement(self._task, self._said, self._answers(self._reader())) >= AGREED:
                return kept
        return kept

    def _reader(self) -> Reader:
        from sftlib.export.reader import Reader

        return Reader(self._folder, threads=torch.get_num_threads())

    def _require_exact(self, reader: Reader) -> None:
        """The traced model must say what the model says, before anything is rounded."""
        few = self._data.select(range(min(8, len(self._data))))
        encoded = self._fitted.encode(few)
        theirs = onnx.torch_scores(settled(self._fitted, encoded), encoded).numpy()
        ours = reader.scores(self._texts[: len(few)])
        apart = float(np.abs(ours - theirs).max()) / max(float(np.abs(theirs).max()), 1.0)
        if not apart <= _EXACT:
            raise ArtifactError(
                f"export: the exported model says something else than the model: scores differ by {apart:.2g} of the "
                "largest; nothing was written"
            )

    def _answers(self, reader: Reader) -> Sequence[Any]:
        scores = torch.from_numpy(reader.scores(self._texts))
        numbers = torch.arange(len(scores))
        return self._task.decode(scores, Batch(rows=numbers, cost=numbers, inputs={}))

    def _judged(self, precision: str, *, accept_loss: bool, kept: str = "") -> Export:
        reader = self._reader()
        answers = self._answers(reader)
        agreed = agreement(self._task, self._said, answers)
        if agreed < AGREED and not accept_loss:
            raise ArtifactError(
                f"export: in {precision} the model says the same of {agreed:.1%} of {counted(len(self._data), 'row')} "
                f"only, {AGREED:.0%} are asked{f', although {kept}' if kept else ''}; nothing was written. "
                "precision='fp32' loses nothing; accept_loss=True takes it as it is"
            )
        metric, difference = first_metric(self._task), None
        if self._data.is_labelled:
            found = Scores(self._task, metric, self._task.references(self._data), [self._said, answers])
            difference = found.difference(1, 0)
        size = (self._folder / onnx.MODEL).stat().st_size
        return Export(
            folder=self._folder,
            precision=precision,
            rows=len(self._data),
            agreement=agreed,
            metric=metric,
            difference=difference,
            milliseconds=self._times(reader),
            megabytes=(4e-6 * count_parameters(self._fitted.model)[1], 1e-6 * size),
            model=self._fitted.precision.name,
            kept=kept,
        )

    def _times(self, reader: Reader) -> dict[int, tuple[float, float]]:
        texts = self._texts[:_TIMED]

        def one_by_one(answer: Callable[[Any], object]) -> None:
            for text in texts:
                answer([text])

        found = {}
        for size in _BATCHES:
            calls: dict[str, Callable[[], object]] = {
                "torch": partial(self._tuner.predict, texts, batch_size=size),
                "onnx": partial(reader.predict, texts, batch_size=size),
            }
            if size == 1:  # a call for each text, as a service has them
                calls = {name: partial(one_by_one, call.func) for name, call in calls.items()}  # type: ignore[attr-defined]
            seconds = seconds_of(calls)
            found[size] = (1e3 * seconds["torch"] / len(texts), 1e3 * seconds["onnx"] / len(texts))
        return found


def _facts(fitted: Fitted, precision: str) -> dict[str, Any]:
    """What a reader has to know."""
    task, encoder = fitted.task, fitted.encoder
    assert isinstance(encoder, TextEncoder)
    labels = task.label_names
    several = isinstance(task, MultiLabelTask)
    cuts = (getattr(task.known, "thresholds", None) or (0.5,) * len(labels or ())) if several else ()
    kind = "labels" if several else "number" if isinstance(task, RegressionTask) else "label"
    return {
        "format": "sftlib onnx 1",
        "sftlib": __version__,
        "task": task.name,
        "kind": kind,
        "labels": list(labels or ()),
        "outputs": task.head.outputs,
        "thresholds": list(cuts),
        "roles": list(task.reads),
        "max_length": encoder.max_length,
        "truncation_side": encoder.tokenizer.truncation_side,
        "blank": encoder.blank,
        "pad": encoder.fill["input_ids"],
        "pad_type": encoder.fill["token_type_ids"],
        "precision": precision,
    }
