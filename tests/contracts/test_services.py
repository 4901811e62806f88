"""What every tuner offers beside fitting, tried on every registered task: bf16, ``self_check``, ``plan``, freezing."""

from __future__ import annotations

import math

import pytest

from sftlib.errors import OptionError
from tests.contracts.cases import NAMES, case_of, losses, tuner_for

EVERY = [(name, family) for name in NAMES for family in case_of(name).families[: 4 if name == "seq2seq" else 1]]
every = pytest.mark.parametrize(("name", "family"), EVERY)


@every
def test_bf16_learns_as_fp32_does(name: str, family: str) -> None:
    case = case_of(name)
    runs = [
        tuner_for(name, family, precision=precision, max_steps=4, dropout=0.0).fit(case.data(), progress=False)
        for precision in ("bf16", "fp32")
    ]
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), rel=2e-2)
    assert losses(runs[0]) != losses(runs[1])
    assert math.isfinite(runs[0].evaluate(case.data())["loss"])
    assert len(runs[0].predict(case.plain())) == len(case.plain())


@every
def test_the_self_check_holds(name: str, family: str) -> None:
    report = tuner_for(name, family).self_check(case_of(name).data())
    assert report.holds, str(report)
    assert " or padded, with the model's own attention" not in str(report)


@every
def test_a_run_can_be_planned(name: str, family: str) -> None:
    assert "done by" in str(tuner_for(name, family, max_steps=3).plan(case_of(name).data()))


@every
def test_the_embeddings_can_be_frozen(name: str, family: str) -> None:
    """By name, which every model allows."""
    data = case_of(name).data()
    options = {"freeze": ["*mbed*", "*wte*", "*shared*"], "max_steps": 6, "learning_rate": 1e-3, "dropout": 0.0}
    try:
        tuner = tuner_for(name, family, **options).fit(data, progress=False)
    except OptionError as error:  # a pattern matches nothing: give those that do
        patterns = [p for p in options["freeze"] if repr(p) not in str(error)]  # type: ignore[attr-defined]
        tuner = tuner_for(name, family, **{**options, "freeze": patterns}).fit(data, progress=False)
    assert losses(tuner)[-1] < losses(tuner)[0]
