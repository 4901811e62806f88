"""Writes the goldens: ``python -m tests.golden.make``.

Run it only where a number is meant to change, and say in the commit which and why.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
from pathlib import Path
from typing import Any

from tests.golden.runs import RUNS
from tests.golden.values import machine, one_thread

HERE = Path(__file__).parent


def write(name: str, value: Any) -> None:
    """One JSON file beside this one."""
    (HERE / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    with one_thread():
        write("goldens.json", {"machine": machine(), "runs": {name: run.numbers() for name, run in RUNS.items()}})


if __name__ == "__main__":
    main()
