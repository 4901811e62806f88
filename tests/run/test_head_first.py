"""A plain run that begins with a head fitted on the body as it came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftlib import FineTuner, LoRA
from sftlib.errors import OptionError
from tests.contracts.cases import losses, same_weights, weights
from tests.selection.helpers import numbers, reviews, tuner
from tests.trust.runs import BreakAt, Interrupted, raising

DATA = reviews(24)


def head_first(**options: Any) -> FineTuner:
    return tuner(few_shot="head-first", **{"max_steps": 6, **options})


def test_it_begins_where_the_fitted_head_ends() -> None:
    """Without a step it is the head on a frozen body, which `few_shot` makes where nothing else may be trained."""
    begun = head_first(learning_rate=0.0, max_steps=1).fit(DATA, progress=False)
    frozen = tuner(few_shot=True, freeze="backbone").fit(DATA, progress=False)
    texts = DATA.column("text")
    expected = [one.probability for one in frozen.predict(texts)]
    assert [one.probability for one in begun.predict(texts)] == pytest.approx(expected, abs=1e-5)
    assert begun.decided["few_shot"] == {"kept": "head-first"}


def test_the_steps_are_those_of_a_plain_run_from_there() -> None:
    tuned, plain = head_first().fit(DATA, progress=False), tuner(max_steps=6).fit(DATA, progress=False)
    assert [record["learning_rate"] for record in tuned.history.steps] == [
        record["learning_rate"] for record in plain.history.steps
    ]
    assert [record["rows"] for record in tuned.history.steps] == [record["rows"] for record in plain.history.steps]
    assert losses(tuned)[0] < losses(plain)[0]
    assert not same_weights(weights(tuned), weights(plain))


def test_cuts_and_interruptions_change_nothing(tmp_path: Path) -> None:
    whole = head_first(precision="fp32").fit(DATA, DATA, progress=False)
    cut = head_first(precision="fp32", micro_batch_size=2).fit(DATA, DATA, progress=False)
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-5, abs=1e-7)
    with raising(Interrupted):
        head_first(precision="fp32").fit(
            DATA, DATA, progress=False, output_dir=tmp_path / "run", save_every=1, callbacks=[BreakAt(4)]
        )
    again = head_first(precision="fp32").fit(
        DATA, DATA, progress=False, output_dir=tmp_path / "run", save_every=1, resume=True, callbacks=[BreakAt(0)]
    )
    assert losses(again) == losses(whole)
    assert same_weights(weights(again), weights(whole))


def test_the_best_weights_can_be_kept_and_what_is_saved_is_plain(tmp_path: Path) -> None:
    best = head_first(keep_best="loss").fit(DATA, DATA, progress=False)
    best.save(tmp_path / "out")
    assert FineTuner.load(tmp_path / "out").predict("a film") == best.predict("a film")


def test_tasks_without_single_labels_and_adapters_are_refused() -> None:
    with pytest.raises(OptionError, match="it needs one label a row"):
        head_first().fit(numbers(8), progress=False)
    with pytest.raises(OptionError, match="an adapter begins at nothing"):
        head_first(adapter=LoRA(r=2)).fit(DATA, progress=False)
