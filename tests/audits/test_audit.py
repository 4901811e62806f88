"""`audit`: planted errors are found, clean rows are left alone, and cleanlab ranks the same probabilities alike."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sftlib import Audio, FineTuner, Image, TaskDataset, audit
from sftlib.audits.nearby import neighbours, outliers, twins
from sftlib.audits.noise import noise_of
from sftlib.audits.out_of_fold import folds_of
from sftlib.audits.report import Issue
from sftlib.audits.shown import AsPicture, IfReadable
from sftlib.audits.slices import slices_of, wilson
from sftlib.errors import DataError, OptionError
from sftlib.testing import (
    SENTENCES,
    pictures,
    tiny_audio_model,
    tiny_feature_extractor,
    tiny_image_model,
    tiny_image_processor,
    tiny_model,
    tiny_tokenizer,
    waves,
)

WORDS = " ".join(SENTENCES).lower().replace(",", "").replace(".", "").split()


def told_apart(rows: int, flips: tuple[int, ...] = ()) -> TaskDataset:
    """Rows of two labels that a body can tell apart without training; some labels are turned round."""
    draw = np.random.default_rng(0)
    texts = [
        " ".join([*(["film"] * 4 if n % 2 else ["card"] * 4), *draw.choice(WORDS, 2).tolist(), str(n)])
        for n in range(rows)
    ]
    labels = [("money", "movie")[(n % 2) ^ (n in flips)] for n in range(rows)]
    return TaskDataset({"text": texts, "label": labels, "source": ["web" if n % 4 else "phone" for n in range(rows)]})


@pytest.fixture(scope="module")
def tuner() -> FineTuner:
    return FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=60, learning_rate=3e-3)


FLIPS = (3, 10, 17, 25, 44, 61, 70, 95, 102, 118)


@pytest.mark.parametrize("full", [False, True])
def test_planted_errors_come_first(tuner: FineTuner, full: bool) -> None:
    data = told_apart(120, FLIPS)
    found = audit(tuner, data, full=full, folds=3 if full else 5)
    first = {issue.row for issue in found.issues[: len(FLIPS)]}
    assert len(first & set(FLIPS)) >= (6 if full else len(FLIPS))  # the tiny tuner learns wrong labels too
    assert all(issue.given != issue.suggested for issue in found.issues)
    assert [issue.score for issue in found.issues] == sorted((issue.score for issue in found.issues), reverse=True)
    assert full or found.error_rate == pytest.approx(len(FLIPS) / 120, abs=0.03)
    assert not tuner.get_params()["task"]
    assert "issues" in str(found)


def test_clean_rows_are_left_alone(tuner: FineTuner) -> None:
    assert len(audit(tuner, told_apart(120)).issues) <= 2


def test_rows_are_dropped_and_labels_mended(tuner: FineTuner, caplog: pytest.LogCaptureFixture) -> None:
    data = told_apart(120, FLIPS)
    found = audit(tuner, data)
    with caplog.at_level(logging.INFO, logger="sftlib"):
        left, mended = data.drop(found, at_least=0.5), data.relabel(found, at_least=0.5)
    assert "drop: 10 rows left out" in caplog.text
    assert len(left) == 110
    assert left.column("text") == [row["text"] for n, row in enumerate(data) if n not in FLIPS]
    assert mended.column("label") == told_apart(120).column("label")
    assert mended.column("source") == data.column("source")
    assert data.column("label") == told_apart(120, FLIPS).column("label")
    assert len(data.drop(found, at_least=1.0)) == 120


def test_test_rows_are_not_for_a_model_to_change(tuner: FineTuner, tmp_path: Any) -> None:
    data = told_apart(120, FLIPS)
    found = audit(tuner, data, is_test=True)
    assert found.issues
    for change in (data.drop, data.relabel):
        with pytest.raises(DataError, match="for testing"):
            change(found)
    with pytest.raises(DataError, match="not the 120 rows that were audited"):
        data[:100].drop(audit(tuner, data))
    with pytest.raises(OptionError, match=r"expected what sftlib.audit"):
        data.drop([3])  # type: ignore[arg-type]


def drawn(rows: int, labels: int, *, sure: float, flipped: float, seed: int = 0) -> tuple[Any, Any, Any]:
    """True labels, given ones of which a share was replaced, and the chances that a calibrated model gives."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(rows, labels)) * sure
    found = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    true = (found.cumsum(axis=1) < draw.random((rows, 1))).sum(axis=1).clip(0, labels - 1)
    other = (true + draw.integers(1, labels, rows)) % labels
    return true, np.where(draw.random(rows) < flipped, other, true), found


