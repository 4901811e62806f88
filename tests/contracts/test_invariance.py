"""How the work is cut up decides nothing: losses, metrics and predictions are those of the rows (docs: invariance).

All in fp32, with dropout on. Bounds are those of the contract: 1e-5 for the losses of a run, 1e-6 for one pass.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from sftlib import FineTuner, TaskDataset
from sftlib.testing import FAMILIES
from tests.contracts.cases import NAMES, case_of, having, losses, task_class, tuner_for

WHOLE_RUN = ("bert", "distilbert", "deberta-v2", "modernbert", "gpt2")
SHORT_RUN = tuple(family for family in FAMILIES if family not in WHOLE_RUN)
#: Steps of a run, and rows of its micro-batches: 4x8, 32x1. An error in a gradient shows in the loss of the next step,
#: so that three find what twenty would; the long runs ask whether rounding stays below the bound of the contract.
RUNS = {"short": (3, (8, 1)), "long": (20, (16, 8, 1))}
LENGTHS = ["short", pytest.param("long", marks=pytest.mark.slow)]
OF_METRICS = {"rel": 1e-6, "abs": 5e-8}  # five seeds over all tasks: 5e-7 of a perplexity, 7e-7 of a loss of 0.03


def run_of(name: str, family: str, micro_batch_size: int | str, *, steps: int, **options: Any) -> FineTuner:
    tuner = tuner_for(name, family, micro_batch_size=micro_batch_size, max_steps=steps, batch_size=32, **options)
    return tuner.fit(case_of(name).data(), progress=False)


@functools.cache
def fitted(name: str, family: str) -> FineTuner:
    """A tuner whose predictions differ by far more than rounding; not to be fitted again."""
    return run_of(name, family, "auto", steps=10, learning_rate=1e-2)


def norms(tuner: FineTuner) -> list[float]:
    return [record["grad_norm"] for record in tuner.history.steps]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("name", "family"), having(WHOLE_RUN))
def test_cuts_of_a_batch_give_the_same_losses(name: str, family: str, length: str) -> None:
    steps, cuts = RUNS[length]
    whole = run_of(name, family, 32, steps=steps)
    assert len(losses(whole)) == steps
    # Cosines are multiplied by 20, where numbers of fp32 lie 1.9e-6 apart: a loss near zero has no more digits.
    least = 4e-6 if task_class(name).couples_rows else 1e-7
    for cut in cuts:
        other = run_of(name, family, cut, steps=steps)
        assert losses(other) == pytest.approx(losses(whole), rel=1e-5, abs=least), f"{32 // cut} x {cut}"
        assert norms(other)[0] == pytest.approx(norms(whole)[0], rel=1e-5)


@pytest.mark.parametrize(("name", "family"), having(SHORT_RUN))
def test_cuts_of_a_batch_give_the_same_losses_in_every_family(name: str, family: str) -> None:
    whole = run_of(name, family, 32, steps=3)
    for cut in (7, 2):
        other = run_of(name, family, cut, steps=3)
        assert losses(other) == pytest.approx(losses(whole), rel=1e-5, abs=1e-7), f"rows of a cut: {cut}"
        assert norms(other)[0] == pytest.approx(norms(whole)[0], rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_on_in_these_runs(family: str) -> None:
    """Else the tests above would show nothing: the same run without dropout must differ."""
    name = NAMES[0]
    with_dropout, without = run_of(name, family, 32, steps=2), run_of(name, family, 32, steps=2, dropout=0.0)
    assert abs(losses(with_dropout)[0] - losses(without)[0]) > 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_an_uneven_last_batch_weighs_its_rows_alike(name: str) -> None:
    runs = []
    for cut in (13, 5, 1, "auto"):
        tuner = tuner_for(name, micro_batch_size=cut, batch_size=13, max_steps=4)
        runs.append(tuner.fit(case_of(name).data(), progress=False))
    assert [record["rows"] for record in runs[0].history.steps] == [13, 13, 6, 13]  # the last shows what six rows did
    for other in runs[1:]:
        assert losses(other) == pytest.approx(losses(runs[0]), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_loss_options_do_not_depend_on_the_cut(name: str) -> None:
    for task in case_of(name).tasks:
        family = case_of(name).families[0]
        whole = run_of(name, family, 32, steps=2, task=task)
        other = run_of(name, family, 3, steps=2, task=task)
        assert losses(other) == pytest.approx(losses(whole), rel=1e-5)


@pytest.mark.parametrize(("name", "family"), having(("bert", "gpt2", "deberta-v2")))
def test_evaluation_does_not_depend_on_its_batches(name: str, family: str) -> None:
    tuner, data = fitted(name, family), case_of(name).data()
    alone = dict(tuner.evaluate(data, batch_size=1))
    for size in (64, 5, None):
        together = dict(tuner.evaluate(data, batch_size=size))
        assert together == pytest.approx(alone, **OF_METRICS)
    order = np.random.default_rng(1).permutation(len(data)).tolist()
    assert dict(tuner.evaluate(data.select(order), batch_size=7)) == pytest.approx(alone, **OF_METRICS)


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluation_does_not_depend_on_its_batches_in_any_family(family: str) -> None:
    name = NAMES[0]
    tuner, data = fitted(name, family), case_of(name).data()
    alone, together = (dict(tuner.evaluate(data, batch_size=size)) for size in (1, 64))
    assert together == pytest.approx(alone, **OF_METRICS)


@pytest.mark.parametrize(("name", "family"), having(FAMILIES))
def test_predictions_depend_on_nothing_but_their_row(name: str, family: str) -> None:
    case, tuner = case_of(name), fitted(name, family)
    data = case.data()
    alone = [case.numbers(p) for p in tuner.predict(data, batch_size=1)]
    assert len({tuple(numbers) for numbers in alone}) > case.distinct  # else any order would do
    order = np.random.default_rng(2).permutation(len(data)).tolist()
    for size in (64, 3, None):
        together = [case.numbers(p) for p in tuner.predict(data, batch_size=size)]
        assert together == [pytest.approx(numbers, rel=1e-6, abs=1e-6) for numbers in alone]
        shuffled = [case.numbers(p) for p in tuner.predict(data.select(order), batch_size=size)]
        assert shuffled == [pytest.approx(alone[i], rel=1e-6, abs=1e-6) for i in order]


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_beside_a_long_row_changes_nothing(family: str) -> None:
    """One word, a blank, and 60 tokens: whatever fills the short rows up must not be seen."""
    case, tuner = case_of(NAMES[0]), fitted(NAMES[0], family)
    short, long = ["film", "", "."], "a long story and every minute of it " * 7
    alone = [case.numbers(tuner.predict(text)) for text in short]
    beside = [case.numbers(p) for p in tuner.predict([short[0], long, short[1], long, short[2]], batch_size=5)]
    assert [beside[0], beside[2], beside[4]] == [pytest.approx(numbers, rel=1e-6, abs=1e-6) for numbers in alone]


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "llama"])
def test_pairs_do_not_depend_on_the_cut(family: str) -> None:
    columns = case_of("text-classification").columns
    data = TaskDataset({**columns, "text_pair": list(reversed(columns["text"]))})
    tuners = [tuner_for("text-classification", family, micro_batch_size=cut, max_steps=4) for cut in (32, 3)]
    runs = [tuner.fit(data, progress=False) for tuner in tuners]
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=1e-5)
    alone, together = (runs[0].predict(data, batch_size=size) for size in (1, 32))
    assert [p.probability for p in together] == pytest.approx([p.probability for p in alone], abs=1e-6)


def test_one_input_and_a_list_of_one_are_the_same() -> None:
    tuner = fitted("text-classification", "bert")
    text = case_of("text-classification").columns["text"][7]
    found = tuner.predict(text)
    assert tuner.predict([text]) == [found]
    assert tuner.predict({"text": text}) == found
    two = tuner.predict(iter([text, text]))  # one pass of two rows: products of matrices may sum in another order
    assert [p.label for p in two] == [found.label, found.label]
    assert [p.probability for p in two] == pytest.approx([found.probability] * 2, abs=1e-6)
    assert tuner.predict(TaskDataset({"text": [text]})) == [found]


def test_the_order_of_the_columns_decides_nothing() -> None:
    columns = case_of("text-classification").columns
    left, right = TaskDataset(dict(columns)), TaskDataset(dict(reversed(list(columns.items()))))
    runs = [tuner_for("text-classification", max_steps=3).fit(data, progress=False) for data in (left, right)]
    assert losses(runs[0]) == losses(runs[1])
