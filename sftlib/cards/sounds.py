"""What a report has of sounds: the worst rows to listen to, and which words were heard as which."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from sftlib.cards.page import Part, table
from sftlib.cards.parts import Facts, wrong_rows
from sftlib.data.problems import brief
from sftlib.encoders.audio.decode import decode
from sftlib.encoders.audio.preview import SoundPreview
from sftlib.inside import fitted_of
from sftlib.metrics import WordErrors
from sftlib.metrics.edits import edit_distance
from sftlib.tasks.audio.speech_recognition import SpeechRecognition
from sftlib.tasks.audio.transcript import Transcript

_SECONDS, _MOST = 30.0, 20  # of a sound that is put into the page; words of a table


def words(facts: Facts) -> Part | None:
    """Which words were not heard, heard where there were none, or taken for others."""
    if not isinstance(facts.task, SpeechRecognition):
        return None
    normalizer = facts.task.text_normalizer
    errors = WordErrors.of(facts.predictions, facts.references, normalizer=normalizer)
    counts = errors.to_dict()
    kinds = [[kind, int(counts[kind]), counts[kind] / max(errors.words, 1)] for kind in _KINDS]
    most = [[said or "(nothing)", heard or "(nothing)", often] for said, heard, often in errors.most(_MOST)]
    body = table(["edit", "count", "of all words"], kinds)
    body += table(["said", "heard", "count"], most) if most else "<p>No word is wrong.</p>"
    spoken = "as they stand" if normalizer == "none" else f"after text_normalizer={normalizer!r}"
    return Part("Words", body, f"Of {errors.words:,} words, compared {spoken}; the word error rate is their sum.")


_KINDS = ("substitutions", "deletions", "insertions")


def worst(facts: Facts, count: int) -> Part | None:
    """The worst rows, with a player each, and where they were heard what was said when."""
    if "audio" not in facts.test.roles:
        return None
    rows = _worst_texts(facts) if isinstance(facts.task, SpeechRecognition) else wrong_rows(facts)
    if not rows[:count]:
        return None
    lines = [
        f'<tr><td class="n">{row}</td><td>{_drawn(facts, row)}</td><td>{escape(str(facts.references[row]))}</td>'
        f"<td>{escape(_said(facts.predictions[row]))}</td></tr>"
        for row in rows[:count]
    ]
    head = '<th class="n">row</th><th>sound</th><th>true</th><th>said by the model</th>'
    body = (
        f'<div class="scroll"><table class="sounds"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody>'
        "</table></div>"
    )
    return Part("Worst rows, to listen to", body, "Waveform and spectrogram are those of the model's own rate.")


def _worst_texts(facts: Facts) -> list[int]:
    """Rows with a wrong word, those with the most wrong words first."""
    pairs = zip(facts.references, facts.predictions, strict=True)
    edits = np.array([edit_distance(true.split(), found.text.split()) for true, found in pairs])
    return [int(row) for row in np.argsort(-edits, kind="stable") if edits[row]]


def _said(prediction: Any) -> str:
    if isinstance(prediction, Transcript):
        return prediction.text or "(nothing)"
    label = getattr(prediction, "label", None)
    return brief(prediction, 200) if label is None else f"{label} ({prediction.probability:.2f})"


def _drawn(facts: Facts, row: int) -> str:
    encoder = fitted_of(facts.tuner, "report_card").encoder
    rate = getattr(encoder, "rate", 16_000)
    sound, found = facts.test[row]["audio"], facts.predictions[row]
    whole = found.over(sound, rate=rate) if isinstance(found, Transcript) else None
    preview = whole or SoundPreview(decode(sound, rate), rate, ())
    if preview.seconds > _SECONDS:
        samples = preview.samples[: round(_SECONDS * rate)]
        marks = tuple(tuple(mark for mark in line if mark[0] < _SECONDS) for line in preview.marks)
        preview = SoundPreview(samples, rate, (), marks=marks)
    return f"{preview.drawing()}{preview.player}"