def test_cleanlab_ranks_the_same_probabilities_alike() -> None:
    cleanlab = pytest.importorskip("cleanlab")
    _, given, found = drawn(1000, 5, sure=3.0, flipped=0.1)
    noise = noise_of(given, found)
    quality = cleanlab.rank.get_label_quality_scores(given, noise.probabilities, method="self_confidence")
    order = np.argsort(-noise.wrong, kind="stable")
    assert (np.diff(quality[order]) >= -1e-12).all()


@pytest.mark.parametrize("labels", [2, 5, 30])
@pytest.mark.parametrize("sure", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("flipped", [0.0, 0.1, 0.3])
def test_the_share_of_wrong_labels_is_found(labels: int, sure: float, flipped: float) -> None:
    """Of a model that errs by itself as often as it says; hesitant ones cannot tell, and must not accuse."""
    true, given, found = drawn(4000, labels, sure=sure, flipped=flipped)
    noise = noise_of(given, found**0.7 / (found**0.7).sum(axis=1, keepdims=True))
    if sure >= 3.0:
        assert noise.rate == pytest.approx((given != true).mean(), abs=0.02)
        assert noise.temperature == pytest.approx(0.7, rel=0.25)
    if not flipped:
        assert noise.rate < 0.02
        assert len(noise.doubted(given)) < 0.02 * 4000
    shares = noise.joint(given)
    assert shares.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(shares.sum(axis=1), np.bincount(given, minlength=labels) / 4000)
    assert 1 - np.trace(shares) == pytest.approx(noise.rate)
    if flipped and sure == 8.0:
        hits = given[noise.doubted(given)] != true[noise.doubted(given)]
        assert hits.mean() > 0.6
        likely = noise.wrong > 0.5
        assert (given != true)[likely].mean() == pytest.approx(noise.wrong[likely].mean(), abs=0.05)


def test_a_label_that_no_model_has_seen_is_not_doubted() -> None:
    _, given, found = drawn(200, 3, sure=8.0, flipped=0.1)
    found[:, 2] = 0.0
    found /= found.sum(axis=1, keepdims=True)
    noise = noise_of(given, found)
    assert (noise.wrong[given == 2] == 0).all()
    assert noise.wrong[given != 2].max() > 0.5
    assert noise_of(np.full(200, 2), found).rate == 0.0


def test_folds_spread_labels_and_keep_twins_together() -> None:
    data = told_apart(100) + told_apart(10)  # ten rows twice
    given = np.array([label == "movie" for label in data.column("label")], np.int64)
    fold = folds_of(data, given, 5, seed=0)
    assert (fold[:10] == fold[100:]).all()
    for part in range(5):
        assert 0.3 <= given[fold == part].mean() <= 0.7
        assert 18 <= (fold == part).sum() <= 26
    assert (fold == folds_of(data, given, 5, seed=0)).all()


def test_the_same_again(tuner: FineTuner) -> None:
    data = told_apart(60, (3, 8))
    one, two = audit(tuner, data), audit(tuner, data)
    assert one.to_dict() == two.to_dict()
    np.testing.assert_array_equal(one.probabilities, two.probabilities)


def test_rows_beside_each_other() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(50, 8)).astype(np.float32)
    features[7] = features[3] + 1e-4
    positions, cosines = neighbours(features, 3)
    centred = features - features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    expected = unit @ unit.T
    np.fill_diagonal(expected, -np.inf)
    np.testing.assert_array_equal(positions[:, 0], expected.argmax(axis=1))
    np.testing.assert_allclose(cosines[:, 0], expected.max(axis=1), atol=1e-5)
    given = np.zeros(50, np.int64)
    assert twins(positions, cosines, given) == []
    given[7] = 1
    assert [(first, second) for first, second, _ in twins(positions, cosines, given)] == [(3, 7)]
    near = np.full((40, 3), 0.9, np.float32) + draw.normal(size=(40, 3)).astype(np.float32) * 0.001
    near[11] = 0.1
    assert [row for row, _ in outliers(near)] == [11]


def test_a_group_that_fails_is_named() -> None:
    data = told_apart(400)
    draw = np.random.default_rng(0)
    phone = np.array([value == "phone" for value in data.column("source")])
    right = draw.random(400) < np.where(phone, 0.7, 0.95)
    found = slices_of(data, right)
    assert found[0].name == "source=phone"
    assert found[0].worse
    assert "with source=phone" in str(found[0])
    low, high = wilson(int(right[phone].sum()), int(phone.sum()))
    assert (found[0].low, found[0].high) == (low, high)
    none = slices_of(data, draw.random(400) < 0.9)
    assert not any(part.worse for part in none)


def test_the_test_of_a_group_is_that_of_scipy() -> None:
    from scipy.stats import fisher_exact

    data = told_apart(400)
    right = np.random.default_rng(1).random(400) < 0.85
    phone = np.array([value == "phone" for value in data.column("source")])
    (found,) = [part for part in slices_of(data, right) if part.name == "source=phone"]
    table = [[(~right[phone]).sum(), right[phone].sum()], [(~right[~phone]).sum(), right[~phone].sum()]]
    assert found.p_value == pytest.approx(fisher_exact(table, alternative="greater").pvalue)


