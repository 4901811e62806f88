"""`report_card`: one file, nothing loaded, everything escaped, and the numbers are those of `evaluate`."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sftlib import Audio, FineTuner, TaskDataset, audit
from sftlib.errors import DataError, NotFittedError, OptionError
from sftlib.metrics import WordErrors
from sftlib.testing import SENTENCES, tiny_audio_model, tiny_feature_extractor, tiny_model, tiny_tokenizer, waves


def rows(first: int, count: int) -> TaskDataset:
    texts = [f"{SENTENCES[n % 16]} <script>alert({n})</script>" for n in range(first, first + count)]
    return TaskDataset({"text": texts, "label": [("a<b", "c")[n % 2] for n in range(first, first + count)]})


@pytest.fixture(scope="module")
def tuner() -> FineTuner:
    mine = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), epochs=2, batch_size=8)
    return mine.fit(rows(0, 48), rows(100, 16), progress=False)


class Tags(HTMLParser):
    """What stands in a page, and whether its tags close each other."""

    VOID = ("meta", "br", "img", "link", "line", "rect", "circle", "polyline", "path", "image")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_file_that_loads_nothing(tuner: FineTuner, tmp_path: Path) -> None:
    test, train = rows(200, 40), rows(0, 48)
    found = audit(tuner, train)
    tuner.report_card(tmp_path / "report.html", test=test, audit=found, explain=2)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Tags()
    page.feed(text)
    assert page.open == []
    tags = [tag for tag, _ in page.seen]
    assert not {"script", "link", "iframe"} & set(tags)
    assert not re.search(r"(?:src|href)=\"(?!#|data:)|url\(|@import|https?://", text)
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text
    assert tags.count("svg") >= 4
    for heading in (
        "Scores",
        "Data",
        "The run",
        "By label",
        "What is taken for what",
        "How sure it is",
        "Doubtful labels",
        "Limits",
        "Settings",
        "Use",
    ):
        assert f"<h2>{heading}</h2>" in text
    metrics = tuner.evaluate(test)
    assert f"<b>{metrics['accuracy']:.3f}</b>" in text
    assert "a&lt;b" in text
    assert "No test row has the inputs" in text
    assert tuner.is_named_test(test)
    assert audit(tuner, test).is_test
    if metrics["accuracy"] < 1:
        assert "Errors, explained" in text


def test_overlap_is_said(tuner: FineTuner, tmp_path: Path) -> None:
    tuner.report_card(tmp_path / "report.html", test=rows(40, 20), explain=0)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "8 test rows of 20 stand among the rows that the model learned from" in text
    assert "Errors, explained" not in text


def test_numbers_have_a_report_too(tmp_path: Path) -> None:
    data = TaskDataset({"text": list(SENTENCES), "target": [float(n) for n in range(16)]})
    mine = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=2).fit(data[:8], progress=False)
    mine.report_card(tmp_path / "report.html", test=data[8:], explain=1)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<span>rmse</span>" in text
    assert "Errors, explained" in text


def test_mistakes_are_told(tuner: FineTuner, tmp_path: Path) -> None:
    test = rows(200, 10)
    with pytest.raises(OptionError, match=r"ends in \.html"):
        tuner.report_card(tmp_path / "report.pdf", test=test)
    with pytest.raises(OptionError, match="explain=-1"):
        tuner.report_card(tmp_path / "report.html", test=test, explain=-1)
    with pytest.raises(OptionError, match="sftlib.audit"):
        tuner.report_card(tmp_path / "report.html", test=test, audit=[3])  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="did you mean 'test'"):
        tuner.report_card(tmp_path / "report.html", tests=test)  # type: ignore[call-arg]
    with pytest.raises(DataError, match="label"):
        tuner.report_card(tmp_path / "report.html", test=TaskDataset({"text": ["a"]}))
    with pytest.raises(NotFittedError):
        tuner.clone().report_card(tmp_path / "report.html", test=test)


def test_sounds_are_listened_to(tmp_path: Path) -> None:
    """Of the worst rows there is a player each, and of words that were misheard a table."""
    data = TaskDataset(
        [{**row, "text": {"low": "oo", "high": "ii it", "rising": "oi"}[row["label"]]} for row in waves(12)],
        task="speech-recognition",
        text="text",
    )
    model = tiny_audio_model("wav2vec2", auto_class="AutoModelForCTC")
    listener = FineTuner(model, inputs=Audio(processor=tiny_feature_extractor()), max_steps=1)
    listener.fit(data, progress=False).report_card(tmp_path / "report.html", test=data, explain=3)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Tags()
    page.feed(text)
    assert page.open == []
    tags = [tag for tag, _ in page.seen]
    assert tags.count("audio") == 3
    assert "<h2>Words</h2>" in text
    errors = WordErrors.of(listener.predict(data), data.column("text"))
    assert f'<td>substitutions</td><td class="n">{errors.substitutions}</td>' in text
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", text)


def test_speakers_who_were_learned_from_are_said(tmp_path: Path) -> None:
    rows = [{**row, "speaker": "ab"[n % 2]} for n, row in enumerate(waves(24))]
    train, test = TaskDataset(rows[:12]), TaskDataset(rows[12:])
    tuner = FineTuner(tiny_audio_model("wav2vec2", 3), max_steps=1).fit(train, progress=False)
    tuner.report_card(tmp_path / "report.html", test=test, train=train, explain=1)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "2 speakers of test&#x27;s 2 are heard in the rows to learn from too" in text
    assert "Errors, explained" not in text
