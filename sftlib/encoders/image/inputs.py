"""How pictures are to be read, as a user writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sftlib.encoders.base import Inputs
from sftlib.encoders.image.augment import Augmentation, augmentations
from sftlib.encoders.image.encoder import ImageEncoder, native_size, size_of
from sftlib.encoders.image.mixing import mixings
from sftlib.errors import OptionError
from sftlib.models.files.folder import read_image_processor
from sftlib.models.files.strict import IMAGE_FILES
from sftlib.models.opening import open_image_processor, plain_image_processor
from sftlib.models.sources import ModelSource
from sftlib.support.checking import checked_fields, raise_together, real_number, whole_number

_LARGEST = 2**14  # pixels of a side


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class Image(Inputs):
    """Pictures, read through an image processor; augmented in training, never in evaluation.

    Args:
        size: pixels of both sides, or (height, width); what the model's image processor makes when None.
        augment: ``"none"``, ``"light"`` (crops and mirrors), ``"medium"`` (colours and gaps too), or augmentations of
            `sftlib.encoders.image.augment`, in order. ``"auto"`` is ``"light"``, but ``"none"`` where the whole body of
            the model is frozen and so is computed once for each picture.
        processor: an image processor of transformers, or the folder or name of one; the model's own when None. A model
            that is passed as an object has none: then ``size`` makes one, with ImageNet's mean and deviation.
        mean: what is subtracted from pixels, which run from 0 to 1: a number, or one for red, green and blue each; that
            of the processor when None.
        std: what they are divided by then; that of the processor when None.

        mixup: above 0 each picture of training shines through another one, and its target is that of both, each by its
            share; the share is drawn from Beta(mixup, mixup). 0.1 to 0.4 where rows are many, 0 for none.
        cutmix: the same for a part of another picture that covers a part of it, of a share from Beta(cutmix, cutmix);
            1 is usual. With both, each picture is shown one of the two.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> Image(size=224, augment="none")
        Image(size=224, augment='none', processor=None, mean=None, std=None, mixup=0.0, cutmix=0.0)
    """

    size: int | tuple[int, int] | None = None
    augment: str | Augmentation | Sequence[Augmentation] = "auto"
    processor: Any = None
    mean: float | tuple[float, float, float] | None = None
    std: float | tuple[float, float, float] | None = None
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        alphas = [
            real_number(name, getattr(self, name), 0, math.inf, expected="0 for none, or a number above it")
            for name in ("mixup", "cutmix")
        ]
        colours = [_colour_problem("mean", self.mean), _colour_problem("std", self.std)]
        raise_together([_size_problem(self.size), *colours, *alphas])
        augmentations(self.augment)

    def open(self, source: ModelSource) -> ImageEncoder:
        return self._encoder(self._processor(source))

    def _encoder(self, processor: Any) -> ImageEncoder:
        """An encoder with these colours and augmentations."""
        colours = {"image_mean": _colours(self.mean), "image_std": _colours(self.std)}
        changed = {name: value for name, value in colours.items() if value is not None}
        if changed:
            processor = type(processor).from_dict({**processor.to_dict(), "do_normalize": True, **changed})
        return ImageEncoder(
            processor,
            augmentations(self.augment),
            yields=self.augment == "auto",
            mixings=mixings(self.mixup, self.cutmix),
        )

    def _processor(self, source: ModelSource) -> Any:
        """The image processor, of the size that is asked for."""
        given, size = self.processor, self.size
        own = source.image_processor() if given is None else open_image_processor(given, option="processor")
        if own is not None and size is None:
            return own
        wanted = size or size_of(source.config)
        if wanted is None:
            raise OptionError(
                f"inputs=Image(): a model that is passed as an object ({source.name}) comes without an image "
                "processor; say how large its pictures are, Image(size=224), or give one, Image(processor=...)"
            )
        height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
        return plain_image_processor(height, width) if own is None else _of_size(own, height, width)

    def open_whole(self, source: ModelSource) -> ImageEncoder:
        """As `open`, for targets that lie in a picture: it is shown from edge to edge, without crops and margins.

        Where neither ``size`` nor the model says otherwise, sides are those of the model's image processor, or its
        shorter edge twice: pictures of one size depend on no other picture of a batch.
        """
        given = self.processor
        own = source.image_processor() if given is None else open_image_processor(given, option="processor")
        wanted = self.size or native_size(source.config) or _side_of(own) or size_of(source.config)
        if wanted is None:
            raise OptionError(
                f"inputs=Image(): a model that is passed as an object ({source.name}) comes without an image "
                "processor; say how large its pictures are, Image(size=224), or give one, Image(processor=...)"
            )
        height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
        processor = plain_image_processor(height, width) if own is None else _showing_all(own, height, width)
        return self._encoder(processor)

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> ImageEncoder:
        size = facts.get("size")
        good = isinstance(size, list) and len(size) == 2 and _size_problem(tuple(size)) is None
        if facts.keys() != {"size"} or not good:
            raise ValueError(f"inputs: found {dict(facts)!r:.80}, expected the size of pictures, height and width")
        encoder = ImageEncoder(read_image_processor(folder))
        if list(encoder.size) != size:
            raise ValueError(f"inputs: the image processor makes pictures of {encoder.size}, expected {size}")
        return encoder

    @classmethod
    def files(cls) -> frozenset[str]:
        return IMAGE_FILES


def _size_problem(size: object) -> str | None:
    sides = size if isinstance(size, tuple) and len(size) == 2 else (size,)
    if size is None or all(whole_number("size", side, at_least=1, at_most=_LARGEST) is None for side in sides):
        return None
    return f"size={size!r:.60}: expected a whole number of pixels from 1 to {_LARGEST:,}, or (height, width)"


def _colours(given: float | tuple[float, ...] | None) -> list[float] | None:
    """One number for each channel."""
    if given is None:
        return None
    return [float(number) for number in (given if isinstance(given, tuple | list) else (given,) * 3)]


def _colour_problem(option: str, given: object) -> str | None:
    """The problem with a number for each channel."""
    numbers = given if isinstance(given, tuple | list) and len(given) == 3 else (given,)
    least = 0 if option == "std" else -math.inf
    good = [real_number(option, number, least, math.inf, expected="", ends=False) is None for number in numbers]
    if given is None or all(good):
        return None
    above = " above 0" if option == "std" else ""
    return f"{option}={given!r:.60}: expected a number{above}, or three, of red, green and blue from 0 to 1"


def _of_size(processor: Any, height: int, width: int) -> Any:
    """The same processor, brought to another size: crops as before, by the size of the crop."""
    settings = processor.to_dict()
    if settings.get("do_center_crop") and settings.get("crop_size"):
        before = settings["crop_size"]
        grown = max(height / before["height"], width / before["width"])
        settings["crop_size"] = {"height": height, "width": width}
        if "shortest_edge" in settings.get("size", {}):
            settings["size"] = {"shortest_edge": round(settings["size"]["shortest_edge"] * grown)}
    else:
        settings["size"] = {"height": height, "width": width}
    return type(processor).from_dict(settings)


def _side_of(processor: Any) -> int | tuple[int, int] | None:
    """The size of what an image processor makes, as far as it does not depend on the picture."""
    settings = {} if processor is None else processor.to_dict()
    for name in ["crop_size"] * bool(settings.get("do_center_crop")) + ["size"]:
        size = settings.get(name) or {}
        if size.get("height") and size.get("width"):
            return int(size["height"]), int(size["width"])
        if size.get("shortest_edge"):
            return int(size["shortest_edge"])
    return None


def _showing_all(processor: Any, height: int, width: int) -> Any:
    """The same processor, which brings all of a picture to a size."""
    off = {name: False for name in ("do_center_crop", "do_pad", "do_reduce_labels") if hasattr(processor, name)}
    settings = {**processor.to_dict(), **off, "do_resize": True, "size": {"height": height, "width": width}}
    return type(processor).from_dict(settings)
