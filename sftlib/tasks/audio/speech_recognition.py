"""Speech recognition: the text that is spoken in a sound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import listed_rows
from sftlib.encoders.audio.encoder import AudioEncoder
from sftlib.encoders.audio.inputs import Audio
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded, Ragged
from sftlib.errors import DataError
from sftlib.metrics import Metrics, Speech
from sftlib.models.ctc import BETWEEN, characters
from sftlib.models.language.speaking import Prompt, most_tokens, prompt_of
from sftlib.models.sources import Head, ModelSource
from sftlib.support.checking import checked_fields, choice, one_of_types, real_number, whole_number
from sftlib.support.spoken import NORMALIZERS
from sftlib.support.values import Checked, Problem
from sftlib.tasks.audio.by_frames import ByFrames
from sftlib.tasks.audio.by_tokens import ByTokens
from sftlib.tasks.audio.sounds import example_sounds, longest_of, sound_in
from sftlib.tasks.audio.transcript import Transcript, Way
from sftlib.tasks.base import Asked, LossSum, Task


@final
@dataclass(frozen=True, kw_only=True)
class Spoken(Checked):
    """What training data says about texts.

    Attributes:
        vocabulary: their characters, sorted, without the blank.
        prompt: what the decoder of a model begins and ends with that writes token by token; None for one that says
            something of every frame.
        longest: tokens that it writes at most.
        seconds: of the longest sound; 0 in folders that do not say it.
    """

    vocabulary: tuple[str, ...]
    prompt: Prompt | None = None
    longest: int = 0
    seconds: float = 0.0

    def problems(self) -> Iterable[Problem]:
        given = self.vocabulary
        good = isinstance(given, tuple) and all(isinstance(one, str) and len(one) == 1 for one in given)
        if not good or len(set(given)) < len(given):
            yield "vocabulary: expected a list of different characters"
        if type(self.longest) is not int or self.longest < (self.prompt is not None):
            yield "longest: expected how many tokens are written at most"
        yield real_number("seconds", self.seconds, 0, expected="a number of seconds")


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class SpeechRecognition(Task):
    """A text for a sound: by CTC, or written token by token, as the model has it.

    CTC says a character, or nothing, for every frame. The vocabulary is made of the characters of the *training* texts,
    and saved. The loss is summed over texts and divided by their characters, or by the tokens that are written, so that
    a long text counts as much as its length.

    Args:
        text_normalizer: what becomes of texts before they are learned: ``"none"``, ``"basic"`` (lower case, no
            punctuation) or ``"english"`` (contractions written out as well); saved by its name.
        language: that is spoken, such as ``"de"``, for models that know several.
        max_target_length: tokens of a text at most, for models that write; as many as half a minute has when None.
        learned: the characters of the training texts, and how a model begins to write.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> SpeechRecognition(text_normalizer="basic")
        SpeechRecognition(text_normalizer='basic')
    """

    name = "speech-recognition"
    usual_metrics = ("wer", "cer", "wer_normalized", "cer_normalized")
    auto_class = "AutoModelForCTC"
    inputs = Audio
    every_row_counts = True
    nothing_left: ClassVar[str] = (
        "a sound that is cut into pieces cannot be learned, since nothing says which words are in which; cut it with "
        "its text, raise Audio(longest=...), or drop these rows"
    )

    text_normalizer: str = "none"
    language: str | None = None
    max_target_length: int | None = None
    learned: Spoken | None = None

    def problems(self) -> Iterable[Problem]:
        longest = self.max_target_length
        yield choice("text_normalizer", self.text_normalizer, NORMALIZERS)
        yield self.language is not None and one_of_types(
            "language", self.language, str, "the name of a language, such as 'de', or None"
        )
        yield longest is not None and whole_number("max_target_length", longest, at_least=2)

    def learned_from(self, data: TaskDataset) -> Self:
        texts = self._normalised(data)
        return replace(self, learned=Spoken(vocabulary=characters(texts), seconds=longest_of(data)))

    @cached_property
    def _way(self) -> Way:
        known: Spoken = self.known
        if known.prompt is not None:
            return ByTokens(known.prompt, known.longest)
        return ByFrames(known.vocabulary, known.seconds)

    @property
    def head(self) -> Head:
        return self._way.head

    def prepare(self, model: nn.Module, encoder: Any) -> None:
        encoder.keep_whole()
        self._way.prepare(model, encoder)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("audio",)

    def check_rows(self, data: TaskDataset) -> None:
        if data.is_labelled:
            self._normalised(data)

    def _normalised(self, data: TaskDataset) -> list[str]:
        """The texts as they are learned.

        Raises:
            DataError: nothing is left of some, or they hold the sign that stands between words.
        """
        normalize = NORMALIZERS[self.text_normalizer]
        texts = [normalize(text) for text in data.view("text")]
        empty = [row for row, text in enumerate(texts) if not text]
        barred = [row for row, text in enumerate(texts) if BETWEEN in text]
        column, problems = data.roles["text"], []
        if empty:
            problems.append(
                f"column {column!r}: nothing is left of {listed_rows(empty)} after "
                f"text_normalizer={self.text_normalizer!r}; drop these rows"
            )
        if barred:
            problems.append(
                f"column {column!r}: {listed_rows(barred)} with {BETWEEN!r}, which stands between words in the outputs"
                "; replace it, or use text_normalizer='basic'"
            )
        if problems:
            raise DataError("\n".join(problems))
        return texts

    def encode(self, data: TaskDataset, encoder: AudioEncoder, columns: Encoded | None = None) -> Encoded:
        found = self.written(data, encoder) if columns is None else columns
        return self._way.with_texts(found, self._normalised(data) if data.is_labelled else None, encoder)

    def unsupervised(self, encoded: Encoded) -> NDArray[np.int64]:
        target = encoded.targets.get("target")
        return np.flatnonzero(target.lengths == 0) if isinstance(target, Ragged) else np.empty(0, np.int64)

    def place(self, batch: Batch, encoded: Encoded, encoder: Any, moved: NDArray[np.float64] | None) -> Batch:
        return self._way.place(batch, encoder)

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        return self._way.ask(model, call, inputs)

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        return self._way.loss(outputs, batch)

    def step_logs(self, outputs: Any, batch: Batch) -> Tensor:
        """(B, S) the log-probability of each character or token of the text, given those before it."""
        return self._way.step_logs(outputs, batch)

    def step_words(self, text: str, ids: Sequence[int], encoder: AudioEncoder) -> list[int]:
        """The number of the word that each character or token of a text is of.

        Raises:
            OptionError: a text that the model cannot say.
        """
        return self._way.step_words(text, ids, encoder)

    def decode(self, outputs: Any, batch: Batch) -> Sequence[Transcript]:
        return self._way.decode(outputs, batch)

    def answer(self, model: Asked, batch: Batch, encoder: Any) -> Sequence[Transcript]:
        return self._way.answer(model, batch, encoder)

    def judge(self, model: Asked, batch: Batch, encoder: Any, metrics: Metrics) -> tuple[LossSum, Sequence[Transcript]]:
        outputs = model(batch)
        loss = self.loss(outputs, batch)
        if set(metrics) <= {"loss"}:
            return loss, [Transcript("")] * len(batch.rows)
        return loss, self._way.answer(model, batch, encoder, outputs)

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[Transcript]) -> Transcript:
        return pieces[0] if len(pieces) == 1 else self._way.joined(pieces)

    def metrics(self, names: Sequence[Any] | None = None) -> Metrics:
        chosen = self.usual_metrics if names is None else names
        family = Speech.normalizing(self.text_normalizer)
        return Metrics(["loss", *(name for name in chosen if name != "loss")], family=family)

    def references(self, data: TaskDataset) -> Sequence[str]:
        texts: Sequence[str] = data.column("text")
        return texts

    def inputs_of(self, example: object) -> dict[str, Any]:
        return {"audio": sound_in(example)}

    def examples(self) -> list[object]:
        return example_sounds()

    def beside(self, source: ModelSource, inputs: Any) -> Task:
        if not getattr(source.config, "is_encoder_decoder", False):
            return self
        prompt = prompt_of(source.config, inputs.texts(source), self.language)
        longest = most_tokens(source.config, prompt, self.max_target_length)
        return replace(self, learned=replace(self.known, prompt=prompt, longest=longest))
