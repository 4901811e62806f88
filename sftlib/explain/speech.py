"""What is said in a sound: how probable a model finds a text, or a word of it.

Letters: ``B`` settings of the dials, ``S`` characters or tokens of the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from sftlib.encoders.audio.encoder import AudioEncoder
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Ragged
from sftlib.errors import OptionError
from sftlib.explain.questions import Question
from sftlib.run.fitted import Fitted
from sftlib.run.settle import settled
from sftlib.support.spoken import NORMALIZERS
from sftlib.tasks.audio.speech_recognition import SpeechRecognition
from sftlib.tasks.audio.transcript import Transcript


@final
class Speech:
    """A sound and what is said in it, as one row.

    Args:
        fitted: a model that recognises speech.
        row: the sound, under its role.
        target: a text, or the number of a word of what the model itself hears; the whole of that when None.

    Attributes:
        encoded: sound and text, one row.
        question: how probable the text or the word is.

    Raises:
        OptionError: neither text nor number, a word that is not there, a text that the model cannot say, or a sound in
            which it hears nothing, or something without an end.
        DataError: a text that is longer than what can be said in the sound.
    """

    def __init__(self, fitted: Fitted, row: Mapping[str, Any], target: Any) -> None:
        assert isinstance(fitted.task, SpeechRecognition)
        assert isinstance(fitted.encoder, AudioEncoder)
        _check(target)
        text = NORMALIZERS[fitted.task.text_normalizer](target if isinstance(target, str) else _heard(fitted, row))
        words = text.split()
        _, self.encoded = fitted.read([{**row, "text": text}])
        if isinstance(target, int) and not 0 <= target < len(words):
            raise OptionError(
                f"target={target}: expected the number of a word, from 0 to {len(words) - 1}, of what the model hears: "
                f"{text!r:.60}"
            )
        ids = self.encoded.targets["target"]
        assert isinstance(ids, Ragged)
        whose = fitted.task.step_words(text, ids[0].tolist(), fitted.encoder)
        if isinstance(target, int):
            self.question = OfSpeech(fitted.task, (target, words[target]), [word == target for word in whose], 1)
        else:
            self.question = OfSpeech(fitted.task, text, [True] * len(whose), len(whose))


@final
class OfSpeech(Question):
    """The logarithm of the probability of what is said, summed over characters or tokens, each given those before it.

    The end of the text is part of its last word. Of a text the probability is the geometric mean over characters or
    tokens, since that of the whole is tiny for every text of some length; of a word it is its own.

    Args:
        task: of the model.
        target: as it is shown.
        counted: (S,) which characters or tokens are summed over.
        means: over how many the geometric mean is taken.
    """

    def __init__(self, task: SpeechRecognition, target: Any, counted: list[bool], means: int) -> None:
        self._task = task
        self.target = target
        self._counted = torch.tensor(counted)
        self._means = means

    def number(self, outputs: Any, batch: Batch) -> Tensor:
        logs = self._task.step_logs(outputs, batch)  # (B, S)
        return logs[:, self._counted.to(logs.device)].sum(dim=1)

    def chance(self, outputs: Any, batch: Batch) -> Tensor:
        return (self.number(outputs, batch) / self._means).exp()


def _check(target: Any) -> None:
    number = isinstance(target, int) and not isinstance(target, bool)
    if target is not None and not number and not (isinstance(target, str) and target.strip()):
        raise OptionError(
            f"target={target!r:.60}: expected a text whose probability is explained, or the number of a word of what "
            "the model hears"
        )


def _heard(fitted: Fitted, row: Mapping[str, Any]) -> str:
    """The model's own text.

    Raises:
        OptionError: it has none, or none that ends.
    """
    data, encoded = fitted.read([row])
    found: Transcript = settled(fitted, encoded).predict(data, encoded)[0]
    if not found.text:
        raise OptionError("explain: the model hears no word in this sound; target='...' explains any other text")
    longest = fitted.task.known.longest  # tokens, of models that write them
    if longest and len(found.heard) >= longest:
        raise OptionError(
            f"explain: what the model writes does not end within {longest:,} tokens ({found.text!r:.60}); target='...' "
            "explains any other text"
        )
    return found.text
