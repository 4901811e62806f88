"""Pages of the executed notebooks: ``docs/notebooks/NAME.md`` is read as what ``notebooks/NAME.ipynb`` says.

Nothing is run when documentation is built; what a notebook printed when it was executed is shown.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"  # a bar of progress, which is over


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx whom to ask when it reads a page."""
    app.connect("source-read", replace)
    return {"parallel_read_safe": True}


def replace(app: Any, page: str, source: list[str]) -> None:
    """Put the notebook in the place of its page's text."""
    if not page.startswith("notebooks/"):
        return
    path = NOTEBOOKS / f"{page.removeprefix('notebooks/')}.ipynb"
    app.env.note_dependency(str(path), docname=page)
    source[0] = markdown(json.loads(path.read_text(encoding="utf-8")), path.name)


def markdown(notebook: dict[str, Any], name: str) -> str:
    """A notebook as a page of MyST: words, code, and what each cell gave."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(_fenced("{code-block} python", text))
        parts += [shown for output in _joined(cell["outputs"]) if (shown := _output(output))]
    title, _, rest = "\n\n".join(parts).partition("\n")
    where = f"{{download}}`Get the notebook <../../notebooks/{name}>`, or read on: all of it was run as it stands here."
    return f"{title}\n\n{where}\n{rest}\n"


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was printed in several pieces, in one."""
    found: list[dict[str, Any]] = []
    for output in outputs:
        if found and output["output_type"] == "stream" and found[-1].get("name") == output["name"]:
            found[-1] = {**output, "text": "".join(found[-1]["text"]) + "".join(output["text"])}
        else:
            found.append(output)
    return found


def _output(output: dict[str, Any]) -> str:
    """What a cell gave; the richest form that needs no script."""
    if output["output_type"] == "stream":
        return _text("".join(output["text"]))
    data = output.get("data", {})
    if WIDGET in data:
        return ""
    if "image/png" in data:
        plain = escape("".join(data.get("text/plain", "a picture")), quote=True)
        pixels = "".join(data["image/png"]).replace("\n", "")
        return _html(f'<img alt="{plain}" src="data:image/png;base64,{pixels}">')
    if "text/html" in data:
        return _html("".join(data["text/html"]))
    return _text("".join(data.get("text/plain", "")))


def _text(text: str) -> str:
    return _fenced("{code-block} text\n:class: output", text) if text.strip() else ""


def _html(content: str) -> str:
    return _fenced("{raw} html", f'<div class="output">{content}</div>')


def _fenced(kind: str, text: str) -> str:
    """A fence that is longer than any within."""
    fence = "`" * 7
    body = text.strip("\n")
    return f"{fence}{kind}\n\n{body}\n{fence}"
