"""A folder for each class: pictures or texts, nested or not, in splits or not; what is passed over is said."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from sftlib.data import TaskDataset
from sftlib.errors import DataError, OptionError
from tests.pictures import image, pixels, saved

pytest.importorskip("PIL")


def fill(root: Path, *names: str) -> Path:
    """A picture under each name, all different; a text under those that end so."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        form = {".jpg": "JPEG", ".JPEG": "JPEG", ".gif": "GIF", ".webp": "WEBP", ".bmp": "BMP"}.get(path.suffix, "PNG")
        seed = sum(map(ord, name)) + number
        path.write_bytes(name.encode() if path.suffix in (".txt", ".md") else saved(image(pixels(seed)), form))
    return root


def test_pictures_of_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(
        tmp_path,
        "bees/b.jpg",
        "ants/2.png",
        "ants/10.JPEG",
        "ants/a.gif",
        "bees/a.webp",
        "bees/no suffix",
        "ants/x.dat",
    )
    with caplog.at_level(logging.WARNING, "sftlib"):
        data = TaskDataset.from_folder(tmp_path)
    assert data.task == "image-classification"
    assert data.label_names == ("ants", "bees")
    assert data.column("path") == [
        *("ants/10.JPEG", "ants/2.png", "ants/a.gif", "ants/x.dat"),
        *("bees/a.webp", "bees/b.jpg", "bees/no suffix"),
    ]
    assert data.column("image") == [str(tmp_path / path) for path in data.column("path")]
    assert data.column("label") == ["ants"] * 4 + ["bees"] * 3
    assert caplog.text == ""


def test_what_is_passed_over_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "ants/a.jpg", "ants/notes.md", "ants/deep/b.png", "bees/c.jpg", "README.md", ".hidden/d.jpg")
    (tmp_path / "bees" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "bees" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    with caplog.at_level(logging.WARNING, "sftlib"):
        data = TaskDataset.from_folder(tmp_path)
    assert data.column("path") == ["ants/a.jpg", "ants/deep/b.png", "bees/c.jpg"]
    assert "4 files passed over: 'README.md', 'ants/notes.md', 'bees/.DS_Store', 'bees/Thumbs.db'" in caplog.text


def test_pictures_and_texts_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "ants/a.jpg", "ants/a.txt", "bees/b.jpg", "bees/b.txt")
    with pytest.raises(
        DataError, match="pictures and .txt files: say which are meant with image='image' or text='text'"
    ):
        TaskDataset.from_folder(tmp_path)
    ways: list[dict[str, Any]] = [{"image": "image"}, {"task": "image-classification"}]
    for way in ways:
        with caplog.at_level(logging.WARNING, "sftlib"):
            assert TaskDataset.from_folder(tmp_path, **way).column("path") == ["ants/a.jpg", "bees/b.jpg"]
        assert "2 files passed over: 'ants/a.txt', 'bees/b.txt'" in caplog.text
    for way in ({"text": "text"}, {"task": "text-classification"}):
        assert TaskDataset.from_folder(tmp_path, **way).column("text") == ["ants/a.txt", "bees/b.txt"]


def test_other_roles_for_its_columns(tmp_path: Path) -> None:
    fill(tmp_path, "ants/a.jpg", "bees/b.jpg")
    assert not TaskDataset.from_folder(tmp_path, label=None).is_labelled
    assert TaskDataset.from_folder(tmp_path, label="path").label_names == ("ants/a.jpg", "bees/b.jpg")
    assert TaskDataset.from_folder(tmp_path, label_names=["bees", "ants"]).label_names == ("bees", "ants")


SPLITS = ("train/ants/a.jpg", "train/bees/b.jpg", "train/bees/c.jpg", "val/ants/d.jpg", "val/wasps/e.jpg")


