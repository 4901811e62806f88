"""Pictures that are shown a little differently in every epoch: pure functions of a picture and a `Draw`.

Each augmentation is a frozen value, and all that it draws comes from a generator of its own name, so that one that is
added or left out does not change the others. Beside the pixels comes how they were moved, for boxes and masks.

**How a picture was moved.** ``moved`` is a (3, 3) matrix of float64 that takes a place in the picture that went in to
its place in the one that comes out: ``(x', y', 1) = moved @ (x, y, 1)``. Places are measured in pixels from the upper
left *corner* of the picture, x to the right and y down: the pixel in row r and column c reaches from (c, r) to
(c + 1, r + 1), and its middle is (c + 0.5, r + 0.5). Corners of boxes can be put in as they are.

Letters: ``H`` and ``W``, the height and the width of a picture.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.pictures import pillow
from sftlib.data.problems import brief, listed
from sftlib.encoders.draws import Draw
from sftlib.errors import OptionError
from sftlib.support.checking import checked_fields, choice, raise_together, real_number

Pixels: TypeAlias = NDArray[np.uint8]
Matrix: TypeAlias = NDArray[np.float64]
Size: TypeAlias = tuple[int, int]

#: pillow's number of the way of resizing that most image processors use.
BILINEAR = 2

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # how bright red, green and blue look (ITU-R 601)


@final
@dataclass(frozen=True, eq=False)
class Moved:
    """A picture, and how it came to lie as it does.

    Attributes:
        pixels: (H, W, 3) uint8.
        moved: (3, 3) takes places in the picture that went in to places in this one; see the module.
    """

    pixels: Pixels
    moved: Matrix

    @classmethod
    def still(cls, pixels: Pixels) -> Moved:
        """A picture that was not moved."""
        return cls(pixels, np.eye(3))

    def then(self, pixels: Pixels, step: Matrix) -> Moved:
        """The picture after one more step, which moved it by a matrix."""
        return Moved(pixels, step @ self.moved)


class Augmentation(ABC):
    """One way of showing a picture differently: a frozen value whose options are its fields."""

    #: The name under which it draws; two of one name would draw the same numbers.
    use: ClassVar[str]
    #: Whether the picture has the size that the model reads afterwards.
    resizes: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, picture: Moved, draw: Draw, *, size: Size, resample: int = BILINEAR) -> Moved:
        """The picture as it is shown; what went in is not changed.

        Args:
            picture: (H, W, 3) uint8 and how it was moved so far.
            draw: of its row and epoch.
            size: height and width that the model reads, for those that resize.
            resample: pillow's number of the way of resizing.
        """


def _share(option: str, value: object) -> str | None:
    return real_number(option, value, 0, 1, expected="a number from 0 to 1")


def _range(option: str, value: object, most: float) -> str | None:
    """The problem with two numbers above 0 in rising order, or None."""
    numbers = value if isinstance(value, tuple) and len(value) == 2 else (math.nan, math.nan)
    good = [real_number(option, number, 0, math.inf, expected="", ends=False) is None for number in numbers]
    if all(good) and numbers[0] <= numbers[1] <= most:
        return None
    limit = f" of at most {most:g}" if most < math.inf else ""
    return f"{option}={value!r:.60}: expected two numbers above 0{limit} in rising order, such as (0.5, 1.0)"


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop(Augmentation):
    """A part of the picture, brought to the size that the model reads.

    Args:
        scale: the smallest and the largest share of the picture's area.
        ratio: the smallest and the largest width over height of the part.

    Raises:
        OptionError: no two numbers in rising order, or a share beyond 1.

    Example:
        >>> RandomResizedCrop(scale=(0.5, 1.0))
        RandomResizedCrop(scale=(0.5, 1.0), ratio=(0.75, 1.3333333333333333))
    """

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    use: ClassVar[str] = "crop"
    resizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        raise_together([_range("scale", self.scale, 1.0), _range("ratio", self.ratio, math.inf)])

    def __call__(self, picture: Moved, draw: Draw, *, size: Size, resample: int = BILINEAR) -> Moved:
        shape = picture.pixels.shape[:2]
        left, top, width, height = part_of(shape, self.scale, self.ratio, draw.generator(self.use))
        return resized(picture, (left, top, left + width, top + height), size, resample)


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class Flip(Augmentation):
    """The picture in a mirror: left and right change places.

    Args:
        p: how often, from 0 to 1.

    Raises:
        OptionError: no such share.
    """

    p: float = 0.5
    use: ClassVar[str] = "flip"

    def __post_init__(self) -> None:
        raise_together([_share("p", self.p)])

    def __call__(self, picture: Moved, draw: Draw, *, size: Size, resample: int = BILINEAR) -> Moved:
        if draw.generator(self.use).random() >= self.p:
            return picture
        width = picture.pixels.shape[1]
        mirror = np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        return picture.then(np.ascontiguousarray(picture.pixels[:, ::-1]), mirror)


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class ColourJitter(Augmentation):
    """Brighter or darker, with more or less contrast, with more or less colour, in this order.

    Args:
        brightness: the pixels are multiplied by a number from 1 - brightness to 1 + brightness.
        contrast: the same, for how far they lie from the picture's mean brightness.
        saturation: the same, for how far they lie from their own grey.

    Raises:
        OptionError: a number that is not from 0 to 1.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    use: ClassVar[str] = "colour"

    def __post_init__(self) -> None:
        names = ("brightness", "contrast", "saturation")
        raise_together([_share(name, getattr(self, name)) for name in names])

    def __call__(self, picture: Moved, draw: Draw, *, size: Size, resample: int = BILINEAR) -> Moved:
        strengths = (self.brightness, self.contrast, self.saturation)
        bright, contrast, saturation = (1 + np.float32(s) * _signed(draw, self.use, i) for i, s in enumerate(strengths))
        values = np.clip(picture.pixels.astype(np.float32) * bright, 0, 255)
        mean = np.float32((values @ _GREY).mean())
        values = np.clip(mean + (values - mean) * contrast, 0, 255)
        grey = (values @ _GREY)[..., None]
        values = np.clip(grey + (values - grey) * saturation, 0, 255)
        return picture.then(np.rint(values).astype(np.uint8), np.eye(3))


