"""`explain`: why a model answers an input as it does."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.audio.encoder import AudioEncoder
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded, Ragged
from sftlib.encoders.sequence.encoder import SequenceEncoder
from sftlib.errors import DataError, OptionError
from sftlib.explain.continued import Continuation, own_continuation
from sftlib.explain.dials import Dials, FieldDials, SwitchedTokens, TimeDials, TokenDials
from sftlib.explain.explanation import Explanation, PictureExplanation, Word
from sftlib.explain.faithful import faithfulness
from sftlib.explain.methods import METHODS, IntegratedGradients, LeaveOneOut, Method
from sftlib.explain.pieces import Piece, Places, Text, placed, sequence_of, shares, texts_of
from sftlib.explain.questions import Question, question_of
from sftlib.explain.sound import SoundExplanation
from sftlib.explain.speech import Speech
from sftlib.finetuner import FineTuner
from sftlib.inside import fitted_of
from sftlib.run.fitted import Fitted
from sftlib.run.inputs import rows_of
from sftlib.run.settle import settled
from sftlib.support.checking import checked, choice, raise_together, whole_number
from sftlib.support.display import counted
from sftlib.tasks.audio.speech_recognition import SpeechRecognition
from sftlib.tasks.text.causal_lm import CausalLM
from sftlib.tasks.text.seq2seq import Seq2Seq

_GRID = (8, 8)
_FEWEST, _MOST, _SHORTEST = 4, 24, 0.05  # stretches of a sound, and seconds of one


@checked
def explain(tuner: FineTuner, inputs: Any, *, target: Any = None, method: str | None = None, steps: int = 16) -> Any:
    """Which words of a text, places of a picture, or moments of a sound made the model say what it says.

    Every word gets a score: what it adds to the target's score before softmax (of a regression: to the value). The
    scores add up to what the whole input adds, compared with the same input all of whose words are masked; what is
    missing of that sum is said (``gap``). Words are found in the text itself, by their characters, not put together
    from a tokenizer's pieces. Of what is written, or heard in a sound, it is the logarithm of its probability that is
    shared out. Beside the scores stands what they are worth: the probability without the words they name, and without
    as many random ones.

    Args:
        tuner: a fitted or loaded one.
        inputs: one input as `FineTuner.predict` takes it, a list of them, or a `TaskDataset`.
        target: the label to explain; the one that the model gives when None. Of tags the number of a word, or that and
            a tag: ``(3, "B-PER")``; the word that is surest to be part of a name when None. Of a question an answer
            that stands in the context, of a text that is written (``seq2seq``, ``causal-lm``) any text; the model's
            own when None. Of speech any text, or the number of a word of the model's own.
        method: ``"integrated-gradients"`` (texts, when None), ``"leave-one-out"`` (pictures and sounds, when None) or
            ``"gradient"``.
        steps: of integrated gradients to begin with; each is cut into two, up to 256, until the gap is at most 1 %.

    Returns:
        An `Explanation`, a `PictureExplanation` or a `SoundExplanation`; a list for a list.

    Raises:
        NotFittedError: before ``fit`` or ``load``.
        DataError: an input that the model does not take, or one without words.
        OptionError: a target that is no label, no such method, a task or a model that cannot be explained this way.

    Example:
        >>> from sftlib import FineTuner, TaskDataset
        >>> from sftlib.testing import tiny_model, tiny_tokenizer
        >>> rows = TaskDataset({"text": ["A warm film.", "A cold film."] * 4, "label": ["good", "bad"] * 4})
        >>> tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=2).fit(rows, progress=False)
        >>> why = explain(tuner, "A warm film.", target="good")
        >>> [(word.text, word.start, word.end) for word in why.words]
        [('A', 0, 1), ('warm', 2, 6), ('film', 7, 11), ('.', 11, 12)]
        >>> abs(sum(why.scores) - (why.score - why.baseline)) <= 0.01 * abs(why.score - why.baseline)
        True
    """
    names = [kind.name for kind in METHODS]
    raise_together(
        [
            None if isinstance(tuner, FineTuner) else f"tuner={tuner!r:.60}: expected a fitted FineTuner",
            None if method is None else choice("method", method, names),
            whole_number("steps", steps, at_least=1),
        ]
    )
    fitted = fitted_of(tuner, "explain").alone()
    one = isinstance(inputs, Mapping) or fitted.encoder.is_one(inputs) or fitted.task.is_one(inputs)
    rows = [fitted.task.inputs_of(inputs)] if one else rows_of(fitted.task, inputs, use="explain")
    asked = _Asked(target, method, steps)
    found = []
    with _only_asked(fitted.model):
        for number, row in enumerate(rows):
            try:
                found.append(_explained(fitted, row, asked))
            except DataError as error:
                raise (error if one else DataError(f"row {number}: {error}")) from None
    return found[0] if one else found


@contextmanager
def _only_asked(model: nn.Module) -> Iterator[None]:
    """Within this context a model does not learn: no dropout, and nothing is kept for the gradients of its weights."""
    was_training = model.training
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        model.train(was_training)
        for weight in learned:
            weight.requires_grad_(True)


@final
@dataclass(frozen=True)
class _Asked:
    """What is asked of each input."""

    target: Any
    method: str | None
    steps: int

    def way(self, usual: Method) -> Method:
        """The method, where ``usual`` is what was not named."""
        if self.method is None:
            return usual
        kind = next(kind for kind in METHODS if kind.name == self.method)
        return IntegratedGradients(self.steps) if kind is IntegratedGradients else kind()


def _explained(
    fitted: Fitted, row: Mapping[str, Any], asked: _Asked
) -> Explanation | PictureExplanation | SoundExplanation:
    data, encoded = fitted.read([row])
    if isinstance(fitted.task, Seq2Seq | CausalLM):
        return _written(fitted, row, asked, data, encoded)
    if "pixel_values" in encoded.inputs:
        return _picture(fitted, encoded, asked)
    if isinstance(fitted.task, SpeechRecognition):
        return _spoken(fitted, row, encoded, asked)
    if isinstance(fitted.encoder, AudioEncoder):
        return _sound(fitted, encoded, asked)
    if "input_ids" not in encoded.inputs:
        raise OptionError(f"explain: inputs of {fitted.task.name} are not explained")
    return _text(fitted, row, encoded, asked)


def _written(fitted: Fitted, row: Mapping[str, Any], asked: _Asked, data: TaskDataset, encoded: Encoded) -> Explanation:
    """Of a text that is written for a text: of the model's own, or of another one."""
    target, own = asked.target, asked.target is None
    if own:
        target = settled(fitted, encoded).predict(data, encoded)[0].text
    if not isinstance(target, str) or not target.strip():
        raise OptionError(f"target={target!r:.60}: expected a text whose probability is explained")
    if isinstance(fitted.task, CausalLM):
        found = own_continuation(fitted, row, target) if own else Continuation(fitted, row, target)
        return _of_places(fitted, found.encoded, asked, found.texts, found.places, found.question)
    _, with_target = fitted.read([{**row, "target": target}])
    return _text(fitted, row, with_target, replace(asked, target=target))


