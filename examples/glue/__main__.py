"""``python -m examples.glue MODEL FOLDER [TASK ...]``: fine-tune on GLUE and print the table."""

from __future__ import annotations

import argparse

from .runs import run

parser = argparse.ArgumentParser(prog="python -m examples.glue", description="Fine-tune a model on tasks of GLUE.")
parser.add_argument("model", help="a name on the hub, or a folder")
parser.add_argument("folder", help="holds the official files: CoLA/train.tsv, MRPC/dev.tsv, ...")
parser.add_argument("tasks", nargs="*", help="such as mrpc; all nine when none is named")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--submission", help="a folder for the files that the board takes")
asked = parser.parse_args()
run(
    asked.model,
    folder=asked.folder,
    tasks=asked.tasks or None,
    options={"epochs": asked.epochs},
    submission=asked.submission,
)
