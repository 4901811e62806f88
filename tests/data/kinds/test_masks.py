"""Masks: which values pass, what they become, and how all that is wrong is told."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sftlib import TaskDataset
from sftlib.data.kinds.masks import NO_CLASS, MaskRole
from sftlib.errors import DataError, LabelError, OptionError

PICTURE = np.zeros((4, 6, 3), np.uint8)
MASK = np.array([[0, 1, 1, 0, 2, 2]] * 4, np.uint8)


def rows(*masks: Any, **options: Any) -> TaskDataset:
    return TaskDataset({"image": [PICTURE] * len(masks), "mask": list(masks)}, **options)


def png(array: Any, mode: str | None = None, **options: Any) -> bytes:
    stream = BytesIO()
    image = Image.fromarray(np.asarray(array))
    if mode == "P":
        image.putpalette([number * 9 % 256 for number in range(768)])
    image.save(stream, options.get("format", "PNG"))
    return stream.getvalue()


def test_the_task_is_found_by_the_role() -> None:
    data = rows(MASK, MASK * 0)
    assert data.task == "semantic-segmentation"
    assert data.label_names == (0, 1, 2)
    assert data.label_counts() == {0: 2, 1: 1, 2: 1}
    assert (data[0]["mask"] == MASK).all()


def test_numbers_that_do_not_occur_keep_their_place() -> None:
    assert rows(np.where(MASK == 2, 5, MASK)).label_names == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "value",
    [
        MASK,
        MASK.astype(np.int64),
        MASK[..., None],
        MASK.tolist(),
        png(MASK),
        png(MASK, "P"),
        png(np.stack([MASK] * 3, -1)),
        Image.fromarray(MASK),
    ],
)
def test_all_forms_say_the_same(value: Any) -> None:
    role = MaskRole().bound(None)
    assert not role.check([value])
    (plain,) = role.normalise([value])
    assert (role.classes(plain) == MASK).all()
    assert role.labels_of(plain) == [0, 1, 2]
    assert role.size(plain) == 24
    assert role.identity(plain) == role.identity(role.normalise([MASK])[0])


def test_files_are_read_by_their_indices(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(png(MASK, "P"))
    data = rows(str(tmp_path / "mask.png"))
    assert data[0]["mask"] == str(tmp_path / "mask.png")
    role = data.kinds["mask"]
    assert isinstance(role, MaskRole)
    assert (role.classes(data[0]["mask"]) == MASK).all()
    (tmp_path / "mask.png").unlink()
    with pytest.raises(DataError, match=r"mask.png' is a file that does not exist.*make the data set again"):
        role.classes(data[0]["mask"])


def test_names_stand_for_numbers() -> None:
    data = rows(MASK, label_names=["sky", "road", "car"])
    assert data.label_counts() == {"sky": 1, "road": 1, "car": 1}
    with pytest.raises(LabelError, match=r"row 0 \(2 in 8 pixels\); there are 2 names, .*ignore_index=2"):
        rows(MASK, label_names=["sky", "road"])


def test_255_does_not_count_unless_all_is_0_or_255(caplog: pytest.LogCaptureFixture) -> None:
    role = rows(np.where(MASK == 2, 255, MASK)).kinds["mask"]
    assert isinstance(role, MaskRole)
    assert (role.classes(np.array([[1, 255]])) == [[1, NO_CLASS]]).all()
    with caplog.at_level(logging.WARNING, "sftlib"):
        data = rows(np.where(MASK > 0, 255, 0), MASK * 0)
    assert "masks hold 0 and 255 alone: two classes" in caplog.text
    assert data.label_names == (0, 1)
    assert data.label_counts() == {0: 2, 1: 1}
    role = data.kinds["mask"]
    assert isinstance(role, MaskRole)
    assert (role.classes(np.array([[0, 255]], np.uint8)) == [[0, 1]]).all()
    assert data.select([1]).label_names == (0, 1)


def test_everything_that_is_wrong_comes_in_one_error(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(png(np.stack([MASK] * 3, -1), format="JPEG"))
    bad = [
        MASK,
        None,
        MASK[:, :4],
        MASK / 2,
        str(tmp_path / "photo.jpg"),
        str(tmp_path / "nothing.png"),
        png(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)),
        np.arange(24).reshape(4, 6) - 1,
        [[0, 1], [2]],
        "",
    ]
    with pytest.raises(DataError) as error:
        rows(*bad)
    said = str(error.value)
    for part in (
        "2 rows with a missing value: row 1, row 9",
        "1 row with a mask of another size than its image: row 2 (image 4 x 6, mask 4 x 4)",
        "other than whole numbers: row 3 (float64 of shape (4, 6))",
        "a mask as JPEG, which does not keep numbers exactly: row 4",
        "a file that does not exist: row 5",
        "a mask in colours, or with transparent parts: row 6 (mode RGB)",
        "a number that is no class: row 7 (-1 in 1 pixel)",
        "lines of different lengths: row 8",
    ):
        assert part in said


def test_bad_rows_can_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sftlib"):
        data = rows(MASK, MASK[:, :4], MASK, on_invalid="drop")
    assert len(data) == 2
    assert "1 of 3 rows left out" in caplog.text


def test_a_picture_is_no_mask() -> None:
    photo = np.arange(200, dtype=np.uint8).reshape(10, 20)
    with pytest.raises(LabelError, match="more than 128 different numbers, as pictures have"):
        TaskDataset({"image": [np.zeros((10, 20, 3), np.uint8)], "mask": [photo]})


def test_two_ways_of_reading_numbers_cannot_be_added() -> None:
    one = TaskDataset.from_masks([PICTURE], [MASK], names=["a", "b", "c"])
    other = TaskDataset.from_masks([PICTURE], [MASK], names=["a", "b"], ignore_index=2)
    assert len(one + one) == 2
    with pytest.raises(DataError, match="only data sets of one task with the same roles can be added"):
        one + other


class TestFolders:
    def written(self, root: Path) -> tuple[Path, Path]:
        images, masks = root / "images", root / "masks"
        for folder in (images, masks):
            (folder / "a").mkdir(parents=True)
        for name in ("one", "two"):
            Image.fromarray(PICTURE).save(images / "a" / f"{name}.jpg")
            Image.fromarray(MASK).save(masks / "a" / f"{name}.png")
        return images, masks

    def test_pairs_have_one_name(self, tmp_path: Path) -> None:
        images, masks = self.written(tmp_path)
        (tmp_path / "classes.txt").write_text("sky\nroad\n")
        data = TaskDataset.from_masks(images, masks, names=tmp_path / "classes.txt", ignore_index=2)
        assert data.label_names == ("sky", "road")
        assert [Path(row["mask"]).name for row in data] == ["one.png", "two.png"]
        assert data.label_counts() == {"sky": 2, "road": 2}

    def test_masks_may_be_called_so(self, tmp_path: Path) -> None:
        images, masks = self.written(tmp_path)
        for mask in [*masks.rglob("*.png")]:
            mask.rename(mask.with_name(f"{mask.stem}_mask.png"))
        assert len(TaskDataset.from_masks(images, masks)) == 2

    def test_what_is_alone_is_told(self, tmp_path: Path) -> None:
        images, masks = self.written(tmp_path)
        (masks / "a" / "one.png").rename(masks / "a" / "three.png")
        with pytest.raises(DataError, match=r"1 of 2 pictures have no masks of the same name: 'one.jpg'\n1 of 2 masks"):
            TaskDataset.from_masks(images, masks)
        with pytest.raises(DataError, match="there is no such folder"):
            TaskDataset.from_masks(images, tmp_path / "mask")

    def test_options_that_cannot_be(self, tmp_path: Path) -> None:
        images, masks = self.written(tmp_path)
        with pytest.raises(OptionError, match="ignore_index=1.5: expected a whole number"):
            TaskDataset.from_masks(images, masks, ignore_index=1.5)  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="names: 'a' more than once"):
            TaskDataset.from_masks(images, masks, names=["a", "a"])
        with pytest.raises(OptionError, match="expected two folders, or two lists"):
            TaskDataset.from_masks(images, [MASK])
        with pytest.raises(DataError, match="1 pictures and 2 masks: give one mask"):
            TaskDataset.from_masks([PICTURE], [MASK, MASK])
