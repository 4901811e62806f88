"""One example of every task, and how to run it: the only place that a new task has to enter.

The contract tests ask for the case of each registered task; one without a case fails.
"""

from __future__ import annotations

import re
import string
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from sftlib import (
    Audio,
    AudioClassification,
    AudioEmbedding,
    CausalLM,
    ContactPrediction,
    Detection,
    FineTuner,
    Generation,
    Image,
    ImageClassification,
    ImageEmbedding,
    ImageRegression,
    MaskedLM,
    MultiLabelClassification,
    MultiLabelImageClassification,
    MultiLabelSequenceClassification,
    QuestionAnswering,
    RelationExtraction,
    ResidueClassification,
    SemanticSegmentation,
    Seq2Seq,
    SequenceClassification,
    SequenceRegression,
    SpeechRecognition,
    TaskDataset,
    Text,
    TextClassification,
    TextEmbedding,
    TextRegression,
    TokenClassification,
)
from sftlib.encoders.audio.encoder import AudioEncoder
from sftlib.encoders.base import Encoder
from sftlib.encoders.batch import Batch
from sftlib.encoders.image.encoder import ImageEncoder
from sftlib.encoders.sequence.inputs import Sequence as LetterInputs
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.models.language.chunked_loss import OutputLayer
from sftlib.models.language.output_layers import Hidden
from sftlib.models.sources import open_source
from sftlib.tasks import TASKS
from sftlib.tasks.audio.by_frames import Frames
from sftlib.tasks.base import Task
from sftlib.tasks.identities import Seen
from sftlib.tasks.image.detection import Found
from sftlib.tasks.text.masked_lm import GapScores
from sftlib.testing import (
    ENCODERS,
    FAMILIES,
    LANGUAGE_MODELS,
    MAX_LENGTH,
    SENTENCES,
    TWO_STACKS,
    pictures,
    scenes,
    tiny_audio_model,
    tiny_detector,
    tiny_feature_extractor,
    tiny_image_model,
    tiny_image_processor,
    tiny_model,
    tiny_segmenter,
    tiny_tokenizer,
    waves,
)

Columns = Mapping[str, list[Any]]


