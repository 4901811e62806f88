"""Masks and boxes go where their pictures go."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sftlib.encoders.draws import Draw
from sftlib.encoders.image.augment import PRESETS, augmented
from sftlib.encoders.image.places import moved_boxes, moved_mask, scaling, size_before


@pytest.mark.parametrize("row", range(8))
def test_a_mask_moves_as_its_picture_does(row: int) -> None:
    """A picture whose brightness is its mask: after crop, mirror and size they still say the same."""
    numbers = np.random.default_rng(row)
    mask = np.kron(numbers.integers(0, 2, (5, 7)), np.ones((9, 8), int))
    picture = np.repeat((mask * 255).astype(np.uint8)[..., None], 3, -1)
    shown = augmented(picture, PRESETS["light"], Draw(0, 1, row), size=(40, 36))
    found = moved_mask(mask, shown.moved, (40, 36), beyond=-1)
    assert set(np.unique(found)) <= {0, 1}
    agree = (shown.pixels[..., 0] > 127) == (found == 1)
    assert agree.mean() > 0.97  # but for edges, where a picture is smooth


def test_nearest_is_that_of_pillow() -> None:
    mask = np.random.default_rng(0).integers(0, 9, (23, 31)).astype(np.uint8)
    for size in ((10, 17), (23, 31), (60, 50)):
        found = moved_mask(mask, scaling(mask.shape, size), size, beyond=0)  # type: ignore[arg-type]
        expected = np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
        assert (found == expected).all()


@pytest.mark.parametrize("row", range(8))
def test_a_box_moves_as_its_picture_does(row: int) -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    box = (20.0, 12.0, 50.0, 40.0)
    picture[12:40, 20:50] = 255
    shown = augmented(picture, PRESETS["light"], Draw(3, 0, row), size=(96, 96))
    (edges,) = moved_boxes(np.array([box]), shown.moved, (96, 96), least=0.0)
    inside = shown.pixels[..., 0] > 127
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    assert np.abs(edges * 96 - seen).max() <= 1.0


def test_of_a_box_enough_must_be_left() -> None:
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    away = np.array([[1.0, 0.0, -8.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert np.isnan(moved_boxes(box, away, (10, 10), least=0.3)).all()
    assert moved_boxes(box, away, (10, 10), least=0.2).tolist() == [[0.0, 0.0, 0.2, 1.0]]
    assert moved_boxes(np.empty((0, 4)), away, (10, 10), least=0.2).shape == (0, 4)


def test_the_size_before_is_known() -> None:
    for before in ((1, 1), (479, 641), (3000, 7)):
        assert size_before(scaling(before, (224, 192)), (224, 192)) == before
