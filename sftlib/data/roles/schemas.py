"""Which columns a task needs: one `Schema` per task, and the matching of columns to its roles.

A task is one line in `SCHEMAS`. Roles are given by keyword (``text="review"``) or borne by the column itself (a column
called ``text``); they are never guessed from the order of columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

from sftlib.data.kinds.answers import AnswersRole
from sftlib.data.kinds.base import NumberRole, RoleKind, TextRole
from sftlib.data.kinds.contacts import ContactsRole, StructureRole
from sftlib.data.kinds.labels import LabelListRole, LabelRole
from sftlib.data.kinds.masks import MaskRole
from sftlib.data.kinds.media import ImageRole
from sftlib.data.kinds.messages import MessagesRole
from sftlib.data.kinds.objects import ObjectsRole
from sftlib.data.kinds.sequences import ResidueLabelsRole, ResidueMaskRole, SequenceRole, TargetsRole
from sftlib.data.kinds.sounds import AudioRole
from sftlib.data.kinds.spans import SpanRole
from sftlib.data.kinds.tools import TemplateOptionsRole, ToolsRole
from sftlib.data.kinds.values import FilledTextRole
from sftlib.data.kinds.verdicts import SameRole
from sftlib.data.kinds.words import TagsRole, TokensRole
from sftlib.data.roles.relations import (
    AnswersInside,
    BoxesInside,
    Covers,
    Differ,
    PairsInside,
    Relation,
    ResiduesMatch,
    SameLength,
    SpanInside,
)
from sftlib.support.checking import choice, raise_together

Roles: TypeAlias = dict[str, RoleKind]

#: Keywords of `TaskDataset` that are not roles.
OPTIONS = ("task", "label_names", "on_invalid", "separator", "sentence", "alphabet", "strand")


@final
@dataclass(frozen=True)
class Schema:
    """The roles of one task and the kind of each.

    Args:
        name: the task.
        inputs: roles that every row needs, also for predicting.
        optional_inputs: roles that a data set may have.
        targets: roles that supervise; without them the data set is unlabelled. A schema that has none supervises
            itself: its rows are labelled, unless a kind says otherwise (`RoleKind.has_target`).
        relations: what holds between two roles of every row.
        named_only: the task is not inferred from the names of columns, only taken when ``task=`` names it or the roles
            that are given by keyword belong to no other.
    """

    name: str
    inputs: Mapping[str, RoleKind]
    optional_inputs: Mapping[str, RoleKind] = field(default_factory=dict)
    targets: Mapping[str, RoleKind] = field(default_factory=dict)
    relations: Sequence[Relation] = ()
    named_only: bool = False

    @property
    def roles(self) -> dict[str, RoleKind]:
        """Every role, in the order inputs, optional inputs, targets."""
        return {**self.inputs, **self.optional_inputs, **self.targets}

    @property
    def required(self) -> tuple[str, ...]:
        """The roles of a labelled data set."""
        return (*self.inputs, *self.targets)


@final
class Schemas:
    """The known schemas. A task may have several: one for each set of roles that it can be given in.

    Example:
        >>> schemas = Schemas()
        >>> schemas.register(Schema("copying", inputs={"source": TextRole()}))
        >>> schemas.tasks, len(schemas.get("copying"))
        (('copying',), 1)
    """

    def __init__(self) -> None:
        self._schemas: list[Schema] = []

    def register(self, schema: Schema) -> None:
        """Add a schema; the order decides nothing but how messages list them."""
        self._schemas.append(schema)

    def get(self, task: str) -> tuple[Schema, ...]:
        """The schemas of a task.

        Raises:
            OptionError: there is no such task; the message names the nearest one.
        """
        raise_together([choice("task", task, self.tasks)])
        return tuple(schema for schema in self._schemas if schema.name == task)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of all tasks, each once."""
        return tuple(dict.fromkeys(schema.name for schema in self._schemas))

    def __iter__(self) -> Iterator[Schema]:
        return iter(self._schemas)


_TEXT: Roles = {"text": TextRole()}
_PAIR: Roles = {"text_pair": TextRole()}
_IMAGE: Roles = {"image": ImageRole()}
_SEQUENCE: Roles = {"sequence": SequenceRole()}
_SEQUENCES: Roles = {"sequence_pair": SequenceRole()}
_RESIDUES: Roles = {"residue_labels": ResidueLabelsRole()}
_CONTACTS: Roles = {"contacts": ContactsRole()}
_AUDIO: Roles = {"audio": AudioRole()}
_TOKENS: Roles = {"tokens": TokensRole()}
_SPANS: Roles = {"head": SpanRole(), "tail": SpanRole()}
_QUESTION: Roles = {"question": TextRole(), "context": TextRole()}
_BESIDE_MESSAGES: Roles = {"tools": ToolsRole(), "chat_template_kwargs": TemplateOptionsRole()}


def _spans(where: str) -> tuple[Relation, ...]:
    return SpanInside(where, "head"), SpanInside(where, "tail"), Differ("head", "tail")


