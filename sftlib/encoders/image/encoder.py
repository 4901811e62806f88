"""Pictures in, tensors out: decoded, drawn and normalised when a batch needs them.

In evaluation a picture goes through the model's own image processor and nothing else, so that a saved folder's pipeline
gives the same scores. In training it is augmented to the size that the processor makes, and normalised by it.

Letters: ``B`` rows of a micro-batch, ``H`` and ``W`` pixels of the model's pictures.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.kinds.media import ImageRole
from sftlib.encoders.base import Call, Draws, Encoder, Loaded, Rows
from sftlib.encoders.encoded import Encoded, Filed
from sftlib.encoders.image.augment import BILINEAR, Augmentation, Pixels, augmented
from sftlib.encoders.image.decode import decode
from sftlib.encoders.image.places import scaling
from sftlib.encoders.writer import Writer
from sftlib.errors import OptionError
from sftlib.models.files.folder import write_image_processor
from sftlib.models.memory import memory_limit

PIXELS = "pixel_values"

_PATCH = 16 * 16  # pixels that are counted as one
_BYTES_A_PATCH = 2**18  # a rule of thumb on the safe side: what layers keep of a patch for the backward pass
_SHARE, _MOST = 0.4, 2**13


@final
class ImageEncoder(Encoder):
    """An image processor, and how pictures are augmented in training.

    Args:
        processor: of transformers, without torchvision.
        augment: steps, in order; none to show every picture as it is in evaluation.
    """

    unit = "patch"
    hands = "pixel_values (rows, channels, height, width)"
    slow = True

    def __init__(self, processor: Any, augment: Sequence[Augmentation] = ()) -> None:
        self.processor = processor
        self.augment = tuple(augment)
        empty: Pixels = np.zeros((32, 48, 3), np.uint8)
        height, width = self._processed(empty).shape[-2:]
        self.size = (int(height), int(width))

    @property
    def draws(self) -> bool:
        return bool(self.augment)

    # What has to agree with the model.

    def settle(self, model: nn.Module, *, markers: Sequence[str], seed: int) -> Sequence[int]:
        if markers:
            raise OptionError(f"this task marks words ({', '.join(markers)}), and the model reads pictures")
        try:
            self.agree(model)
        except ValueError as error:
            raise OptionError(str(error)) from None
        return ()

    def agree(self, model: nn.Module) -> None:
        wanted = size_of(getattr(model, "config", None))
        if wanted is not None and wanted != self.size:
            raise ValueError(
                f"this model reads pictures of {wanted[0]} x {wanted[1]} pixels, and its inputs are "
                f"{self.size[0]} x {self.size[1]}: leave Image(size=...) out, or give the model's own"
            )

    def check(self, model: nn.Module, encoded: Encoded) -> None:
        """Pictures were read to their end when the data set was made, and any of them can be brought to size."""

    # Batches.

    def write(self, values: Mapping[str, Sequence[Any]], writer: Writer) -> None:
        (pictures,) = values.values()
        patches = max(1, self.size[0] * self.size[1] // _PATCH)
        writer.refer({PIXELS: Filed(pictures, ImageRole(seen={}).identity)}, np.full(len(pictures), patches, np.int64))

    def load(self, encoded: Encoded, rows: Rows, draws: Draws | None) -> Loaded:
        pictures = encoded.inputs[PIXELS]
        assert isinstance(pictures, Filed)
        decoded = [decode(pictures[int(row)]) for row in rows]
        if draws is None or not self.augment:
            whole = np.concatenate([self._processed(pixels) for pixels in decoded])
            moved = [scaling(pixels.shape[:2], self.size) for pixels in decoded] if self.shows_all else None
            return Loaded({PIXELS: whole}, None if moved is None else np.stack(moved))
        resample = int(getattr(self.processor, "resample", BILINEAR) or BILINEAR)
        shown = [
            augmented(pixels, self.augment, draws(int(row)), size=self.size, resample=resample)
            for row, pixels in zip(rows, decoded, strict=True)
        ]
        fitting = [self._processed(picture.pixels, fits=picture.pixels.shape[:2] == self.size) for picture in shown]
        moved = [scaling(picture.pixels.shape[:2], self.size) @ picture.moved for picture in shown]
        return Loaded({PIXELS: np.concatenate(fitting)}, np.stack(moved))

    @property
    def shows_all(self) -> bool:
        """Whether the processor shows a picture from edge to edge, so that it is known where each place went."""
        on = [bool(getattr(self.processor, name, False)) for name in ("do_resize", "do_center_crop", "do_pad")]
        size: Any = getattr(self.processor, "size", None)
        fixed = hasattr(size, "get") and bool(size.get("height")) and bool(size.get("width"))
        return on == [True, False, False] and fixed

    def _processed(self, pixels: Pixels, *, fits: bool = False) -> NDArray[np.float32]:
        """(1, 3, H, W) of one picture by itself; one that has its size already is only normalised."""
        options = {"do_resize": False, "do_center_crop": False, "do_pad": False} if fits else {}
        taken = {name: value for name, value in options.items() if hasattr(self.processor, name)}
        found = self.processor.preprocess([pixels], return_tensors="np", input_data_format="channels_last", **taken)
        return np.asarray(found[PIXELS], np.float32)

    def lay_out(self, loaded: Loaded) -> dict[str, Tensor]:
        """``pixel_values`` (B, 3, H, W) float32."""
        return {PIXELS: torch.from_numpy(loaded.inputs[PIXELS])}

    def calling(self, model: nn.Module) -> Call:
        parameters = inspect.signature(model.forward).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) or PIXELS in parameters:
            extra = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
            names = None if extra else set(parameters)
            return lambda module, inputs: module(**{k: v for k, v in inputs.items() if names is None or k in names})
        return lambda module, inputs: module(inputs[PIXELS])

    def smallest(self) -> dict[str, Tensor]:
        return {PIXELS: torch.zeros(1, 3, *self.size)}

    def room(self, model: nn.Module, device: torch.device, *, checkpointing: bool) -> int:
        return max(1, min(_MOST, int(_SHARE * memory_limit(device) / _BYTES_A_PATCH)))

    # Folders.

    def key(self) -> None:
        """What is written is a reference, which takes no time: nothing is kept."""

    def save(self, folder: Path) -> None:
        write_image_processor(self.processor, folder)

    @property
    def facts(self) -> dict[str, Any]:
        return {"size": list(self.size)}

    @property
    def limit(self) -> str:
        return f"{self.size[0]} x {self.size[1]} pixels"

    @property
    def given(self) -> dict[str, Any]:
        from sftlib.encoders.image.inputs import Image

        return {"inputs": Image(processor=self.processor, augment=self.augment)}

    def is_one(self, given: object) -> bool:
        picture = hasattr(given, "getbands")  # as pillow's images have
        return picture or isinstance(given, str | PathLike | bytes | np.ndarray)


def size_of(config: Any) -> tuple[int, int] | None:
    """Height and width that a model of patches was made for; None where it takes any."""
    size = getattr(config, "image_size", None)
    if size is None or getattr(config, "patch_size", None) is None:
        return None  # convolutions take any size, whatever their config says
    pair = (size, size) if isinstance(size, int) else tuple(size)
    return pair if len(pair) == 2 and all(isinstance(side, int) for side in pair) else None
