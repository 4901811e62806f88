"""A model and one input, with a dial for each piece of it: 1 leaves the piece as it is, 0 takes it away.

What every method of explaining needs is a function of dials, and its gradient. How a piece is taken away is a matter of
the input: a token's vector is moved to that of the mask, a place of a picture to its mean colour, a moment of a sound
to silence.

Letters: ``B`` settings of the dials, ``P`` pieces, ``T`` tokens, ``H`` width, ``C`` channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sftlib.encoders.audio.encoder import AudioEncoder
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.errors import OptionError
from sftlib.explain.pieces import Places
from sftlib.models.layouts.layout import SideBySide
from sftlib.models.precision import Fp32
from sftlib.run.fitted import Fitted

_COST_OF_A_PASS = 2**12  # with a graph; a bound on memory that never changes a result
Read = Callable[[Any, Batch], Tensor]


class Dials(ABC):
    """A model of one input as a function of dials.

    Args:
        fitted: the model.
        encoded: the input, one row.
        pieces: how many dials there are.
    """

    def __init__(self, fitted: Fitted, encoded: Encoded, pieces: int) -> None:
        self.pieces = pieces
        self.batch = fitted.feed(encoded).of(np.zeros(1, np.int64))
        self._forward = fitted.forward(SideBySide(), Fp32())  # the model by itself: what a graph can be had of
        self._rows = max(1, _COST_OF_A_PASS // max(1, int(encoded.cost[0])))

    @abstractmethod
    def turned(self, batch: Batch, dials: Tensor) -> Any:
        """A context in which the model sees a batch as the dials stand; gives the batch to call it with.

        Args:
            batch: the input, ``B`` times.
            dials: (B, P)
        """

    def values(self, dials: Tensor, *reads: Read) -> list[Tensor]:
        """What is read of the model's answer to each setting, without gradients.

        Args:
            dials: (B, P)
            reads: answer and batch -> (B, ...)

        Returns:
            (B, ...) for each of ``reads``, in double precision.
        """
        parts = []
        with torch.no_grad():
            for some in torch.split(dials, self._rows):
                outputs, batch = self._answer(some)
                parts.append([read(outputs, batch).double().cpu() for read in reads])
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    def ends(self, *reads: Read) -> list[Tensor]:
        """What is read of the answers to the input as it is, and to nothing of it, which are asked for once.

        Args:
            reads: answer and batch -> (2, ...)

        Returns:
            (2, ...) for each of ``reads``, in double precision.
        """
        with torch.no_grad():
            return [read(*self._ends).double().cpu() for read in reads]

    @cached_property
    def _ends(self) -> tuple[Any, Batch]:
        with torch.no_grad():
            return self._answer(torch.stack([torch.ones(self.pieces), torch.zeros(self.pieces)]))

    def gradients(self, dials: Tensor, read: Read) -> Tensor:
        """(B, P) how what is read changes with each dial, in double precision."""
        found = []
        with torch.enable_grad():
            for some in torch.split(dials, self._rows):
                turned = some.detach().clone().requires_grad_(True)
                outputs, batch = self._answer(turned)
                (slope,) = torch.autograd.grad(read(outputs, batch).sum(), turned)
                found.append(slope.double().cpu())
        return torch.cat(found)

    def _answer(self, dials: Tensor) -> tuple[Any, Batch]:
        count = len(dials)

        def so_often(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.expand(count, *value.shape[1:]) for name, value in columns.items()}

        one, device = self.batch.at_hand, self.batch.rows.device
        batch = replace(
            one,
            rows=one.rows.expand(count),
            cost=one.cost.expand(count),
            inputs=so_often(one.inputs),
            targets=so_often(one.targets),
            notes=so_often(one.notes),
        ).to(device)
        dials = dials.to(device, torch.float32)
        with self._forward.prepared(), self.turned(batch, dials) as seen:
            return self._forward(seen), seen


@final
class _FoundError(Exception):
    """Ends a pass that nothing more is wanted of.

    Args:
        table: that was looked for.
    """

    def __init__(self, table: nn.Module) -> None:
        self.table = table


@final
class TokenDials(Dials):
    """A dial for each token: its vector moves from that of the baseline's token to its own.

    Args:
        fitted: the model; anything that looks tokens up in a table.
        encoded: the input, one row.
        places: of its tokens; control tokens have no dial that does anything.

    Raises:
        OptionError: a model that does not look tokens up in a table.
    """

    def __init__(self, fitted: Fitted, encoded: Encoded, places: Places) -> None:
        super().__init__(fitted, encoded, len(places.tokens))
        ids = self.batch.inputs["input_ids"]  # (1, T)
        self._away = torch.where(torch.from_numpy(places.texts >= 0)[None].to(ids.device), nothing(fitted.encoder), ids)
        self._table = self._find_table(fitted.model)

    def _find_table(self, model: nn.Module) -> nn.Module:
        """The first table in which the tokens themselves are looked up: found by looking on, up to there."""
        ids = self.batch.inputs["input_ids"]

        def look(module: nn.Module, args: tuple[Any, ...], _: Any) -> None:
            if args and isinstance(args[0], Tensor) and args[0].shape == ids.shape and bool((args[0] == ids).all()):
                raise _FoundError(module)

        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        hooks = [table.register_forward_hook(look) for table in tables]
        try:
            with torch.no_grad(), self._forward.prepared():
                self._forward(self.batch)
        except _FoundError as found:
            return found.table
        finally:
            for hook in hooks:
                hook.remove()
        raise OptionError(
            f"{type(model).__name__} looks its tokens up in no table of its own, so nothing can be moved step by "
            "step: explain(..., method='leave-one-out') replaces whole words"
        )

    @contextmanager
    def turned(self, batch: Batch, dials: Tensor) -> Iterator[Batch]:
        ids = batch.inputs["input_ids"]
        done: list[bool] = []

        def move(module: nn.Module, args: tuple[Any, ...], found: Tensor) -> Tensor:
            if done or args[0].shape != ids.shape:
                return found  # the second stack of an encoder-decoder, which reads what it writes
            done.append(True)
            away = module.forward(self._away)  # (1, T, H)
            moved: Tensor = away + dials[..., None].to(found.dtype) * (found - away)
            return moved

        hook = self._table.register_forward_hook(move)
        try:
            yield batch
        finally:
            hook.remove()


@final
class SwitchedTokens(Dials):
    """A switch for each token: it is there, or another stands in its place; for models that know no table.

    Args:
        fitted: any model that reads tokens.
        encoded: the input, one row.
        places: of its tokens.
    """

    def __init__(self, fitted: Fitted, encoded: Encoded, places: Places) -> None:
        super().__init__(fitted, encoded, len(places.tokens))
        self._is_text = torch.from_numpy(places.texts >= 0)
        self._nothing = nothing(fitted.encoder)

    @contextmanager
    def turned(self, batch: Batch, dials: Tensor) -> Iterator[Batch]:
        ids = batch.inputs["input_ids"]
        gone = (dials < 0.5) & self._is_text.to(ids.device)
        yield replace(batch, inputs={**batch.inputs, "input_ids": torch.where(gone, self._nothing, ids)})


@final
class FieldDials(Dials):
    """A dial for each field of a grid over a picture: its pixels move from the picture's mean colour to their own.

    Args:
        fitted: a model that reads pictures of one size.
        encoded: the picture, one row.
        grid: fields down and across.
    """

    def __init__(self, fitted: Fitted, encoded: Encoded, grid: tuple[int, int]) -> None:
        super().__init__(fitted, encoded, grid[0] * grid[1])
        self._grid = grid

    @contextmanager
    def turned(self, batch: Batch, dials: Tensor) -> Iterator[Batch]:
        pixels = batch.inputs["pixel_values"]  # (B, C, height, width)
        mean = pixels.mean(dim=(2, 3), keepdim=True)
        masks = functional.interpolate(dials.view(-1, 1, *self._grid), size=tuple(pixels.shape[2:]), mode="nearest")
        yield replace(batch, inputs={**batch.inputs, "pixel_values": mean + masks * (pixels - mean)})


@final
class TimeDials(Dials):
    """A dial for each stretch of a sound: what is heard there moves from the mean over time to what it is.

    Of samples the mean is silence; of a spectrogram it is the sound's usual colour, without anything that changes.

    Args:
        fitted: a model that hears sounds.
        encoded: the sound, one row.
        pieces: stretches of equal length.
        share: of what the model is shown that is the sound itself, before the silence that fills it up.
    """

    def __init__(self, fitted: Fitted, encoded: Encoded, pieces: int, share: float) -> None:
        super().__init__(fitted, encoded, pieces)
        assert isinstance(fitted.encoder, AudioEncoder)
        self._name = fitted.encoder.name
        heard = self.batch.inputs[self._name]  # (1, ...)
        self._axis = 1 + fitted.encoder.axes(heard[0].float().cpu().numpy()).time
        time = heard.shape[self._axis]
        self._real = max(1, min(time, round(share * time)))
        self._stretch = torch.arange(self._real, device=heard.device) * pieces // self._real  # (real,)

    @contextmanager
    def turned(self, batch: Batch, dials: Tensor) -> Iterator[Batch]:
        heard = batch.inputs[self._name]
        real = heard.narrow(self._axis, 0, self._real)
        beyond = heard.narrow(self._axis, self._real, heard.shape[self._axis] - self._real)
        mean = real.mean(dim=self._axis, keepdim=True)
        shape = [1] * heard.dim()
        shape[0], shape[self._axis] = len(dials), self._real
        moved = mean + dials[:, self._stretch].view(shape) * (real - mean)
        yield replace(batch, inputs={**batch.inputs, self._name: torch.cat([moved, beyond], dim=self._axis)})


def nothing(encoder: Any) -> int:
    """The token that stands for no word: the mask, or what fills rows up, or what is not known."""
    tokenizer = encoder.tokenizer
    candidates = (tokenizer.mask_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id, 0)
    return int(next(candidate for candidate in candidates if candidate is not None))


def settings(count: int, pieces: int, value: float = 1.0) -> NDArray[np.float32]:
    """(count, pieces) dials that all stand alike, to be turned."""
    return np.full((count, pieces), value, np.float32)
