"""Every page's examples run as printed; sessions with ``>>>`` are doctests, which pytest collects by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import pages

DOCS = Path(__file__).parent.parent / "docs"
WITH_EXAMPLES = [page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts and pages.examples(page)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    pages.prepare(folder)
    return folder


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_examples_run_as_printed(page: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared)
    pages.run(page)


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {
        (toc.parent / line.strip()).with_suffix(".md").resolve()
        for toc in (DOCS / "index.md", DOCS / "decisions" / "index.md")
        for line in toc.read_text(encoding="utf-8").splitlines()
    }
    written = {page.resolve() for page in DOCS.rglob("*.md") if "_build" not in page.parts}
    assert written - listed <= {(DOCS / "index.md").resolve()}
