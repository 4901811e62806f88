"""Sounds in, tensors out: decoded, resampled, cut, drawn and brought into form when a batch needs them.

In evaluation a sound goes through the model's own feature extractor, by itself, and nothing else, so that a saved
folder's pipeline gives the same scores and no batch can change them.

Letters: ``B`` rows of a micro-batch, ``S`` samples, ``T`` values of the longest row, ``F`` the shape of one value.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.problems import listed_rows
from sftlib.data.sounds import Samples, digest_of_value
from sftlib.encoders.audio.augment import Augmentation, Axes, FeatureAugmentation, SampleAugmentation, window_of
from sftlib.encoders.audio.decode import decode, length_of, resampled_length
from sftlib.encoders.audio.pieces import Cuts, Piece, Pieces, cuts, identified
from sftlib.encoders.audio.preview import SoundPreview
from sftlib.encoders.base import Call, Draws, Encoder, Loaded, Rows
from sftlib.encoders.draws import Draw
from sftlib.encoders.encoded import Encoded, Filed
from sftlib.encoders.writer import Writer
from sftlib.errors import DataError, OptionError
from sftlib.models.feature_extractors import of_seconds
from sftlib.models.files.folder import write_feature_extractor, write_tokenizer
from sftlib.models.layouts.layout import Layout, unpacked_layout
from sftlib.models.layouts.norms_over_time import RowByRow, frames_after, norms_over_time
from sftlib.models.memory import memory_limit

MASK = "attention_mask"

_COST_A_SECOND = 50  # as many frames as most models hear in a second
_BYTES_A_FRAME = 2**21  # a rule of thumb on the safe side: what layers keep of a frame for the backward pass
_SHARE, _MOST = 0.4, 2**14
_ROOM = 1.1  # of the longest sound to learn from, for those that are judged later
_HOP = 0.01  # seconds from one line of a spectrogram to the next


@final
class AudioEncoder(Encoder):
    """A feature extractor, and how much of a sound a model hears at once.

    Args:
        extractor: of transformers, or of its make.
        seconds: of what is shown of a sound in training; None for all of it.
        longest: seconds of what goes through the model at once in evaluation; of what the extractor makes if that is
            less.
        overlap: seconds that two pieces of a longer sound share.
        augment: steps, in order; none to show every sound as it is in evaluation.
        texts: opens the tokenizer of what is said, where a task asks for it.

    Attributes:
        rate: samples of a second that the model hears.
        name: of the model's input.
        fixed: whether the extractor makes the same of a sound of any length, with silence at its end.
    """

    unit = "frame"
    hands = "samples (rows, samples), or a spectrogram, with the feature extractor's own name"
    slow = True

    def __init__(
        self,
        extractor: Any,
        *,
        seconds: float | None = None,
        longest: float = 30.0,
        overlap: float = 5.0,
        augment: Sequence[Augmentation] = (),
        texts: Callable[[], Any] = lambda: None,
    ) -> None:
        self.texts = texts
        self.augment = tuple(augment)
        self.seconds, self.longest, self.overlap = seconds, longest, overlap
        self._use(extractor)
        self._said_rates = False
        self.tokenizer: Any = None  # of what is said in a sound, where a task reads or writes that
        self._steps: list[tuple[int, int]] = []

    def _use(self, extractor: Any) -> None:
        self.extractor = extractor
        self.rate = int(extractor.sampling_rate)
        self.name = str(extractor.model_input_names[0])
        short, long = (self.features(np.zeros(self.rate // part, np.float32)).shape for part in (2, 1))
        self.fixed = short == long
        most = _most_samples(extractor) if self.fixed else None
        asked = round(self.longest * self.rate)
        self.piece = asked if most is None else min(most, asked)
        self.shared = min(round(self.overlap * self.rate), self.piece // 2)

    @property
    def draws(self) -> bool:
        return self.seconds is not None or bool(self.augment)

    # What has to agree with the model.

    def settle(self, model: nn.Module, *, markers: Sequence[str], seed: int) -> Sequence[int]:
        if markers:
            raise OptionError(f"this task marks words ({', '.join(markers)}), and the model hears sounds")
        self.reshape(model)
        try:
            self.agree(model)
        except ValueError as error:
            raise OptionError(str(error)) from None
        return ()

    def keep_whole(self) -> None:
        """Show sounds as wholes in training too, as what is said in them asks for; `seconds` is then the longest."""
        if self.seconds is not None:
            self.longest, self.seconds = min(self.longest, self.seconds), None
            self._use(self.extractor)

    def fit_to(self, model: nn.Module, longest: float) -> None:
        """Let a model of Whisper's kind, which fills every sound up, hear no more than there is to learn from.

        Sounds of half the window or more leave it as it is, and so does whoever said how many seconds it is to hear.
        Where the window is cut, the table of positions is, and a little more than the longest sound is left.

        Args:
            model: with its head.
            longest: seconds of the longest sound to learn from.
        """
        window = _most_samples(self.extractor) or self.piece
        heard = min(longest, self.longest)  # longer ones go through the model in pieces
        if self.seconds is None and self.fixed and heard < window / self.rate / 2:
            self._use(of_seconds(self.extractor, max(1, math.ceil(_ROOM * heard))))
            self.reshape(model)

    def reshape(self, model: nn.Module) -> None:
        """Cut the positions of a model of Whisper's kind to what the extractor makes."""
        encoder = _positioned(model)
        if encoder is None or not self.fixed:
            return
        wanted = self.features(np.zeros(self.rate, np.float32)).shape[-1] // 2  # the second convolution has stride 2
        table: nn.Embedding = encoder.embed_positions
        if wanted >= table.num_embeddings:
            return
        cut = nn.Embedding(wanted, table.embedding_dim, device=table.weight.device, dtype=table.weight.dtype)
        cut.weight = nn.Parameter(table.weight.detach()[:wanted].clone(), requires_grad=table.weight.requires_grad)
        encoder.embed_positions = cut
        configs: dict[int, Any] = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
        for config in configs.values():
            config.max_source_positions = wanted
        for part in model.modules():
            if "max_source_positions" in vars(part):
                setattr(part, "max_source_positions", wanted)  # noqa: B010 - mypy takes it for a weight

    def agree(self, model: nn.Module) -> None:
        self._steps = _convolutions(model)
        wanted = getattr(model, "main_input_name", self.name)
        if hasattr(model, "config") and wanted != self.name:
            raise ValueError(
                f"this model reads {wanted}, and its inputs are {self.name}: give its own feature extractor, "
                "Audio(processor=...)"
            )
        shape = self.features(np.zeros(self.rate, np.float32)).shape
        numbering = _positioned(model)
        positions = 0 if numbering is None else numbering.embed_positions.num_embeddings
        if numbering is not None and positions != shape[-1] // 2:
            raise ValueError(
                f"this model hears {positions} positions, and its feature extractor makes {shape[-1] // 2}: "
                "leave Audio(seconds=...) out, or give a number that is no larger than the model's own"
            )
        bins = getattr(getattr(model, "config", None), "num_mel_bins", None)
        if self.fixed and isinstance(bins, int) and bins not in shape:
            raise ValueError(
                f"this model reads {bins} bands of a spectrogram, and its feature extractor makes {shape}: "
                "give its own feature extractor, Audio(processor=...)"
            )

    def check(self, model: nn.Module, encoded: Encoded) -> None:
        """Refuse sounds that are too short for the model's first layers.

        Raises:
            DataError: with every row.
        """
        steps, spans = _convolutions(model), self.spans(encoded)
        if self.fixed or not steps:
            return
        samples = spans[:, 1] - spans[:, 0]
        short = np.flatnonzero(frames_after(torch.from_numpy(samples), steps).numpy() < 1)
        if len(short):
            least = next(n for n in range(1, 2**20) if int(frames_after(torch.tensor(n), steps)) > 0)
            rows = encoded.owners[short].tolist()
            raise DataError(
                f"{listed_rows(rows)}: fewer samples at {self.rate:,} a second than the {least:,} that the model's "
                f"first layers need (found {int(samples[short].min()):,}); drop these rows"
            )

    # Batches.

    def write(self, values: Mapping[str, Sequence[Any]], writer: Writer) -> None:
        first = next(iter(values))
        made = {role: self._cuts(sounds, alone=len(values) == 1) for role, sounds in values.items()}
        columns = {
            self.name + role.removeprefix(first): Filed(Pieces(values[role], *cut), identified(digest_of_value))
            for role, cut in made.items()
        }
        cost = np.sum([np.maximum(1, self._frames(self._heard(cut))) for cut in made.values()], axis=0)
        writer.refer(columns, cost, owners=made[first].owners)

    def _cuts(self, sounds: Sequence[Any], *, alone: bool) -> Cuts:
        """Where sounds are cut; of those that stand in pairs, the beginnings."""
        lengths = [length_of(sound) for sound in sounds]
        self._say_rates([length.rate for length in lengths])
        samples = [resampled_length(length, self.rate) for length in lengths]
        if alone:
            return cuts(samples, self.piece, self.shared)
        return cuts([min(count, self.piece) for count in samples], self.piece, self.shared)

    def _heard(self, cut: Cuts) -> NDArray[np.int64]:
        """(P,) samples of each piece, as the model hears it."""
        return np.full(len(cut.owners), self.piece, np.int64) if self.fixed else cut.stops - cut.starts

    def spans(self, encoded: Encoded) -> NDArray[np.int64]:
        """(P, 2) the first sample of each piece, and the one behind its last."""
        pieces = encoded.inputs[self.name]
        assert isinstance(pieces, Filed)
        return np.array([pieces[row][1:3] for row in range(len(pieces))], np.int64).reshape(-1, 2)

    def heard(self, spans: NDArray[np.int64]) -> NDArray[np.float64]:
        """(P, 2) seconds at which the first frame of a piece begins and its last one ends, in its sound.

        Of a piece that is filled up there are frames of the silence behind it too.

        Args:
            spans: (P, 2) the first sample of each piece, and the one behind its last.
        """
        lengths, filled = spans[:, 1] - spans[:, 0], _most_samples(self.extractor) if self.fixed else None
        if filled is not None:
            lengths = np.full(len(spans), filled)
        elif self._steps and not self.fixed:
            lengths = self._frames(lengths) * math.prod(stride for _, stride in self._steps)
        return np.stack([spans[:, 0], spans[:, 0] + lengths], axis=1) / self.rate

    def _frames(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """(P,) how many frames the model makes of so many samples, or about so many."""
        if self.fixed or not self._steps:
            return samples * _COST_A_SECOND // self.rate
        found: NDArray[np.int64] = frames_after(torch.from_numpy(samples), self._steps).numpy()
        return found

    def frames(self, samples: NDArray[np.int64]) -> list[int] | None:
        """How many frames the model makes at least of so many samples in training; None where nobody can say.

        Args:
            samples: (P,)
        """
        if self.fixed or not self._steps:
            return None
        left = samples if self.seconds is None else np.minimum(samples, round(self.seconds * self.rate))
        for step in self.augment:
            left = np.floor(left * step.shortest).astype(np.int64)
        found: list[int] = self._frames(left).tolist()
        return found

    def _say_rates(self, rates: Sequence[int]) -> None:
        """Say once that sounds are resampled: telephone speech has lost what a model of 16 kHz listens for."""
        others = sorted({rate for rate in rates if rate != self.rate})
        if others and not self._said_rates:
            self._said_rates = True
            count = sum(rate != self.rate for rate in rates)
            told = ", ".join(f"{rate:,}" for rate in others[:5])
            logging.getLogger("sftlib").warning(
                "%s resampled to %s Hz, at which the model hears (found: %s Hz)",
                "1 sound is" if count == 1 else f"{count:,} sounds are",
                f"{self.rate:,}",
                told,
            )

    def load(self, encoded: Encoded, rows: Rows, draws: Draws | None) -> Loaded:
        found = {}
        for side, (name, pieces) in enumerate(encoded.inputs.items()):
            assert isinstance(pieces, Filed)
            beyond = side * len(encoded)  # the second sound of a row has draws of its own
            found[name] = [
                self._shown(pieces[int(row)], None if draws is None else draws(int(row) + beyond)) for row in rows
            ]
        return Loaded(found)

    def unread(self, encoded: Encoded, rows: Rows) -> Loaded:
        """Of samples their number, which is known without reading any; of spectrograms nothing at all."""
        if self.features(np.zeros(self.rate, np.float32)).ndim > 1 and not self.fixed:
            return self.load(encoded, rows, None)
        shape = self.features(np.zeros(self.rate, np.float32)).shape
        found = {}
        for name, pieces in encoded.inputs.items():
            assert isinstance(pieces, Filed)
            spans = [pieces[int(row)][1:3] for row in rows]
            shapes = [shape if self.fixed else (stop - start,) for start, stop in spans]
            found[name] = [np.broadcast_to(np.float32(np.nan), form) for form in shapes]
        return Loaded(found)

    def _shown(self, piece: Piece, draw: Draw | None) -> NDArray[np.float32]:
        """What the model hears of a piece: as it is, or as it is drawn for a row and an epoch."""
        samples = decode(piece.sound, self.rate)[piece.start : piece.stop]
        if draw is None:
            return self.features(samples)
        if self.seconds is not None:
            samples = window_of(samples, round(self.seconds * self.rate), draw)
        for step in self.augment:
            if isinstance(step, SampleAugmentation):
                samples = step.of_samples(samples, draw, rate=self.rate)
        found = self.features(samples[: self.piece])
        for step in self.augment:
            if isinstance(step, FeatureAugmentation):
                found = step.of_features(found, draw, axes=self.axes(found))
        return found

    def axes(self, found: NDArray[np.float32]) -> Axes:
        """Whisper's kind has bands first and then time; all others the other way round."""
        if found.ndim == 1:
            return Axes(0, None)
        return Axes(1, 0) if self.fixed and self.name == "input_features" else Axes(0, 1)

    def features(self, samples: Samples) -> NDArray[np.float32]:
        """What the extractor makes of one sound: (S,), or of shape ``F`` where it fills up.

        Args:
            samples: (S,) at the model's rate.
        """
        found = self.extractor(samples, sampling_rate=self.rate, return_tensors="np")
        return np.asarray(found[self.name][0], np.float32)

    def lay_out(self, loaded: Loaded) -> dict[str, Tensor]:
        """The input (B, T, *F) float32; and ``attention_mask`` (B, T), 1 where a value stands, where lengths differ.

        Of rows with two sounds the second has the same under names with ``_pair``.
        """
        found: dict[str, Tensor] = {}
        for name, rows in loaded.inputs.items():
            if self.fixed:
                found[name] = torch.from_numpy(np.stack(rows))
                continue
            longest = max(len(row) for row in rows)
            values = np.zeros((len(rows), longest, *rows[0].shape[1:]), np.float32)
            mask = np.zeros((len(rows), longest), np.int64)
            for i, row in enumerate(rows):
                values[i, : len(row)], mask[i, : len(row)] = row, 1
            found[name] = torch.from_numpy(values)
            found[MASK + name.removeprefix(self.name)] = torch.from_numpy(mask)
        return found

    def calling(self, model: nn.Module) -> Call:
        parameters = inspect.signature(model.forward).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return lambda module, inputs: module(**inputs)
        if self.name in parameters:
            return lambda module, inputs: module(**{k: v for k, v in inputs.items() if k in parameters})
        masked = MASK in parameters
        return lambda module, inputs: module(inputs[self.name], **({MASK: inputs[MASK]} if masked else {}))

    def smallest(self) -> dict[str, Tensor]:
        return self.lay_out(Loaded({self.name: [self.features(np.zeros(self.rate, np.float32))]}))

    def layout(self, model: nn.Module, run: Any, *, padding_free: bool | None) -> tuple[Layout, str]:
        own = unpacked_layout(model)
        return (RowByRow(own) if norms_over_time(model) else own), ""

    def room(self, model: nn.Module, device: torch.device, *, checkpointing: bool, parts: int = 1) -> int:
        return max(1, min(_MOST, int(_SHARE * memory_limit(device) / _BYTES_A_FRAME)))

    # Folders.

    def key(self) -> None:
        """What is written is a reference, which takes no time: nothing is kept."""

    def save(self, folder: Path) -> None:
        write_feature_extractor(self.extractor, folder)
        if self.tokenizer is not None:
            write_tokenizer(self.tokenizer, folder)

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "sampling_rate": self.rate,
            "longest": float(self.longest),
            "overlap": float(self.overlap),
            "tokenizer": self.tokenizer is not None,
        }

    @property
    def limit(self) -> str:
        return f"{self.piece / self.rate:g} s at once, longer sounds in pieces"

    def preview(self, encoded: Encoded, said: str = "") -> SoundPreview:
        """The first piece of the first row, as it is heard in evaluation."""
        pieces = encoded.inputs[self.name]
        assert isinstance(pieces, Filed)
        piece = pieces[0]
        samples = decode(piece.sound, self.rate)[piece.start : piece.stop]
        return SoundPreview(samples, self.rate, self.features(samples).shape, label=said)

    @property
    def given(self) -> dict[str, Any]:
        from sftlib.encoders.audio.inputs import Audio

        inputs = Audio(
            processor=self.extractor,
            seconds=self.seconds,
            longest=self.longest,
            overlap=self.overlap,
            augment=self.augment or "none",
            tokenizer=self.tokenizer,
        )
        return {"inputs": inputs}

    def is_one(self, given: object) -> bool:
        return isinstance(given, str | PathLike | bytes | np.ndarray)  # the last is refused, but as one sound


def _most_samples(extractor: Any) -> int | None:
    """The most samples of which an extractor that fills up leaves nothing out; None where it does not say."""
    if isinstance(most := getattr(extractor, "n_samples", None), int):
        return most
    if isinstance(lines := getattr(extractor, "max_length", None), int):
        return int((lines - 1) * _HOP * extractor.sampling_rate) + 1
    return None


def _positioned(model: nn.Module) -> Any:
    """The part of a model of Whisper's kind that numbers positions of sound; None in others."""
    for module in model.modules():
        table = getattr(module, "embed_positions", None)
        if hasattr(module, "conv1") and hasattr(module, "conv2") and isinstance(table, nn.Embedding):
            return module
    return None


def _convolutions(model: nn.Module) -> list[tuple[int, int]]:
    """Kernels and strides of the convolutions that turn samples into frames; empty where there are none."""
    config = getattr(model, "config", None)
    kernels, strides = (getattr(config, name, None) for name in ("conv_kernel", "conv_stride"))
    if not isinstance(kernels, list | tuple) or not isinstance(strides, list | tuple):
        return []
    return [(int(kernel), int(stride)) for kernel, stride in zip(kernels, strides, strict=True)]
