"""Error rates of speech, beside jiwer."""

from __future__ import annotations

import math
import random

import pytest

from sftlib.errors import OptionError
from sftlib.metrics import Metrics, Speech
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
