"""Does the suite notice? ``python -m tests.trust.mutations [NUMBER ...]`` breaks the code on purpose, a line at a time.

Each change is made to a copy of package and tests in a temporary folder, where the tests named beside it are run. The
table that is printed stands in ``docs/trust.md``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.trust.mutation_list import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 280


def main(numbers: Sequence[str]) -> None:
    """Print a line of the table for each mutation."""
    for mutation in MUTATIONS:
        if not numbers or mutation.number in numbers:
            start = time.monotonic()
            noticed = tried(mutation)
            took = f"[{time.monotonic() - start:.0f} s]"
            print(f"| {mutation.number} | {mutation.what} | {noticed} |", took, flush=True)


def tried(mutation: Mutation) -> str:
    """The first test that failed, as it stands in the table."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as place:
        copy = Path(place)
        for folder in ("sftlib", "tests"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        broken = copy / "sftlib" / mutation.path
        text = broken.read_text(encoding="utf-8")
        if mutation.old not in text:
            return "**the text to change is gone**"
        broken.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        return _first_failure(copy, mutation.tests)


def _first_failure(copy: Path, tests: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=line", *_split(tests)]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    try:
        ended = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"**no end within {SECONDS} s**"
    if ended.returncode == 0:
        return "**survives**"
    found = re.search(r"^(?:FAILED|ERROR) \S*?(?:::(\w+))?::(\w+)", ended.stdout, re.MULTILINE)
    return f"`{found[2]}`" if found else f"**pytest ended with {ended.returncode}**: {ended.stdout[-300:]!r}"


def _split(tests: str) -> list[str]:
    """Paths, and what stands behind ``-k``."""
    paths, _, chosen = tests.partition(" -k ")
    return [*paths.split(), *(["-k", chosen.strip("'")] if chosen else [])]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", help="of groups; all when none is given")
    main(parser.parse_args().numbers)