def test_splits(tmp_path: Path) -> None:
    """All parts have the same classes, whichever they hold."""
    fill(tmp_path, *SPLITS)
    train, val = TaskDataset.from_folder(tmp_path, splits=("train", "val"))
    assert (len(train), len(val)) == (3, 2)
    assert train.label_names == val.label_names == ("ants", "bees", "wasps")
    assert val.column("path") == ["ants/d.jpg", "wasps/e.jpg"]
    (only,) = TaskDataset.from_folder(tmp_path, splits=["train"])
    assert only.label_names == ("ants", "bees")
    assert len(TaskDataset.from_folder(tmp_path / "val")) == 2
    parts = TaskDataset.from_folder(tmp_path, splits=("train", "val"), label_names=["wasps", "bees", "ants"])
    assert {part.label_names for part in parts} == {("wasps", "bees", "ants")}


def test_splits_are_not_taken_for_classes(tmp_path: Path) -> None:
    fill(tmp_path, *SPLITS)
    with pytest.raises(DataError, match=r"holds splits, not classes: read them with splits=\('train', 'val'\)"):
        TaskDataset.from_folder(tmp_path)
    fill(tmp_path / "flat", "train/a.jpg", "test/b.jpg")  # pictures of trains, perhaps
    assert TaskDataset.from_folder(tmp_path / "flat").label_names == ("test", "train")


def test_texts_in_splits(tmp_path: Path) -> None:
    fill(tmp_path, "train/pos/a.txt", "train/neg/b.txt", "test/pos/c.txt", "test/neg/d.txt")
    train, test = TaskDataset.from_folder(tmp_path, splits=("train", "test"))
    assert (train.task, test.column("text")) == ("text-classification", ["test/neg/d.txt", "test/pos/c.txt"])


@pytest.mark.parametrize(
    ("splits", "error", "match"),
    [
        ("train", OptionError, r"splits='train': expected the names of folders"),
        ((), OptionError, "expected the names"),
        (("train", 3), OptionError, "expected the names"),
        (("train", "train"), OptionError, "twice"),
        (("train", "vall"), DataError, "did you mean 'val'"),
    ],
)
def test_splits_that_cannot_be(splits: Any, error: type[Exception], match: str, tmp_path: Path) -> None:
    fill(tmp_path, *SPLITS)
    with pytest.raises(error, match=match):
        TaskDataset.from_folder(tmp_path, splits=splits)


def test_folders_without_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "ants").mkdir()
    with pytest.raises(DataError, match="ants holds no pictures and no sounds and no .txt files; remove it or fill it"):
        TaskDataset.from_folder(tmp_path)
    fill(tmp_path, "bees/b.jpg")
    with pytest.raises(DataError, match="ants holds no pictures; remove it or fill it"):
        TaskDataset.from_folder(tmp_path)
    fill(tmp_path / "loose", "a.jpg")
    with pytest.raises(DataError, match="expected one folder per class.*pictures without a class are rows"):
        TaskDataset.from_folder(tmp_path / "loose")


def test_broken_pictures_are_named_or_dropped(tmp_path: Path) -> None:
    fill(tmp_path, "ants/a.jpg", "bees/b.jpg")
    (tmp_path / "ants" / "broken.jpg").write_text("no picture")
    (tmp_path / "bees" / "cut.png").write_bytes(saved()[:50])
    with pytest.raises(DataError, match=r"(.|\n)*row 1 \('.*broken.jpg'(.|\n)*row 3 \('.*cut.png'"):
        TaskDataset.from_folder(tmp_path)
    assert TaskDataset.from_folder(tmp_path, on_invalid="drop").column("path") == ["ants/a.jpg", "bees/b.jpg"]


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege there")
def test_links_that_lead_round_in_circles(tmp_path: Path) -> None:
    fill(tmp_path, "ants/a.jpg", "bees/b.jpg")
    (tmp_path / "ants" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "ants" / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    assert len(TaskDataset.from_folder(tmp_path)) == 2
