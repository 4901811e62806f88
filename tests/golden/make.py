"""Writes the goldens: ``python -m tests.golden.make``, and with ``--folders`` saved folders and public names too.

Run it only where a number is meant to change, and say in the commit which and why. Folders and names are
those of version 0.1, and another version cannot write them: there ``--folders`` would only hide what no longer opens.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
import sys
from pathlib import Path
from typing import Any

from tests.golden.folders import write_all
from tests.golden.paths import found
from tests.golden.runs import RUNS
from tests.golden.values import machine, one_thread

HERE = Path(__file__).parent


def write(name: str, value: Any) -> None:
    """One JSON file beside this one."""
    (HERE / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(*, folders: bool) -> None:
    """Write the numbers; and what is of version 0.1 where it is asked for."""
    with one_thread():
        write("goldens.json", {"machine": machine(), "runs": {name: run.numbers() for name, run in RUNS.items()}})
        if folders:
            write("public_paths.json", found())
            write("folders.json", {"machine": machine(), "folders": write_all()})


if __name__ == "__main__":
    main(folders="--folders" in sys.argv[1:])