SCHEMAS = Schemas()
SCHEMAS.register(Schema("text-classification", _TEXT, _PAIR, {"label": LabelRole()}))
SCHEMAS.register(Schema("multi-label-classification", _TEXT, _PAIR, {"labels": LabelListRole()}))
SCHEMAS.register(Schema("text-regression", _TEXT, _PAIR, {"target": NumberRole()}))
SCHEMAS.register(
    Schema("token-classification", _TOKENS, {}, {"tags": TagsRole()}, relations=[SameLength("tokens", "tags")])
)
SCHEMAS.register(
    Schema("relation-extraction", _TEXT | _SPANS, {}, {"label": LabelRole()}, relations=_spans("text")),
)
SCHEMAS.register(
    Schema("relation-extraction", _TOKENS | _SPANS, {}, {"label": LabelRole()}, relations=_spans("tokens"))
)
SCHEMAS.register(
    Schema(
        "question-answering", _QUESTION, {}, {"answers": AnswersRole()}, relations=[AnswersInside("context", "answers")]
    )
)
SCHEMAS.register(Schema("seq2seq", {"source": TextRole()}, {}, {"target": FilledTextRole()}))
SCHEMAS.register(Schema("causal-lm", {"messages": MessagesRole()}, _BESIDE_MESSAGES))
SCHEMAS.register(Schema("causal-lm", {"prompt": TextRole()}, {}, {"completion": FilledTextRole()}))
SCHEMAS.register(Schema("causal-lm", _TEXT, named_only=True))
SCHEMAS.register(Schema("masked-lm", _TEXT, named_only=True))
SCHEMAS.register(Schema("text-embedding", _TEXT, {}, _PAIR, named_only=True))
SCHEMAS.register(Schema("text-embedding", _TEXT, {}, _PAIR | {"text_negative": TextRole()}, named_only=True))
SCHEMAS.register(Schema("text-embedding", _TEXT, {}, _PAIR | {"score": NumberRole()}, named_only=True))
SCHEMAS.register(Schema("image-classification", _IMAGE, {}, {"label": LabelRole()}))
SCHEMAS.register(Schema("multi-label-image-classification", _IMAGE, {}, {"labels": LabelListRole()}))
SCHEMAS.register(Schema("image-regression", _IMAGE, {}, {"target": NumberRole()}))
SCHEMAS.register(Schema("semantic-segmentation", _IMAGE, {}, {"mask": MaskRole()}, relations=[Covers("image", "mask")]))
SCHEMAS.register(
    Schema("object-detection", _IMAGE, {}, {"objects": ObjectsRole()}, relations=[BoxesInside("image", "objects")])
)
SCHEMAS.register(Schema("sequence-classification", _SEQUENCE, _SEQUENCES, {"label": LabelRole()}))
SCHEMAS.register(Schema("multi-label-sequence-classification", _SEQUENCE, _SEQUENCES, {"labels": LabelListRole()}))
SCHEMAS.register(
    Schema(
        "multi-label-sequence-classification",
        _SEQUENCE,
        _SEQUENCES,
        {"targets": TargetsRole(classes=True)},
        named_only=True,
    )
)
SCHEMAS.register(Schema("sequence-regression", _SEQUENCE, _SEQUENCES, {"target": NumberRole()}))
SCHEMAS.register(Schema("sequence-regression", _SEQUENCE, _SEQUENCES, {"targets": TargetsRole()}))
SCHEMAS.register(
    Schema("residue-classification", _SEQUENCE, {}, _RESIDUES, relations=[SameLength("sequence", "residue_labels")])
)
SCHEMAS.register(
    Schema(
        "residue-classification",
        _SEQUENCE,
        {},
        _RESIDUES | {"residue_mask": ResidueMaskRole()},
        relations=[SameLength("sequence", "residue_labels"), SameLength("sequence", "residue_mask")],
    )
)
SCHEMAS.register(
    Schema("contact-prediction", _SEQUENCE, {}, _CONTACTS, relations=[PairsInside("sequence", "contacts")])
)
SCHEMAS.register(
    Schema(
        "contact-prediction",
        _SEQUENCE,
        {},
        _CONTACTS | {"residue_mask": ResidueMaskRole()},
        relations=[PairsInside("sequence", "contacts"), SameLength("sequence", "residue_mask")],
    )
)
SCHEMAS.register(
    Schema(
        "contact-prediction",
        _SEQUENCE,
        {},
        {"structure": StructureRole()},
        relations=[ResiduesMatch("sequence", "structure")],
        named_only=True,  # a column of this name often holds secondary structure
    )
)
SCHEMAS.register(Schema("audio-classification", _AUDIO, {}, {"label": LabelRole()}))
SCHEMAS.register(Schema("audio-embedding", _AUDIO, {}, {"label": LabelRole()}, named_only=True))
SCHEMAS.register(Schema("audio-embedding", _AUDIO | {"audio_pair": AudioRole()}, {}, {"same": SameRole()}))
SCHEMAS.register(Schema("speech-recognition", _AUDIO, {}, {"text": FilledTextRole()}))
SCHEMAS.register(Schema("image-embedding", _IMAGE, {}, {"label": LabelRole()}, named_only=True))
SCHEMAS.register(Schema("image-embedding", _IMAGE | {"image_pair": ImageRole()}, {}, {"same": SameRole()}))


def roles_of(task: str | None, schemas: Schemas = SCHEMAS) -> set[str]:
    """Every role of a task, or of all tasks for None."""
    return {role for schema in (schemas if task is None else schemas.get(task)) for role in schema.roles}
