"""Going on with pretraining on unlabelled texts of the target domain, before anything is learned from labels.

Built on `FineTuner`'s public methods and on where models come from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sftlib.arguments import OF_INPUTS, OF_TASK, RECIPES
from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.errors import DataError, OptionError
from sftlib.models.frozen.freezing import BACKBONE
from sftlib.models.sources import AdaptedSource, ModelSource, pretraining_of
from sftlib.run.rates import DEEPER_HEAD
from sftlib.tasks.base import Task
from sftlib.tasks.text.causal_lm import CausalLM
from sftlib.tasks.text.masked_lm import MaskedLM

if TYPE_CHECKING:
    from sftlib.finetuner import FineTuner

_LACKING = (
    "adapt: %s comes without the head that fills gaps: one is drawn, and learns first, with the body still; to adapt "
    "such a model (a sentence encoder) was a loss where it was measured: compare with a fit without it"
)

#: Options that belong to what is learned afterwards, and what they are meanwhile.
_MEANWHILE: Mapping[str, Any] = {
    **dict.fromkeys(("freeze", "adapter", "metrics", "early_stopping", "keep_best")),
    **OF_TASK,
    **RECIPES,
}


def stages_of(source: ModelSource, learning_rate: float | None) -> Sequence[Mapping[str, Any]]:
    """What is frozen while a model goes on learning from texts, and at which rate, one stage after the other.

    A head that fills gaps and is drawn anew would pull the body after it, away from what it knows: such a head learns
    first what the body has to say as it is, and then both go on together (linear probing before fine-tuning, Kumar and
    others, 2022).

    Args:
        source: of the model.
        learning_rate: that was asked for, or None.

    Raises:
        OptionError: a model that cannot learn from plain texts.
    """
    together = {"learning_rate": learning_rate}
    if pretraining_of(source) != MaskedLM.name or _fills_gaps(source):
        return [together]
    return [{"freeze": BACKBONE, "learning_rate": DEEPER_HEAD}, together]


def _fills_gaps(source: ModelSource) -> bool:
    """Whether a model comes with the head for it; BERT's kind also beside another, where ELECTRA has another alone."""
    names = getattr(source.config, "architectures", None) or ()
    beside = (name for name in names if name.endswith("ForPreTraining") and not name.startswith("Electra"))
    return source.brings(MaskedLM.auto_class) or any(beside)


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
    if options.get("freeze"):
        logging.getLogger("sftlib").warning(_LACKING, source.name)
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
    if given.get("freeze"):  # for this while alone
        learner.model.requires_grad_(True)
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
