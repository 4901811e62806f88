"""Names in tweets (WNUT17) and questions on articles (SQuAD 2.0), by this library and by Hugging Face's Trainer.

Rows come from the folder that ``SFTLIB_DATA`` names. The Trainer's side is what its users write: rows tokenised
beforehand, padded to the longest of a batch, windows and answers as transformers' own examples make them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from sftlib import QuestionAnswering, TaskDataset
from sftlib.metrics import Answers, Metrics, Spans
from tests.benchmarks import contenders as c
from tests.benchmarks.figures import Asked, Figures, compared
from tests.benchmarks.measure import WARM, interleaved, kept, mean_step

LIMIT, STRIDE, LONGEST = 384, 128, 30  # of questions: tokens of a window, of two windows together, of an answer
TEST_ARTICLES = 3


class Ready(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows that are tokenised."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = rows
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(c.MODEL)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def _predicted(trainer: Any, rows: Ready) -> Any:
    """What a trained model says, in the order of the rows: grouping by length would leave them in another."""
    plain = c.hf_trainer(rows, model=trainer.model, collate=trainer.data_collator, per_device_eval_batch_size=128)
    return plain.predict(rows).predictions


def _folder() -> Path:
    if "SFTLIB_DATA" not in os.environ:
        raise SystemExit("these sections read WNUT17 and SQuAD from the folder that SFTLIB_DATA names; it is not set")
    return Path(os.environ["SFTLIB_DATA"])


# Names.


def _names(part: str) -> TaskDataset:
    blocks = (_folder() / f"wnut17_{part}.conll").read_text(encoding="utf-8").strip().split("\n\n")
    rows = [[line.split("\t") for line in block.splitlines() if line.strip()] for block in blocks]
    tags = sorted({f"{p}-{kind}" for kind in _KINDS for p in "BI"} | {"O"})
    return TaskDataset(
        [{"tokens": [word for word, _ in row], "tags": [tag for _, tag in row]} for row in rows], label_names=tags
    )


_KINDS = ("corporation", "creative-work", "group", "location", "person", "product")


def _hf_names(data: TaskDataset) -> Ready:
    ready, names = Ready([]), list(data.label_names or ())
    encoded = ready.tokenizer(data.column("tokens"), is_split_into_words=True, truncation=True, max_length=512)
    rows = []
    for i, tags in enumerate(data.column("tags")):
        words = encoded.word_ids(i)
        firsts = [word is not None and word != before for before, word in zip([None, *words], words, strict=False)]
        labels = [names.index(tags[word]) if first else -100 for word, first in zip(words, firsts, strict=True)]
        rows.append({**{name: values[i] for name, values in encoded.items()}, "labels": labels})
    ready.rows = rows
    return ready


def _names_trainer(data: TaskDataset, steps: int, *, seed: int = 0, **more: Any) -> Any:
    torch.manual_seed(seed)
    ready = _hf_names(data)
    model = transformers.AutoModelForTokenClassification.from_pretrained(
        c.MODEL, num_labels=len(data.label_names or ())
    )
    collate = transformers.DataCollatorForTokenClassification(ready.tokenizer)
    return c.hf_trainer(ready, model=model, collate=collate, seed=seed, max_steps=steps, **more)


def entities(asked: Asked) -> Figures:
    """Seconds of a step on tweets."""
    data, steps = _names("train"), WARM + asked.size(13, 1)

    def ours(seed: int, **options: Any) -> float:
        clock = c.Clock()
        c.ours(steps, seed=seed, **options).fit(data, callbacks=[clock], progress=False)
        return mean_step(clock.stamps)

    def theirs(seed: int, **options: Any) -> float:
        clock = c.HfClock()
        _names_trainer(data, steps, seed=seed, clock=clock, **options).train()
        return mean_step(clock.stamps)

    found = interleaved(
        {
            "sftlib": ours,
            "HF Trainer, default": theirs,
            "HF Trainer, bf16, grouped by length": lambda seed: theirs(seed, best=True),
        },
        asked.size(3, 1),
    )
    return compared("names, WNUT17", found, ("ms a step", 1e3), ("rows/s", c.BATCH))


def entities_scores(asked: Asked) -> Figures:
    """Span F1 on the test rows after two epochs, three seeds."""
    lines = [kept(f"names-{seed}", lambda seed=seed: names_of_seed(seed)) for seed in asked.seeds]
    return names_table(lines)


def names_of_seed(seed: int) -> list[str]:
    """F1 and accuracy of words of one run of each."""
    train, test = _names("train"), _names("test")
    names, steps = train.label_names or (), 2 * -(-len(train) // c.BATCH)
    mine = c.ours(steps, seed=seed, precision="bf16").fit(train, progress=False).evaluate(test)
    trainer, held_out = _names_trainer(train, steps, seed=seed, best=True), _hf_names(test)
    trainer.train()
    best = _predicted(trainer, held_out).argmax(-1)
    found = [
        [names[k] for k, label in zip(guess, row["labels"], strict=False) if label != -100]
        for guess, row in zip(best, held_out.rows, strict=True)
    ]
    theirs = Metrics(["f1", "accuracy"], label_names=names, family=Spans).update(_filled(found, test), _tags(test))
    return [str(seed), *(f"{of[name]:.4f}" for name in ("f1", "accuracy") for of in (mine, theirs))]


def names_table(lines: list[list[str]]) -> Figures:
    """The runs, and their mean."""
    header = ["seed", "F1, sftlib", "F1, HF Trainer", "accuracy of words, sftlib", "accuracy of words, HF Trainer"]
    return Figures(header, [*lines, _means(lines)])


def _tags(data: TaskDataset) -> list[list[str]]:
    return data.column("tags")


def _filled(found: list[list[str]], data: TaskDataset) -> list[list[str]]:
    """Words that the tokenizer made vanish are nothing."""
    return [[*tags, *["O"] * (len(row) - len(tags))] for tags, row in zip(found, _tags(data), strict=True)]


def _means(lines: Sequence[Sequence[Any]]) -> list[str]:
    return ["mean", *(f"{np.mean([float(line[i]) for line in lines]):.4f}" for i in range(1, len(lines[0])))]


# Questions.


def _questions() -> tuple[TaskDataset, TaskDataset]:
    articles = json.loads((_folder() / "squad2_11_articles.json").read_text(encoding="utf-8"))["data"]

    def rows(part: Sequence[Any]) -> TaskDataset:
        return TaskDataset(
            [
                {"question": qa["question"], "context": paragraph["context"], "answers": qa["answers"]}
                for article in part
                for paragraph in article["paragraphs"]
                for qa in paragraph["qas"]
            ]
        )

    return rows(articles[:-TEST_ARTICLES]), rows(articles[-TEST_ARTICLES:])


def _hf_questions(data: TaskDataset, limit: int = LIMIT, stride: int = STRIDE) -> tuple[Ready, list[dict[str, Any]]]:
    """Windows as transformers' examples make them, and what is needed to read the answers."""
    ready = Ready([])
    encoded = ready.tokenizer(
        data.column("question"),
        data.column("context"),
        truncation="only_second",
        max_length=limit,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    places, owners = encoded.pop("offset_mapping"), encoded.pop("overflow_to_sample_mapping")
    rows, about = [], []
    for window, row in enumerate(owners):
        inside = [i for i, part in enumerate(encoded.sequence_ids(window)) if part == 1]
        answers, ends = data[row]["answers"], (0, 0)
        if answers["text"]:
            begin = answers["answer_start"][0]
            end = begin + len(answers["text"][0])
            if places[window][inside[0]][0] <= begin and end <= places[window][inside[-1]][1]:
                first = next(i for i in inside if places[window][i][1] > begin)
                ends = (first, next(i for i in reversed(inside) if places[window][i][0] < end))
        rows.append(
            {
                **{name: values[window] for name, values in encoded.items()},
                "start_positions": ends[0],
                "end_positions": ends[1],
            }
        )
        about.append({"row": row, "inside": inside, "places": places[window]})
    ready.rows = rows
    return ready, about


def _questions_trainer(ready: Ready, steps: int, *, seed: int = 0, **more: Any) -> Any:
    torch.manual_seed(seed)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(c.MODEL)
    return c.hf_trainer(ready, model=model, seed=seed, max_steps=steps, **more)


def _hf_answers(data: TaskDataset, about: Sequence[dict[str, Any]], scores: tuple[Any, Any]) -> list[str]:
    """The best of the twenty best starts and ends of each window, as the examples search."""
    best: dict[int, tuple[float, str]] = {}
    for window, start, end in zip(about, *scores, strict=True):
        row, inside = window["row"], np.array(window["inside"])
        firsts, lasts = (inside[np.argsort(-part[inside])[:20]] for part in (start, end))
        for i in firsts:
            for j in lasts:
                if i <= j < i + LONGEST and start[i] + end[j] > best.get(row, (-np.inf, ""))[0]:
                    text = data[row]["context"][window["places"][i][0] : window["places"][j][1]]
                    best[row] = (float(start[i] + end[j]), text)
    return [best[row][1] for row in range(len(data))]


def questions(asked: Asked) -> Figures:
    """Seconds of a step on questions."""
    train, _ = _questions()
    ready, _ = _hf_questions(train)
    steps = WARM + asked.size(4, 1)

    def ours(seed: int, **options: Any) -> float:
        clock = c.Clock()
        tuner = c.ours(steps, seed=seed, max_length=LIMIT, task=QuestionAnswering(stride=STRIDE), **options)
        tuner.fit(train, callbacks=[clock], progress=False)
        return mean_step(clock.stamps)

    def theirs(seed: int, **options: Any) -> float:
        clock = c.HfClock()
        _questions_trainer(ready, steps, seed=seed, clock=clock, **options).train()
        return mean_step(clock.stamps)

    found = interleaved(
        {
            "sftlib": ours,
            "HF Trainer, default": theirs,
            "HF Trainer, bf16, grouped by length": lambda seed: theirs(seed, best=True),
        },
        asked.size(3, 1),
    )
    title = "questions, eight articles of SQuAD 2.0"
    return compared(title, found, ("ms a step", 1e3), ("windows/s", c.BATCH))


def questions_scores(_: Asked) -> Figures:
    """Exact match and F1 on the questions of three articles that have an answer, after two epochs on those of eight."""
    contenders = ("sftlib, bf16", "HF Trainer, bf16, grouped by length")
    return answers_table(
        [kept(f"answers-{name.split()[0]}", lambda name=name: answers_of(name)) for name in contenders]
    )


def answers_of(contender: str) -> list[str]:
    """The scores of one run; in windows of 192 tokens, so that it takes minutes."""
    limit, stride = 192, 64
    train, test = (part.filter(lambda row: bool(row["answers"]["text"])) for part in _questions())
    ready, _ = _hf_questions(train, limit, stride)
    steps = 2 * -(-len(ready) // c.BATCH)
    if contender.startswith("sftlib"):
        tuner = c.ours(steps, max_length=limit, task=QuestionAnswering(stride=stride), precision="bf16").fit(
            train, progress=False
        )
        found = tuner.evaluate(test)
    else:
        trainer = _questions_trainer(ready, steps, best=True)
        trainer.train()
        held_out, about = _hf_questions(test, limit, stride)
        answers = _hf_answers(test, about, _predicted(trainer, held_out))
        found = Metrics(["exact_match", "f1"], family=Answers).update(answers, test.column("answers"))
    return [contender, str(steps), f"{found['exact_match']:.4f}", f"{found['f1']:.4f}"]


def answers_table(lines: list[list[str]]) -> Figures:
    """Both runs."""
    return Figures(["questions with an answer", "steps", "exact match", "F1"], lines)
