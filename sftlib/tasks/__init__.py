"""Every task, one line each; its roles stand in `sftlib.data.roles.schemas`."""

from __future__ import annotations

from typing import NamedTuple

from sftlib.data.roles.schemas import SCHEMAS
from sftlib.errors import OptionError
from sftlib.support.checking import nearest
from sftlib.tasks.audio.classification import AudioClassification
from sftlib.tasks.audio.embedding import AudioEmbedding
from sftlib.tasks.audio.speech_recognition import SpeechRecognition
from sftlib.tasks.base import LossSum, Task
from sftlib.tasks.image.classification import ImageClassification
from sftlib.tasks.image.detection import Detection
from sftlib.tasks.image.embedding import ImageEmbedding
from sftlib.tasks.image.multi_label import MultiLabelImageClassification
from sftlib.tasks.image.regression import ImageRegression
from sftlib.tasks.image.segmentation import SemanticSegmentation
from sftlib.tasks.sequence.classification import SequenceClassification
from sftlib.tasks.sequence.contact_prediction import ContactPrediction
from sftlib.tasks.sequence.multi_label import MultiLabelSequenceClassification
from sftlib.tasks.sequence.regression import SequenceRegression
from sftlib.tasks.sequence.residues import ResidueClassification
from sftlib.tasks.text.causal_lm import CausalLM
from sftlib.tasks.text.classification import TextClassification
from sftlib.tasks.text.masked_lm import MaskedLM
from sftlib.tasks.text.multi_label import MultiLabelClassification
from sftlib.tasks.text.question_answering import QuestionAnswering
from sftlib.tasks.text.regression import TextRegression
from sftlib.tasks.text.relation_extraction import RelationExtraction
from sftlib.tasks.text.seq2seq import Seq2Seq
from sftlib.tasks.text.text_embedding import TextEmbedding
from sftlib.tasks.text.token_classification import TokenClassification

TASKS: tuple[type[Task], ...] = (
    TextClassification,
    MultiLabelClassification,
    TextRegression,
    TokenClassification,
    QuestionAnswering,
    RelationExtraction,
    Seq2Seq,
    CausalLM,
    MaskedLM,
    TextEmbedding,
    ImageClassification,
    SemanticSegmentation,
    Detection,
    SequenceClassification,
    MultiLabelSequenceClassification,
    SequenceRegression,
    ResidueClassification,
    ContactPrediction,
    AudioClassification,
    SpeechRecognition,
    AudioEmbedding,
    MultiLabelImageClassification,
    ImageRegression,
    ImageEmbedding,
)


def find_task(name: str) -> type[Task]:
    """The task of this name.

    Raises:
        OptionError: there is none; the message names the nearest.
    """
    for task in TASKS:
        if task.name == name:
            return task
    if name in SCHEMAS.tasks:
        raise OptionError(
            f"task={name!r}: rows can be read for it, but this version of sftlib learns "
            f"{', '.join(task.name for task in TASKS)} only"
        )
    raise OptionError(f"task={name!r}: {nearest(name, [task.name for task in TASKS])}")


class Facts(NamedTuple):
    """What there is to say of a task in a line.

    Attributes:
        name: under which it is asked for.
        task: the class.
        auto_class: of transformers, with its head.
        roles: the columns that labelled rows need; one set for each way to give them.
        metrics: the usual ones.
    """

    name: str
    task: type[Task]
    auto_class: str
    roles: tuple[tuple[str, ...], ...]
    metrics: tuple[str, ...]


def facts() -> list[Facts]:
    """The registry as a table, for documentation and tests.

    Example:
        >>> [(fact.name, fact.auto_class, fact.roles) for fact in facts()][4]
        ('question-answering', 'AutoModelForQuestionAnswering', (('question', 'context', 'answers'),))
    """
    return [
        Facts(
            task.name,
            task,
            task.auto_class,
            tuple(schema.required for schema in SCHEMAS.get(task.name)),
            task.usual_metrics,
        )
        for task in TASKS
    ]


__all__ = [
    "TASKS",
    "AudioClassification",
    "AudioEmbedding",
    "CausalLM",
    "ContactPrediction",
    "Detection",
    "Facts",
    "ImageClassification",
    "ImageEmbedding",
    "ImageRegression",
    "LossSum",
    "MaskedLM",
    "MultiLabelClassification",
    "MultiLabelImageClassification",
    "MultiLabelSequenceClassification",
    "QuestionAnswering",
    "RelationExtraction",
    "ResidueClassification",
    "SemanticSegmentation",
    "Seq2Seq",
    "SequenceClassification",
    "SequenceRegression",
    "SpeechRecognition",
    "Task",
    "TextClassification",
    "TextEmbedding",
    "TextRegression",
    "TokenClassification",
    "facts",
    "find_task",
]