def _text(fitted: Fitted, row: Mapping[str, Any], encoded: Encoded, asked: _Asked) -> Explanation:
    _require_one(encoded, "window")
    column = encoded.inputs["input_ids"]
    texts = (
        [sequence_of(role, row[role], fitted.encoder) for role in fitted.task.reads]
        if isinstance(fitted.encoder, SequenceEncoder)
        else texts_of(row, [role for role in fitted.task.reads if role in row])
    )
    assert isinstance(column, Ragged)
    return _of_places(fitted, encoded, asked, texts, placed(fitted.encoder, texts, column[0]) if texts else None)


def _of_places(
    fitted: Fitted,
    encoded: Encoded,
    asked: _Asked,
    texts: list[Text],
    places: Places | None,
    question: Question | None = None,
) -> Explanation:
    """Of texts whose tokens are known; ``question`` is what the task asks of its answers when None."""
    pieces: list[Piece] = [piece for number, text in enumerate(texts) for piece in text.pieces(number)]
    if not pieces or places is None:
        raise DataError("there is no word in this input, so there is nothing to explain")
    groups = shares(pieces, places)
    way = asked.way(IntegratedGradients(asked.steps))
    dials = _token_dials(fitted, encoded, places, way)
    question = question or question_of(fitted.task, dials, asked.target, texts)
    facts, scores = _shared(question, dials, groups, way, seed=_seed(texts))
    return Explanation(
        words=tuple(
            Word(piece.text, piece.start, piece.end, float(score), piece.role)
            for piece, score in zip(pieces, scores, strict=True)
        ),
        texts=tuple(texts),
        unread=int((groups.sum(axis=1) == 0).sum()),
        target=question.target,
        **facts,
    )


def _token_dials(fitted: Fitted, encoded: Encoded, places: Places, way: Method) -> Dials:
    try:
        return TokenDials(fitted, encoded, places)
    except OptionError:
        if way.moves:
            raise
        return SwitchedTokens(fitted, encoded, places)