def _signed(draw: Draw, use: str, number: int) -> np.float32:
    """From -1 to 1, for one of several strengths."""
    return np.float32(draw.generator(f"{use} {number}").uniform(-1, 1))


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class RandomErasing(Augmentation):
    """A part of the picture is covered with its mean colour.

    Args:
        p: how often, from 0 to 1.
        scale: the smallest and the largest share of the picture's area.
        ratio: the smallest and the largest width over height of the part.

    Raises:
        OptionError: no such share, or no two numbers in rising order.
    """

    p: float = 0.1
    scale: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 3.3)
    use: ClassVar[str] = "erase"

    def __post_init__(self) -> None:
        problems = [_share("p", self.p), _range("scale", self.scale, 1.0), _range("ratio", self.ratio, math.inf)]
        raise_together(problems)

    def __call__(self, picture: Moved, draw: Draw, *, size: Size, resample: int = BILINEAR) -> Moved:
        generator = draw.generator(self.use)
        if generator.random() >= self.p:
            return picture
        left, top, width, height = part_of(picture.pixels.shape[:2], self.scale, self.ratio, generator)
        pixels = picture.pixels.copy()
        pixels[top : top + height, left : left + width] = np.rint(pixels.mean((0, 1)))
        return picture.then(pixels, np.eye(3))


