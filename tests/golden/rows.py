"""Rows of every task for the goldens: written down here, so that no other test's rows can move them.

Texts are of very different lengths, some longer than the windows that runs ask for.
"""

from __future__ import annotations

import re
from typing import Any

from sftlib import TaskDataset
from sftlib.testing import SENTENCES

Columns = dict[str, list[Any]]

COUNT = 32
_TAGS = ("O", "B-long", "I-long", "B-short")


def _texts() -> list[str]:
    """Texts of 1 to some 40 tokens."""
    made = []
    for i in range(COUNT):
        words = SENTENCES[i % len(SENTENCES)].split()
        keep = 1 + (i * 7) % len(words)
        made.append(" ".join([*words[:keep], str(i), *(words if i % 5 == 1 else [])]))
    return made


def _answer(row: int, context: str) -> dict[str, list[Any]]:
    """The number, the first word, or nothing."""
    if row % 5 == 4:
        return {"text": [], "answer_start": []}
    text = context.split()[0] if row % 3 == 0 else str(row)
    return {"text": [text], "answer_start": [context.index(text)]}


def _conversation(row: int, text: str) -> list[dict[str, str]]:
    """One or two turns of each side."""
    first, last = text.split()[0], text.split()[-1]
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": f"it is {first}."}]
    if row % 2:
        turns += [{"role": "user", "content": "and then?"}, {"role": "assistant", "content": f"{last} {last}."}]
    return turns


TEXTS = _texts()
_WORDS = [text.split() for text in TEXTS]
_PAIRS = [f"{words[-1]} {text}" for words, text in zip(_WORDS, TEXTS, strict=True)]
_LABELS = [("bad", "good", "so-so")[(i * i) % 3 if i > 2 else i] for i in range(COUNT)]
_NUMBERS = [((i * 11) % 32) / 16 - 1 for i in range(COUNT)]

#: Name of a set of rows -> its columns.
COLUMNS: dict[str, Columns] = {
    "text-classification": {"text": TEXTS, "label": _LABELS},
    "whole numbers": {"text": TEXTS, "label": [(10, 2, 33)[i % 3] for i in range(COUNT)]},
    "pairs": {"text": TEXTS, "text_pair": _PAIRS, "label": _LABELS},
    "multi-label-classification": {
        "text": TEXTS,
        "labels": [[name for bit, name in enumerate(("fun", "long", "sad")) if (i * 5) >> bit & 1] for i in range(32)],
    },
    "text-regression": {"text": TEXTS, "target": _NUMBERS},
    "token-classification": {"tokens": _WORDS, "tags": [[_TAGS[len(word) % 4] for word in row] for row in _WORDS]},
    "question-answering": {
        "question": ["Where is it?" + " What a year!" * (i % 3) for i in range(COUNT)],
        "context": TEXTS,
        "answers": [_answer(i, text) for i, text in enumerate(TEXTS)],
    },
    "relation-extraction": {
        "text": TEXTS,
        "head": [(0, len(words[0])) for words in _WORDS],
        "tail": [(len(text) - len(words[-1]), len(text)) for words, text in zip(_WORDS, TEXTS, strict=True)],
        "label": [("no_relation", "made_by", "part_of")[(i * i) % 3 if i > 2 else i] for i in range(COUNT)],
    },
    "seq2seq": {"source": TEXTS, "target": [" ".join(re.findall("[a-z]+", text.lower())[2::-1]) for text in TEXTS]},
    "causal-lm": {
        "prompt": [" ".join(words[:6]) + " " for words in _WORDS],
        "completion": [" ".join(reversed(words[: 1 + i % 7])) for i, words in enumerate(_WORDS)],
    },
    "conversations": {"messages": [_conversation(i, text) for i, text in enumerate(TEXTS)]},
    "texts": {"text": TEXTS},
    "masked-lm": {"text": TEXTS},
    "text-embedding": {"text": TEXTS, "text_pair": _PAIRS},
    "triplets": {"text": TEXTS, "text_pair": _PAIRS, "text_negative": [*TEXTS[5:], *TEXTS[:5]]},
    "scored": {"text": TEXTS, "text_pair": _PAIRS, "score": _NUMBERS},
}

#: Task -> a few inputs of `predict`: short, long, and empty where that is allowed.
INPUTS: dict[str, list[Any]] = {
    "text-classification": ["a", TEXTS[6], TEXTS[16]],
    "multi-label-classification": ["a", TEXTS[6], TEXTS[16]],
    "text-regression": ["a", TEXTS[6], TEXTS[16]],
    "token-classification": ["a", TEXTS[6], {"tokens": TEXTS[16].split()}],
    "question-answering": [
        {"question": "a", "context": "b c"},
        {"question": "Where is it?", "context": TEXTS[16]},
        {"question": "", "context": ""},
    ],
    "relation-extraction": [
        {"text": "a b", "head": (0, 1), "tail": (2, 3)},
        {"text": TEXTS[6], "head": (2, 11), "tail": (0, 1)},
    ],
    "seq2seq": ["a", TEXTS[6]],
    "causal-lm": ["a", TEXTS[6]],
    "masked-lm": ["a", TEXTS[6], TEXTS[16]],
    "text-embedding": ["a", TEXTS[6]],
}


def data_of(name: str, task: str, count: int = COUNT) -> TaskDataset:
    """The first rows of a set, as a task reads them."""
    return TaskDataset({role: values[:count] for role, values in COLUMNS[name].items()}, task=task)