@dataclass(frozen=True)
class Case:
    """What the contract tests need to know about a task.

    Attributes:
        columns: 32 labelled rows of very different lengths, under role names.
        outputs: width of the model's head.
        fake: (task, batch) -> what a model might return for these rows, float64; of each row the same in any batch.
        numbers: every number in a prediction.
        learned: metric that shows that ten rows are known by heart, and the value it must reach.
        unlearnable: labelled columns that the task must refuse to learn from.
        strange: labelled columns whose labels a model of `columns` does not know; None where any will do.
        not_inputs: what `predict` must refuse.
        unsupervised: a task and columns of rows that bear no supervision under its options; None where there are none.
        oracle: metric -> its value from references and predictions, by scikit-learn.
        others: the task with other options, under which the contract must hold too.
        inputs: the roles that `predict` needs.
        unlabelled: columns without targets; those of ``inputs`` where None.
        supervised: whether rows have targets of their own, without which they cannot be learned from.
        examples: two inputs that `predict` takes.
        families: those of `sftlib.testing` that have such a model, the usual one first.
        auto_class: of its models.
        task: as every tuner for it has it; the usual one where None.
        distinct: how many different predictions a tuned model has at least.
        by_heart: further options under which ten rows are learned by heart.
        metrics: those that the oracle computes; the usual ones where None.
        of_model: as `oracle`, for metrics that predictions alone do not tell.
        built: makes a tiny model of a family; the usual ones where None.
    """

    columns: Columns
    outputs: int
    fake: Callable[[Task, Batch], Any]
    numbers: Callable[[Any], list[float]]
    learned: tuple[str, float]
    unlearnable: tuple[Columns, ...]
    strange: Columns | None
    not_inputs: tuple[object, ...]
    unsupervised: tuple[Task, Columns] | None
    oracle: Callable[[Sequence[Any], Sequence[Any]], dict[str, float]]
    others: tuple[Task, ...] = ()
    inputs: tuple[str, ...] = field(default=("text",))
    unlabelled: Columns | None = None
    supervised: bool = True
    examples: tuple[object, object] = ("a", "b c")
    families: tuple[str, ...] = FAMILIES
    auto_class: str = "AutoModelForSequenceClassification"
    task: Task | None = None
    distinct: int = 20
    by_heart: Mapping[str, Any] = field(default_factory=dict)
    metrics: list[str] | None = None
    of_model: Callable[[FineTuner, TaskDataset], dict[str, float]] = lambda tuner, data: {}
    built: Callable[..., PreTrainedModel] | None = None

    @property
    def name(self) -> str:
        """The task."""
        return next(name for name, case in CASES.items() if case is self)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The task as it is usually asked for, and with other options."""
        return self.task or task_class(self.name)(), *self.others

    def data(self, rows: int | slice | None = None) -> TaskDataset:
        """The rows, or the first few of them."""
        part = rows if isinstance(rows, slice) else slice(rows)
        return TaskDataset({role: values[part] for role, values in self.columns.items()}, task=self.name)

    def plain(self) -> TaskDataset:
        """Rows without targets."""
        columns = self.unlabelled or {role: self.columns[role] for role in self.inputs}
        return TaskDataset(columns, task=self.name)

    @property
    def reads_texts(self) -> bool:
        """Whether its inputs are texts."""
        return task_class(self.name).inputs is Text

    @property
    def reads_sequences(self) -> bool:
        """Whether its inputs are sequences of letters."""
        return task_class(self.name).inputs is LetterInputs

    @property
    def reads_sounds(self) -> bool:
        """Whether its inputs are sounds."""
        return task_class(self.name).inputs is Audio

    def model(self, family: str | None = None, *, dropout: float = 0.1) -> PreTrainedModel:
        """A tiny model for it."""
        family = family or self.families[0]
        if self.built is not None:
            return self.built(family, self.outputs, dropout=dropout)
        if self.reads_sounds:
            return tiny_audio_model(family, self.outputs, dropout=dropout, auto_class=self.auto_class)
        if not self.reads_texts and not self.reads_sequences:
            return tiny_image_model(family, self.outputs or 2, dropout=dropout, auto_class=self.auto_class)
        return tiny_model(family, self.outputs, dropout, auto_class=self.auto_class)

    def reading(self, family: str | None = None) -> dict[str, Any]:
        """The options of a tuner that say how its model reads inputs."""
        family = family or self.families[0]
        if self.reads_texts:
            return {"tokenizer": tiny_tokenizer(family)}
        if self.reads_sequences:
            return {"inputs": LetterInputs(alphabet="dna")}
        if self.reads_sounds:
            return {"inputs": Audio(processor=tiny_feature_extractor(family), augment="light")}
        return {"inputs": Image(processor=tiny_image_processor(family), augment="light")}

    def encoder(self, family: str | None = None) -> Encoder:
        """What reads inputs for its model."""
        family = family or self.families[0]
        if self.reads_sequences:
            return LetterInputs(alphabet="dna", max_length=MAX_LENGTH).open(open_source(tiny_model(family)))
        if self.reads_sounds:
            return _hearing(family)
        return encoder_for(family) if self.reads_texts else ImageEncoder(tiny_image_processor(family))


def _hearing(family: str) -> AudioEncoder:
    """A feature extractor that knows the first layers of its model."""
    encoder = AudioEncoder(tiny_feature_extractor(family))
    encoder.settle(tiny_audio_model(family), markers=(), seed=0)
    return encoder


def texts(count: int) -> list[str]:
    """Different texts of 1 to some 40 tokens; the first is one word and the second repeats itself."""
    made = []
    for i in range(count):
        words = SENTENCES[i % len(SENTENCES)].split()
        keep = 1 + (i * 7) % len(words)
        made.append(" ".join([*words[:keep], str(i), *(words if i % 5 == 1 else [])]))
    return made


def genes(count: int) -> list[str]:
    """Different sequences of 1 to 96 bases, of which those beyond `MAX_LENGTH` are cut."""
    drawn = np.random.default_rng(0)
    return ["".join(drawn.choice(list("ACGT"), 1 + (i * 13) % 96 if i else 5)) for i in range(count)]


def of_rows(batch: Batch, *shape: int) -> Tensor:
    """(B, *shape) random numbers in float64 that are a function of the row alone."""
    generators = [torch.Generator().manual_seed(int(row)) for row in batch.rows]
    return torch.stack([torch.randn(*shape, generator=one, dtype=torch.float64) for one in generators])


def _scores(task: Task, batch: Batch) -> Tensor:
    assert task.head.outputs is not None
    return of_rows(batch, task.head.outputs)


def _classes(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    from sklearn import metrics

    labels = [p.label for p in predictions]
    names = list(predictions[0].probabilities)
    scores = np.array([[p.probabilities[name] for name in names] for p in predictions])
    scores /= scores.sum(axis=1, keepdims=True)  # fp32 rows sum to 1 but for 1e-7, and scikit-learn warns of it
    return {
        "accuracy": metrics.accuracy_score(references, labels),
        "balanced_accuracy": metrics.balanced_accuracy_score(references, labels),
        "f1_macro": metrics.f1_score(references, labels, labels=names, average="macro", zero_division=0),
        "f1_weighted": metrics.f1_score(references, labels, average="weighted", zero_division=0),
        "mcc": metrics.matthews_corrcoef(references, labels),
        "loss": metrics.log_loss(references, scores, labels=names),
    }


def _label_sets(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    from sklearn import metrics

    names = list(predictions[0].probabilities)
    truth = np.array([[name in row for name in names] for row in references], dtype=int)
    found = np.array([[name in p.labels for name in names] for p in predictions], dtype=int)
    scores = np.array([[p.probabilities[name] for name in names] for p in predictions])
    return {
        "subset_accuracy": metrics.accuracy_score(truth, found),
        "hamming": metrics.hamming_loss(truth, found),
        "f1_micro": metrics.f1_score(truth, found, average="micro", zero_division=0),
        "f1_macro": metrics.f1_score(truth, found, average="macro", zero_division=0),
        "f1_samples": metrics.f1_score(truth, found, average="samples", zero_division=0),
        "loss": float(np.mean([metrics.log_loss(truth[:, k], scores[:, k], labels=[0, 1]) for k in range(len(names))])),
    }


def _with_ranks(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    from sklearn import metrics

    names = list(predictions[0].probabilities)
    truth = np.array([[name in row for name in names] for row in references], dtype=int)
    scores = np.array([[p.probabilities[name] for name in names] for p in predictions])
    return {
        **_label_sets(references, predictions),
        "map": metrics.average_precision_score(truth, scores, average="macro"),
    }


def _verified(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """By scikit-learn's curve over all pairs, and by plain loops over neighbours."""
    from scipy.optimize import brentq
    from sklearn import metrics

    vectors = np.array([p.embedding for p in predictions], np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    count = len(vectors)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    cosines = np.array([vectors[i] @ vectors[j] for i, j in pairs])
    same = np.array([references[i] == references[j] for i, j in pairs])
    false, true, _ = metrics.roc_curve(same, cosines, drop_intermediate=False)
    first, precision = [], []
    for i in range(count):
        order = sorted((j for j in range(count) if j != i), key=lambda j: -float(vectors[i] @ vectors[j]))
        hits = [references[j] == references[i] for j in order]
        of_own = sum(hits)
        first.append(hits[0])
        precision.append(sum(sum(hits[: k + 1]) / (k + 1) for k in range(of_own) if hits[k]) / of_own)
    return {
        "eer": brentq(lambda x: 1 - x - np.interp(x, false, true), 0.0, 1.0, xtol=1e-14),
        "tar_at_far_1e-2": true[false <= 0.01].max(),
        "roc_auc": metrics.roc_auc_score(same, cosines),
        "recall_at_1": float(np.mean(first)),
        "map_at_r": float(np.mean(precision)),
    }


def _identities_of(task: Task, batch: Batch) -> Seen:
    """Random embeddings and cosines with centres, a function of the row alone."""
    count = len(task.label_names or ())
    found = of_rows(batch, 12 + count)
    return Seen(torch.nn.functional.normalize(found[:, :12], dim=1), found[:, 12:].tanh() if count else None)


def _numbers(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    from scipy import stats
    from sklearn import metrics

    values = [p.value for p in predictions]
    return {
        "mse": metrics.mean_squared_error(references, values),
        "rmse": metrics.mean_squared_error(references, values) ** 0.5,
        "mae": metrics.mean_absolute_error(references, values),
        "r2": metrics.r2_score(references, values),
        "pearson": stats.pearsonr(references, values).statistic,
        "spearman": stats.spearmanr(references, values).statistic,
        "loss": metrics.mean_squared_error(references, values),
    }


def of_tokens(task: Task, batch: Batch) -> Tensor:
    """(B, T, K) as `of_rows`, of each token of a row the same however far its batch is filled up."""
    assert task.head.outputs is not None
    return of_rows(batch, MAX_LENGTH, task.head.outputs)[:, : batch.inputs["input_ids"].shape[1]]


def _spans(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    from seqeval import metrics

    found = [list(p.tags) for p in predictions]
    return {
        "f1": metrics.f1_score(references, found, zero_division=0),
        "precision": metrics.precision_score(references, found, zero_division=0),
        "recall": metrics.recall_score(references, found, zero_division=0),
        "accuracy": metrics.accuracy_score(references, found),
    }


def _relations(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    from sklearn import metrics

    found = [p.label for p in predictions]
    names = [name for name in predictions[0].probabilities if name != "no_relation"]
    kinds = {"labels": names, "zero_division": 0}
    return {
        "f1_micro": metrics.f1_score(references, found, average="micro", **kinds),
        "f1_macro": metrics.f1_score(references, found, average="macro", **kinds),
        "precision_micro": metrics.precision_score(references, found, average="micro", **kinds),
        "recall_micro": metrics.recall_score(references, found, average="micro", **kinds),
        "accuracy": metrics.accuracy_score(references, found),
    }


def _answers(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """As the script of SQuAD 2.0 has it, written once more."""

    def words(text: str) -> list[str]:
        bare = "".join(c for c in text.lower() if c not in string.punctuation)
        return [word for word in bare.split() if word not in ("a", "an", "the")]

    def f1(true: str, found: str) -> float:
        first, second = words(true), words(found)
        if not first or not second:
            return float(first == second)
        shared = sum((Counter(first) & Counter(second)).values())
        precision, recall = shared / len(second), shared / len(first)
        return 2 * precision * recall / (precision + recall) if shared else 0.0

    exact, overlaps = [], []
    for reference, prediction in zip(references, predictions, strict=True):
        golds = reference["text"] or [""]
        exact.append(max(words(gold) == words(prediction.answer) for gold in golds))
        overlaps.append(max(f1(gold, prediction.answer) for gold in golds))
    return {"exact_match": float(np.mean(exact)), "f1": float(np.mean(overlaps))}


def _answer(row: int, context: str) -> dict[str, list[Any]]:
    """The number, the first word, or nothing."""
    if row % 5 == 4:
        return {"text": [], "answer_start": []}
    text = context.split()[0] if row % 3 == 0 else str(row)
    return {"text": [text], "answer_start": [context.index(text)]}


def _of_targets(task: Task, batch: Batch) -> Tensor:
    """(B, S, V) scores of the tokens of targets; of a row the same however many tokens the others have."""
    return of_rows(batch, MAX_LENGTH, 208)[:, : batch.targets["target"].shape[1]]


def _texts(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """What texts alone tell; loss and accuracy of tokens have a test of their own."""
    return {"exact_match": float(np.mean([p.text == r for p, r in zip(predictions, references, strict=True)]))}


def _hidden(task: Task, batch: Batch) -> Hidden:
    """Random hidden states, as `of_tokens`, and a random output layer."""
    states = of_rows(batch, MAX_LENGTH, 8)[:, : batch.inputs["input_ids"].shape[1]]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = torch.nn.Linear(8, 300, bias=False, dtype=torch.float64)
    return Hidden(states, OutputLayer(layer.requires_grad_(False)), states.dtype)


def _by_hand(tuner: FineTuner, data: TaskDataset) -> dict[str, float]:
    """Row by row through the plain model: loss, perplexity, and how many tokens are the most probable."""
    tokenizer, losses, right = tiny_tokenizer("gpt2"), [], []
    for row in data:
        prompt = tokenizer(row["prompt"])["input_ids"]
        ids = torch.tensor([[*prompt, *tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            scores = tuner.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double()
        losses.append(torch.nn.functional.cross_entropy(scores, ids[0, len(prompt) :], reduction="none"))
        right.append(scores.argmax(1) == ids[0, len(prompt) :])
    loss = float(torch.cat(losses).mean())
    return {
        "loss": loss,
        "perplexity": np.exp(loss),
        "token_accuracy": float(torch.cat(right).double().mean()),
    }


def _of_gaps(task: Task, batch: Batch) -> GapScores:
    """(M, V) scores of the gaps that evaluation makes."""
    drawn = task.draw(batch.inputs, encoder_for(), seed=0, step=None)
    gaps, scores = drawn["gaps"], of_rows(batch, MAX_LENGTH, 208)[:, : batch.inputs["input_ids"].shape[1]]
    return GapScores(scores[gaps], drawn["true_tokens"][gaps], gaps.nonzero()[:, 0])


def _gaps(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    tokens = sum(p.tokens for p in predictions)
    loss = sum(p.loss * p.tokens for p in predictions) / tokens
    right = sum(p.correct for p in predictions) / tokens
    return {"token_accuracy": right, "loss": loss, "perplexity": float(np.exp(loss))}


def _nearest(tuner: FineTuner, data: TaskDataset) -> dict[str, float]:
    """By a plain loop over texts and pairs, each embedded by itself."""
    texts, pairs = ([p.embedding for p in tuner.predict(data.column(role))] for role in ("text", "text_pair"))
    ranks = [1 + sum(text @ other > text @ pairs[i] for other in pairs) for i, text in enumerate(texts)]
    return {
        "recall_at_1": float(np.mean([rank == 1 for rank in ranks])),
        "mrr": float(np.mean([1 / rank for rank in ranks])),
        "loss": float(np.mean([1 - text @ pair for text, pair in zip(texts, pairs, strict=True)])),
    }


def _of_pixels(task: Task, batch: Batch) -> Tensor:
    """(B, K, 8, 8) scores of places."""
    assert task.head.outputs is not None
    return of_rows(batch, task.head.outputs, 8, 8)


def _masks(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """Over the pixels of all pictures, one after the other."""
    from sklearn import metrics

    true = np.concatenate([reference.ravel() for reference in references])
    found = np.concatenate([prediction.mask.ravel() for prediction in predictions])[true >= 0]
    true = true[true >= 0]
    return {
        "miou": metrics.jaccard_score(true, found, average="macro"),
        "pixel_accuracy": metrics.accuracy_score(true, found),
        "mean_accuracy": metrics.recall_score(true, found, average="macro", labels=np.unique(true)),
        "dice": metrics.f1_score(true, found, average="macro"),
    }


def _of_queries(task: Task, batch: Batch) -> Found:
    """Scores and boxes of 12 queries."""
    assert task.head.outputs is not None
    found = of_rows(batch, 12, task.head.outputs + 5)
    return Found(found[..., 4:], found[..., :4].sigmoid())


def _boxes(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    from tests.metrics.coco import average_precisions

    found = average_precisions(references, [prediction.candidates for prediction in predictions])
    return {name: found[name] for name in Detection.usual_metrics}


_SCENES = scenes(32, classes=2, size=32, seed=0)


def _each_target(
    references: Sequence[Any], found: Sequence[Mapping[str, float]]
) -> list[tuple[list[float], list[float]]]:
    """True and predicted numbers of each target, without its gaps."""
    return [
        (
            [row[name] for row in references if row[name] is not None],
            [there[name] for there, row in zip(found, references, strict=True) if row[name] is not None],
        )
        for name in references[0]
    ]


def _numbers_with_gaps(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    from scipy import stats
    from sklearn import metrics

    pairs = _each_target(references, [p.values for p in predictions])
    squares = [float(np.sum((np.array(t) - np.array(f)) ** 2)) / float(np.var(t)) for t, f in pairs]
    return {
        "rmse": float(np.mean([metrics.mean_squared_error(*pair) ** 0.5 for pair in pairs])),
        "mae": float(np.mean([metrics.mean_absolute_error(*pair) for pair in pairs])),
        "r2": float(np.mean([metrics.r2_score(*pair) for pair in pairs])),
        "pearson": float(np.mean([stats.pearsonr(*pair).statistic for pair in pairs])),
        "spearman": float(np.mean([stats.spearmanr(*pair).statistic for pair in pairs])),
        "loss": sum(squares) / sum(len(true) for true, _ in pairs),
    }


def _classes_with_gaps(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    from sklearn import metrics

    pairs = _each_target(references, [p.probabilities for p in predictions])
    cut = [(true, [float(number >= 0.5) for number in found]) for true, found in pairs]
    logs = [metrics.log_loss(true, found, labels=[0, 1], normalize=False) for true, found in pairs]
    return {
        "roc_auc": float(np.mean([metrics.roc_auc_score(*pair) for pair in pairs])),
        "average_precision": float(np.mean([metrics.average_precision_score(*pair) for pair in pairs])),
        "f1_macro": float(np.mean([metrics.f1_score(*pair, zero_division=0) for pair in cut])),
        "hamming": float(np.mean([metrics.hamming_loss(*pair) for pair in cut])),
        "loss": sum(logs) / sum(len(true) for true, _ in pairs),
    }


def _letters(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    from sklearn import metrics

    names = list(predictions[0].probabilities)
    letters = [
        (true, label, [p.probabilities[name][place] for name in names])
        for row, p in zip(references, predictions, strict=True)
        for place, (true, label) in enumerate(zip(row, p.labels, strict=True))
        if true is not None
    ]
    true, found, scores = (list(column) for column in zip(*letters, strict=True))
    return {
        "accuracy": metrics.accuracy_score(true, found),
        "f1_macro": metrics.f1_score(true, found, average="macro", zero_division=0),
        "loss": metrics.log_loss(true, np.array(scores) / np.sum(scores, axis=1, keepdims=True), labels=names),
    }


def _paired(gene: str) -> list[list[int]]:
    """Where two letters are complements."""
    return [[i, j] for j in range(len(gene)) for i in range(j) if gene[i] + gene[j] in ("AT", "TA", "CG", "GC")]


def _precise(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """By plain loops over pairs."""
    shares: dict[str, list[float]] = {name: [] for name in ContactPrediction.usual_metrics}
    losses = []
    for true, found in zip(references, predictions, strict=True):
        letters, scores = len(true), found.probabilities
        pairs = [(i, j) for i in range(letters) for j in range(i + 6, letters) if true[i, j] >= 0]
        losses += [-np.log(scores[pair] if true[pair] else 1 - scores[pair]) for pair in pairs]
        pairs.sort(key=lambda pair: -scores[pair])
        for name, part in zip(shares, (5, 2, 1), strict=True):
            best = pairs[: max(letters // part, 1)]
            shares[name] += [sum(true[pair] for pair in best) / len(best)] if best else []
    return {"loss": float(np.mean(losses)), **{name: float(np.mean(values)) for name, values in shares.items()}}


_PICTURES = pictures(32, classes=3, size=32, seed=0)
_WAVES = waves(32, seconds=0.2, seed=0)
_SAID = {"low": "oo", "high": "it is", "rising": "oi"}
_NOT_SOUNDS = (7, None, {"sound": _WAVES[0]["audio"]}, [_WAVES[0]["audio"]], {}, 0.5)


def _heard(task: Task, batch: Batch) -> Frames:
    """Random scores of every frame, a function of the row alone."""
    spans = batch.notes["span"]
    counts = ((spans[:, 1] - spans[:, 0]) // 80).clamp(min=1)
    return Frames(of_rows(batch, 64, task.head.more["vocab_size"])[:, : int(counts.max())], counts)


def _errors(references: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """By a table of distances, summed over rows."""

    def rate(units: Callable[[str], Sequence[str]]) -> float:
        pairs = [(units(text), units(found.text)) for text, found in zip(references, predictions, strict=True)]
        return sum(_distance(a, b) for a, b in pairs) / sum(len(a) for a, _ in pairs)

    return {"wer": rate(str.split), "cer": rate(str.strip)}


def _distance(first: Sequence[str], second: Sequence[str]) -> int:
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


_TEXTS = texts(32)
_GENES = genes(32)
_HAIRPINS = [f"ACGTACGT{gene[:30]}" for gene in _GENES]
_WORDS = [text.split() for text in _TEXTS]
_PLACES: Columns = {"text": ["a b", "c d e"], "head": [(0, 1), (2, 3)], "tail": [(2, 3), (4, 5)]}
_TAGS = ("O", "B-long", "I-long", "B-short")
_SHORT = Generation(max_new_tokens=8)
_NOT_TEXTS = (7, None, ("a",), ("a", "b"), ("a", "b", "c"), {"txt": "a"}, {"text": "a", "text_pair": "b"}, ["a"], {})

_NOT_SEQUENCES = (7, None, ("A",), {"text": "A"}, {"sequence": "A", "more": "C"}, ["A"], {}, {"sequence": 1})

CASES: dict[str, Case] = {
    "text-classification": Case(
        columns={"text": _TEXTS, "label": [("bad", "good", "so-so")[(i * i) % 3 if i > 2 else i] for i in range(32)]},
        outputs=3,
        fake=_scores,
        numbers=lambda p: [p.probability, *p.probabilities.values()],
        learned=("accuracy", 1.0),
        unlearnable=({"text": ["a", "b"], "label": ["good", "good"]},),
        strange={"text": ["a", "b"], "label": ["good", "excellent"]},
        not_inputs=_NOT_TEXTS,
        unsupervised=(
            TextClassification(class_weights={"bad": 1.0, "good": 0.0, "so-so": 2.0}),
            {"text": ["a", "b c"], "label": ["good", "good"]},
        ),
        oracle=_classes,
        others=(TextClassification(class_weights="balanced"), TextClassification(label_smoothing=0.2)),
    ),
    "multi-label-classification": Case(
        columns={
            "text": _TEXTS,
            "labels": [
                [name for bit, name in enumerate(("fun", "long", "sad")) if (i * 5) >> bit & 1] for i in range(32)
            ],
        },
        outputs=3,
        fake=_scores,
        numbers=lambda p: list(p.probabilities.values()),
        learned=("subset_accuracy", 1.0),
        unlearnable=({"text": ["a", "b"], "labels": [[], []]},),
        strange={"text": ["a", "b"], "labels": [["fun"], ["dark"]]},
        not_inputs=_NOT_TEXTS,
        unsupervised=None,
        oracle=_label_sets,
        others=(MultiLabelClassification(class_weights={"fun": 3.0, "long": 1.0, "sad": 0.5}),),
        by_heart={"max_steps": 150},
    ),
    "text-regression": Case(
        columns={"text": _TEXTS, "target": [((i * 11) % 32) / 16 - 1 for i in range(32)]},
        outputs=1,
        fake=_scores,
        numbers=lambda p: [p.value],
        learned=("r2", 0.99),
        unlearnable=(),
        strange=None,
        not_inputs=_NOT_TEXTS,
        unsupervised=None,
        oracle=_numbers,
        others=(TextRegression(huber_delta=0.3),),
    ),
    "seq2seq": Case(
        columns={"source": _TEXTS, "target": [" ".join(re.findall("[a-z]+", text.lower())[2::-1]) for text in _TEXTS]},
        outputs=0,
        fake=_of_targets,
        numbers=lambda p: [p.score, float(len(p.text))],
        learned=("exact_match", 1.0),
        unlearnable=(),
        strange=None,
        not_inputs=(7, None, ("a",), ("a", "b"), ["a"], {}, {"text": "a"}, {"source": 1}, {"source": "a", "b": "c"}),
        unsupervised=None,
        oracle=_texts,
        others=(Seq2Seq(label_smoothing=0.2), Seq2Seq(max_target_length=4)),
        inputs=("source",),
        families=TWO_STACKS,
        auto_class="AutoModelForSeq2SeqLM",
        by_heart={"metrics": ["exact_match"]},
        metrics=["exact_match"],
    ),
    "masked-lm": Case(
        columns={"text": _TEXTS},
        outputs=0,
        fake=_of_gaps,
        numbers=lambda p: [p.loss, float(p.correct), float(p.tokens)],
        learned=("token_accuracy", 0.9),
        unlearnable=(),
        strange=None,
        not_inputs=(7, None, ("a",), ("a", "b"), ["a"], {}, {"txt": "a"}, {"text": 1}, {"text": "a", "b": "c"}),
        unsupervised=(MaskedLM(), {"text": ["", " "]}),
        oracle=_gaps,
        others=(MaskedLM(mask_probability=0.4),),
        supervised=False,
        families=ENCODERS,
        auto_class="AutoModelForMaskedLM",
        by_heart={"max_steps": 300, "learning_rate": 6e-3, "task": MaskedLM(mask_probability=0.2)},
    ),
    "text-embedding": Case(
        columns={"text": _TEXTS, "text_pair": [f"{text.split()[-1]} {text}" for text in _TEXTS]},
        outputs=0,
        fake=lambda task, batch: torch.nn.functional.normalize(of_rows(batch, 12), dim=1),
        numbers=lambda p: p.embedding.tolist(),
        learned=("recall_at_1", 1.0),
        unlearnable=(),
        strange=None,
        not_inputs=(7, None, ("a",), ("a", "b"), ["a"], {}, {"txt": "a"}, {"text": 1}, {"text": "a", "b": "c"}),
        unsupervised=None,
        oracle=lambda references, predictions: {},
        of_model=_nearest,
        others=(TextEmbedding(scale=5.0),),
        families=FAMILIES,
        auto_class="AutoModel",
    ),
    "token-classification": Case(
        columns={"tokens": _WORDS, "tags": [[_TAGS[len(word) % 4] for word in row] for row in _WORDS]},
        outputs=4,
        fake=of_tokens,
        numbers=lambda p: [*p.scores, *(entity.score for entity in p.entities)],
        learned=("f1", 1.0),
        unlearnable=({"tokens": [["a"], ["b", "c"]], "tags": [["O"], ["O", "O"]]},),
        strange={"tokens": [["a"], ["b", "c"]], "tags": [["O"], ["O", "B-new"]]},
        not_inputs=(7, None, " ", ("a",), ["a"], {}, {"text": "a"}, {"tokens": "a"}, {"tokens": []}, {"tokens": [1]}),
        unsupervised=(
            TokenClassification(class_weights={"O": 0.0, "B-long": 1.0, "I-long": 2.0, "B-short": 1.0}),
            {"tokens": [["a"], ["b", "c"]], "tags": [["O"], ["O", "O"]]},
        ),
        oracle=_spans,
        others=(
            TokenClassification(class_weights="balanced"),
            TokenClassification(label_smoothing=0.2),
            TokenClassification(stride=4),
        ),
        inputs=("tokens",),
        examples=("a", {"tokens": ["b", "c"]}),
        auto_class="AutoModelForTokenClassification",
    ),
    "sequence-classification": Case(
        columns={"sequence": _GENES, "label": [("ei", "ie", "n")[(i * i) % 3 if i > 2 else i] for i in range(32)]},
        outputs=3,
        fake=_scores,
        numbers=lambda p: [p.probability, *p.probabilities.values()],
        learned=("accuracy", 1.0),
        unlearnable=({"sequence": ["A", "C"], "label": ["n", "n"]},),
        strange={"sequence": ["A", "C"], "label": ["n", "ee"]},
        not_inputs=_NOT_SEQUENCES,
        unsupervised=(
            SequenceClassification(class_weights={"ei": 1.0, "ie": 0.0, "n": 2.0}),
            {"sequence": ["A", "CG"], "label": ["ie", "ie"]},
        ),
        oracle=_classes,
        others=(SequenceClassification(class_weights="balanced"), SequenceClassification(label_smoothing=0.2)),
        inputs=("sequence",),
        examples=("A", "CG"),
        families=("bert", "roberta", "modernbert"),
    ),
    "multi-label-sequence-classification": Case(
        columns={
            "sequence": _GENES,
            "targets": [
                {
                    "toxic": i % 2 if i % 5 else None,
                    "bitter": i // 2 % 2 if i % 3 or not i % 5 else None,
                    "odd": 1.0 - i % 2,
                }
                for i in range(32)
            ],
        },
        outputs=3,
        fake=_scores,
        numbers=lambda p: list(p.probabilities.values()),
        learned=("roc_auc", 1.0),
        unlearnable=({"sequence": ["A", "C"], "targets": [{"toxic": 1}, {"toxic": 1}]},),
        strange=None,
        not_inputs=_NOT_SEQUENCES,
        unsupervised=(
            MultiLabelSequenceClassification(target_weights={"toxic": 0.0}),
            {"sequence": ["A", "CG"], "targets": [dict.fromkeys(("bitter", "odd"), None) | {"toxic": 1}] * 2},
        ),
        oracle=_classes_with_gaps,
        others=(MultiLabelSequenceClassification(target_weights={"toxic": 3.0}, class_weights="balanced"),),
        inputs=("sequence",),
        examples=("A", "CG"),
        families=("bert", "roberta"),
        by_heart={"max_steps": 150},
    ),
    "sequence-regression": Case(
        columns={
            "sequence": _GENES,
            "targets": [
                {
                    "logS": ((i * 11) % 32) / 16 - 1 if i % 4 else None,
                    "melts": 300.0 + i if i % 3 or not i % 4 else None,
                }
                for i in range(32)
            ],
        },
        outputs=2,
        fake=_scores,
        numbers=lambda p: list(p.values.values()),
        learned=("r2", 0.99),
        unlearnable=(),
        strange=None,
        not_inputs=_NOT_SEQUENCES,
        unsupervised=(
            SequenceRegression(target_weights={"logS": 0.0}),
            {"sequence": ["A", "CG"], "targets": [{"logS": 1.0, "melts": None}] * 2},
        ),
        oracle=_numbers_with_gaps,
        others=(
            SequenceRegression(huber_delta=0.3),
            SequenceRegression(target_weights={"melts": 0.5}),
            SequenceRegression(standardize=False),
        ),
        inputs=("sequence",),
        examples=("A", "CG"),
        families=("bert", "roberta"),
    ),
    "residue-classification": Case(
        columns={
            "sequence": [gene[:60] for gene in _GENES],  # in one window each
            "residue_labels": ["".join("RY"[letter in "CT"] for letter in gene[:60]) for gene in _GENES],
            "residue_mask": ["".join("10"[place % 4 == 3] for place in range(len(gene[:60]))) for gene in _GENES],
        },
        outputs=2,
        fake=of_tokens,
        numbers=lambda p: [number for numbers in p.probabilities.values() for number in numbers],
        learned=("accuracy", 1.0),
        unlearnable=({"sequence": ["A", "CG"], "residue_labels": ["R", "RR"]},),
        strange={"sequence": ["A", "CG"], "residue_labels": ["R", "RX"]},
        not_inputs=_NOT_SEQUENCES,
        unsupervised=(
            ResidueClassification(),
            {"sequence": ["A", "CG"], "residue_labels": ["R", "YR"], "residue_mask": ["0", "00"]},
        ),
        oracle=_letters,
        others=(
            ResidueClassification(class_weights="balanced"),
            ResidueClassification(label_smoothing=0.2),
            ResidueClassification(stride=4),
        ),
        inputs=("sequence",),
        examples=("A", "CG"),
        families=("bert", "roberta"),
        auto_class="AutoModelForTokenClassification",
    ),
    "contact-prediction": Case(
        columns={
            "sequence": _HAIRPINS,
            "contacts": [_paired(gene) for gene in _HAIRPINS],
            "residue_mask": ["".join("10"[place % 9 == 4] for place in range(len(gene))) for gene in _HAIRPINS],
        },
        outputs=65,
        fake=of_tokens,
        numbers=lambda p: p.probabilities[np.triu_indices(p.letters)].tolist(),
        learned=("precision_at_l5", 1.0),
        unlearnable=(
            {"sequence": ["A" * 8, "CG"], "contacts": [[[0, 1]], []]},
            {"sequence": ["A" * 7, "CG"], "contacts": [[[0, 6]], []]},
        ),
        strange=None,
        not_inputs=_NOT_SEQUENCES,
        unsupervised=(ContactPrediction(), {"sequence": ["A", "CGCGCG"], "contacts": [[], [[0, 5]]]}),
        oracle=_precise,
        others=(ContactPrediction(separation=3, rank=4), ContactPrediction(threshold=0.2)),
        inputs=("sequence",),
        examples=("A", "CG"),
        families=("bert", "roberta"),
        auto_class="AutoModelForTokenClassification",
    ),
    "relation-extraction": Case(
        columns={
            "text": _TEXTS,
            "head": [(0, len(text.split()[0])) for text in _TEXTS],
            "tail": [(len(text) - len(text.split()[-1]), len(text)) for text in _TEXTS],
            "label": [("no_relation", "made_by", "part_of")[(i * i) % 3 if i > 2 else i] for i in range(32)],
        },
        outputs=3,
        fake=_scores,
        numbers=lambda p: [p.probability, *p.probabilities.values()],
        learned=("f1_micro", 1.0),
        unlearnable=({**_PLACES, "label": ["made_by", "made_by"]},),
        strange={**_PLACES, "label": ["made_by", "part"]},
        not_inputs=(
            *(7, None, "a", ("a", "b"), ["a"], {}, {"text": "a b"}, {"text": "a b", "head": (0, 1), "tail": (2, 9)}),
            {"text": "a b", "head": (1, 0), "tail": (2, 3)},
            {"tokens": ["a", "b"], "head": (0, 1), "tail": (1, 2)},
        ),
        unsupervised=(
            RelationExtraction(class_weights={"no_relation": 1.0, "made_by": 0.0, "part_of": 2.0}),
            {**_PLACES, "label": ["made_by", "made_by"]},
        ),
        oracle=_relations,
        others=(
            RelationExtraction(class_weights="balanced"),
            RelationExtraction(label_smoothing=0.2),
            RelationExtraction(negative_label="part_of"),
        ),
        inputs=("text", "head", "tail"),
        examples=({"text": "a b", "head": (0, 1), "tail": (2, 3)}, {"text": "a b", "head": [2, 3], "tail": [0, 1]}),
    ),
    "question-answering": Case(
        columns={
            "question": ["Where is it?" + " What a year!" * (i % 3) for i in range(32)],
            "context": _TEXTS,
            "answers": [_answer(i, text) for i, text in enumerate(_TEXTS)],
        },
        outputs=2,
        fake=of_tokens,
        numbers=lambda p: [p.score, p.start, p.end, p.null_odds],
        learned=("exact_match", 1.0),
        unlearnable=({"question": ["a", "b"], "context": ["c", "d"], "answers": [_answer(4, "")] * 2},),
        strange=None,
        not_inputs=(7, None, "a", ("a", "b"), ["a"], {}, {"question": "a"}, {"question": "a", "context": 3}),
        unsupervised=None,
        oracle=_answers,
        others=(QuestionAnswering(stride=3), QuestionAnswering(max_answer_length=2)),
        inputs=("question", "context"),
        examples=({"question": "a", "context": "b c"}, {"question": "", "context": ""}),
        auto_class="AutoModelForQuestionAnswering",
    ),
    "causal-lm": Case(
        columns={
            "prompt": [" ".join(text.split()[:6]) + " " for text in _TEXTS],
            "completion": [" ".join(reversed(text.split()[: 1 + i % 7])) for i, text in enumerate(_TEXTS)],
        },
        outputs=0,
        fake=_hidden,
        numbers=lambda p: [zlib.crc32(p.text.encode())],
        learned=("token_accuracy", 1.0),
        unlearnable=(),
        strange=None,
        not_inputs=(7, None, ("a", "b"), {"text": "a"}, {"role": "user", "content": "a"}, ["a"], {}, "long " * 80),
        unsupervised=None,
        oracle=lambda references, predictions: {},
        of_model=_by_hand,
        others=(
            CausalLM(label_smoothing=0.2, generation=_SHORT),
            CausalLM(train_on="all", generation=_SHORT),
            CausalLM(over_long="split", generation=_SHORT),
            CausalLM(generation=Generation(max_new_tokens=5)),
        ),
        inputs=("prompt",),
        supervised=False,  # they have targets, but tokens of a completion are inputs too
        task=CausalLM(generation=_SHORT),
        distinct=5,
        families=LANGUAGE_MODELS,
        auto_class="AutoModelForCausalLM",
    ),
    "audio-classification": Case(
        columns={"audio": [row["audio"] for row in _WAVES], "label": [row["label"] for row in _WAVES]},
        outputs=3,
        fake=_scores,
        numbers=lambda p: [p.probability, *p.probabilities.values()],
        learned=("accuracy", 1.0),
        unlearnable=({"audio": [row["audio"] for row in _WAVES[:2]], "label": ["good", "good"]},),
        strange={"audio": [row["audio"] for row in _WAVES[:2]], "label": ["low", "excellent"]},
        not_inputs=_NOT_SOUNDS,
        unsupervised=None,
        oracle=_classes,
        others=(AudioClassification(class_weights="balanced"), AudioClassification(label_smoothing=0.2)),
        inputs=("audio",),
        examples=(_WAVES[0]["audio"], _WAVES[1]["audio"]),
        families=("wav2vec2", "hubert", "ast", "whisper"),
        auto_class="AutoModelForAudioClassification",
        by_heart={"inputs": Audio(processor=tiny_feature_extractor("wav2vec2"))},
    ),
    "speech-recognition": Case(
        columns={"audio": [row["audio"] for row in _WAVES], "text": [_SAID[row["label"]] for row in _WAVES]},
        outputs=3,
        fake=_heard,
        numbers=lambda p: [p.confidence, *p.heard],
        learned=("exact_match", 1.0),
        unlearnable=(),
        strange=None,
        not_inputs=_NOT_SOUNDS,
        unsupervised=None,
        oracle=_errors,
        others=(SpeechRecognition(text_normalizer="basic"),),
        inputs=("audio",),
        examples=(_WAVES[0]["audio"], _WAVES[1]["audio"]),
        families=("wav2vec2", "hubert"),
        auto_class="AutoModelForCTC",
        metrics=["wer", "cer"],
        by_heart={
            "inputs": Audio(processor=tiny_feature_extractor("wav2vec2")),
            "max_steps": 240,
            "learning_rate": 6e-3,
            "metrics": ["exact_match"],
        },
    ),
    "audio-embedding": Case(
        columns={"audio": [row["audio"] for row in _WAVES], "label": [row["label"] for row in _WAVES]},
        outputs=2,
        fake=_identities_of,
        numbers=lambda p: p.embedding.tolist(),
        learned=("recall_at_1", 1.0),
        unlearnable=({"audio": [row["audio"] for row in _WAVES[:2]], "label": ["good", "good"]},),
        strange=None,  # identities may be new
        not_inputs=_NOT_SOUNDS,
        unsupervised=None,
        oracle=_verified,
        others=(AudioEmbedding(objective="cosface", margin=0.1), AudioEmbedding(objective="contrastive")),
        inputs=("audio",),
        examples=(_WAVES[0]["audio"], _WAVES[1]["audio"]),
        families=("wav2vec2", "ast"),
        auto_class="AutoModel",
        by_heart={"inputs": Audio(processor=tiny_feature_extractor("wav2vec2"))},
    ),
    "image-classification": Case(
        columns={
            "image": [row["image"] for row in _PICTURES],
            "label": [row["label"] for row in _PICTURES],
        },
        outputs=3,
        fake=_scores,
        numbers=lambda p: [p.probability, *p.probabilities.values()],
        learned=("accuracy", 1.0),
        unlearnable=({"image": [row["image"] for row in _PICTURES[:2]], "label": ["good", "good"]},),
        strange={"image": [row["image"] for row in _PICTURES[:2]], "label": [_PICTURES[0]["label"], "excellent"]},
        not_inputs=(7, None, {"img": _PICTURES[0]["image"]}, [_PICTURES[0]["image"]], {}, 0.5),
        unsupervised=None,
        oracle=_classes,
        others=(ImageClassification(class_weights="balanced"), ImageClassification(label_smoothing=0.2)),
        inputs=("image",),
        examples=(_PICTURES[0]["image"], _PICTURES[1]["image"]),
        families=("vit", "mobilenet_v2", "resnet"),
        auto_class="AutoModelForImageClassification",
        # One and the same picture in every epoch: what is augmented anew is not known by heart in 80 steps.
        by_heart={"inputs": Image(processor=tiny_image_processor("vit"), augment="none")},
    ),
    "semantic-segmentation": Case(
        columns={
            "image": [row["image"] for row in _SCENES],
            "mask": [np.where(np.arange(32) < i % 3, 255, row["mask"]) for i, row in enumerate(_SCENES)],
        },
        outputs=3,
        fake=_of_pixels,
        numbers=lambda p: list(p.probabilities.values()),
        learned=("miou", 0.8),
        unlearnable=({"image": [row["image"] for row in _SCENES[:2]], "mask": [np.zeros((32, 32), int)] * 2},),
        strange={"image": [row["image"] for row in _SCENES[:2]], "mask": [_SCENES[0]["mask"], np.full((32, 32), 7)]},
        not_inputs=(7, None, {"img": _SCENES[0]["image"]}, [_SCENES[0]["image"]], {}, 0.5),
        unsupervised=(
            SemanticSegmentation(),
            {"image": [row["image"] for row in _SCENES[:2]], "mask": [np.full((32, 32), 255)] * 2},
        ),
        oracle=_masks,
        others=(SemanticSegmentation(class_weights="balanced"), SemanticSegmentation(label_smoothing=0.1)),
        inputs=("image",),
        examples=(_SCENES[0]["image"], _SCENES[1]["image"]),
        families=("segformer", "mobilenet_v2", "upernet"),
        auto_class="AutoModelForSemanticSegmentation",
        built=tiny_segmenter,
        by_heart={"inputs": Image(processor=tiny_image_processor("segformer"), augment="none"), "max_steps": 120},
    ),
    "object-detection": Case(
        columns={
            "image": [row["image"] for row in _SCENES],
            "objects": [row["objects"] for row in _SCENES],
        },
        outputs=2,
        fake=_of_queries,
        numbers=lambda p: [candidate.probability for candidate in p.candidates],
        learned=("map_50", 0.8),
        unlearnable=({"image": [row["image"] for row in _SCENES[:2]], "objects": [[], []]},),
        strange={
            "image": [row["image"] for row in _SCENES[:2]],
            "objects": [_SCENES[0]["objects"], [{"label": "cat", "box": (1, 1, 9, 9)}]],
        },
        not_inputs=(7, None, {"img": _SCENES[0]["image"]}, [_SCENES[0]["image"]], {}, 0.5),
        unsupervised=None,
        oracle=_boxes,
        others=(Detection(threshold=0.2), Detection(least_visible=0.8)),
        inputs=("image",),
        examples=(_SCENES[0]["image"], _SCENES[1]["image"]),
        families=("yolos", "deformable_detr", "detr", "conditional_detr", "rt_detr"),
        auto_class="AutoModelForObjectDetection",
        built=tiny_detector,
        by_heart={  # of these at toy size it is the one that learns in so few steps
            "model": tiny_detector("deformable_detr"),
            "inputs": Image(processor=tiny_image_processor("deformable_detr"), augment="none"),
            "learning_rate": 5e-3,
            "schedule": "constant",
            "max_steps": 150,
        },
    ),
    "multi-label-image-classification": Case(
        columns={
            "image": [row["image"] for row in _PICTURES],
            "labels": [[name for name in ("circle", "square") if row["label"] != name] for row in _PICTURES],
        },
        outputs=2,
        fake=_scores,
        numbers=lambda p: list(p.probabilities.values()),
        learned=("subset_accuracy", 1.0),
        unlearnable=({"image": [row["image"] for row in _PICTURES[:2]], "labels": [[], []]},),
        strange={"image": [row["image"] for row in _PICTURES[:2]], "labels": [["circle"], ["dark"]]},
        not_inputs=(7, None, {"img": _PICTURES[0]["image"]}, [_PICTURES[0]["image"]], {}, 0.5),
        unsupervised=None,
        oracle=_with_ranks,
        others=(MultiLabelImageClassification(class_weights="balanced"),),
        inputs=("image",),
        examples=(_PICTURES[0]["image"], _PICTURES[1]["image"]),
        families=("vit", "resnet"),
        auto_class="AutoModelForImageClassification",
        by_heart={"inputs": Image(processor=tiny_image_processor("vit"), augment="none")},
    ),
    "image-regression": Case(
        columns={
            "image": [row["image"] for row in _PICTURES],
            "target": [float(row["image"].mean()) / 64 - 1 for row in _PICTURES],
        },
        outputs=1,
        fake=_scores,
        numbers=lambda p: [p.value],
        learned=("r2", 0.99),
        unlearnable=(),
        strange=None,
        not_inputs=(7, None, {"img": _PICTURES[0]["image"]}, [_PICTURES[0]["image"]], {}, 0.5),
        unsupervised=None,
        oracle=_numbers,
        others=(ImageRegression(huber_delta=0.3),),
        inputs=("image",),
        examples=(_PICTURES[0]["image"], _PICTURES[1]["image"]),
        families=("vit", "resnet"),
        auto_class="AutoModelForImageClassification",
        by_heart={"inputs": Image(processor=tiny_image_processor("vit"), augment="none")},
    ),
    "image-embedding": Case(
        columns={
            "image": [row["image"] for row in _PICTURES],
            "label": [row["label"] for row in _PICTURES],
        },
        outputs=0,
        fake=_identities_of,
        numbers=lambda p: p.embedding.tolist(),
        learned=("recall_at_1", 1.0),
        unlearnable=({"image": [row["image"] for row in _PICTURES[:2]], "label": ["good", "good"]},),
        strange=None,  # identities may be new
        not_inputs=(7, None, {"img": _PICTURES[0]["image"]}, [_PICTURES[0]["image"]], {}, 0.5),
        unsupervised=None,
        oracle=_verified,
        others=(ImageEmbedding(objective="cosface", margin=0.1), ImageEmbedding(objective="contrastive")),
        inputs=("image",),
        examples=(_PICTURES[0]["image"], _PICTURES[1]["image"]),
        families=("vit", "resnet"),
        auto_class="AutoModel",
        by_heart={"inputs": Image(processor=tiny_image_processor("vit"), augment="none")},
    ),
}

NAMES = tuple(task.name for task in TASKS)
#: Those that read texts.
OF_TEXTS = tuple(task.name for task in TASKS if task.inputs is Text)


def case_of(name: str) -> Case:
    """The case of a registered task."""
    assert name in CASES, f"the task {name!r} is registered but has no case in {__file__}: add one"
    return CASES[name]


def task_class(name: str) -> type[Task]:
    """The class of a registered task."""
    return next(task for task in TASKS if task.name == name)


def encoder_for(family: str = "bert") -> TextEncoder:
    """The tiny tokenizer with the limit of the tiny models."""
    return TextEncoder(tiny_tokenizer(family), MAX_LENGTH)


def having(families: Sequence[str], names: Sequence[str] = NAMES) -> list[tuple[str, str]]:
    """(name of a task, family) for every pair that goes together; at least one for each task."""
    own = {name: [family for family in families if family in CASES[name].families] for name in names}
    return [(name, family) for name in names for family in own[name] or CASES[name].families[:1]]


def thinned(pairs: Sequence[tuple[str, str]]) -> list[Any]:
    """Pairs of task and family for `pytest.mark.parametrize`: of each task one, of each family one, the others slow.

    Tasks take families in turn, so that no family meets one kind of task alone.
    """
    own: dict[str, list[str]] = {}
    for name, family in pairs:
        own.setdefault(name, []).append(family)
    kept = {(name, families[i % len(families)]) for i, (name, families) in enumerate(own.items())}
    for name, family in pairs:
        if all(family != other for _, other in kept):
            kept.add((name, family))
    return [pair if pair in kept else pytest.param(*pair, marks=pytest.mark.slow) for pair in pairs]


def tuner_for(name: str, family: str | None = None, **options: Any) -> FineTuner:
    """A tuner of a tiny model for a task, in fp32."""
    family = family or case_of(name).families[0]
    model = options.pop("model", None) or case_of(name).model(family)
    defaults: dict[str, Any] = {"learning_rate": 1e-3, "precision": "fp32", "device": "cpu"}
    defaults["task"] = case_of(name).task
    return FineTuner(model, **{**case_of(name).reading(family), **defaults, **options})


def weights(tuner: FineTuner) -> dict[str, Tensor]:
    """A copy of the tuned model's weights."""
    return {name: value.detach().clone() for name, value in tuner.model.state_dict().items()}


def same_weights(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Whether two sets of weights are equal bit by bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def losses(tuner: FineTuner) -> list[float]:
    """The loss of every step."""
    return [record["loss"] for record in tuner.history.steps]
