"""Write the tables of ``figures/`` into ``docs/benchmarks.md``, and the plot beside it.

``python -m tests.benchmarks.report``; ``run`` does so after every section.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.benchmarks.figures import FOLDER, load
from tests.benchmarks.plot import draw

DOCS = Path(__file__).resolve().parents[2] / "docs"


def write_page(page: Path = DOCS / "benchmarks.md", folder: Path = FOLDER) -> None:
    """Put every section's tables, one a machine and the newest first, between its markers; draw the plot."""
    text = page.read_text(encoding="utf-8")
    for section in re.findall(r"<!-- ([\w-]+): begin -->", text):
        tables = [figures.markdown() for figures in load(section, folder).values()]
        text = filled(text, section, "\n\n".join(tables) or "Not measured yet.")
    page.write_text(text, encoding="utf-8")
    draw(page.with_suffix(".png"), folder)


def filled(text: str, section: str, content: str) -> str:
    """The page with something else between the markers of a section."""
    start, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    return between.sub(lambda _: f"{start}\n{content}\n{end}", text)


if __name__ == "__main__":
    write_page()
