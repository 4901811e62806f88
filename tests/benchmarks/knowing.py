"""What `explain`, `calibrate`, `audit`, `distill` and `export` are worth on tuned models of real size, a line each.

    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.knowing explained sure audited smaller --sets movies

MiniLM, tuned with its defaults. ``doubts`` asks the parts beneath on frozen features, in seconds; this asks the verbs
themselves, through a saved folder and transformers' pipeline where they promise something of it.
"""

from __future__ import annotations

import argparse
import functools
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from cleanlab.rank import get_label_quality_scores

from sftlib import FineTuner, TaskDataset, audit
from sftlib.explain import explain
from sftlib.export import distill, export
from tests.benchmarks import contenders as c
from tests.benchmarks import texts
from tests.benchmarks.doubts import HALVES
from tests.benchmarks.doubts import promised_of as promised

Row = dict[str, Any]
SENTENCES, VALID, AUDITED = 100, 400, 2000
PLANTED = {"harbour": "sea", "meadow": "land", "": "neither"}
LEARNED = {"movies": 6000, "banking77": 10_003}


@functools.cache
def rows(name: str) -> tuple[list[Row], list[Row]]:
    """Rows to learn from, and rows held out."""
    if name == "banking77":
        both = texts.banking()
        assert both is not None, "SFTLIB_DATA names no folder"
        return both
    found = [{"text": row["text"], "label": row["label"]} for row in texts.sentiments(name)]
    random.Random(0).shuffle(found)
    return found[: LEARNED[name]], found[LEARNED[name] :]


@functools.cache
def tuned(name: str) -> FineTuner:
    """With default options, whole."""
    return FineTuner(c.MODEL).fit(TaskDataset(rows(name)[0]), progress=False)


def explained(name: str) -> str:
    """A planted word decides the label of a sentence, or that there is none: is it first? And under a random head?"""
    draw, sentences = random.Random(0), [row["text"] for row in rows(name)[1][:1700]]

    def plant(text: str) -> Row:
        words, word = text.split(), draw.choice(list(PLANTED))
        words.insert(draw.randrange(len(words) + 1), word)
        return {"text": " ".join(filter(None, words)), "label": PLANTED[word]}

    train, held = TaskDataset([plant(text) for text in sentences[:1500]]), map(plant, sentences[1500:])
    test = TaskDataset([row for row in held if row["label"] != "neither"][:SENTENCES])
    knowing = FineTuner(c.MODEL).fit(train, progress=False)
    right = knowing.evaluate(test)["accuracy"]
    start = time.perf_counter()
    found = explain(knowing, test)
    took = time.perf_counter() - start
    first = [max(why.words, key=lambda word: word.score).text in PLANTED for why in found]
    beyond = [why.faithfulness.beats_chance for why in found]
    strange = FineTuner(c.MODEL, max_steps=1, learning_rate=0.0).fit(train, progress=False)
    lost = [why.faithfulness.beats_chance for why in explain(strange, test)]
    steps = np.mean([why.steps for why in found])
    return (
        f"| {name} | {right:.3f} | {np.mean(first):.2f} of {len(first)} | {np.mean(beyond):.2f} | {np.mean(lost):.2f} "
        f"| {took:.0f} s, {steps:.0f} passes each |"
    )


def sure(name: str) -> str:
    """ECE, accuracy row by row, the pipeline's scores, and whether promises hold in halves of the rest."""
    tuner, held = tuned(name), rows(name)[1]
    order = random.Random(1).sample(range(len(held)), len(held))
    valid, test = (TaskDataset([held[i] for i in part]) for part in (order[:VALID], order[VALID:]))
    before = tuner.predict(test)
    raw = tuner.evaluate(test)
    found = tuner.calibrate(valid)
    after = tuner.predict(test)
    changed = sum(one.label != other.label for one, other in zip(before, after, strict=True))
    given = [row["label"] for row in (test[i] for i in range(len(test)))]
    errors = [_error(answers, given) for answers in (before, after)]
    with tempfile.TemporaryDirectory() as folder:
        tuner.save(Path(folder) / "saved")
        pipe = transformers.pipeline("text-classification", str(Path(folder) / "saved"), device="cpu")
        theirs = pipe([test[i]["text"] for i in range(200)], truncation=True)
    apart = max(abs(one.probability - other["score"]) for one, other in zip(after[:200], theirs, strict=True))
    names = tuner.label_names or ()
    chances = np.array([[answer.probabilities[label] for label in names] for answer in after])
    scores = np.log(np.clip(chances, 1e-12, None))
    kept = promised(name, scores, np.array([names.index(label) for label in given]))
    return (
        f"| {name} | {raw['accuracy']:.3f} | {errors[0]:.3f} | {errors[1]:.3f} | {found.temperature:.2f} | {changed} "
        f"| {apart:.0e} | {kept} |"
    )


