"""What a pretrained body makes of rows, as it is: a vector a row, for heads that are fitted beside it.

Letters: ``N`` rows, ``H`` numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sftlib.arguments import OF_TASK, Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.data.stream import no_data_set
from sftlib.errors import DataError, OptionError
from sftlib.models.sources import ModelSource
from sftlib.run.assemble import assemble
from sftlib.run.encodings import Encodings
from sftlib.run.settle import settled
from sftlib.tasks.text.text_embedding import Learned, TextEmbedding

Features = NDArray[np.float32]

_TEXTS = ("text", "text_pair")


def text_features(
    arguments: Arguments, source: ModelSource, data: TaskDataset, encodings: Encodings, roles: Sequence[str] = _TEXTS
) -> Features:
    """(N, H) the mean of the last hidden states over each text, at length 1.

    Of pairs: both vectors, how far they are apart, and their product, at every place.

    Args:
        arguments: of the tuner; what it freezes, adapts or learns does not matter here.
        source: of the model.
        data: rows with texts, labelled or not.
        encodings: columns made so far.
        roles: whose texts are taken.

    Raises:
        DataError: something else than a data set.
        OptionError: rows that are no texts.
        ArtifactError: the model cannot be opened.
    """
    if not isinstance(data, TaskDataset):
        raise DataError(no_data_set(data, "features"))
    there = [role for role in roles if role in data.roles]
    if "text" not in there:
        raise OptionError(f"features of {data.task} cannot be computed; they are made of texts (role 'text')")
    task = TextEmbedding(learned=Learned(objective="in-batch"))
    meanwhile = dict.fromkeys(("freeze", "adapter", "metrics", "early_stopping", "keep_best"))
    plain = replace(arguments, **{**meanwhile, **OF_TASK, "task": task.untaught()})
    fitted = replace(assemble(plain, source, task), encodings=encodings)
    found = []
    for role in there:
        rows = TaskDataset({"text": data.column(role)}, task=task.name)
        encoded = fitted.encode(rows)
        fitted = settled(fitted, encoded)
        found.append(np.stack([one.embedding for one in fitted.predict(rows, encoded)]))
    if len(found) == 1:
        return found[0]
    first, second = found
    return np.concatenate([first, second, np.abs(first - second), first * second], axis=1)
