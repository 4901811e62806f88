"""Letters in, tokens out: checked and written in one way, set apart where a tokenizer needs it, and drawn in training.

Letters: ``N`` rows, ``B`` rows of a micro-batch, ``T`` tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from sftlib.data.alphabets import Alphabet, Letters
from sftlib.data.problems import Findings, raise_findings
from sftlib.encoders.base import Call, Draws, Encoder, Loaded, Rows
from sftlib.encoders.encoded import Encoded, Ragged, offsets_of, pad_together
from sftlib.encoders.sequence.augment import ReverseComplement, SequenceAugmentation
from sftlib.encoders.sequence.words import Cut
from sftlib.encoders.text.preview import Preview
from sftlib.encoders.text.tokenizer import Frame, TextEncoder
from sftlib.encoders.writer import Writer
from sftlib.errors import OptionError
from sftlib.models.layouts.layout import Layout
from sftlib.support.checking import raise_together

_CHUNK = 512  # rows
_UNKNOWN = 0.5  # share of tokens that a tokenizer may not know before it is taken for another alphabet's


@final
class SequenceEncoder(Encoder):
    """An alphabet, how its letters become tokens, and what reads those.

    Args:
        text: the tokenizer with its limits.
        alphabet: of the sequences.
        cut: how a sequence is cut into tokens.
        spaced: whether tokens are set apart by spaces before the tokenizer reads them.
        strand: ``"both"`` to read the strand that comes first in the alphabet for both.
        augment: steps in training, in order.
    """

    unit = "token"
    hands = TextEncoder.hands

    def __init__(
        self,
        text: TextEncoder,
        alphabet: Alphabet,
        cut: Cut,
        *,
        spaced: bool,
        strand: str = "single",
        augment: Sequence[SequenceAugmentation] = (),
    ) -> None:
        self.text = text
        self.alphabet = alphabet
        self.cut = cut
        self.spaced = spaced
        self.strand = strand
        self.augment = tuple(augment)

    @property
    def tokenizer(self) -> Any:
        """Of transformers."""
        return self.text.tokenizer

    @property
    def max_length(self) -> int:
        """Tokens of a row, control tokens included."""
        return self.text.max_length

    @property
    def vocabulary(self) -> int:
        return self.text.vocabulary

    @property
    def draws(self) -> bool:
        return bool(self.augment)

    # What has to agree with the model.

    def settle(self, model: nn.Module, *, markers: Sequence[str], seed: int) -> Sequence[int]:
        return self.text.settle(model, markers=markers, seed=seed)

    def check(self, model: nn.Module, encoded: Encoded) -> None:
        self.text.check(model, encoded)

    def agree(self, model: nn.Module) -> None:
        self.text.agree(model)

    def narrowed(
        self, model: nn.Module, seen: Sequence[Encoded] | None, decays: Callable[[], Sequence[float]]
    ) -> AbstractContextManager[object]:
        # What is drawn may hold tokens that no row has.
        return nullcontext() if self.augment else self.text.narrowed(model, seen, decays)

    def layout(
        self, model: nn.Module, run: Callable[[Layout], Tensor], *, padding_free: bool | None
    ) -> tuple[Layout, str]:
        return self.text.layout(model, run, padding_free=padding_free)

    def room(self, model: nn.Module, device: torch.device, *, checkpointing: bool, parts: int = 1) -> int:
        return self.text.room(model, device, checkpointing=checkpointing, parts=parts)

    # Batches.

    def as_text(self, sequence: str) -> str:
        """A sequence without flaw as the tokenizer reads it."""
        written = self.alphabet.written(sequence)
        if self.strand == "both" and isinstance(self.alphabet, Letters):
            written = min(written, self.alphabet.opposite(written))
        return " ".join(self._pieces(written)) if self.spaced else written

    def _pieces(self, written: str) -> list[str]:
        """The tokens of a sequence; a rest that is no token of this tokenizer is read letter by letter."""
        pieces = self.cut.pieces(written)
        rest = pieces[-1] if pieces and len(pieces[-1]) < self.cut.size else ""
        known = not rest or self.tokenizer.convert_tokens_to_ids(rest) != self.tokenizer.unk_token_id
        return pieces if known else [*pieces[:-1], *rest]

    def checked(self, sequences: Sequence[str], *, role: str = "sequence") -> None:
        """Refuse what the alphabet does not have.

        Raises:
            DataError: every row concerned.
        """
        findings = Findings()
        for row, sequence in enumerate(sequences):
            flaw = self.alphabet.flaw(sequence)
            if flaw is not None:
                findings.add(row, flaw.what, None, flaw.mend, note=flaw.note)
        raise_findings([(f"role {role!r}", False, findings)])

    def write(self, values: Mapping[str, Sequence[Any]], writer: Writer) -> None:
        """Sequences, or pairs of them, as the tokenizer frames them.

        Raises:
            DataError: letters that the alphabet does not have, with every row.
            OptionError: a tokenizer of another alphabet, or augmentation of pairs.
        """
        for role, sequences in values.items():
            self.checked(sequences, role=role)
        if self.augment and len(values) > 1:
            raise OptionError("augment= draws single sequences anew, and these rows are pairs: leave it out")
        unknown, tokens, columns = 0, 0, list(values.values())
        for texts in zip(*map(self.texts, columns), strict=True):
            for chunk in self.text.encode(*texts):
                unknown += int((chunk.inputs["input_ids"] == self.tokenizer.unk_token_id).sum())
                tokens += int(chunk.lengths.sum())
                writer.add(chunk.inputs, lengths=chunk.lengths, cut=chunk.cut)
        tokens -= len(columns[0]) * self.tokenizer.num_special_tokens_to_add(pair=len(columns) > 1)
        if unknown > _UNKNOWN * tokens:
            raise OptionError(
                f"the tokenizer does not know {unknown:,} of the {tokens:,} tokens of these sequences: it is made for "
                f"another alphabet than {self.alphabet.name!r}, or for other tokens than {self.cut.form!r}"
            )

    def texts(self, sequences: Sequence[str]) -> Iterator[list[str]]:
        """The sequences as the tokenizer reads them, some hundreds at a time."""
        for start in range(0, len(sequences), _CHUNK):
            yield [self.as_text(sequence) for sequence in sequences[start : start + _CHUNK]]

    def views(self, sequence: str, step: SequenceAugmentation, count: int) -> list[str]:
        """At most so many other ways of showing a sequence without flaw; see `SequenceAugmentation.views`.

        Raises:
            OptionError: a step that is not of this alphabet, or both strands where one is read for both.
        """
        both = self.strand == "both" and isinstance(step, ReverseComplement)
        raise_together([step.problem(self.alphabet), both and "views: with strand='both' both strands are one already"])
        return step.views(self.alphabet.written(sequence), count, self.alphabet)

    def load(self, encoded: Encoded, rows: Rows, draws: Draws | None) -> Loaded:
        if draws is None or not self.augment:
            return self.text.load(encoded, rows, None)
        ids = encoded.inputs["input_ids"]
        assert isinstance(ids, Ragged)
        shown = [self._shown(ids[int(row)].tolist(), draws, int(row)) for row in rows]
        parts: dict[str, list[np.ndarray[Any, Any]]] = {}
        lengths = []
        for chunk in self.text.encode(shown):
            lengths.append(chunk.lengths)
            for name, values in chunk.inputs.items():
                parts.setdefault(name, []).append(values)
        offsets = offsets_of(np.concatenate(lengths))
        ragged = {name: Ragged(np.concatenate(values), offsets) for name, values in parts.items()}
        padded, mask = pad_together(ragged, np.arange(len(rows)), fill=self.text.fill)
        return Loaded({**padded, "attention_mask": mask.astype(np.int64)})

    def _shown(self, ids: list[int], draws: Draws, row: int) -> str:
        """The text of a row in this epoch: its letters are read off its tokens, of which none is unknown."""
        control = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        pieces = self.tokenizer.convert_ids_to_tokens([number for number in ids if number not in control])
        letters = self.cut.letters(pieces)
        if self.tokenizer.unk_token in pieces:  # which letters stood there, nobody knows any more
            return " ".join(pieces) if self.spaced else letters
        for step in self.augment:
            letters = step(letters, draws(row), self.alphabet)
        return self.as_text(letters)

    def lay_out(self, loaded: Loaded) -> dict[str, Tensor]:
        return self.text.lay_out(loaded)

    def calling(self, model: nn.Module) -> Call:
        return self.text.calling(model)

    def smallest(self) -> dict[str, Tensor]:
        return self.text.smallest()

    def visible(self, scores: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.text.visible(scores, inputs)

    def frame(self) -> Frame:
        """What the tokenizer puts around a sequence."""
        return self.text.frame()

    # Folders.

    def key(self) -> Mapping[str, Any] | None:
        key = self.text.key()
        return None if key is None else {**key, **self._own}

    def save(self, folder: Path) -> None:
        self.text.save(folder)

    @property
    def _own(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet.name, "tokens": self.cut.form, "strand": self.strand, "spaced": self.spaced}

    @property
    def facts(self) -> dict[str, Any]:
        return {**self.text.facts, **self._own}

    @property
    def limit(self) -> str:
        sample = "CCOC1" if not isinstance(self.alphabet, Letters) else self.alphabet.plain
        outside = (
            self.spaced and self.tokenizer(sample)["input_ids"] != self.tokenizer(self.as_text(sample))["input_ids"]
        )
        spaced = " (outside of sftlib: give them with spaces between)" if outside else ""
        return f"{self.text.limit} of {self.alphabet.title}, {self.cut.form}{spaced}"

    def preview(self, encoded: Encoded, said: str = "") -> Preview:
        return self.text.preview(encoded)

    @property
    def given(self) -> dict[str, Any]:
        return {"inputs": replace(self._asked(), tokenizer=self.tokenizer)}

    @property
    def reopened(self) -> dict[str, Any]:
        return {"inputs": self._asked()}

    def _asked(self) -> Any:
        from sftlib.encoders.sequence.inputs import Sequence as Inputs

        return Inputs(
            alphabet=self.alphabet.name,
            tokens=self.cut.form,
            strand=self.strand,
            augment=self.augment or "none",
        )

    def is_one(self, given: object) -> bool:
        return isinstance(given, str | tuple)  # a tuple is a pair
