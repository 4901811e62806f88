"""Pictures in, tensors out: decoded, drawn and normalised when a batch needs them.

In evaluation a picture goes through the model's own image processor and nothing else, so that a saved folder's pipeline
gives the same scores. In training it is augmented to the size that the processor makes, and normalised by it.

Letters: ``B`` rows of a micro-batch, ``H`` and ``W`` pixels of the model's pictures.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.kinds.media import ImageRole
from sftlib.data.pixels import decode
from sftlib.encoders.base import Call, Draws, Encoder, Loaded, Mixed, Rows
from sftlib.encoders.draws import Draw
from sftlib.encoders.encoded import Encoded, Filed
from sftlib.encoders.image.augment import BILINEAR, Augmentation, Moved, Pixels, augmented
from sftlib.encoders.image.mixing import Mixing, chosen, partner
from sftlib.encoders.image.places import scaling
from sftlib.encoders.writer import Writer
from sftlib.errors import OptionError
from sftlib.models.attempts import attempt
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
        yields: whether nobody asked for these steps, so that they may be left out.
        mixings: ways of putting two pictures into one, of which each picture is shown one; none to show it alone.

    Raises:
        OptionError: the processor makes something else than pictures of one size.
    """

    unit = "patch"
    hands = "pixel_values (rows, channels, height, width)"
    slow = True

    def __init__(
        self,
        processor: Any,
        augment: Sequence[Augmentation] = (),
        *,
        yields: bool = False,
        mixings: Sequence[Mixing] = (),
    ) -> None:
        self.processor = processor
        self.augment = tuple(augment)
        self.mixings = tuple(mixings)
        self._yields = yields
        self.size = self._size()

    @property
    def draws(self) -> bool:
        return bool(self.augment or self.mixings)

    @property
    def mixes(self) -> bool:
        return bool(self.mixings)

    def still(self) -> ImageEncoder:
        return ImageEncoder(self.processor) if self._yields and not self.mixings else self

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
        wanted = native_size(getattr(model, "config", None))
        if wanted in (None, self.size):
            return
        tried = attempt(lambda: self._called(model), kinds=(Exception,))  # DINOv2 and others take any size
        if tried.value is None:
            assert wanted is not None
            raise ValueError(
                f"this model reads pictures of {wanted[0]} x {wanted[1]} pixels, and its inputs are "
                f"{self.size[0]} x {self.size[1]}: leave Image(size=...) out, or give the model's own"
            )

    def _called(self, model: nn.Module) -> bool:
        """Whether a model takes a picture of this size, which it says by not complaining."""
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                self.calling(model)(model, self.smallest())
        finally:
            model.train(was_training)
        return True

    def check(self, model: nn.Module, encoded: Encoded) -> None:
        """Pictures were read to their end when the data set was made, and any of them can be brought to size."""

    # Batches.

    def write(self, values: Mapping[str, Sequence[Any]], writer: Writer) -> None:
        first, identify = next(iter(values)), ImageRole(seen={}).digest
        columns = {PIXELS + role.removeprefix(first): Filed(pictures, identify) for role, pictures in values.items()}
        patches = max(1, self.size[0] * self.size[1] // _PATCH) * len(columns)
        writer.refer(columns, np.full(len(values[first]), patches, np.int64))

    def load(self, encoded: Encoded, rows: Rows, draws: Draws | None) -> Loaded:
        found, moved = {}, []
        for side, (name, pictures) in enumerate(encoded.inputs.items()):
            assert isinstance(pictures, Filed)
            # The second picture of a row has draws of its own.
            each = None if draws is None else [draws(int(row) + side * len(encoded)) for row in rows]
            found[name], moves = self._read([pictures[int(row)] for row in rows], each)
            moved += [] if moves is None else [moves]
        whole = Loaded(found, moved[0] if moved else None)
        return whole if draws is None or not self.mixings else self._mixed(encoded, rows, draws, whole)

    def _read(
        self, pictures: Sequence[Any], draws: Sequence[Draw] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
        """(B, 3, H, W) pictures as the model sees them, and (B, 3, 3) how they were moved, where that is known."""
        decoded = [decode(picture) for picture in pictures]
        if draws is None or not self.augment:
            moves = self._moves(decoded, [np.eye(3)] * len(decoded)) if self.shows_all else None
            return np.concatenate([self._processed(pixels) for pixels in decoded]), moves
        shown = self._shown(decoded, draws)
        whole = [
            self._processed(new.pixels, fits=self._fits(old, new)) for old, new in zip(decoded, shown, strict=True)
        ]
        moves = self._moves([picture.pixels for picture in shown], [picture.moved for picture in shown])
        return np.concatenate(whole), moves

    def _mixed(self, encoded: Encoded, rows: Rows, draws: Draws, loaded: Loaded) -> Loaded:
        """The same, with a partner in every picture."""
        (name, own), *_ = loaded.inputs.items()
        pictures, each = encoded.inputs[name], [draws(int(row)) for row in rows]
        assert isinstance(pictures, Filed)
        partners = np.array([partner(int(row), len(encoded), draw) for row, draw in zip(rows, each, strict=True)])
        seen = dict(zip(rows.tolist(), own, strict=True))  # a partner that is here already is not read again
        missing = [row for row in np.unique(partners).tolist() if row not in seen]
        if missing:
            others = self._read([pictures[row] for row in missing], [draws(row) for row in missing])[0]
            seen.update(zip(missing, others, strict=True))
        both = [
            chosen(self.mixings, draw)(one, seen[other], draw)
            for one, other, draw in zip(own, partners.tolist(), each, strict=True)
        ]
        mixed = Mixed(partners, np.array([share for _, share in both]))
        return replace(loaded, inputs={**loaded.inputs, name: np.stack([values for values, _ in both])}, mixed=mixed)

    def _moves(self, shown: Sequence[Pixels], moved: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """(B, 3, 3) how pictures are moved on their way, where the processor shows them from edge to edge."""
        return np.stack([scaling(p.shape[:2], self.size) @ one for p, one in zip(shown, moved, strict=True)])

    @property
    def shows_all(self) -> bool:
        """Whether the processor shows a picture from edge to edge, so that it is known where each place went."""
        on = [bool(getattr(self.processor, name, False)) for name in ("do_resize", "do_center_crop", "do_pad")]
        size: Any = getattr(self.processor, "size", None)
        fixed = hasattr(size, "get") and bool(size.get("height")) and bool(size.get("width"))
        return on == [True, False, False] and fixed

    def _fits(self, before: Pixels, shown: Moved) -> bool:
        """Whether an augmentation brought a picture to size, rather than that it came so and is to be cropped yet."""
        resized = any(step.resizes for step in self.augment) or before.shape != shown.pixels.shape
        return resized and shown.pixels.shape[:2] == self.size

    def _shown(self, decoded: Sequence[Pixels], draws: Sequence[Draw]) -> list[Moved]:
        """Pictures as they are shown in one epoch."""
        resample = int(getattr(self.processor, "resample", BILINEAR) or BILINEAR)
        return [
            augmented(pixels, self.augment, draw, size=self.size, resample=resample)
            for pixels, draw in zip(decoded, draws, strict=True)
        ]

    def unread(self, encoded: Encoded, rows: Rows) -> Loaded:
        nothing = torch.full((1, 1, 1, 1), torch.nan).expand(len(rows), 3, *self.size)
        return Loaded(dict.fromkeys(encoded.inputs, nothing))

    def _size(self) -> tuple[int, int]:
        """Height and width of all pictures that the processor makes."""
        name, shapes = type(self.processor).__name__, []
        for form in ((32, 48, 3), (48, 32, 3)):
            tried = attempt(partial(self._processed, np.zeros(form, np.uint8)), kinds=(Exception,))
            if tried.value is None or tried.value.ndim != 4 or tried.value.shape[1] != 3:
                made = f"an array of shape {tried.value.shape}" if tried.value is not None else tried.reason
                raise OptionError(
                    f"the image processor {name} makes no pictures of three channels ({made}); expected one that gives "
                    f"{PIXELS} (rows, 3, height, width): give another, Image(processor=...)"
                )
            shapes.append(tried.value.shape[2:])
        if shapes[0] != shapes[1]:
            raise OptionError(
                f"the image processor {name} makes pictures of different sizes, {_by(shapes[0])} of a wide one and "
                f"{_by(shapes[1])} of a high one, which cannot be laid out together: give one size, Image(size=224)"
            )
        return int(shapes[0][0]), int(shapes[0][1])

    def _processed(self, pixels: Pixels, *, fits: bool = False) -> NDArray[np.float32]:
        """(1, 3, H, W) of one picture by itself; one that has its size already is only normalised."""
        options = {"do_resize": False, "do_center_crop": False, "do_pad": False} if fits else {}
        taken = {name: value for name, value in options.items() if hasattr(self.processor, name)}
        found = self.processor.preprocess([pixels], return_tensors="np", input_data_format="channels_last", **taken)
        return np.asarray(found[PIXELS], np.float32)

    def pixels(self, values: Tensor) -> Pixels:
        """(H, W, 3) uint8 a picture as the model sees it, as people see it: whatever was made of black is black again.

        Args:
            values: (3, H, W) of `lay_out`.
        """
        black, white = (self._processed(np.full((*self.size, 3), level, np.uint8))[0, :, :1, :1] for level in (0, 255))
        reach = np.where(white == black, 1.0, white - black)  # (3, 1, 1)
        shown = 255 * (values.float().cpu().numpy() - black) / reach
        return np.ascontiguousarray(np.rint(np.clip(shown, 0, 255)).astype(np.uint8).transpose(1, 2, 0))

    def lay_out(self, loaded: Loaded) -> dict[str, Tensor]:
        """``pixel_values`` (B, 3, H, W) float32, and ``pixel_values_pair`` of rows with two pictures."""
        return {name: torch.as_tensor(found) for name, found in loaded.inputs.items()}

    def calling(self, model: nn.Module) -> Call:
        parameters = inspect.signature(model.forward).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) or PIXELS in parameters:
            extra = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
            names = None if extra else set(parameters)
            return lambda module, inputs: module(**{k: v for k, v in inputs.items() if names is None or k in names})
        return lambda module, inputs: module(inputs[PIXELS])

    def smallest(self) -> dict[str, Tensor]:
        return {PIXELS: torch.zeros(1, 3, *self.size)}

    def room(self, model: nn.Module, device: torch.device, *, checkpointing: bool, parts: int = 1) -> int:
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

        augment = "auto" if self._yields else self.augment
        alphas: dict[str, Any] = {way.use: way.alpha for way in self.mixings}
        return {"inputs": Image(processor=self.processor, augment=augment, **alphas)}

    def is_one(self, given: object) -> bool:
        picture = hasattr(given, "getbands")  # as pillow's images have
        return picture or isinstance(given, str | PathLike | bytes | np.ndarray)


def _by(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"


def size_of(config: Any) -> Any:
    """What a config says of the size of pictures, its own or that of its part that sees; None where it says nothing."""
    found = getattr(config, "image_size", None)
    return getattr(getattr(config, "vision_config", None), "image_size", None) if found is None else found


def native_size(config: Any) -> tuple[int, int] | None:
    """Height and width that a model of patches was made for; None where it takes any."""
    size, part = size_of(config), getattr(config, "vision_config", config)
    if size is None or getattr(part, "patch_size", None) is None:
        return None  # convolutions take any size, whatever their config says
    pair = (size, size) if isinstance(size, int) else tuple(size)
    return pair if len(pair) == 2 and all(isinstance(side, int) for side in pair) else None
