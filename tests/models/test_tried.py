"""What a trial found holds for rows that are no larger, of models that begin alike."""

from __future__ import annotations

from pathlib import Path

from sftlib.models.sources import held, open_source
from sftlib.models.tried import Tried
from sftlib.testing import tiny_folder, tiny_model


def test_findings_hold_for_rows_that_are_no_larger() -> None:
    tried = Tried()
    tried.keep("layout", 10, "padded")
    assert tried.find("layout", 10) == "padded"
    assert tried.find("layout", 11) is None
    assert tried.find("frozen", 1) is None
    tried.keep("layout", 20, "end to end")
    assert tried.find("layout", 15) == "end to end"


def test_only_a_source_whose_models_begin_alike_remembers(tmp_path: Path) -> None:
    source = open_source(tiny_folder(tmp_path / "model"))
    source.tried.keep("layout", 10, "padded")
    assert source.tried.find("layout", 1) is None
    kept = held(source)
    kept.tried.keep("layout", 10, "padded")
    assert kept.tried.find("layout", 1) == "padded"
    assert held(source).tried.find("layout", 1) is None
    assert kept.tokenizer() is kept.tokenizer()
    assert open_source(tiny_model()).tried.find("layout", 0) is None
