"""What happened in a run: one record per optimizer step and per evaluation, in plain numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final, overload

from sftlib.support.display import counted, html_table, text_table
from sftlib.support.extras import require

Record = dict[str, Any]


@final
class History(Sequence[Record]):
    """The records of a run in the order of events.

    A record of an optimizer step has ``step`` (from 1), ``epoch`` (from 1), ``loss`` (mean over the step's effective
    batch), ``learning_rate``, ``grad_norm`` (before clipping) and ``rows``. A record of an evaluation has ``step``,
    ``epoch`` and each metric as ``valid_<name>``. Times are left out on purpose: the same run has the same history.

    Example:
        >>> history = History()
        >>> history.add_step({"step": 1, "epoch": 1, "loss": 0.7})
        >>> history.add_evaluation({"step": 1, "epoch": 1, "valid_loss": 0.6})
        >>> len(history), history.steps[0]["loss"], history.evaluations[0]["valid_loss"]
        (2, 0.7, 0.6)
    """

    def __init__(self, records: Sequence[Mapping[str, Any]] = ()) -> None:
        self._records: list[Record] = [dict(record) for record in records]

    def begin_with(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Hold these records and no others: those of a run that goes on."""
        self._records[:] = [dict(record) for record in records]

    def add_step(self, record: Mapping[str, Any]) -> None:
        """Append the record of an optimizer step."""
        self._records.append({"kind": "step", **record})

    def add_evaluation(self, record: Mapping[str, Any]) -> None:
        """Append the record of an evaluation."""
        self._records.append({"kind": "evaluation", **record})

    @property
    def steps(self) -> list[Record]:
        """The records of optimizer steps."""
        return [record for record in self._records if record["kind"] == "step"]

    @property
    def evaluations(self) -> list[Record]:
        """The records of evaluations."""
        return [record for record in self._records if record["kind"] == "evaluation"]

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        return self._records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._records == other._records

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, list[Record]]:
        """``{"steps": [...], "evaluations": [...]}``, ready for JSON."""
        return {"steps": self.steps, "evaluations": self.evaluations}

    def to_frame(self) -> Any:
        """A pandas ``DataFrame``, one line a record.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return require("pandas", extra="data", purpose="History.to_frame()").DataFrame(self._records)

    def metrics_at(self, step: int | None) -> dict[str, float]:
        """The metrics of the evaluation at a step, or of the last one; empty without any."""
        found = [record for record in self.evaluations if step is None or record["step"] == step]
        values = found[-1] if found else {}
        return {name.removeprefix("valid_"): v for name, v in values.items() if name.startswith("valid_")}

    def epochs(self) -> list[Record]:
        """One record per epoch: the mean training loss over its rows, and the evaluation at its end."""
        lines: dict[int, Record] = {}
        for record in self.steps:
            line = lines.setdefault(record["epoch"], {"epoch": record["epoch"], "step": 0, "rows": 0, "loss": 0.0})
            rows = line["rows"] + record["rows"]
            line["loss"] += (record["loss"] - line["loss"]) * record["rows"] / rows
            line["rows"], line["step"] = rows, record["step"]
        for record in self.evaluations:
            lines.setdefault(record["epoch"], {"epoch": record["epoch"]}).update(
                {name: value for name, value in record.items() if name.startswith("valid_")}
            )
        return list(lines.values())

    def _table(self) -> tuple[list[str], list[list[object]]]:
        lines = self.epochs()
        header = list(dict.fromkeys(name for line in lines for name in line if name != "rows"))
        return header, [[line.get(name) for name in header] for line in lines]

    def __str__(self) -> str:
        header, rows = self._table()
        return text_table(header, rows) if rows else "History: no steps yet"

    def __repr__(self) -> str:
        return f"History({counted(len(self.steps), 'step')}, {counted(len(self.evaluations), 'evaluation')})"

    def _repr_html_(self) -> str:
        header, rows = self._table()
        return html_table(header, rows, caption="one line per epoch")

    def plot(self) -> Any:
        """Training loss by step, validation loss over it, and the other metrics below; returns the matplotlib figure.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        pyplot = require("matplotlib.pyplot", extra="plot", purpose="History.plot()")
        evaluations = self.evaluations
        rates = [n for n in (evaluations[0] if evaluations else {}) if n.startswith("valid_") and n != "valid_loss"]
        figure, axes = pyplot.subplots(1, 2 if rates else 1, figsize=(10 if rates else 6, 3.6), squeeze=False)
        losses = axes[0][0]
        losses.plot(
            [r["step"] for r in self.steps],
            [r["loss"] for r in self.steps],
            lw=0.8,
            alpha=0.6,
            label="train, each step",
        )
        if evaluations:
            at = [r["step"] for r in evaluations]
            losses.plot(at, [r["valid_loss"] for r in evaluations], marker="o", label="valid")
            for name in rates:
                axes[0][-1].plot(at, [r[name] for r in evaluations], marker="o", label=name.removeprefix("valid_"))
        losses.set(xlabel="optimizer step", ylabel="loss", title="Loss")
        losses.legend()
        if rates:
            axes[0][1].set(xlabel="optimizer step", title="Validation metrics")
            axes[0][1].legend(fontsize="small")
        figure.tight_layout()
        pyplot.close(figure)  # a notebook shows the returned figure once, not twice
        return figure
