"""The saved folder: the only place that knows its layout.

::

    config.json model.safetensors, and files of the encoder, as transformers lays them out
    head.json in place of the first, for a head of our own on a body of transformers
    adapter_config.json adapter_model.safetensors in place of the first two, for an adapter: as peft lays them out
    sftlib.json                                   task and labels, limits of inputs, options, metrics
    README.md                                     a model card; the one file that people may edit
    manifest.json                                 size and SHA-256 of every other file, and of itself

A folder is verified before anything in it is read, and nothing in it is executed.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Container, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from sftlib.arguments import TOLD_ONLY
from sftlib.encoders.base import Encoder
from sftlib.errors import ArtifactError, OptionError
from sftlib.models.adapters import SavedAdapter, adapt, adapter_weights, base_digest, without_adapter
from sftlib.models.adapters.config import SETTINGS
from sftlib.models.adapters.folder import ADAPTER_FILES, read_adapter, write_adapter
from sftlib.models.files.folder import Described, describe_model, fill_model, is_transformers_model, write_model
from sftlib.models.files.headed import DescribedHead, describe_head, write_head
from sftlib.models.files.strict import HEAD, MODEL_FILES, told
from sftlib.models.own_heads import headed
from sftlib.models.pretrained import Pretrained
from sftlib.models.sources import open_source
from sftlib.saved.record import read_record
from sftlib.support import storage
from sftlib.support.checking import folder_path, nearest_folder
from sftlib.support.checkpoints import checkpoint_hint
from sftlib.support.display import text_table
from sftlib.support.libraries import versions
from sftlib.tasks import TASKS, find_task
from sftlib.tasks.base import Task

_KIND, _ADAPTER = "sftlib model", "sftlib adapter"
_RECORD = "sftlib.json"
_CARD = "README.md"
_OWN = {_RECORD, _CARD, storage.MANIFEST}


@final
@dataclass
class Contents:
    """What a saved folder holds.

    Attributes:
        task: with its labels.
        model: with its weights.
        encoder: reads inputs as in training.
        settings: every option as it was resolved.
        metrics: of the last evaluation.
        adapter: the adapter that was read and put into the model; None for a plain model.
        base: its base in full precision, when the model holds it in fewer bits.
    """

    task: Task
    model: nn.Module
    encoder: Encoder
    settings: dict[str, Any]
    metrics: dict[str, float]
    adapter: SavedAdapter | None = None
    base: nn.Module | None = None

    @property
    def has_adapter(self) -> bool:
        """Whether the model stands on a base that the folder does not hold."""
        return self.settings.get("adapter") is not None


def require_place(path: str | os.PathLike[str]) -> Path:
    """A folder that may be written, by what lies there now.

    Raises:
        ArtifactError: it holds something else than a model saved by sftlib.
    """
    target = folder_path(path)
    if target.exists() and not _is_replaceable(target):
        raise ArtifactError(
            f"{os.fspath(path)!r} is {_what_is(target)}, not a model saved by sftlib, and nothing else is replaced: "
            "choose another folder"
        )
    return target


@contextmanager
def writing(contents: Contents, path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a folder beside its place; it moves there when the context ends without an error.

    Args:
        contents: what to write.
        path: where the folder will be.

    Yields:
        The folder as written, for a look before it counts.

    Raises:
        ArtifactError: ``path`` holds something else, or cannot be written.
    """
    target = require_place(path)
    try:
        with storage.written_whole(target) as folder:
            if contents.has_adapter:
                write_adapter(contents.model, folder)
            else:
                write_model(contents.model, folder, contents.task.attached)
                if (own := headed(contents.model)) is not None:
                    write_head(own, folder)
            contents.encoder.save(folder)
            storage.write_json(folder / _RECORD, _record(contents))
            (folder / _CARD).write_text(_card(contents), encoding="utf-8")
            kind = _ADAPTER if contents.has_adapter else _KIND
            libraries = versions("peft") if contents.has_adapter else versions()
            storage.write_manifest(folder, kind=kind, free=[_CARD], libraries=libraries)
            yield folder
    except OSError as error:
        raise ArtifactError(f"{os.fspath(path)!r} cannot be written: {error.strerror or error}") from error


