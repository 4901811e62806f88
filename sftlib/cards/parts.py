"""The parts of a report, each from facts; a part that has nothing to say is left out.

Letters: ``N`` rows, ``K`` labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.audits.report import Audit
from sftlib.audits.slices import slices_of, wilson
from sftlib.cards.drawings import bars, curves
from sftlib.cards.page import Part, beside, table, tiles
from sftlib.data.dataset import TaskDataset
from sftlib.data.look.voices import shared_speakers
from sftlib.data.splitting import keys
from sftlib.errors import DataError, OptionError
from sftlib.explain.explaining import explain
from sftlib.finetuner import FineTuner
from sftlib.inside import fitted_of
from sftlib.metrics import Metrics
from sftlib.support.display import counted
from sftlib.sure.calibration import bins_of
from sftlib.sure.deciding import answers_by
from sftlib.tasks.base import Task
from sftlib.tasks.regression import RegressionTask
from sftlib.tasks.single_label import OneLabelTask

_GRID, _ROWS, _LABELS, _FEW = 24, 20, 40, 100


@final
@dataclass(frozen=True)
class Facts:
    """What a report draws on.

    Attributes:
        tuner: fitted.
        task: of its model.
        settings: of its run, without secrets.
        test: rows to judge by.
        train: rows that it learned from, where they are known.
        metrics: on the test rows.
        predictions: (N,) of the test rows.
        references: (N,) what is true of them.
        audit: of the training rows, or None.
    """

    tuner: FineTuner
    task: Task
    settings: Mapping[str, Any]
    test: TaskDataset
    train: TaskDataset | None
    metrics: Metrics
    predictions: Sequence[Any]
    references: Sequence[Any]
    audit: Audit | None

    @property
    def one_label(self) -> bool:
        """Whether each row has one label."""
        return isinstance(self.task, OneLabelTask)

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,) whether the label of each row is right."""
        pairs = zip(self.predictions, self.references, strict=True)
        return np.array([prediction.label == true for prediction, true in pairs])


def interval_of(metrics: Metrics, name: str) -> tuple[float, float] | None:
    """The 95 % interval of a metric over rows; None of those that have none."""
    try:
        low, high = metrics.interval(name, resamples=400)
    except OptionError:
        return None
    return (low, high) if np.isfinite([low, high]).all() else None


def scores(facts: Facts) -> Part:
    """Every metric, with its interval."""
    shown = []
    for name, value in facts.metrics.items():
        interval = interval_of(facts.metrics, name)
        note = "" if interval is None else f"95 %: {interval[0]:.3f} to {interval[1]:.3f}"
        shown.append((name, f"{value:.3f}", note))
    shown.append(("rows", f"{len(facts.test):,}", "set aside"))
    return Part("Scores", tiles(shown), "On rows that were set aside; intervals from drawing these rows anew.")


def data(facts: Facts) -> Part:
    """What the rows are, and whether test rows were learned from."""
    sides = {"train": facts.train, "test": facts.test}
    rows: list[list[object]] = [[name, len(side)] for name, side in sides.items() if side is not None]
    body = table(["side", "rows"], rows)
    if facts.task.label_names and facts.one_label:
        counts = {name: Counter(side.column("label")) for name, side in sides.items() if side is not None}
        names = list(facts.task.label_names)
        lines = [[str(label), *(count[label] for count in counts.values())] for label in names[:_LABELS]]
        body += table(["label", *(f"{name} rows" for name in counts)], lines)
        if len(names) > _LABELS:
            body += f"<p>... and {len(names) - _LABELS} more labels</p>"
    return Part("Data", body + _leakage(facts))


def _leakage(facts: Facts) -> str:
    if facts.train is None or set(facts.train.inputs) != set(facts.test.inputs):
        return "<p>The rows that the model learned from are not known here, so overlap cannot be told.</p>"
    here, there = (keys(list(side.asked().values())) for side in (facts.test, facts.train))
    count = int(np.isin(here, there).sum())
    said = shared_speakers(facts.train, facts.test, name="test")
    voices = f'<p class="warn">{escape(said)}</p>' if said else ""
    if not count:
        return "<p>No test row has the inputs of a row that the model learned from.</p>" + voices
    return voices + (
        f'<p class="warn"><b>{counted(count, "test row")} of {len(here):,} stand among the rows that the model learned '
        "from: the scores above flatter it.</b></p>"
    )


