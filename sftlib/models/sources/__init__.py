"""The one import boundary to transformers: from what a user calls "a model" to a module with the right head.

A `ModelSource` remembers where a model comes from and builds a fresh, seeded copy of it as often as asked, so that a
second ``fit`` starts from the original weights and a model object that was passed in is never changed.
"""

from __future__ import annotations

from sftlib.models.sources.around import AdaptedSource, HeldSource, held
from sftlib.models.sources.base import Head, ModelSource
from sftlib.models.sources.new import NEW, NewSource
from sftlib.models.sources.objects import ModuleSource, ObjectSource
from sftlib.models.sources.open import is_of_class, open_source, pretraining_of
from sftlib.models.sources.pretrained import PretrainedSource

__all__ = [
    "NEW",
    "AdaptedSource",
    "Head",
    "HeldSource",
    "ModelSource",
    "ModuleSource",
    "NewSource",
    "ObjectSource",
    "PretrainedSource",
    "held",
    "is_of_class",
    "open_source",
    "pretraining_of",
]