def load(
    path: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | Pretrained | nn.Module | None = None,
) -> Contents:
    """Verify a folder and open it.

    Args:
        path: the folder.
        model: an instance to fill, for a model that is not of a transformers class; the base of an adapter.

    Raises:
        ArtifactError: it is missing, incomplete or changed, asks for something that is not allowed, or needs ``model``.
    """
    folder = folder_path(path)
    is_adapter = (folder / SETTINGS).exists()
    if not is_adapter and not isinstance(model, nn.Module | None):
        raise OptionError(f"model={model!r:.60}: expected a torch.nn.Module to fill with the folder's weights, or None")
    if not folder.is_dir():
        raise ArtifactError(f"{os.fspath(path)!r} cannot be opened: {_absent(folder)}")
    if hint := checkpoint_hint(folder):
        raise ArtifactError(f"{os.fspath(path)!r} cannot be opened: {hint}")
    if (folder / "config.json").is_file() and not any((folder / name).exists() for name in (storage.MANIFEST, _RECORD)):
        raise ArtifactError(
            f"{os.fspath(path)!r} was not saved by sftlib ({storage.MANIFEST} is missing); "
            f"to tune a model of transformers: FineTuner({os.fspath(path)!r})"
        )
    with refusing(path):
        _require_plain_names(folder, (ADAPTER_FILES if is_adapter else MODEL_FILES) | _files_of_encoders())
        storage.verify(folder, kind=_ADAPTER if is_adapter else _KIND, free=[_CARD])
        record = read_record(folder / _RECORD, adapter=is_adapter)
        task = find_task(record["task"]).from_config(record["task_config"])
        if is_adapter:
            return _load_adapter(folder, record, task, model)
        described = _described(folder, task) if model is None and record["self_contained"] else None
        encoder = task.inputs.read(folder, record["inputs"])
        attach = partial(task.attach, encoder=encoder, seed=record["settings"]["seed"])
        if isinstance(model, nn.Module):
            encoder.reshape(model)
            attach(model)
            fill_model(model, folder, task.attached)
            loaded = model
        elif described is not None:
            loaded = described.build(attach, task.attached)
        else:
            raise ValueError("its model is not of a transformers class: pass an instance to fill as model=")
        _require_agreement(encoder, loaded)
        return Contents(task, loaded, encoder, record["settings"], record["metrics"])


def _described(folder: Path, task: Task) -> Described | DescribedHead:
    """The model of a self-contained folder, before it is built."""
    if (folder / HEAD).is_file():
        return describe_head(folder, task.head.outputs)
    return describe_model(folder, task.head)


def _load_adapter(folder: Path, record: dict[str, Any], task: Task, model: Any) -> Contents:
    """The adapter of a verified folder on the base that the user names; what the folder says of a base is not asked."""
    if model is None:
        raise ValueError(
            "it holds an adapter alone: give the model it was trained on as model=, a folder, a name or a model "
            f"(it was called {record['settings']['model']!r:.80})"
        )
    adapter, settings = replace(read_adapter(folder), labels=task.head.labels), record["settings"]
    encoder, seed = task.inputs.read(folder, record["inputs"]), settings["seed"]
    source = open_source(model)
    source = source.reading(encoder.vocabulary, encoder.facts.get("max_length"))
    base = task.build(source, dropout=settings.get("dropout"), seed=seed)
    encoder.settle(base, markers=task.markers, seed=seed)
    task.attach(base, encoder, seed=seed)
    with told("its adapter cannot be used with this base"):
        adapt(base, adapter, head=task.head.auto_class, drawn=(), new_rows=(), seed=seed)
    if base_digest(base) != record["base"]:
        raise ValueError(
            f"model={source.name!r} is not the base that this adapter was trained on: its weights have another SHA-256"
        )
    _require_agreement(encoder, base)
    return Contents(task, base, encoder, settings, record["metrics"], adapter)