def curves_of(facts: Facts) -> Part | None:
    """The loss over the run, and validation metrics."""
    history = facts.tuner.history
    if not history.steps:
        return None
    loss = {"train loss": _thinned([(record["step"], record["loss"]) for record in history.steps])}
    valid = history.evaluations
    if valid:
        loss["valid loss"] = [(record["step"], record["valid_loss"]) for record in valid]
    drawings = [curves("Loss", loss, across="optimizer step")]
    names = [name for name in (valid[0] if valid else {}) if name.startswith("valid_") and name != "valid_loss"][:2]
    if names:
        series = {name.removeprefix("valid_"): [(r["step"], r[name]) for r in valid] for name in names}
        drawings.append(curves("Validation", series, across="optimizer step", dots=True))
    return Part("The run", beside(*drawings), f"{counted(len(history.steps), 'optimizer step')}.")


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 200 points, each the mean of its neighbours."""
    parts = np.array_split(np.array(points, float), min(len(points), 200))
    return [(float(part[-1, 0]), float(part[:, 1].mean())) for part in parts]


def by_label(facts: Facts) -> Part | None:
    """Recall of each label with its interval."""
    if not facts.one_label:
        return None
    found = facts.metrics.per_class()
    counts = Counter(facts.references)
    right = Counter(true for true, good in zip(facts.references, facts.right, strict=True) if good)
    worst = sorted((label for label in found if counts[label]), key=lambda label: right[label] / counts[label])
    values = {
        str(label): (right[label] / counts[label], *wilson(right[label], counts[label])) for label in worst[:_ROWS]
    }
    lines = sorted(
        ([str(label), row["precision"], row["recall"], row["f1"], int(row["support"])] for label, row in found.items()),
        key=lambda line: float(str(line[3])),
    )
    shown = table(["label", "precision", "recall", "F1", "rows"], lines[:_LABELS])
    return Part("By label", beside(bars("Recall of the worst labels, with 95 % intervals", values)) + shown)


def confusion(facts: Facts) -> Part | None:
    """Which label is taken for which."""
    if not facts.one_label:
        return None
    counts, names = facts.metrics.confusion_matrix, list(facts.metrics.label_names or ())
    off = counts.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:_ROWS]
    pairs = [
        [str(names[i]), str(names[j]), int(off[i, j]), float(off[i, j] / max(counts[i].sum(), 1))]
        for i, j in zip(*np.unravel_index(order, off.shape), strict=True)
        if off[i, j]
    ]
    body = _grid(counts, names) if len(names) <= _GRID else ""
    body += table(["true", "taken for", "rows", "share of the label"], pairs) if pairs else "<p>No row is wrong.</p>"
    return Part("What is taken for what", body)


def _grid(counts: NDArray[np.int64], names: Sequence[Any]) -> str:
    head = "".join(f'<th title="{escape(str(name))}">{escape(str(name)[:14])}</th>' for name in names)
    lines = []
    for row, name in enumerate(names):
        shares = counts[row] / max(int(counts[row].sum()), 1)
        cells = "".join(
            f'<td style="background:color-mix(in srgb,var({"--for" if row == column else "--against"}) '
            f'{60 * share:.0f}%,var(--card))">{count}</td>'
            for column, (count, share) in enumerate(zip(counts[row].tolist(), shares.tolist(), strict=True))
        )
        lines.append(f"<tr><th>{escape(str(name)[:24])}</th>{cells}</tr>")
    return (
        '<div class="scroll"><table class="grid"><thead><tr><th>true \\ said</th>'
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def certainty(facts: Facts) -> Part | None:
    """Whether its probabilities say how often it is right, and what answering less often would bring."""
    if not facts.one_label:
        return None
    names = list(facts.task.label_names or ())
    found = np.array([[p.probabilities[name] for name in names] for p in facts.predictions])
    truth = np.array([[true == name for name in names] for true in facts.references], float)
    parts = bins_of(found, truth, several=False)
    error = sum(part.rows * abs(part.accuracy - part.probability) for part in parts) / len(found)
    sure = found.max(axis=1)
    tried = answers_by(sure, facts.right, doubt=0.05)
    reliability = curves(
        "How often it is right, over how sure it is",
        {"model": [(part.probability, part.accuracy) for part in parts]},
        across="probability of its label",
        unit=True,
        diagonal=True,
        dots=True,
    )
    answered = {
        "accuracy": [(part.coverage, part.accuracy) for part in tried],
        "at least (95 %)": [(part.coverage, part.at_least) for part in tried],
    }
    coverage = curves("Accuracy when only the surest rows are answered", answered, across="share of rows answered")
    calibrated = "; calibrated" if "temperature" in facts.settings else "; calibrate(valid) would fold a temperature in"
    return Part(
        "How sure it is",
        beside(reliability, coverage),
        f"Expected calibration error {error:.3f} (0 is best){calibrated}. On the dashed line it is as often right as "
        "it is sure.",
    )


def slices(facts: Facts) -> Part | None:
    """Groups of test rows in which it fails more often."""
    if not facts.one_label:
        return None
    found = slices_of(facts.test, facts.right)
    if not found:
        return None
    worse = [part for part in found if part.worse]
    lead = (
        f"{counted(len(worse), 'group')} of {len(found)} worse than the rest beyond chance."
        if worse
        else f"None of {len(found)} groups is worse than the rest beyond chance (Benjamini and Hochberg at 5 %)."
    )
    lines = [
        [
            part.name,
            part.rows,
            part.accuracy,
            f"{part.low:.3f} to {part.high:.3f}",
            part.elsewhere,
            "worse" if part.worse else "",
        ]
        for part in found[:_ROWS]
    ]
    return Part("Groups of rows", table(["rows with", "rows", "accuracy", "95 %", "elsewhere", ""], lines), lead)


def issues(facts: Facts) -> Part | None:
    """Labels of training rows that are doubted."""
    audit = facts.audit
    if audit is None:
        return None
    lines = [
        [issue.row, str(issue.given), str(issue.suggested), issue.score, audit.shown.html(issue.input)]
        for issue in audit.issues[:_ROWS]
    ]
    body = table(["row", "given", "suggested", "score", "input"], lines, wide=True) if lines else ""
    lead = (
        f"{len(audit.issues):,} of {audit.rows:,} training rows are doubted by models that had not seen them; about "
        f"{audit.error_rate:.1%} of the labels seem wrong. {counted(len(audit.twins), 'pair')} of near-duplicates "
        "bear different labels."
    )
    return Part("Doubtful labels", body, lead)


def errors(facts: Facts, count: int) -> Part | None:
    """The errors that it is surest of, explained where that can be done."""
    rows = wrong_rows(facts)[:count]
    if not rows or "audio" in facts.test.roles:  # those are heard, not read
        return None
    shown = []
    for row in rows:
        said, true = facts.predictions[row], facts.references[row]
        example = {role: facts.test[row][role] for role in facts.test.inputs}
        shown.append(
            f'<div class="error"><b>row {row}</b>: true {escape(str(true))}, said '
            f"{escape(str(getattr(said, 'label', getattr(said, 'value', said))))}{_explained(facts, example)}</div>"
        )
    lead = "The errors that it was surest of. Blue with + speaks for what it said, orange with a minus against it."
    return Part("Errors, explained", "".join(shown), lead)


def wrong_rows(facts: Facts) -> list[int]:
    """Rows with an error, those first that it was surest of, or farthest from."""
    if facts.one_label:
        wrong = np.flatnonzero(~facts.right)
        return sorted(wrong.tolist(), key=lambda row: -facts.predictions[row].probability)
    if isinstance(facts.task, RegressionTask):
        apart = [abs(p.value - true) for p, true in zip(facts.predictions, facts.references, strict=True)]
        return [int(row) for row in np.argsort(-np.array(apart), kind="stable")]
    return []


def _explained(facts: Facts, example: dict[str, Any]) -> str:
    try:
        return str(explain(facts.tuner, example).to_html())
    except (
        OptionError,
        DataError,
    ) as error:  # not every model can be explained; the row is shown
        text = escape(" ".join(map(str, example.values()))[:500])
        return f"<p>{text}</p><small>{escape(str(error))}</small>"


def limits(facts: Facts) -> Part:
    """What it must not be used for, as far as facts say it."""
    found = []
    if facts.task.label_names:
        found.append(f"It knows {len(facts.task.label_names)} labels, and gives one of them to anything it is shown.")
    found.append(f"Its longest input is {fitted_of(facts.tuner, 'report_card').encoder.limit}; what is beyond is cut.")
    if facts.one_label:
        counts = Counter(facts.references)
        few = [str(label) for label, rows in counts.items() if rows < 10]
        if few:
            found.append(f"Fewer than 10 test rows: {', '.join(few[:_ROWS])}; of these labels the scores say little.")
    if len(facts.test) < _FEW:
        found.append(f"It was judged by {len(facts.test)} rows: look at the intervals, not at the numbers.")
    found.append("All of this holds for rows drawn like the test rows; of others nothing was measured.")
    return Part("Limits", "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in found) + "</ul>")


def settings(facts: Facts) -> Part:
    """Every option as it was resolved."""
    lines = [[name, "" if value is None else str(value)] for name, value in facts.settings.items()]
    return Part("Settings", table(["option", "value"], lines))


def loading(facts: Facts) -> Part:
    """How to use it."""
    code = (
        'from sftlib import FineTuner\n\ntuner = FineTuner.load("the folder that save() wrote")\ntuner.predict([...])\n'
    )
    return Part("Use", f"<pre>{escape(code)}</pre>")