def _picture(fitted: Fitted, encoded: Encoded, asked: _Asked) -> PictureExplanation:
    dials = FieldDials(fitted, encoded, _GRID)
    way = asked.way(LeaveOneOut())
    question = question_of(fitted.task, dials, asked.target, ())
    facts, scores = _shared(question, dials, np.eye(dials.pieces), way, seed=0, cover=_windows(way))
    pixels = dials.batch.inputs["pixel_values"][0].movedim(0, -1).float().cpu().numpy()  # (height, width, C)
    low, high = float(pixels.min()), float(pixels.max())
    return PictureExplanation(
        heat=scores.reshape(_GRID),
        picture=np.asarray((pixels - low) / max(high - low, 1e-6), np.float32),
        target=question.target,
        **facts,
    )


def _spoken(fitted: Fitted, row: Mapping[str, Any], encoded: Encoded, asked: _Asked) -> SoundExplanation:
    """Of what is said in a sound: of the model's own text, of another one, or of a word."""
    _require_one(encoded, "piece")
    found = Speech(fitted, row, asked.target)
    return _sound(fitted, found.encoded, asked, found.question)


def _sound(fitted: Fitted, encoded: Encoded, asked: _Asked, question: Question | None = None) -> SoundExplanation:
    """Of a sound; ``question`` is what the task asks of its answers when None."""
    _require_one(encoded, "piece")
    assert isinstance(fitted.encoder, AudioEncoder)
    sound = fitted.encoder.preview(encoded)
    pieces = max(_FEWEST, min(_MOST, int(sound.seconds / _SHORTEST)))
    shown = fitted.encoder.piece if fitted.encoder.fixed else len(sound.samples)
    dials = TimeDials(fitted, encoded, pieces, len(sound.samples) / max(shown, 1))
    way = asked.way(LeaveOneOut())
    question = question or question_of(fitted.task, dials, asked.target, ())
    cover = None if way.moves else _neighbours(pieces)
    facts, scores = _shared(question, dials, np.eye(pieces), way, seed=0, cover=cover)
    return SoundExplanation(heat=scores, sound=sound, target=question.target, **facts)


def _neighbours(pieces: int) -> NDArray[np.float64]:
    """(P + 1, P) windows of two stretches, each a stretch further, as those of a picture."""
    found = np.zeros((pieces + 1, pieces))
    for window in range(pieces + 1):
        found[window, max(window - 1, 0) : window + 1] = 1.0
    return found


def _require_one(encoded: Encoded, part: str) -> None:
    if len(encoded) != 1:
        raise OptionError(f"explain: this input is read in {counted(len(encoded), part)}; give a shorter one")


def _windows(way: Method) -> NDArray[np.float64] | None:
    """(W, P) windows of two by two fields, each a field further, for covering; None where fields are moved alone.

    What a model sees seldom ends where a field does, so that covering fields one by one would leave most of it.
    """
    if way.moves:
        return None
    down, across = _GRID
    places = [(i, j) for i in range(-1, down) for j in range(-1, across)]
    found = np.zeros((len(places), down, across))
    for window, (i, j) in zip(found, places, strict=True):
        window[max(i, 0) : i + 2, max(j, 0) : j + 2] = 1.0
    return found.reshape(len(places), -1)


def _shared(
    question: Question,
    dials: Dials,
    groups: NDArray[np.float64],
    way: Method,
    *,
    seed: int,
    cover: NDArray[np.float64] | None = None,
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """What all explanations have, and the scores (W,); ``cover`` (V, P) is taken away in place of the groups."""
    shared = way.share(dials, question.number, groups if cover is None else cover)
    if cover is not None:  # of a dial the mean over what covers it
        shared = replace(shared, scores=groups @ (cover.T @ shared.scores / cover.sum(axis=0)))
    scale = max(abs(shared.whole - shared.empty), 1e-6)

    def judged(outputs: Any, batch: Batch) -> torch.Tensor:
        """The probability; where there is none, the number as a share of what the whole input adds."""
        return question.chance(outputs, batch) if question.has_chance else question.number(outputs, batch) / scale

    (chance,) = dials.ends(judged)
    facts = {
        "probability": float(chance[0]) if question.has_chance else None,
        "score": shared.whole,
        "baseline": shared.empty,
        "gap": shared.gap,
        "method": way.name,
        "steps": shared.steps,
        "faithfulness": faithfulness(dials, judged, groups, shared.scores, seed=seed),
    }
    return facts, shared.scores


def _seed(texts: list[Text]) -> int:
    """Of the random choices for an input: a function of what it says."""
    return zlib.crc32("\0".join(text.text for text in texts).encode("utf-8", "surrogatepass"))
