"""Supervised fine-tuning of pretrained models: rows in, a verified model out.

Everything public is listed in ``__all__`` and imported when it is first touched, so ``import sftlib`` itself loads
neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sftlib._version import __version__

if TYPE_CHECKING:
    from sftlib import explain
    from sftlib.audits import audit
    from sftlib.data import DataReport, MultiTask, TaskDataset, TaskStream
    from sftlib.encoders.audio.inputs import Audio
    from sftlib.encoders.image.inputs import Image
    from sftlib.encoders.sequence.inputs import Sequence
    from sftlib.encoders.text.inputs import Text
    from sftlib.finetuner import FineTuner
    from sftlib.metrics import Metrics
    from sftlib.models.adapters import LoRA
    from sftlib.models.language.generation import Generation
    from sftlib.models.pretrained import Pretrained
    from sftlib.selection import Range, compare, cross_validate, search
    from sftlib.tasks import (
        AudioClassification,
        AudioEmbedding,
        CausalLM,
        ContactPrediction,
        Detection,
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
        TextClassification,
        TextEmbedding,
        TextRegression,
        TokenClassification,
    )
    from sftlib.train.callbacks import Callback, EarlyStopping
    from sftlib.train.history import History

__all__ = [
    "Audio",
    "AudioClassification",
    "AudioEmbedding",
    "Callback",
    "CausalLM",
    "ContactPrediction",
    "DataReport",
    "Detection",
    "EarlyStopping",
    "FineTuner",
    "Generation",
    "History",
    "Image",
    "ImageClassification",
    "ImageEmbedding",
    "ImageRegression",
    "LoRA",
    "MaskedLM",
    "Metrics",
    "MultiLabelClassification",
    "MultiLabelImageClassification",
    "MultiLabelSequenceClassification",
    "MultiTask",
    "Pretrained",
    "QuestionAnswering",
    "Range",
    "RelationExtraction",
    "ResidueClassification",
    "SemanticSegmentation",
    "Seq2Seq",
    "Sequence",
    "SequenceClassification",
    "SequenceRegression",
    "SpeechRecognition",
    "TaskDataset",
    "TaskStream",
    "Text",
    "TextClassification",
    "TextEmbedding",
    "TextRegression",
    "TokenClassification",
    "__version__",
    "audit",
    "compare",
    "cross_validate",
    "explain",
    "search",
]

_HOME = {
    "Audio": "sftlib.encoders.audio.inputs",
    "AudioClassification": "sftlib.tasks",
    "AudioEmbedding": "sftlib.tasks",
    "Callback": "sftlib.train.callbacks",
    "CausalLM": "sftlib.tasks",
    "ContactPrediction": "sftlib.tasks",
    "DataReport": "sftlib.data",
    "EarlyStopping": "sftlib.train.callbacks",
    "FineTuner": "sftlib.finetuner",
    "Generation": "sftlib.models.language.generation",
    "History": "sftlib.train.history",
    "Image": "sftlib.encoders.image.inputs",
    "ImageClassification": "sftlib.tasks",
    "ImageEmbedding": "sftlib.tasks",
    "ImageRegression": "sftlib.tasks",
    "LoRA": "sftlib.models.adapters",
    "MaskedLM": "sftlib.tasks",
    "Metrics": "sftlib.metrics",
    "MultiLabelClassification": "sftlib.tasks",
    "Detection": "sftlib.tasks",
    "Pretrained": "sftlib.models.pretrained",
    "QuestionAnswering": "sftlib.tasks",
    "Range": "sftlib.selection",
    "RelationExtraction": "sftlib.tasks",
    "SemanticSegmentation": "sftlib.tasks",
    "MultiLabelSequenceClassification": "sftlib.tasks",
    "MultiLabelImageClassification": "sftlib.tasks",
    "MultiTask": "sftlib.data",
    "ResidueClassification": "sftlib.tasks",
    "Seq2Seq": "sftlib.tasks",
    "Sequence": "sftlib.encoders.sequence.inputs",
    "SequenceClassification": "sftlib.tasks",
    "SequenceRegression": "sftlib.tasks",
    "SpeechRecognition": "sftlib.tasks",
    "TaskDataset": "sftlib.data",
    "TaskStream": "sftlib.data",
    "Text": "sftlib.encoders.text.inputs",
    "TextClassification": "sftlib.tasks",
    "TextEmbedding": "sftlib.tasks",
    "TextRegression": "sftlib.tasks",
    "TokenClassification": "sftlib.tasks",
    "compare": "sftlib.selection",
    "cross_validate": "sftlib.selection",
    "search": "sftlib.selection",
    "audit": "sftlib.audits",
    "explain": "sftlib.explain",  # a room that can be called
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_HOME[name]), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
