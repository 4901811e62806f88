"""Going on with pretraining on unlabelled texts of the target domain, before anything is learned from labels.

Built on `FineTuner`'s public methods and on where models come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sftlib.arguments import OF_INPUTS, OF_TASK, RECIPES
from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.errors import DataError, OptionError
from sftlib.models.sources import AdaptedSource, ModelSource, pretraining_of
from sftlib.tasks.base import Task
from sftlib.tasks.text.causal_lm import CausalLM
from sftlib.tasks.text.masked_lm import MaskedLM

if TYPE_CHECKING:
    from sftlib.finetuner import FineTuner

#: Options that belong to what is learned afterwards, and what they are meanwhile.
_MEANWHILE: Mapping[str, Any] = {
    **dict.fromkeys(("freeze", "adapter", "metrics", "early_stopping", "keep_best")),
    **OF_TASK,
    **RECIPES,
}


def adapted(
    tuner: FineTuner,
    source: ModelSource,
    texts: object,
    options: Mapping[str, Any],
    *,
    mask_probability: float | None,
    progress: bool,
) -> Any:
    """The source of a model whose body has learned from texts.

    Args:
        tuner: with the options of what is learned afterwards; it is not changed.
        source: of its model.
        texts: strings, or a data set whose texts are taken.
        options: that replace the tuner's; those that are None do not.
        mask_probability: share of each text that becomes gaps.
        progress: of the run.

    Returns:
        An `AdaptedSource`.

    Raises:
        DataError: there are no texts.
        OptionError: a model that cannot learn from plain texts.
    """
    task = pretraining_of(source)
    found, asked = _texts(texts), tuner.get_params(deep=False)
    reading, flat = asked["inputs"], {}
    if reading is not None:  # with its shorthands, of which the same texts are made
        given = {name: asked[name] for name in OF_INPUTS if asked[name] is not None and hasattr(reading, name)}
        reading, found = replace(reading, **given).pretraining(source, found)
        flat = dict.fromkeys(given)
    data = TaskDataset({"text": found}, task=task)
    given = {name: value for name, value in options.items() if value is not None}
    meanwhile = {**_MEANWHILE, **flat, "inputs": reading, "task": _pretraining(task, mask_probability)}
    learner = tuner.clone().set_params(**{**meanwhile, **given})
    learner.fit(data, progress=progress)
    return AdaptedSource(source, learner.model)


def _pretraining(name: str, mask_probability: float | None) -> Task:
    if name == CausalLM.name:
        if mask_probability is not None:
            raise OptionError(f"mask_probability={mask_probability!r}: a decoder continues texts, and fills no gaps")
        return CausalLM(over_long="split")
    return MaskedLM() if mask_probability is None else MaskedLM(mask_probability=mask_probability)


def _texts(texts: object) -> list[str]:
    """Every text that is not blank."""
    if isinstance(texts, TaskDataset):
        found = [value for role in texts.inputs for value in texts.column(role)]
    elif isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        raise DataError(f"adapt: found {brief(texts)}; expected a list of texts, or a TaskDataset")
    else:
        found = list(texts)
    odd = next((row for row, text in enumerate(found) if not isinstance(text, str)), None)
    if odd is not None:
        raise DataError(f"adapt: row {odd} is {brief(found[odd])} of type {type(found[odd]).__name__}, expected a text")
    filled = [text for text in found if text.strip()]
    if not filled:
        raise DataError("adapt: there is no text to learn from")
    return filled
