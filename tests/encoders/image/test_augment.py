"""Augmentations: functions of picture and draw alone, whose matrix says where every pixel went."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sftlib.encoders.draws import Draw
from sftlib.encoders.image.augment import (
    PRESETS,
    Augmentation,
    ColourJitter,
    Flip,
    Moved,
    RandomErasing,
    RandomResizedCrop,
    augmentations,
    augmented,
    part_of,
    resized,
)
from sftlib.errors import OptionError
from tests.pictures import pixels

pytest.importorskip("PIL")

PICTURE = pixels(1, 60, 90)
EVERY = [RandomResizedCrop(), Flip(p=1.0), ColourJitter(), RandomErasing(p=1.0)]


def shown(steps: Any, row: int = 0, epoch: int = 0, size: tuple[int, int] = (32, 32), picture: Any = None) -> Moved:
    array = PICTURE if picture is None else picture
    return augmented(array, augmentations(steps), Draw(0, epoch, row), size=size)


@pytest.mark.parametrize("steps", [*PRESETS, *EVERY, EVERY], ids=repr)
def test_a_function_of_picture_and_draw(steps: Any) -> None:
    """Called again, in another order, in threads; and what went in stays as it was."""
    before = PICTURE.copy()
    first = [shown(steps, row) for row in range(30)]
    again = [shown(steps, row) for row in reversed(range(30))][::-1]
    with ThreadPoolExecutor(4) as pool:
        threads = list(pool.map(lambda row: shown(steps, row), range(30)))
    for one, two, three in zip(first, again, threads, strict=True):
        assert (one.pixels == two.pixels).all()
        assert (one.pixels == three.pixels).all()
        assert (one.moved == two.moved).all()
        assert one.pixels.dtype == np.uint8
        assert one.moved.dtype == np.float64
    assert (before == PICTURE).all()


@pytest.mark.parametrize("preset", ["light", "medium"])
def test_rows_and_epochs_differ(preset: str) -> None:
    views = [shown(preset, row, epoch).pixels.tobytes() for row in range(10) for epoch in range(3)]
    assert len(set(views)) == len(views)


def test_none_shows_the_picture_itself() -> None:
    found = shown("none")
    assert (found.pixels == PICTURE).all()
    assert (found.moved == np.eye(3)).all()


def places(height: int, width: int) -> NDArray[np.uint8]:
    """A picture whose red says the column and whose green says the row of each pixel."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x, y, 0 * x], -1).astype(np.uint8)


@pytest.mark.parametrize("steps", ["light", Flip(p=1.0), RandomResizedCrop(), [Flip(p=1.0), RandomResizedCrop()]])
@pytest.mark.parametrize("row", range(12))
def test_the_matrix_says_where_pixels_went(steps: Any, row: int) -> None:
    """Each pixel of the result says by its colour where it came from; the matrix must say the same."""
    found = shown(steps, row, size=(90, 120), picture=places(150, 200))
    height, width = found.pixels.shape[:2]
    y, x = np.mgrid[2 : height - 2, 2 : width - 2]  # at the edge there is nothing to interpolate with
    here = np.stack([x + 0.5, y + 0.5, np.ones_like(x)], -1)
    came_from = here @ np.linalg.inv(found.moved).T
    assert np.abs(came_from[..., 0] - 0.5 - found.pixels[y, x, 0]).max() < 1.5
    assert np.abs(came_from[..., 1] - 0.5 - found.pixels[y, x, 1]).max() < 1.5
    assert np.abs((came_from[..., :2] - 0.5 - found.pixels[y, x, :2]).mean()) < 0.1


def test_a_box_is_moved_with_its_object() -> None:
    """A white block: after every step it fills its box, to within what interpolation smears."""
    block = np.zeros((100, 140, 3), np.uint8)
    block[40:60, 60:90] = 255
    corners = np.array([[60, 40, 1], [90, 60, 1]])
    for row in range(30):
        found = shown("light", row, size=(64, 64), picture=block)
        ends = np.sort((corners @ found.moved.T)[:, :2], axis=0)
        inside = np.clip(ends, 0, 64)
        lit = found.pixels[..., 0] > 127
        if np.prod(inside[1] - inside[0]) < 20:
            continue
        y, x = np.nonzero(lit)
        assert np.abs(inside[0] - [x.min(), y.min()]).max() <= 1
        assert np.abs(inside[1] - [x.max() + 1, y.max() + 1]).max() <= 1


def test_crops_keep_to_their_limits() -> None:
    generator = Draw(0, 0, 0).generator("crop")
    for _ in range(500):
        left, top, width, height = part_of((300, 400), (0.5, 1.0), (3 / 4, 4 / 3), generator)
        assert 0 <= left <= 400 - width
        assert 0 <= top <= 300 - height
        assert 0.49 <= width * height / 120_000 <= 1
        assert 0.74 <= width / height <= 1.35


@pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (1000, 1), (2, 3)])
def test_odd_shapes_have_a_part_too(shape: tuple[int, int]) -> None:
    for row in range(20):
        left, top, width, height = part_of(shape, (0.5, 1.0), (3 / 4, 4 / 3), Draw(0, 0, row).generator("crop"))
        assert width >= 1
        assert height >= 1
        assert 0 <= left <= shape[1] - width
        assert 0 <= top <= shape[0] - height
        assert shown("medium", row, picture=pixels(0, *shape)).pixels.shape == (32, 32, 3)


def test_the_whole_picture_resized_is_pillows_own() -> None:
    from PIL import Image

    found = resized(Moved.still(PICTURE), (0, 0, 90, 60), (30, 45))
    expected = np.asarray(Image.fromarray(PICTURE).resize((45, 30), Image.Resampling.BILINEAR))
    assert (found.pixels == expected).all()
    assert np.allclose(found.moved, np.diag([0.5, 0.5, 1.0]))


def test_a_part_is_cut_and_resized_in_one_go() -> None:
    found = resized(Moved.still(places(100, 100)), (10, 20, 30, 40), (20, 20))
    assert (found.pixels == places(100, 100)[20:40, 10:30]).all()
    assert (found.moved @ [10, 20, 1]).tolist() == [0, 0, 1]


def test_half_of_all_pictures_are_flipped() -> None:
    flipped = [shown("light", row).moved[0, 0] < 0 for row in range(1000)]
    assert 440 < sum(flipped) < 560
    assert not any(shown(Flip(p=0.0), row).moved[0, 0] < 0 for row in range(50))


def test_a_step_does_not_change_what_others_draw() -> None:
    for row in range(20):
        assert (shown("light", row).moved == shown("medium", row).moved).all()
        alone, both = shown(RandomResizedCrop(), row), shown([Flip(p=0.0), RandomResizedCrop()], row)
        assert (alone.pixels == both.pixels).all()


def test_colours_that_do_not_jitter_stay() -> None:
    assert (shown(ColourJitter(brightness=0, contrast=0, saturation=0)).pixels == PICTURE).all()
    grey = np.repeat(PICTURE[..., :1], 3, -1)
    found = shown(ColourJitter(brightness=0, contrast=0, saturation=1), picture=grey).pixels
    assert (found == grey).all()


def test_a_part_is_erased_with_the_mean() -> None:
    found = shown(RandomErasing(p=1.0, scale=(0.1, 0.1))).pixels
    changed = (found != PICTURE).any(-1)
    mean = np.rint(PICTURE.mean((0, 1)))
    assert 0.05 < changed.mean() < 0.11
    assert (found[changed] == mean).all()
    some = [(shown(RandomErasing(), row).pixels != PICTURE).any() for row in range(300)]
    assert 12 < sum(some) < 55


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Flip(p=2), "p=2: expected a number from 0 to 1"),
        (lambda: Flip(q=1), r"Flip\(\) has no option 'q'"),
        (lambda: RandomResizedCrop(scale=(0.5, 1.5)), "scale=.*two numbers above 0 of at most 1 in rising order"),
        (lambda: RandomResizedCrop(scale=0.5), "scale=0.5: expected two numbers"),
        (lambda: RandomResizedCrop(ratio=(2, 1)), "ratio=.*rising order"),
        (lambda: RandomResizedCrop(scale=(0, 1)), "scale="),
        (lambda: ColourJitter(contrast="much"), "contrast='much'"),
        (lambda: RandomErasing(p=-1, ratio=(1, float("nan"))), "p=-1(.|\n)*ratio="),
        (lambda: augmentations("ligth"), "augment='ligth': did you mean 'light'"),
        (lambda: augmentations(3), "augment=3: expected one of 'auto', 'none', 'light', 'medium', an Augmentation"),
        (lambda: augmentations([Flip(), "light"]), "augment='light': expected one of"),
        (lambda: augmentations([Flip(), Flip()]), "'flip' twice, which would draw the same numbers"),
    ],
)
def test_what_cannot_be(make: Any, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        make()


def test_they_are_values() -> None:
    assert Flip() == Flip() != Flip(p=0.4)
    assert hash(RandomResizedCrop()) == hash(RandomResizedCrop())
    assert all(isinstance(step, Augmentation) for steps in PRESETS.values() for step in steps)
    with pytest.raises(AttributeError):
        Flip().p = 0.1  # type: ignore[misc]
