"""How the inputs of rows become what a model sees.

A task says what is learned. An encoder says how inputs are read; they meet in the columns of `Encoded`. What a user
writes is a frozen value, an `Inputs`: ``Text(max_length=256)``. Opened for one model it is an `Encoder`: a tokenizer,
an image processor, with all that has to agree with the model.

Letters: ``N`` rows, ``B`` rows of a micro-batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.encoders.draws import Draw
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.text.unknown import UnknownSigns
from sftlib.encoders.writer import Writer
from sftlib.errors import OptionError
from sftlib.models.layouts.layout import Layout, unpacked_layout
from sftlib.models.sources import ModelSource

Rows = NDArray[np.int64]
Call = Callable[[nn.Module, Mapping[str, Any]], Any]
Draws = Callable[[int], Draw]  # of a row: what is drawn for it in this epoch


@dataclass(frozen=True, kw_only=True)
class Inputs(ABC):
    """How the inputs of rows are to be read, as a user writes it: a frozen value whose options are its fields."""

    @abstractmethod
    def open(self, source: ModelSource) -> Encoder:
        """The encoder of a model; `Encoder.settle` makes the two agree.

        Raises:
            OptionError: the model comes without one, and none was given.
            ArtifactError: it cannot be opened.
        """

    def pretraining(self, source: ModelSource, texts: list[str]) -> tuple[Inputs, list[str]]:
        """How a task of plain texts reads the same inputs, and those inputs as texts.

        Args:
            source: of the model that is to learn from them.
            texts: as the user gave them.
        """
        return self, texts

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> Encoder:
        """The encoder of a saved folder, which is verified already; nothing in it is executed.

        Args:
            folder: holds what `Encoder.save` wrote.
            facts: what `Encoder.facts` said.

        Raises:
            ValueError: files or facts ask for what they may not, or cannot be used.
        """

    @classmethod
    @abstractmethod
    def files(cls) -> frozenset[str]:
        """Names of the files that `Encoder.save` may write; a folder with any other is refused."""


@dataclass(frozen=True)
class Mixed:
    """Which other row is seen in each row, and how much.

    Attributes:
        partners: (B,) numbers of the rows that were mixed in.
        shares: (B,) how much of each row itself is seen, from 0 to 1; the rest is its partner.
    """

    partners: Rows
    shares: NDArray[np.float64]


@dataclass(frozen=True)
class Loaded:
    """What was read of a few rows, not yet laid out.

    Attributes:
        inputs: name -> what `Encoder.lay_out` makes tensors of.
        moved: (B, 3, 3) how the picture of each row was moved on its way, or None.
        mixed: what else is seen in each row; None where nothing is.
    """

    inputs: Mapping[str, Any]
    moved: NDArray[np.float64] | None = None
    mixed: Mixed | None = None


class Encoder(ABC):
    """Inputs of rows in, tensors for one model out.

    Attributes:
        unit: what a row's cost counts, for reports.
        hands: what it hands to a model, for messages.
        slow: whether `load` takes long enough to be done ahead of time in threads.
    """

    unit: ClassVar[str]
    hands: ClassVar[str]
    slow: ClassVar[bool] = False

    @property
    def draws(self) -> bool:
        """Whether `load` draws anything for a row in training, so that the row is another in every epoch."""
        return False

    @property
    def mixes(self) -> bool:
        """Whether `load` mixes rows in training, so that a row has the targets of two."""
        return False

    @abstractmethod
    def settle(self, model: nn.Module, *, markers: Sequence[str], seed: int) -> Sequence[int]:
        """Make a fresh model and this agree, for good.

        Args:
            model: with its head; may be changed.
            markers: signs that the task adds to what the model reads.
            seed: of what is drawn for them.

        Returns:
            The rows of the model's input table that are new.

        Raises:
            OptionError: they cannot agree.
        """

    def missing(self, markers: Sequence[str]) -> list[str]:
        """Those signs of a task that it does not know yet."""
        return list(markers)

    @abstractmethod
    def check(self, model: nn.Module, encoded: Encoded) -> None:
        """Refuse rows that the model cannot read.

        Raises:
            OptionError: saying what.
            DataError: with every row.
        """

    @abstractmethod
    def agree(self, model: nn.Module) -> None:
        """See that a saved model and this, which was read beside it, belong together.

        Raises:
            ValueError: they do not.
        """

    @abstractmethod
    def write(self, values: Mapping[str, Sequence[Any]], writer: Writer) -> None:
        """Write inputs, once and for all epochs; pure, and each row for itself.

        Args:
            values: role -> the values of all rows, in the order in which a task reads the roles.
            writer: takes them; of media a reference and a cost, no pixels.
        """

    @abstractmethod
    def load(self, encoded: Encoded, rows: Rows, draws: Draws | None) -> Loaded:
        """Read the inputs of some rows; pure, each row for itself, and safe in threads.

        Args:
            encoded: the data set.
            rows: (B,) row numbers.
            draws: of this epoch; None in evaluation, where nothing is drawn.
        """

    def unread(self, encoded: Encoded, rows: Rows) -> Loaded:
        """As `load`, of rows of which nothing is looked at any more, since what a model makes of them is known.

        Nothing need be read then; what stands in its place must not pass for a row, should it be looked at after all.
        """
        return self.load(encoded, rows, None)

    def still(self) -> Encoder:
        """The same without drawing, where nobody asked for it: for rows that are then computed once for all epochs."""
        return self

    @abstractmethod
    def lay_out(self, loaded: Loaded) -> dict[str, Tensor]:
        """Name -> (B, ...), what the model's ``forward`` takes."""

    @abstractmethod
    def calling(self, model: nn.Module) -> Call:
        """How to hand inputs to ``model.forward``: by keyword where it names them, else in order."""

    @abstractmethod
    def smallest(self) -> dict[str, Tensor]:
        """Inputs of one small row, for a look at how a model is built."""

    def layout(
        self, model: nn.Module, run: Callable[[Layout], Tensor], *, padding_free: bool | None
    ) -> tuple[Layout, str]:
        """How rows lie inside the model: its own way, with our dropout, unless an encoder knows a leaner one.

        Args:
            model: in evaluation mode.
            run: scores of a few rows, the largest among them, under a layout, in fp32 and without dropout.
            padding_free: whether to try rows end to end; None to decide by the model.

        Returns:
            The layout, and why rows do not lie end to end in it, where that was wanted.
        """
        return unpacked_layout(model), ""

    def visible(self, scores: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Scores without those that mean nothing and differ from layout to layout, such as those of padding."""
        return scores

    def room(self, model: nn.Module, device: torch.device, *, checkpointing: bool, parts: int = 1) -> int:
        """The cost that fits into a pass; a bound on memory that never changes a result.

        Args:
            model: with whole weights.
            device: where it lies.
            checkpointing: whether layers compute twice what they would have to keep.
            parts: over how many processes weights, gradients and moments are cut.
        """
        return 2**62

    def narrowed(
        self, model: nn.Module, seen: Sequence[Encoded] | None, decays: Callable[[], Sequence[float]]
    ) -> AbstractContextManager[object]:
        """Within this context the model holds of its input table what these rows need, where that pays.

        Args:
            model: on its device.
            seen: all rows that will be learned from or evaluated; None where anything may come.
            decays: factor of every optimizer step so far, for what was left out.
        """
        return nullcontext()

    @abstractmethod
    def key(self) -> Mapping[str, Any] | None:
        """All that `Task.write` depends on here, as JSON values; None where that cannot be told, or is not worth it."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the files that transformers opens too."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What `Inputs.read` needs beside the files, as JSON values."""

    @property
    @abstractmethod
    def limit(self) -> str:
        """The longest input, for the model card."""

    def suspects(self, encoded: Encoded) -> Rows:
        """(M,) Rows of the data that may hold what this makes nothing of: some too many, none too few."""
        return np.empty(0, np.int64)

    def unknown(self, role: str, texts: Iterable[tuple[int, str]], *, learned: bool, of: int) -> UnknownSigns | None:
        """What this makes nothing of; None where there is nothing of the kind.

        Args:
            role: that the texts play.
            texts: (row, text); a row may have several.
            learned: whether they are what is learned, and not only read.
            of: how many rows there are.
        """
        return None

    def reshape(self, model: nn.Module) -> None:
        """Give an instance that is to be filled the shapes that saved weights have because of this encoder."""
        return

    def preview(self, encoded: Encoded, said: str = "") -> Any:
        """What the model is shown of rows, for people to look at.

        Args:
            encoded: the rows.
            said: what is true of them, where what they show does not hold it.

        Raises:
            OptionError: there is nothing to look at yet.
        """
        raise OptionError(f"preview: {type(self).__name__} has nothing to show")

    @property
    @abstractmethod
    def given(self) -> dict[str, Any]:
        """The options of `FineTuner` under which a model that is passed as an object gets this again."""

    @property
    def reopened(self) -> dict[str, Any]:
        """The options of `FineTuner` under which a folder that holds this is read as it was; none, for most."""
        return {}

    @property
    def vocabulary(self) -> int | None:
        """How many tokens it may hand to a model; None where it hands over something else."""
        return None

    @abstractmethod
    def is_one(self, given: object) -> bool:
        """Whether ``predict`` was given a single input, other than a mapping, rather than several."""
