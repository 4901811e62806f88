"""Configs of tasks as version 0.1 wrote them: options beside what the data had decided, in one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from sftlib.support.values import given_fields


def in_two_parts(task: Any, flat: Mapping[str, Any]) -> dict[str, Any]:
    """The same as it is written now.

    What the data decides has the name of the option that it answers, if there is one: a fit that starts from the folder
    then decides the same.

    Args:
        task: the class; its `renamed` says which entries have another name now.
        flat: as it was read; what is unknown stays, to be refused with the rest.
    """
    named = {task.renamed.get(name, name): value for name, value in flat.items()}
    kind = next((kind for kind in get_args(get_type_hints(task)["learned"]) if is_dataclass(kind)), None)
    decided = set() if kind is None else {item.name for item in given_fields(kind)}
    options = {name: value for name, value in named.items() if name in task.option_names() or name not in decided}
    names, weights = named.get("label_names"), named.get("class_weights")
    if isinstance(names, list) and isinstance(weights, list):  # one for each label, in their order
        options["class_weights"] = [list(pair) for pair in zip(names, weights, strict=False)]
    learned = {name: value for name, value in named.items() if name in decided}
    return {"options": options, "learned": None if kind is None else learned}
