"""Notebooks are executed from top to bottom, without an error, and each has its page and its card in the gallery."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


@by_name
def test_it_was_run_from_top_to_bottom(path: Path) -> None:
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]


@by_name
def test_it_is_short_and_light(path: Path) -> None:
    assert len(cells(path)) <= 18
    assert path.stat().st_size < 1_000_000


@by_name
def test_it_says_what_it_is_and_has_a_card(path: Path) -> None:
    first = "".join(cells(path)[0]["source"])
    title = (ROOT / "docs" / "notebooks" / f"{path.stem}.md").read_text(encoding="utf-8").splitlines()[0]
    assert first.splitlines()[0] == title
    gallery = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert f"](notebooks/{path.stem}.md)" in gallery
    assert (ROOT / "docs" / "_static" / "gallery" / f"{path.stem}.png").is_file()


@by_name
def test_rows_that_are_not_in_the_house_are_introduced(path: Path) -> None:
    code = "".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code")
    if "SFTLIB_DATA" in code:
        assert "`SFTLIB_DATA`" in "".join(cells(path)[0]["source"])


def test_there_are_ten_and_no_page_without_one() -> None:
    assert len(NOTEBOOKS) >= 10
    pages = {page.stem for page in (ROOT / "docs" / "notebooks").glob("*.md")}
    assert pages == {path.stem for path in NOTEBOOKS}
    cards = re.findall(r"\]\(notebooks/(\w+)\.md\)", (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8"))
    assert sorted(cards) == sorted(pages)
