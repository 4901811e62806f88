"""Trust 6: a flipped bit, a lost end, a page of zeros: each is noticed, in any file, and the one before is taken."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sftlib import FineTuner
from sftlib.errors import ArtifactError
from sftlib.train.disk.checkpoint import Checkpoints
from tests.trust.conftest import Figure
from tests.trust.runs import SignalAt, assert_same, fit, raising

CASES = 150  # of each kind of folder

Damage = Callable[[bytes, random.Random], bytes]


def flipped(content: bytes, generator: random.Random) -> bytes:
    place = generator.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :]


def truncated(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.choice([0, len(content) - 1, generator.randrange(len(content))])]


def with_zeroed_page(content: bytes, generator: random.Random) -> bytes:
    size = min(4096, len(content))
    pages = [i for i in range(0, len(content), size) if any(content[i : i + size])]
    start = generator.choice(pages)
    return content[:start] + bytes(len(content[start : start + size])) + content[start + size :]


DAMAGES: tuple[Damage, ...] = (flipped, flipped, flipped, truncated, with_zeroed_page)


def each_damage(folder: Path, *, free: tuple[str, ...] = ()) -> list[tuple[Path, Damage, random.Random]]:
    """`CASES` cases over every file of a folder in turn, each kind of damage on each."""
    files = sorted(path for path in folder.iterdir() if path.name not in free)
    generator = random.Random(6)
    return [(files[i % len(files)], DAMAGES[i // len(files) % len(DAMAGES)], generator) for i in range(CASES)]


def test_06_damaged_checkpoints_are_noticed_and_skipped(tmp_path: Path, figure: Figure) -> None:
    with raising(KeyboardInterrupt):
        fit(tmp_path / "run", callbacks=[SignalAt(7)], save_every=1)
    checkpoints = Checkpoints(tmp_path / "run")
    newest = tmp_path / "run" / "step-00000007"
    noticed, files = 0, set()
    for path, damage, generator in each_damage(newest):
        content = path.read_bytes()
        path.write_bytes(damage(content, generator))
        found = checkpoints.newest()
        assert found.step == 6
        assert path.name in found.skipped[newest.name]
        path.write_bytes(content)
        noticed += 1
        files.add(path.name)
    assert checkpoints.newest().step == 7
    assert len(files) == 6
    figure("damages to a checkpoint noticed, file named, the one before taken", f"{noticed} of {CASES}")


def test_06_a_run_goes_on_from_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with raising(KeyboardInterrupt):
        fit(tmp_path / "run", callbacks=[SignalAt(7)], save_every=1)
    path = tmp_path / "run" / "step-00000007" / "optimizer.safetensors"
    path.write_bytes(flipped(path.read_bytes(), random.Random(0)))
    assert_same(fit(tmp_path / "run", callbacks=[SignalAt(0)], resume=True, progress=True))
    said = capsys.readouterr().out
    assert "skipped step-00000007: optimizer.safetensors was changed after it was written" in said
    assert "resumes after step 6" in said
    assert (tmp_path / "run" / "damaged-step-00000007" / "optimizer.safetensors").is_file(), "kept for a look"


def test_06_without_a_complete_one_a_run_starts_at_0_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "run")
    for path in (tmp_path / "run").glob("step-*/model.safetensors"):
        path.unlink()
    assert_same(fit(tmp_path / "run", resume=True, progress=True))
    said = capsys.readouterr().out
    assert said.count("model.safetensors is missing") == 2
    assert "nothing to resume" in said


def test_06_without_progress_damage_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path / "run")
    (tmp_path / "run" / "step-00000010" / "state.json").write_text("{}")
    assert_same(fit(tmp_path / "run", resume=True))
    assert "skipped step-00000010: state.json" in caplog.text


@pytest.mark.parametrize("other", ["a file more", "a link", "another step's folder"])
def test_06_what_does_not_belong_is_noticed(other: str, tmp_path: Path) -> None:
    fit(tmp_path / "run")
    newest = tmp_path / "run" / "step-00000010"
    if other == "a file more":
        (newest / "more.json").write_text("{}")
    elif other == "a link":
        (newest / "state.json").rename(tmp_path / "state.json")
        (newest / "state.json").symlink_to(tmp_path / "state.json")
    else:
        shutil.rmtree(newest)
        shutil.copytree(tmp_path / "run" / "step-00000005", newest)
    found = Checkpoints(tmp_path / "run").newest()
    assert found.step == 5
    assert found.skipped.keys() == {newest.name}


def test_06_damaged_models_are_noticed(tmp_path: Path, figure: Figure) -> None:
    folder = tmp_path / "model"
    fit(max_steps=1).save(folder)
    noticed, files = 0, set()
    for path, damage, generator in each_damage(folder, free=("README.md",)):
        content = path.read_bytes()
        path.write_bytes(damage(content, generator))
        with pytest.raises(ArtifactError, match=path.name):
            FineTuner.load(folder)
        path.write_bytes(content)
        noticed += 1
        files.add(path.name)
    FineTuner.load(folder)
    assert len(files) >= 5
    figure("damages to a saved model noticed, file named", f"{noticed} of {CASES}")