def part_of(
    shape: tuple[int, ...], scale: Sequence[float], ratio: Sequence[float], generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Left, top, width and height of a part of a picture.

    Shares and ratios are drawn until a part fits into the picture, ten times at most; then the largest part in the
    middle is taken whose ratio is allowed, as torchvision and timm do.

    Args:
        shape: H and W of the picture.
        scale: the smallest and the largest share of its area.
        ratio: the smallest and the largest width over height of the part.
        generator: draws.
    """
    rows, columns = shape
    for _ in range(10):
        area = generator.uniform(scale[0], scale[1]) * rows * columns
        drawn = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(area * drawn)), round(math.sqrt(area / drawn))
        if 0 < width <= columns and 0 < height <= rows:
            left = int(generator.integers(columns - width + 1))
            return left, int(generator.integers(rows - height + 1)), width, height
    nearest = min(max(columns / rows, ratio[0]), ratio[1])
    width = max(1, min(columns, round(rows * nearest)))
    height = max(1, min(rows, round(columns / nearest)))
    return (columns - width) // 2, (rows - height) // 2, width, height


def resized(picture: Moved, box: tuple[float, float, float, float], size: Size, resample: int = BILINEAR) -> Moved:
    """A part of a picture, brought to a size; cut and resized in one go, so that no pixel is rounded twice.

    Args:
        picture: (H, W, 3) uint8.
        box: left, upper, right and lower edge of the part, in pixels.
        size: height and width of the result.
        resample: pillow's number of the way of resizing.
    """
    height, width = size
    image = pillow().fromarray(picture.pixels).resize((width, height), resample, box=box)
    x, y = width / (box[2] - box[0]), height / (box[3] - box[1])
    step = np.array([[x, 0.0, -box[0] * x], [0.0, y, -box[1] * y], [0.0, 0.0, 1.0]])
    return picture.then(np.array(image), step)


_LIGHT = (RandomResizedCrop(), Flip())
PRESETS: Mapping[str, tuple[Augmentation, ...]] = MappingProxyType(
    {"auto": _LIGHT, "none": (), "light": _LIGHT, "medium": (*_LIGHT, ColourJitter(), RandomErasing())}
)


def augmentations(given: object, *, option: str = "augment") -> tuple[Augmentation, ...]:
    """What a user wrote: the name of a preset, one augmentation, or several in their order.

    Raises:
        OptionError: anything else, or two that would draw the same numbers.

    Example:
        >>> augmentations("light")
        (RandomResizedCrop(scale=(0.5, 1.0), ratio=(0.75, 1.3333333333333333)), Flip(p=0.5))
    """
    if isinstance(given, str):
        raise_together([choice(option, given, PRESETS)])
        return PRESETS[given]
    steps = tuple(given) if isinstance(given, list | tuple) else (given,)
    if wrong := [step for step in steps if not isinstance(step, Augmentation)]:
        known = ", ".join(map(repr, PRESETS))
        raise OptionError(f"{option}={brief(wrong[0])}: expected one of {known}, an Augmentation, or a list of them")
    twice = [use for use, count in Counter(step.use for step in steps).items() if count > 1]
    if twice:
        raise OptionError(f"{option}: {listed(twice)} twice, which would draw the same numbers; give it once")
    return steps


def augmented(
    pixels: Pixels, steps: Sequence[Augmentation], draw: Draw, *, size: Size, resample: int = BILINEAR
) -> Moved:
    """A picture as it is shown in one epoch.

    Args:
        pixels: (H, W, 3) uint8; not changed.
        steps: taken in their order.
        draw: of its row and epoch.
        size: height and width that the model reads. The result has it if a step resizes; others keep the size.
        resample: pillow's number of the way of resizing.

    Example:
        >>> shown = augmented(
        ...     np.zeros((40, 60, 3), np.uint8), augmentations("light"), Draw(0, 0, 0), size=(8, 8)
        ... )
        >>> shown.pixels.shape, shown.moved.shape
        ((8, 8, 3), (3, 3))
    """
    picture = Moved.still(pixels)
    for step in steps:
        picture = step(picture, draw, size=size, resample=resample)
    return picture
