"""Objects in pictures: which values pass, what they become, and how all that is wrong is told; readers of files."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sftlib import TaskDataset
from sftlib.errors import DataError, LabelError, OptionError, RoleError

PICTURE = np.zeros((20, 30, 3), np.uint8)


def thing(*box: float, label: Any = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "box": box, **more}


def rows(*objects: Any, **options: Any) -> TaskDataset:
    return TaskDataset({"image": [PICTURE] * len(objects), "objects": list(objects)}, **options)


def test_the_task_is_found_by_the_role() -> None:
    data = rows([thing(1, 2, 3, 4), thing(0, 0, 30, 20, label="dog")], [], [thing(1, 2, 3, 4)])
    assert data.task == "object-detection"
    assert data.label_names == ("cat", "dog")
    assert data.label_counts() == {"cat": 2, "dog": 1}
    assert data.unit == "objects"
    assert data[0]["objects"][0] == {"label": "cat", "box": (1.0, 2.0, 3.0, 4.0)}
    assert data[1]["objects"] == []


def test_boxes_come_in_several_forms() -> None:
    box = {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}
    data = rows([{"label": "cat", "box": box}], [{"label": "cat", "box": np.array([1, 2, 3, 4])}])
    assert data[0]["objects"] == data[1]["objects"] == [thing(1.0, 2.0, 3.0, 4.0)]
    assert rows([thing(1, 2, 3, 4, crowd=True)])[0]["objects"][0]["crowd"] is True


def test_everything_that_is_wrong_comes_in_one_error() -> None:
    with pytest.raises(DataError) as error:
        rows(
            [thing(1, 2, 3, 4)],
            [thing(1, 2, 1, 4), thing(5, 5, 9, 5), thing(3, 2, 1, 4)],
            [thing(20, 2, 40, 4)],
            [thing(31.5, 2, 31.9, 4)],
            None,
            "cat",
            [thing(1, 2, 3)],
            [thing(1, 2, 3, float("nan"))],
            [{"box": (1, 2, 3, 4)}],
            [thing(1, 2, 3, 4, label=1.5)],
            [thing(1, 2, 3, 4, size=3)],
            [thing(1, 2, 3, 4, label=7)],
            [thing(-0.5, 2, 30.5, 4)],
            [thing(0.2, 0.2, 0.5, 1.0)],
        )
    said = str(error.value)
    for part in (
        "1 row with a box without area: row 1 (object 0 (1.0, 2.0, 1.0, 4.0), object 1",
        "1 row with a box whose corners have changed places: row 1 (object 2",
        "2 rows with a box that reaches out of the picture: row 2 (object 0 (20.0, 2.0, 40.0, 4.0), picture 30",
        "1 row with missing objects: row 4",
        "1 row with a str instead of a list of objects: row 5",
        "2 rows with boxes that are no four finite numbers: row 6 (object 0: ",
        "1 row with objects without a label or a box: row 8",
        "1 row with a float as label: row 9 (1.5)",
        "1 row with objects with 'size', which is neither label, box nor crowd: row 10",
        "a label of type int where most are str: row 11",
        "1 row with a box in shares of the picture instead of pixels: row 13",
    ):
        assert part in said, part
    assert "row 12" not in said
    assert "row 0" not in said


def test_bad_rows_can_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sftlib"):
        data = rows([thing(1, 2, 3, 4)], [thing(1, 2, 1, 4)], on_invalid="drop")
    assert len(data) == 1
    assert "1 of 2 rows left out" in caplog.text


def test_labels_that_are_not_declared() -> None:
    with pytest.raises(LabelError, match="row 0 .*did you mean 'cats'"):
        rows([thing(1, 2, 3, 4)], label_names=["cats", "dogs"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(PICTURE).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


class TestCoco:
    def write(self, folder: Path, **changes: Any) -> Path:
        content = {
            "images": [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "a.png"}],
            "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 9, "name": "cow"}],
            "annotations": [
                {"id": 1, "image_id": 3, "category_id": 5, "bbox": [1, 2, 3, 4], "iscrowd": 0},
                {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 30, 20], "iscrowd": 1},
            ],
            **changes,
        }
        (folder / "all.json").write_text(json.dumps(content))
        return folder / "all.json"

    def test_it_is_read(self, folder: Path) -> None:
        data = TaskDataset.from_coco(self.write(folder), folder / "images")
        assert data.label_names == ("cat", "dog", "cow")
        assert [row["id"] for row in data] == [7, 3]
        assert data[0]["objects"] == []
        assert data[1]["objects"] == [
            thing(1.0, 2.0, 4.0, 6.0, label="dog"),
            thing(0.0, 0.0, 30.0, 20.0, crowd=True),
        ]

    def test_what_is_wrong_is_told_with_its_place(self, folder: Path) -> None:
        path = self.write(
            folder,
            annotations=[
                {"image_id": 4, "category_id": 5, "bbox": [1, 2, 3, 4]},
                {"image_id": 3, "category_id": 6, "bbox": [1, 2, 3, 4]},
                {"image_id": 3, "category_id": 5, "bbox": [1, 2, 3]},
                [],
            ],
        )
        with pytest.raises(DataError) as error:
            TaskDataset.from_coco(path, folder / "images")
        for part in (
            r"annotations[0] is of image 4, which is not there",
            r"annotations[1] is of category 6",
            r"annotations[2] has bbox [1, 2, 3]",
            r"annotations[3] is a list, expected an object",
        ):
            assert part in str(error.value)

    def test_other_layouts_and_missing_pictures(self, folder: Path) -> None:
        (folder / "list.json").write_text("[1]")
        with pytest.raises(DataError, match="expected COCO's layout"):
            TaskDataset.from_coco(folder / "list.json")
        with pytest.raises(DataError, match="2 rows with a file that does not exist: row 0 .*b.png"):
            TaskDataset.from_coco(self.write(folder))


_VOC = """<annotation><filename>{name}</filename>
<object><name>cat</name><part><name>nose</name><bndbox><xmin>9</xmin></bndbox></part><difficult>0</difficult>
<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>5</xmax><ymax>7</ymax></bndbox></object></annotation>"""


class TestVoc:
    def written(self, folder: Path, text: str = _VOC, name: str = "a.png") -> Path:
        (folder / "xml").mkdir(exist_ok=True)
        (folder / "xml" / "a.xml").write_text(text.format(name=name) if "{name}" in text else text)
        return folder / "xml"

    def test_pixels_are_counted_from_zero(self, folder: Path) -> None:
        data = TaskDataset.from_voc(self.written(folder), folder / "images")
        assert data[0]["objects"] == [thing(1.0, 2.0, 4.0, 6.0)]
        assert data[0]["id"] == "a"

    def test_what_is_difficult_counts_neither_way(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        xml = self.written(folder, _VOC.replace("<difficult>0", "<difficult>1"))
        with caplog.at_level(logging.WARNING, "sftlib"):
            data = TaskDataset.from_voc(xml, folder / "images")
        assert data[0]["objects"] == [{**thing(1.0, 2.0, 4.0, 6.0), "crowd": True}]
        assert "1 object marked as difficult" in caplog.text

    def test_it_takes_what_every_reader_takes(self, folder: Path) -> None:
        xml = self.written(folder)
        data = TaskDataset.from_voc(xml, folder / "images", task="object-detection", label_names=["dog", "cat"])
        assert data.label_names == ("dog", "cat")
        assert TaskDataset.from_voc(xml, folder / "images", objects=None).is_labelled is False
        with pytest.raises(DataError, match="not in label_names"):
            TaskDataset.from_voc(xml, folder / "images", label_names=["dog"])
        with pytest.raises(RoleError, match="objcts"):
            TaskDataset.from_voc(xml, folder / "images", objcts="objects")

    def test_a_wrong_name_inside_is_said(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "sftlib"):
            data = TaskDataset.from_voc(self.written(folder, name="b.png"), folder / "images")
        assert Path(data[0]["image"]).name == "a.png"
        assert "1 files name another picture" in caplog.text

    def test_what_cannot_be_read_is_told(self, folder: Path) -> None:
        for text, said in (
            ("<annotation>", "a.xml: no XML that can be read"),
            ('<!DOCTYPE a [<!ENTITY b "cc">]><a>&b;</a>', "it declares entities of its own"),
            ("<annotation><object><name>cat</name></object></annotation>", "a.xml: object 0 has name 'cat' and bndbox"),
        ):
            with pytest.raises(DataError, match=said):
                TaskDataset.from_voc(self.written(folder, text), folder / "images")

    def test_some_of_them(self, folder: Path) -> None:
        xml = self.written(folder)
        (folder / "ids.txt").write_text("a 1\n")
        assert len(TaskDataset.from_voc(xml, folder / "images", ids=folder / "ids.txt")) == 1
        with pytest.raises(DataError, match="no .xml files for 1 of 2 ids: 'c'"):
            TaskDataset.from_voc(xml, folder / "images", ids=["a", "c"])


class TestYolo:
    def written(self, folder: Path, text: str = "1 0.5 0.5 0.2 0.4\n") -> Path:
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / "a.txt").write_text(text)
        (folder / "labels" / "b.txt").write_text("")
        return folder

    def test_it_is_read(self, folder: Path) -> None:
        root = self.written(folder)
        data = TaskDataset.from_yolo(root / "images", names=["cat", "dog"])
        assert data[0]["objects"][0]["label"] == "dog"
        assert data[0]["objects"][0]["box"] == pytest.approx((12, 6, 18, 14))
        assert data[1]["objects"] == []
        (root / "data.yaml").write_text("path: .\ntrain: images  # here\nnc: 2\nnames:\n  0: cat\n  1: 'dog'\n")
        again = TaskDataset.from_yolo(root / "data.yaml")
        assert again.label_names == ("cat", "dog")
        assert again[0]["objects"] == data[0]["objects"]
        with pytest.raises(DataError, match="names no folder for split='val'"):
            TaskDataset.from_yolo(root / "data.yaml", split="val")

    def test_what_is_wrong_is_told_with_its_line(self, folder: Path) -> None:
        root = self.written(folder, "0 0.5 0.5 0.2\n\n1 0.1 0.1 0.2 0.2\n0 12 5 3 4\n2 0.5 0.5 0.1 0.1\n")
        with pytest.raises(DataError) as error:
            TaskDataset.from_yolo(root / "images", names=["cat", "dog"])
        for part in (
            "a.txt, line 1: ",
            "a.txt, line 4: '0 12 5 3 4' are pixels",
            "a.txt, line 5: class 2, and there are 2",
        ):
            assert part in str(error.value)

    def test_a_picture_without_a_file(self, folder: Path) -> None:
        root = self.written(folder)
        (root / "labels" / "b.txt").unlink()
        with pytest.raises(DataError, match="no .txt file for 1 of 2 pictures: 'b.png'"):
            TaskDataset.from_yolo(root / "images")
        assert TaskDataset.from_yolo(root / "images", missing="empty")[1]["objects"] == []
        with pytest.raises(OptionError, match="missing='none'"):
            TaskDataset.from_yolo(root / "images", missing="none")

    @pytest.mark.parametrize(
        "names",
        [
            "['cat', 'dog']",
            "[\n  'cat',\n  'dog'  # two\n]",
            "{0: cat,\n  1: dog}",
            "\n- cat\n- dog",
            "\n  0: cat\n  1: dog",
        ],
    )
    def test_the_ways_that_names_are_written(self, folder: Path, names: str) -> None:
        root = self.written(folder)
        (root / "data.yaml").write_text(f"train: images\nnames: {names}\nnc: 2\n")
        for given in (root / "data.yaml", root):
            assert TaskDataset.from_yolo(given).label_names == ("cat", "dog")
        with pytest.raises(OptionError, match="names is given twice"):
            TaskDataset.from_yolo(root, names=["a", "b"], label_names=["a", "b"])
        assert TaskDataset.from_yolo(root, label_names=["a", "b"]).label_names == ("a", "b")