@contextmanager
def refusing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what is found wrong with a folder into an error that names it."""
    try:
        yield
    except (storage.StorageError, OptionError, OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{os.fspath(path)!r} cannot be opened: {error}") from error


def options_of(contents: Contents, *, known: Container[str]) -> dict[str, Any]:
    """The options that a loaded tuner takes over: the task, values, and never a place."""
    taken = {name: value for name, value in contents.settings.items() if name in known and name not in TOLD_ONLY}
    return {**taken, "task": contents.task.untaught()}


def _require_agreement(encoder: Encoder, model: nn.Module) -> None:
    with told(f"{_RECORD}, the model and how its inputs are read do not belong together"):
        encoder.agree(model)


def _files_of_encoders() -> frozenset[str]:
    return frozenset().union(*(task.inputs.files() for task in TASKS))


def _require_plain_names(folder: Path, known: Set[str]) -> None:
    """Before anything is hashed: only files that a saved folder has, however many others there are."""
    with os.scandir(folder) as items:
        for item in items:
            if item.name not in known | _OWN:
                raise ValueError(f"{item.name:.80} does not belong there")


def to_fill(contents: Contents) -> nn.Module | None:
    """What a folder needs to build the model again: nothing, an instance to fill, or the base of an adapter."""
    if contents.has_adapter:
        return without_adapter(contents.model) if contents.base is None else contents.base
    return None if _is_self_contained(contents.model) else copy.deepcopy(contents.model)


def _is_self_contained(model: nn.Module) -> bool:
    """Whether its folder says all that it takes to build it."""
    return is_transformers_model(model) or headed(model) is not None


def require_same(before: Sequence[Any], after: Sequence[Any]) -> None:
    """Refuse a folder whose predictions are not those of the model in memory, in every field.

    Raises:
        ArtifactError: naming the first that differs.
    """
    for number, (expected, found) in enumerate(zip(before, after, strict=True)):
        if vars(expected) != vars(found):  # `==` of a prediction leaves its probabilities out
            raise ArtifactError(
                f"the folder read back predicts {found} where the model predicts {expected} (input {number})"
            )


def require_same_adapter(before: nn.Module, after: nn.Module) -> None:
    """Refuse a folder whose adapter is not that of the model in memory, in every bit.

    Raises:
        ArtifactError: naming the first weight that differs.
    """
    left, right = adapter_weights(before), adapter_weights(after)
    for name in left.keys() | right.keys():
        if name not in left or name not in right or not torch.equal(left[name], right[name]):
            raise ArtifactError(f"the folder read back has another {name} than the model")


def _absent(folder: Path) -> str:
    if folder.exists():
        return "it is a file, expected the folder that save() wrote"
    hint = nearest_folder(folder)
    return f"there is no such folder{'; ' if hint else ''}{hint}"


def _what_is(target: Path) -> str:
    if not target.is_dir():
        return "a file"
    names = sorted(item.name for item in target.iterdir())
    return f"a folder with {', '.join(map(repr, names[:3]))}{', ...' if len(names) > 3 else ''}"


def _is_replaceable(target: Path) -> bool:
    if not target.is_dir():
        return False
    names = {path.name for path in target.iterdir()}
    return not names or {storage.MANIFEST, _RECORD} <= names


def _record(contents: Contents) -> dict[str, Any]:
    return {
        "task": contents.task.name,
        "task_config": contents.task.config(),
        "self_contained": _is_self_contained(contents.model) and not contents.has_adapter,
        "inputs": contents.encoder.facts,
        "settings": contents.settings,
        "metrics": contents.metrics,
        **({"base": base_digest(contents.model, contents.base)} if contents.has_adapter else {}),
    }


_CARD_OF_A_MODEL = ("transformers", "", "The folder also opens with transformers.")
_CARD_OF_A_HEAD = ("sftlib", "", "Its head is of sftlib: the folder opens with nothing else.")
_CARD_OF_A_MODULE = ("sftlib", ", model=an_instance", "The model is of a class of your own, of which it fills one.")
_CARD_OF_AN_ADAPTER = (
    "peft",
    ', model="the base model"',
    "The folder holds an adapter alone; it also opens with peft: `PeftModel.from_pretrained(base, folder)`.",
)


def _words_of(contents: Contents) -> tuple[str, str, str]:
    """The library, what `load` needs beside the folder, and what else opens it, for the card."""
    if contents.has_adapter:
        return _CARD_OF_AN_ADAPTER
    if is_transformers_model(contents.model):
        return _CARD_OF_A_MODEL
    return _CARD_OF_A_MODULE if headed(contents.model) is None else _CARD_OF_A_HEAD


def _card(contents: Contents) -> str:
    """A model card; the block at the top is what the hub reads."""
    labels = contents.task.label_names
    facts: list[Sequence[object]] = [
        ["task", contents.task.name],
        ["base model", contents.settings["model"]],
        ["longest input", contents.encoder.limit],
        *([["labels", ", ".join(map(str, labels))]] if labels else []),
        *[[name, contents.settings[name]] for name in ("epochs", "learning_rate", "batch_size", "precision", "seed")],
    ]
    scores = [[name, value] for name, value in contents.metrics.items()]
    measured = (
        f"## Measured on validation data\n\n```\n{text_table(['metric', 'value'], scores)}\n```\n\n" if scores else ""
    )
    library, base, use = _words_of(contents)
    return (
        f"---\nlibrary_name: {library}\ntags:\n- sftlib\n- {contents.task.name}\n---\n\n"
        f"# {contents.task.name}, tuned from {contents.settings['model']}\n\n"
        f"```\n{text_table(['what', 'value'], facts)}\n```\n\n{measured}"
        "## Use\n\n```python\nfrom sftlib import FineTuner\n\n"
        f'FineTuner.load("this folder"{base}).predict("...")\n```\n\n'
        f"{use} Edit this page freely; `manifest.json` covers every other file.\n"
    )
