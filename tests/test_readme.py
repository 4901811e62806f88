"""The README's ten lines run as printed, and its claims can be looked up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import pages

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def test_the_ten_lines_run_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = pages.run(README)
    assert (tmp_path / "sentiment-model" / "model.safetensors").is_file()
    assert names["tuner"].label_names == ("negative", "positive")
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert "Prediction" in printed


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert not missing


def test_the_commands_exist() -> None:
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE))
    for page in (README, ROOT / "CONTRIBUTING.md"):
        for line in re.findall(r"nox -s ([\w ]+)", page.read_text(encoding="utf-8")):
            assert set(line.split()) <= sessions, line


def test_the_table_of_tasks_is_the_registry() -> None:
    from sftlib.tasks import TASKS

    listed = re.findall(r"^\| `([\w-]+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [task.name for task in TASKS]


def test_no_figure_stands_there_that_was_not_measured() -> None:
    from tests.benchmarks import beside

    assert README.read_text(encoding="utf-8") == beside.write(), "python -m tests.benchmarks.beside writes it again"


def test_pictures_exist_and_are_small() -> None:
    sources = re.findall(r'(?:src|srcset)="([^"]+)"', README.read_text(encoding="utf-8"))
    assert sources
    for source in sources:
        assert (ROOT / source).stat().st_size < 200_000, source
