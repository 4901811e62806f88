"""Every task of texts but the one of `test_stream` learns from a stream, and goes on in its second block to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sftlib import TaskStream
from sftlib.encoders.text.inputs import Text
from sftlib.tasks import find_task
from tests.contracts.cases import NAMES, case_of, losses, same_weights, tuner_for, weights
from tests.trust.runs import BreakAt, Interrupted

TEXTS = [name for name in NAMES if find_task(name).inputs is Text and name != "text-classification"]


def test_the_tasks_are_there() -> None:
    assert {"causal-lm", "token-classification", "seq2seq", "question-answering"} <= set(TEXTS)


@pytest.mark.parametrize("name", TEXTS)
def test_task_learns_from_a_stream(name: str, tmp_path: Path) -> None:
    data = case_of(name).data()
    roles = {role: role for role in data.roles}
    source = TaskStream(list(data), task=name, label_names=data.label_names, buffer=16, **roles)
    options = {"max_steps": 5, "batch_size": 8}
    whole = tuner_for(name, **options).fit(source, progress=False)
    assert len(losses(whole)) == 5
    assert np.isfinite(losses(whole)).all()
    assert whole.decided["stream"]["blocks"] >= 3, "32 rows in blocks of 16: a second pass has begun"
    given = {"output_dir": tmp_path / "run", "save_every": 3, "progress": False}
    with pytest.raises(Interrupted):
        tuner_for(name, **options).fit(source, callbacks=[BreakAt(4)], **given)
    resumed = tuner_for(name, **options).fit(source, callbacks=[BreakAt(99)], resume=True, **given)
    assert losses(resumed) == losses(whole)
    assert same_weights(weights(resumed), weights(whole))
