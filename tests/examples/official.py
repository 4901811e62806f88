"""A folder of GLUE in the official formats, with a few rows a file and the quirks of the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sftlib.testing import SENTENCES

MNLI_TRAIN = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse".split() + (
    "sentence2_parse sentence1 sentence2 label1 gold_label".split()
)
MNLI_DEV = [*MNLI_TRAIN[:-1], "label2", "label3", "label4", "label5", "gold_label"]
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2 score".split()
MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String".split("\t")
ROWS = 12

LABELS = {
    "SST-2": ("0", "1"),
    "MRPC": ("0", "1"),
    "QQP": ("0", "1"),
    "MNLI": ("entailment", "neutral", "contradiction"),
    "QNLI": ("entailment", "not_entailment"),
    "RTE": ("entailment", "not_entailment"),
    "WNLI": ("0", "1"),
}


def make(root: Path) -> Path:
    """Write every file of every task; returns the folder."""
    _cola(root / "CoLA")
    for part in ("train", "dev", "test"):
        labelled = part != "test"
        label = ["label"] if labelled else []
        first = [] if labelled else ["index"]
        _write(root / "SST-2" / f"{part}.tsv", [*first, "sentence", *label])
        _write(root / "MRPC" / f"{part}.tsv", MRPC if labelled else ["index", *MRPC[1:]], mark="\ufeff")
        _write(root / "STS-B" / f"{part}.tsv", STSB if labelled else STSB[:-1])
        pair = ["question1", "question2"]
        _write(
            root / "QQP" / f"{part}.tsv", ["id", "qid1", "qid2", *pair, "is_duplicate"] if labelled else ["id", *pair]
        )
        _write(root / "QNLI" / f"{part}.tsv", ["index", "question", "sentence", *label])
        for task in ("RTE", "WNLI"):
            _write(root / task / f"{part}.tsv", ["index", "sentence1", "sentence2", *label])
    _write(root / "MNLI" / "train.tsv", MNLI_TRAIN)
    for side in ("matched", "mismatched"):
        _write(root / "MNLI" / f"dev_{side}.tsv", MNLI_DEV)
        _write(root / "MNLI" / f"test_{side}.tsv", MNLI_TRAIN[:-2])
    _write(root / "AX" / "AX.tsv", ["index", "sentence1", "sentence2"])
    return root


def _cola(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part in ("train", "dev"):
        lines = [f"gj04\t{row % 2}\t{'*' if row % 2 == 0 else ''}\t{_text(row)}" for row in range(ROWS)]
        (folder / f"{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = [f"{row}\t{_text(row)}" for row in range(ROWS)]
    (folder / "test.tsv").write_text("\n".join(["index\tsentence", *lines]) + "\n", encoding="utf-8")


def _write(path: Path, header: Sequence[str], mark: str = "") -> None:
    """Twelve rows under a header; every cell is what its column's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(_cell(name, row, path.parent.name) for name in header) for row in range(ROWS)]
    path.write_text(mark + "\n".join(["\t".join(header), *lines]) + "\n", encoding="utf-8")


def _cell(name: str, row: int, task: str) -> str:
    if name in ("index", "id"):
        return str(row)
    if name == "score":
        return f"{row % 6:.3f}"
    if name in ("label", "Quality", "is_duplicate", "gold_label"):
        return LABELS[task][row % len(LABELS[task])]
    if "parse" not in name and ("sentence" in name or "question" in name or "String" in name):
        return _text(row + (name[-1] == "2" or name == "#2 String"))
    return f"{name}-{row}"


def _text(row: int) -> str:
    """A sentence; every third opens a quote that nothing closes."""
    return ('"' if row % 3 == 0 else "") + SENTENCES[row % len(SENTENCES)]
