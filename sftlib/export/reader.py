"""Reads an exported model without torch: numpy, tokenizers and onnxruntime are enough.

This file lies in every exported folder: ``python reader.py "A wonderful film."``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Reader:
    """A model in a folder: ``Reader("folder").predict(["A wonderful film."])``; of pairs, tuples of two texts."""

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        self.facts = json.loads((Path(folder) / "export.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # control tokens that somebody typed are text
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.facts["max_length"], direction=self.facts["truncation_side"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(Path(folder) / "model.onnx"), options)
        self.inputs = [one.name for one in self.session.get_inputs()]

    def scores(self, texts: list[Any], batch_size: int = 32) -> Any:
        """(N, K) fp32 scores, before any softmax."""
        rows = [(one.ids or [self.facts["blank"]], one.type_ids or [0]) for one in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]))
        found = np.empty((len(rows), self.facts["outputs"]), np.float32)
        for start in range(0, len(rows), batch_size):
            part = order[start : start + batch_size]
            shape = len(part), len(rows[part[-1]][0])
            ids, types = np.full(shape, self.facts["pad"]), np.full(shape, self.facts["pad_type"])
            mask = np.zeros(shape, np.int64)
            for line, row in enumerate(part):
                size = len(rows[row][0])
                ids[line, :size], types[line, :size], mask[line, :size] = *rows[row], 1
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
            found[part] = self.session.run(None, {name: given[name] for name in self.inputs})[0]
        return found

    def predict(self, texts: list[Any], batch_size: int = 32) -> list[dict[str, Any]]:
        """One answer a text: a label with its probability, labels with theirs, or a value."""
        scores, labels = self.scores(texts, batch_size).astype(float), self.facts["labels"]
        if self.facts["kind"] == "number":
            return [{"value": float(row[0])} for row in scores]
        if self.facts["kind"] == "labels":
            chances, cuts = 1 / (1 + np.exp(-scores)), self.facts["thresholds"]
            return [
                {"labels": [label for label, p, cut in zip(labels, row, cuts, strict=True) if p >= cut]}
                for row in chances
            ]
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        return [{"label": labels[int(row.argmax())], "probability": float(row.max())} for row in chances]


if __name__ == "__main__":
    for answer in Reader(Path(__file__).parent).predict(sys.argv[1:]):
        print(json.dumps(answer, ensure_ascii=False))  # noqa: T201