def _error(answers: Any, given: list[str], bins: int = 15) -> float:
    """Expected calibration error over bins of equal width (Guo et al., 2017), written here once more."""
    sure = np.array([answer.probability for answer in answers])
    right = np.array([answer.label == label for answer, label in zip(answers, given, strict=True)])
    place = np.minimum((sure * bins).astype(int), bins - 1)
    return float(sum(abs(sure[place == k].sum() - right[place == k].sum()) for k in range(bins)) / len(sure))


def audited(name: str) -> str:
    """A tenth of 2,000 labels is flipped: how many of as many doubted rows are those, frozen and by tuned folds?"""
    draw = np.random.default_rng(0)
    chosen = random.Random(0).sample(rows(name)[0], AUDITED)
    names = sorted({row["label"] for row in chosen})
    flipped = set(draw.permutation(AUDITED)[: AUDITED // 10].tolist())
    others = [(names.index(row["label"]) + draw.integers(1, len(names))) % len(names) for row in chosen]
    noisy = TaskDataset(
        [{**row, "label": names[others[i]] if i in flipped else row["label"]} for i, row in enumerate(chosen)]
    )
    said = []
    for full in (False, True):
        start = time.perf_counter()
        found = audit(FineTuner(c.MODEL), noisy, full=full)
        took = time.perf_counter() - start
        order = np.argsort(
            get_label_quality_scores(
                np.array([found.label_names.index(noisy[i]["label"]) for i in range(AUDITED)]), found.probabilities
            ),
            kind="stable",
        )
        by_cleanlab = np.mean([i in flipped for i in order[: len(flipped)]])
        ranked = _ranked(found, noisy)[: len(flipped)]
        said.append(
            f"{np.mean([i in flipped for i in ranked]):.3f} | {by_cleanlab:.3f} | {found.error_rate:.1%} "
            f"| {len(found.issues)} | {took:.0f} s"
        )
    return f"| {name}, frozen | {said[0]} |\n| {name}, tuned folds | {said[1]} |"


def _ranked(found: Any, data: TaskDataset) -> list[int]:
    """All rows, the most doubtful first: the issues, then the others by the probability of their label."""
    listed = [issue.row for issue in found.issues]
    given = [found.label_names.index(data[i]["label"]) for i in range(len(data))]
    own = found.probabilities[np.arange(len(data)), given]
    return listed + [int(i) for i in np.argsort(own, kind="stable") if i not in set(listed)]


def smaller(name: str) -> str:
    """Half the layers, taught by the whole; and the whole in int8."""
    tuner, (learned, held) = tuned(name), rows(name)
    test = TaskDataset(random.Random(2).sample(held, min(2000, len(held))))
    student = distill(tuner, texts=TaskDataset(learned), valid=test, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        try:
            said = str(export(tuner, Path(folder) / "int8", check=test))
        except Exception as refused:  # a refusal is a result
            said = f"refused: {refused}"
    return f"{name}\n{student.decided['distilled']}\n{said}"


SECTIONS: dict[str, tuple[str, Callable[[str], str]]] = {
    "explained": ("| set | accuracy | planted word first | beats chance | under a random head | took |", explained),
    "sure": (
        f"| set | accuracy | ECE | calibrated | temperature | answers changed | pipeline apart "
        f"| over {HALVES} halves: ECE, calibrated on {VALID}, coverage at .9, promise kept |",
        sure,
    ),
    "audited": ("| set | planted of the first | cleanlab's order | share said | doubted | took |", audited),
    "smaller": ("", smaller),
}


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS))
    parser.add_argument("--sets", nargs="+", default=list(LEARNED), choices=list(LEARNED))
    given = parser.parse_args()
    for section in given.sections:
        header, measured = SECTIONS[section]
        print(f"\n## {section}\n{header}", flush=True)
        for name in given.sets:
            start = time.perf_counter()
            print(measured(name), f"[{time.perf_counter() - start:.0f} s]", flush=True)


if __name__ == "__main__":
    main()