def test_pictures_are_audited_too() -> None:
    from sftlib import Image

    rows = pictures(48, classes=2)
    turned = {"circle": "square", "square": "circle"}
    assert {row["label"] for row in rows} == set(turned)
    rows[5] = {**rows[5], "label": turned[rows[5]["label"]]}
    inputs = Image(processor=tiny_image_processor("resnet"), augment="none")
    found = audit(FineTuner(tiny_image_model("resnet"), inputs=inputs), TaskDataset(rows))
    assert found.rows == 48
    assert len(found.probabilities) == 48


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda t: audit(t, told_apart(8)), DataError, "at least 10"),
        (lambda t: audit(t, told_apart(40), folds=1), OptionError, "folds=1"),
        (lambda t: audit(t, told_apart(40), fold=3), OptionError, "did you mean 'folds'"),
        (lambda t: audit(t, told_apart(40), slices=["sauce"]), OptionError, "did you mean 'source'"),
        (lambda t: audit(t, told_apart(40), slices="source"), OptionError, "['source']"),
        (lambda t: audit(t, TaskDataset({"text": ["a"] * 20})), DataError, "label"),
        (lambda t: audit("model", told_apart(40)), OptionError, "FineTuner"),
        (lambda t: audit(t, TaskDataset({"text": list("ab"), "target": [0.1, 0.2]})), OptionError, "one label a row"),
        (lambda t: told_apart(4).drop(audit(t, told_apart(40)), at_least=90), OptionError, "at_least=90"),
    ],
)
def test_mistakes_are_told(
    tuner: FineTuner, call: Callable[[FineTuner], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as raised:
        call(tuner)
    assert said in str(raised.value)


def test_pictures_and_sounds_are_shown(tuner: FineTuner) -> None:
    drawn = TaskDataset(pictures(40, classes=2))
    seeing = FineTuner(tiny_image_model("vit"), inputs=Image(processor=tiny_image_processor("vit")))
    heard = TaskDataset(waves(24, classes=2, seconds=0.1))
    hearing = FineTuner(tiny_audio_model("wav2vec2"), inputs=Audio(processor=tiny_feature_extractor("wav2vec2")))
    for judge, data, tag in ((seeing, drawn, "<img alt="), (hearing, heard, "<audio controls")):
        labels = list(data.column("label"))
        labels[3] = next(name for name in data.label_names or () if name != labels[3])
        (role,) = data.inputs
        found = audit(judge, TaskDataset({role: data.column(role), "label": labels}))
        # What a body of random weights can tell apart is chance: the rows shown are named.
        doubts = [Issue(row, labels[row], labels[3], 0.9, data.column(role)[row]) for row in (3, 5)]
        found = replace(found, issues=tuple(doubts))
        page = found._repr_html_()
        assert page.count(tag) == min(len(found.issues), 10)
        assert 'src="data:' in page
        assert "array(" not in page
    written = audit(tuner, told_apart(120, FLIPS))
    assert "<img" not in written._repr_html_()
    assert "gone.png" in IfReadable(AsPicture()).html("gone.png").markup


def test_rows_that_are_never_believed_stand_out(tuner: FineTuner) -> None:
    data = told_apart(120, FLIPS)
    found = audit(tuner.clone().set_params(max_steps=None, epochs=6, batch_size=16), data, dynamics=True)
    seen = found.dynamics
    assert seen is not None
    assert seen.times == 6
    assert len(set(seen.lowest[: len(FLIPS)]) & set(FLIPS)) >= 8
    assert set(seen.kinds) <= {"easy", "hard", "ambiguous"}
    assert "6 times each" in str(found)
    assert audit(tuner, data).dynamics is None


def test_what_is_seen_is_what_the_loss_is_made_of() -> None:
    """At rate 0 every pass shows the scores that the model has of the row."""
    data = told_apart(24)
    still = FineTuner(
        tiny_model(dropout=0.0), tokenizer=tiny_tokenizer(), learning_rate=0.0, epochs=2, batch_size=7, seed=3
    )
    seen = audit(still, data, dynamics=True).dynamics
    assert seen is not None
    still.fit(data, progress=False)
    chances = np.array([list(one.probabilities.values()) for one in still.predict(data)])
    names = list(still.label_names or ())
    given = np.array([names.index(label) for label in data.column("label")])
    rows = np.arange(len(data))
    np.testing.assert_allclose(seen.confidence, chances[rows, given], atol=1e-5)
    np.testing.assert_allclose(seen.variability, 0.0, atol=1e-5)
    np.testing.assert_allclose(seen.margin, np.log(chances[rows, given] / chances[rows, 1 - given]), atol=1e-4)
