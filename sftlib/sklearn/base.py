"""What estimators have in common: options as parameters, rows from what scikit-learn hands over, copies by `save`.

Letters: ``N`` rows, ``K`` labels.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from sftlib.arguments import without_recipes
from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.encoders.base import Inputs
from sftlib.errors import DataError, NotFittedError, OptionError
from sftlib.finetuner import FineTuner
from sftlib.inside import learned_around, origin_of
from sftlib.models.frozen.freezing import Freeze
from sftlib.support.checking import nearest, raise_together
from sftlib.tasks.base import Task
from sftlib.tasks.labels import ClassWeights
from sftlib.tasks.vector import VectorTask
from sftlib.tasks.weighted import Weighted
from sftlib.train.callbacks import EarlyStopping

_SAVED = "saved"  # what a copy has in place of the tuner


class Tuned(BaseEstimator):  # type: ignore[misc]  # scikit-learn comes without types
    """A `FineTuner` as scikit-learn wants an estimator: options are parameters, `fit` makes ``tuner_``.

    Options are those of `FineTuner`, stored as they are given and checked by `fit`. ``columns`` says which columns of
    a frame are read, by role: ``{"text": "question", "text_pair": "answer"}``.
    """

    roles: ClassVar[tuple[str, ...]] = ("text", "text_pair")
    kind: ClassVar[str]  # of task

    def __init__(
        self,
        model: Any,
        *,
        columns: Mapping[str, str] | None = None,
        task: Task | str | None = None,
        inputs: Inputs | None = None,
        tokenizer: Any = None,
        epochs: int = 3,
        max_steps: int | None = None,
        learning_rate: float | str | None = None,
        head_learning_rate: float | None = None,
        layer_decay: float = 1.0,
        batch_size: int = 32,
        micro_batch_size: int | str = "auto",
        max_length: int | None = None,
        weight_decay: float = 0.01,
        schedule: str = "linear",
        warmup: float | int = 0.1,
        max_grad_norm: float | None = 1.0,
        class_weights: ClassWeights = None,
        label_smoothing: float = 0.0,
        dropout: float | None = None,
        freeze: Freeze = None,
        adapter: Any = None,
        few_shot: bool | str | None = None,
        padding_free: bool | str = "auto",
        checkpointing: bool | str = "auto",
        shard: bool = False,
        precision: str = "auto",
        device: Any = "auto",
        metrics: Sequence[Any] | None = None,
        early_stopping: EarlyStopping | None = None,
        keep_best: str | None = None,
        on_nonfinite: str = "error",
        seed: int = 0,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        for name, value in given.items():
            setattr(self, name, value)  # the very objects: `clone` compares them

    # Fitting.

    def _fit(self, rows: Mapping[str, list[Any]], target: str, values: Sequence[Any], weights: Any) -> Self:
        counts = {name: len(column) for name, column in rows.items()} | {"y": len(values)}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            raise DataError(f"X and y have different numbers of rows: {said}")
        data, tuner = TaskDataset({**rows, target: list(values)}, task=self.kind), self._made()
        if weights is None:
            self.tuner_ = tuner.fit(data, progress=False)
        else:
            self.tuner_ = _weighted(tuner, data, weights_of(weights, len(data)))
        self.n_rows_ = len(data)
        return self

    def _made(self) -> FineTuner:
        options = {name: value for name, value in self.get_params(deep=False).items() if name != "columns"}
        return FineTuner(**options)

    def _predicted(self, X: Any) -> list[Any]:
        if not hasattr(self, "tuner_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit(X, y)")
        return list(self.tuner_.predict(TaskDataset(self._rows(X), task=self.kind)))

    # Rows.

    def _rows(self, X: Any) -> dict[str, list[Any]]:
        """Role -> its values.

        Raises:
            DataError: nothing that holds rows, or a frame of which it is not said what is what.
        """
        if hasattr(X, "tocsr"):
            raise DataError(f"X is a sparse {type(X).__name__}: expected dense input, a list, an array or a frame")
        names = getattr(X, "columns", None)
        if names is not None:
            chosen = self._columns(list(names))
            return {role: list(X[name]) for role, name in chosen.items()}
        if isinstance(X, str | bytes | Mapping) or not isinstance(X, Iterable):
            raise DataError(f"X is {brief(X)}: expected a list, an array or a frame with a row for each example")
        values = [_plain(value) for value in X]
        if not values:
            raise DataError("X has no rows")
        if all(isinstance(value, tuple | list) for value in values) and self.roles[0] == "text":
            width = {len(value) for value in values}
            if width <= {1} or width == {2}:
                return {role: [value[i] for value in values] for i, role in enumerate(self.roles[: max(width)])}
        return {self.roles[0]: values}

    def _columns(self, names: list[Any]) -> dict[str, Any]:
        given: Mapping[str, Any] | None = self.columns
        if given is None:
            if len(names) > len(self.roles):
                raise DataError(
                    f"X has the columns {', '.join(map(str, names[:8]))}: say which are read, "
                    f"columns={{{self.roles[0]!r}: {names[0]!r}}}"
                )
            return dict(zip(self.roles, names, strict=False))
        unknown = [name for name in given.values() if name not in names]
        if unknown:
            raise DataError(f"columns={dict(given)!r}: X has no column {unknown[0]!r}: {nearest(unknown[0], names)}")
        return dict(given)

    # What scikit-learn asks.

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.sparse = False
        tags.no_validation = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Parameters and what was fitted; the model as the files that `FineTuner.save` writes."""
        state = dict(super().__getstate__())
        if "tuner_" in state:
            state[_SAVED] = _saved(state.pop("tuner_"))
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        state = dict(state)
        saved = state.pop(_SAVED, None)
        super().__setstate__(state)
        if saved is not None:
            self.tuner_ = _opened(saved)


