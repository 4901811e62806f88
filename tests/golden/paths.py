"""The names that users import, and the deeper paths that the reference names."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference"
#: Modules whose ``__all__`` is public.
PUBLIC = ("sftlib", "sftlib.data", "sftlib.errors", "sftlib.glue", "sftlib.metrics", "sftlib.tasks")

_DIRECTIVE = re.compile(r"^\.\. (?:auto\w+|exception):: (sftlib[\w.]*)", re.MULTILINE)


def found() -> dict[str, dict[str, list[str]] | list[str]]:
    """What there is now.

    Returns:
        ``"names"``: module -> its public names; ``"deep"``: what the reference documents by its path. Files may move,
        so the deep paths are a list to go through when they do, and no test asks for them.
    """
    pages = [page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.md"))]
    return {
        "names": {module: sorted(import_module(module).__all__) for module in PUBLIC},
        "deep": sorted({path for page in pages for path in _DIRECTIVE.findall(page)}),
    }
