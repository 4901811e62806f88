"""Rows drawn: where boxes and masks lie in the pixels, what captions say, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from sftlib import TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.support.canvas import Box, Gallery, Plane, colour_of, drawn
from sftlib.testing import pictures, scenes

pil = pytest.importorskip("PIL.Image")

BLACK = np.zeros((100, 120, 3), np.uint8)
SCENES = scenes(3, classes=2, seed=0)


def test_lines_of_a_box_lie_where_it_says() -> None:
    """A picture of 120 pixels is shown twice as large, and a box from 20 to 60 from 40 to 120."""
    found = drawn(BLACK, caption="x", boxes=[Box((20, 40, 60, 80), "cat", 3)]).pixels
    assert found.shape == (200, 240, 3)
    colour = (found == colour_of(3)).all(-1)
    assert colour[81:160, 40].all()
    assert colour[160, 40:120].all()
    assert colour[100, 120]
    inside = colour[90:150, 50:110]
    assert not inside.any()
    assert not colour[170:, :].any()


def test_broken_lines_have_gaps() -> None:
    found = drawn(BLACK, caption="x", boxes=[Box((20, 40, 60, 80), "", 0, broken=True)]).pixels
    line = (found[160, 40:120] == colour_of(0)).all(-1)
    assert 0.3 < line.mean() < 0.9


def test_colours_of_a_mask_and_its_legend() -> None:
    numbers = np.zeros((100, 120), np.int16)
    numbers[:50], numbers[50:, :10] = 1, -1
    shown = drawn(BLACK, caption="x", mask=Plane(numbers, ("ground", "sky"))).pixels
    tints = [np.rint(0.55 * np.array(colour, np.float32)) for colour in (colour_of(0), colour_of(1), (200, 200, 200))]
    for place, tint in (((150, 200), tints[0]), ((20, 200), tints[1]), ((150, 5), tints[2])):
        assert np.abs(shown[place].astype(float) - tint).max() <= 1
    legend = shown[200:]
    assert all((legend == colour_of(number)).all(-1).any() for number in (0, 1))


def test_twenty_classes_have_twenty_colours() -> None:
    assert len({colour_of(number) for number in range(20)}) == 20


def test_large_pictures_shrink_and_are_not_changed() -> None:
    large = np.full((900, 1280, 3), 7, np.uint8)
    found = drawn(large, caption="x", boxes=[Box((0, 0, 1280, 900), "all", 0)])
    assert found.pixels.shape == (450, 640, 3)
    assert (large == 7).all()


def test_rows_of_every_kind_are_shown() -> None:
    labelled = TaskDataset(pictures(5, classes=2)).show(rows=3)
    assert [picture.caption for picture in labelled] == [
        "row 0, label: 'circle'",
        "row 2, label: 'circle'",
        "row 4, label: 'circle'",
    ]
    boxes = TaskDataset({role: [row[role] for row in SCENES] for role in ("image", "objects")})
    assert boxes.show([1])[0].caption == f"row 1, {len(SCENES[1]['objects'])} objects".replace("1 objects", "1 object")
    masks = TaskDataset.from_masks([r["image"] for r in SCENES], [r["mask"] for r in SCENES], names=["no", "c", "s"])
    assert len(masks.show()) == 3
    pairs = TaskDataset({"image": [BLACK] * 2, "image_pair": [BLACK] * 2, "same": [True, False]})
    assert [p.caption for p in pairs.show()] == ["row 0, same: True"] * 2 + ["row 1, same: False"] * 2


def test_what_a_notebook_and_files_get(tmp_path: Path) -> None:
    shown = TaskDataset([{**row, "label": "<b>"} if n % 2 else row for n, row in enumerate(pictures(6))]).show()
    page = shown._repr_html_()
    assert page.count("<img") == 6
    assert "<b>" not in page
    shown.save(tmp_path / "rows.png")
    shown.save(tmp_path / "rows.html")
    sheet = pil.open(io.BytesIO((tmp_path / "rows.png").read_bytes()))
    assert sheet.size[0] == 4 * 256 + 3 * 10
    assert (tmp_path / "rows.html").read_text(encoding="utf-8").count("data:image/png") == 6
    one = pil.open(io.BytesIO(shown[0]._repr_png_()))
    assert one.size[0] == 256
    assert one.size[1] > 256  # its caption stands below
    assert "256 x 256 pixels: row 0" in repr(shown[0])
    assert Gallery([]).sheet().shape == (1, 1, 3)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="these rows have none; their roles are text, label"):
        TaskDataset({"text": ["a", "b"], "label": ["x", "y"]}).show()
    data = TaskDataset(pictures(4))
    with pytest.raises(OptionError, match=r"expected a name that ends in \.png or \.html"):
        data.show().save(tmp_path / "rows.pdf")
    with pytest.raises(OptionError, match="rows=0"):
        data.show(0)
    with pytest.raises(IndexError, match="position 9"):
        data.show([9])