def _weighted(tuner: FineTuner, data: TaskDataset, weights: NDArray[np.float32]) -> FineTuner:
    """A tuner that learned rows by their weights; those of weight 0 are left out.

    Raises:
        OptionError: a recipe around the run, which does not know of weights.
    """
    given = tuner.get_params(deep=False)
    recipes = [f"{name}={given[name]!r}" for name, none in without_recipes(given).items() if given[name] != none]
    raise_together(f"sample_weight and {one} do not go together: give one of both" for one in recipes if one)
    rows = data.select(weights > 0)
    task = origin_of(tuner, rows).alone().task

    def around(own: Task) -> Weighted:
        assert isinstance(own, VectorTask)
        return Weighted(inner=own, weights=weights[weights > 0])

    return learned_around(tuner, task, around, rows, None, progress=False)


def weights_of(given: Any, rows: int) -> NDArray[np.float32]:
    """(N,) weights of rows.

    Raises:
        DataError: another shape, or numbers that no weight can be; which rows, and how many.
    """
    try:
        found = np.asarray(given, np.float32)
    except (TypeError, ValueError):
        raise DataError(f"sample_weight={brief(given)}: expected a number for each row") from None
    if found.shape != (rows,):
        raise DataError(f"sample_weight has the shape {found.shape}, expected ({rows},), a number for each row")
    wrong = np.flatnonzero(~np.isfinite(found) | (found < 0))
    if len(wrong) or not found.any():
        where = f"row {int(wrong[0])}: {float(found[wrong[0]])!r}" if len(wrong) else "all weights are zero"
        raise DataError(f"sample_weight, {where}: expected finite numbers of at least 0, and some above it")
    return found


def _plain(value: Any) -> Any:
    """A string as Python's own, one line of an array as a list."""
    if isinstance(value, np.str_):
        return str(value)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "OU":
        return [_plain(item) for item in value]
    return value


def _saved(tuner: FineTuner) -> dict[str, bytes]:
    """Every file of the folder that a model is saved as.

    Raises:
        OptionError: the model is not of a transformers class, so that a copy could not be opened by itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        tuner.save(target)
        if not (target / "config.json").is_file():
            raise OptionError("an estimator around a module of one's own, or an adapter, cannot be sent to a process")
        return {path.name: path.read_bytes() for path in sorted(target.iterdir())}


def _opened(files: Mapping[str, bytes]) -> FineTuner:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        target.mkdir()
        for name, content in files.items():
            (target / Path(name).name).write_bytes(content)
        return FineTuner.load(target)


def one_dimensional(y: Any) -> NDArray[Any]:
    """(N,) targets as an array.

    Raises:
        DataError: they have another shape.
    """
    found = np.asarray(y)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise DataError(f"y has the shape {found.shape}, expected one value a row")
    return found
