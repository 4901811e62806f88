"""Every task, one line each; its roles stand in `sftlib.data.roles.schemas`."""

from __future__ import annotations

from sftlib.data.roles.schemas import SCHEMAS
from sftlib.errors import OptionError
from sftlib.support.checking import nearest
from sftlib.tasks.base import LossSum, Task
from sftlib.tasks.classification import TextClassification
from sftlib.tasks.multi_label import MultiLabelClassification
from sftlib.tasks.regression import TextRegression
from sftlib.tasks.text.causal_lm import CausalLM
from sftlib.tasks.text.masked_lm import MaskedLM
from sftlib.tasks.text.question_answering import QuestionAnswering
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


__all__ = ["TASKS", "LossSum", "Task", "find_task"]
