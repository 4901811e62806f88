"""Unlabelled rows: who gets a label, what is kept, and that neither order nor being killed changes a bit."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from sftlib import FineTuner, TaskDataset
from sftlib.errors import CheckpointError, DataError, OptionError
from sftlib.run import pseudo
from sftlib.run.pseudo import Pool
from sftlib.tasks import find_task
from tests.selection.helpers import numbers, reviews, tuner


def parts() -> tuple[TaskDataset, TaskDataset, list[str]]:
    data = reviews(96)
    return data.select(range(16)), data.select(range(16, 40)), data.select(range(40, 96)).column("text")


def learner(**options: Any) -> FineTuner:
    return tuner(**{"epochs": 8, **options})


def same(first: FineTuner, second: FineTuner) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


def test_pseudo_labels_are_those_of_the_teacher_the_surest_of_each_label_it_gave() -> None:
    train, valid, pool = parts()
    learned = learner().fit(train, valid, unlabelled=pool, progress=False)
    teacher = learner().fit(train, valid, progress=False)
    answers = teacher.predict(pool)
    first = [one for one in learned.pseudo.labels if one.round == 1]
    assert all(one.label == answers[one.row].label for one in first)
    for label in ("good", "bad"):
        given = sorted((a.probability for a in answers if a.label == label), reverse=True)
        taken = sorted((one.confidence for one in first if one.label == label), reverse=True)
        assert len(taken) == -(-len(given) * 4 // 10)
        assert taken == pytest.approx(given[: len(taken)], abs=1e-6)
    frame = learned.pseudo.to_frame()
    assert list(frame.columns) == ["row", "label", "confidence", "round", "kept"]
    assert len(frame) == len(learned.pseudo.labels)


def test_only_rounds_that_are_not_worse_are_kept_and_the_history_says_which_round() -> None:
    train, valid, pool = parts()
    learned = learner().fit(train, valid, unlabelled=pool, progress=False)
    rounds = learned.pseudo.rounds
    assert rounds[0].kept
    for before, after in itertools.pairwise(rounds):
        assert after.kept == (after.accuracy >= before.accuracy)
    assert learned.evaluate(valid)["accuracy"] == [one for one in rounds if one.kept][-1].accuracy
    assert {record["round"] for record in learned.history if "round" in record} == (
        set(range(learned.pseudo.kept + 1)) if learned.pseudo.kept else set()
    )


def test_a_poisoned_pool_leaves_round_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that is wrong on every row of the pool: what is learned from it is worse, and is not kept."""
    train, valid, pool = parts()

    def wrong(answers: Any, share: float) -> list[int]:
        for place, answer in enumerate(answers):
            other = "bad" if " so " in pool_texts[place] and any(w in pool_texts[place] for w in GOOD) else "good"
            object.__setattr__(answer, "label", other)
        return list(range(len(answers)))

    from tests.selection.helpers import GOOD

    ordered = Pool.of(find_task("text-classification")().learned_from(train), pool)
    pool_texts = [row["text"] for row in ordered.rows]
    monkeypatch.setattr(pseudo, "surest", wrong)
    for rows in (valid, None):
        learned = learner(epochs=15).fit(train, rows, unlabelled=pool, progress=False)
        assert learned.pseudo.kept == 0
        assert same(learned, learner(epochs=15).fit(train, rows, progress=False))
        assert "did not help" in str(learned.pseudo)


def test_the_order_of_the_pool_changes_no_bit() -> None:
    train, valid, pool = parts()
    first = learner().fit(train, valid, unlabelled=pool, progress=False)
    second = learner().fit(train, valid, unlabelled=pool[::-1], progress=False)
    assert same(first, second)
    assert first.pseudo.rounds == second.pseudo.rounds
    back = sorted((len(pool) - 1 - one.row, one.label, one.round) for one in second.pseudo.labels)
    assert back == sorted((one.row, one.label, one.round) for one in first.pseudo.labels)


def test_without_validation_rows_half_of_the_labelled_rows_judge() -> None:
    train, _, pool = parts()
    learned = learner().fit(train, unlabelled=pool, progress=False)
    assert learned.pseudo.judged_on == "half of train"
    assert len(learned.pseudo.rounds) >= 2


def test_few_shot_and_unlabelled_compose() -> None:
    train, valid, pool = parts()
    learned = learner(few_shot=True, max_steps=10).fit(train, valid, unlabelled=pool, progress=False)
    assert learned.pseudo.pool == 56
    assert learned.evaluate(valid)["accuracy"] >= learned.pseudo.rounds[0].accuracy


def test_rows_that_are_labelled_blank_or_repeated_leave_the_pool() -> None:
    train, valid, pool = parts()
    more = [*pool[:10], train.column("text")[0].upper(), valid.column("text")[0], "  ", pool[0] + " "]
    learned = learner(epochs=1).fit(train, valid, unlabelled=more, progress=False)
    assert learned.pseudo.pool == 10
    assert dict(learned.pseudo.left_out) == {"blank": 1, "also labelled": 2, "repeated": 1}
    as_data = TaskDataset({"text": more}, task="text-classification")
    again = learner(epochs=1).fit(train, valid, unlabelled=as_data, progress=False)
    assert again.pseudo.labels == learned.pseudo.labels


def test_a_killed_run_goes_on_to_the_bit_in_any_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, valid, pool = parts()
    whole = learner().fit(train, valid, unlabelled=pool, progress=False)
    made = pseudo._Rounds._round

    def killed(self: Any, *args: Any) -> Any:
        made(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(pseudo._Rounds, "_round", killed)
    with pytest.raises(KeyboardInterrupt):
        learner().fit(train, valid, unlabelled=pool, output_dir=tmp_path / "run", progress=False)
    monkeypatch.setattr(pseudo._Rounds, "_round", made)
    with pytest.raises(CheckpointError, match="is not empty"):
        learner().fit(train, valid, unlabelled=pool, output_dir=tmp_path / "run", progress=False)
    found = learner().fit(train, valid, unlabelled=pool, output_dir=tmp_path / "run", resume=True, progress=False)
    assert same(found, whole)
    assert found.pseudo == whole.pseudo


@pytest.mark.parametrize(
    ("data", "pool", "kind", "expected"),
    [
        (reviews(), [], DataError, "none of 0 rows is left"),
        (reviews(), "a text", DataError, "expected a list of inputs"),
        (reviews(), ["a", 3, None], DataError, "row 1, row 2"),
        (reviews(), [" "], DataError, "blank: 1"),
        (reviews(), [("a", "b")], DataError, "takes single texts"),
        (numbers(), ["a"], OptionError, "adapt"),
    ],
)
def test_what_cannot_be_used_is_refused(data: Any, pool: Any, kind: Any, expected: str) -> None:
    with pytest.raises(kind, match=expected):
        learner().fit(data, unlabelled=pool, progress=False)
