"""Error rates of speech, beside jiwer."""

from __future__ import annotations

import math
import random

import pytest

from sftlib.errors import OptionError
from sftlib.metrics import Metrics, Speech, WordErrors
from sftlib.metrics.edits import alignment, edit_distance
from sftlib.support.spoken import NORMALIZERS, basic, english

WORDS = "the cat, sat on a Mat. It's  o'clock! naïve Straße 東京".split(" ")


def rows(count: int) -> tuple[list[str], list[str]]:
    numbers = random.Random(0)
    true = [" ".join(numbers.choices(WORDS, k=numbers.randint(1, 9))).strip() or "x" for _ in range(count)]
    found = [
        " ".join(word for word in text.split(" ") if numbers.random() > 0.2) + numbers.choice(["", " mat"])
        for text in true
    ]
    return found, true


def test_rates_are_those_of_jiwer() -> None:
    jiwer = pytest.importorskip("jiwer")
    found, true = rows(60)
    metrics = Metrics(["wer", "cer", "wer_normalized", "cer_normalized"], family=Speech).update(found, true)
    assert metrics["wer"] == pytest.approx(jiwer.wer(true, found), abs=1e-9)
    assert metrics["cer"] == pytest.approx(jiwer.cer(true, found), abs=1e-9)
    spoken = [[basic(text) for text in texts] for texts in (true, found)]
    assert metrics["wer_normalized"] == pytest.approx(jiwer.wer(*spoken), abs=1e-9)
    assert metrics["cer_normalized"] == pytest.approx(jiwer.cer(*spoken), abs=1e-9)


def test_rates_add_up_in_any_parts() -> None:
    found, true = rows(30)
    whole = Metrics(["wer", "cer"]).update(found, true)
    parts = Metrics(["wer", "cer"]).update(found[:7], true[:7]) + Metrics(["wer", "cer"]).update(found[7:], true[7:])
    assert dict(whole) == dict(parts)
    low, high = whole.interval("wer")
    assert low <= whole["wer"] <= high


def test_without_words_there_is_no_rate() -> None:
    assert math.isnan(Metrics(["wer"]).update(["a"], [""])["wer"])
    with pytest.raises(OptionError, match="did you mean 'wer'"):
        Metrics(["wre"])


def test_normalisers() -> None:
    assert set(NORMALIZERS) == {"none", "basic", "english"}
    assert basic("  The CAT's “o\u2019clock” — 5 €!") == "the cat's o'clock 5"
    assert english("Uh, I'm sure Mrs. Dalloway can't come & won't.") == (
        "i am sure missus dalloway can not come and will not"
    )
    assert NORMALIZERS["none"](" a \n b ") == "a b"
    for normalize in NORMALIZERS.values():
        assert normalize(normalize("It's 5% -- naïve!")) == normalize("It's 5% -- naïve!")


def test_errors_by_kind_are_those_of_jiwer() -> None:
    """Also where several ways are as short, of which each counts other kinds."""
    jiwer = pytest.importorskip("jiwer")
    numbers = random.Random(1)
    true = [" ".join(numbers.choices("abcd", k=numbers.randint(1, 8))) for _ in range(1500)]
    found = [" ".join(numbers.choices("abcd", k=numbers.randint(0, 8))) for _ in true]
    for reference, text in zip(true, found, strict=True):
        expected = jiwer.process_words(reference, text)
        errors = WordErrors.of([text], [reference])
        assert (errors.hits, errors.substitutions, errors.deletions, errors.insertions) == (
            expected.hits,
            expected.substitutions,
            expected.deletions,
            expected.insertions,
        ), (reference, text)
    whole, errors = jiwer.process_words(true, found), WordErrors.of(found, true)
    assert errors.wer == pytest.approx(whole.wer, abs=1e-12)
    rates = Metrics(["wer", "substitution_rate", "deletion_rate", "insertion_rate"], family=Speech).update(found, true)
    assert rates["substitution_rate"] == pytest.approx(whole.substitutions / errors.words, abs=1e-12)
    assert rates["deletion_rate"] == pytest.approx(whole.deletions / errors.words, abs=1e-12)
    assert rates["insertion_rate"] == pytest.approx(whole.insertions / errors.words, abs=1e-12)


def test_an_alignment_makes_one_of_the_other_in_the_fewest_edits() -> None:
    numbers = random.Random(2)
    for _ in range(500):
        first, second = ("".join(numbers.choices("abc", k=numbers.randint(0, 9))) for _ in range(2))
        pairs = alignment(first, second)
        assert [i for i, _ in pairs if i is not None] == list(range(len(first)))
        assert [j for _, j in pairs if j is not None] == list(range(len(second)))
        edits = sum(i is None or j is None or first[i] != second[j] for i, j in pairs)
        assert edits == edit_distance(first, second)


def test_the_words_that_are_confused() -> None:
    found, true = ["Nine one.", "five", "nine two", "two two"], ["five one", "Five!", "five two", "two"]
    errors = WordErrors.of(found, true, normalizer="basic")
    assert errors.confused == {("five", "nine"): 2}
    assert errors.added == {"two": 1}
    assert errors.most(1) == [("five", "nine", 2)]
    assert errors.to_dict() == {
        "words": 6,
        "hits": 4,
        "substitutions": 2,
        "deletions": 0,
        "insertions": 1,
        "wer": pytest.approx(0.5),
    }
    assert "(nothing)" in str(errors)
    assert "<table>" in errors._repr_html_()
    assert math.isnan(WordErrors.of([], []).wer)
    with pytest.raises(OptionError, match="did you mean 'basic'"):
        WordErrors.of([], [], normalizer="basik")
