"""What becomes of a tuned model: it is saved, opened again, or freed of its adapter."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sftlib.arguments import Arguments
from sftlib.errors import ArtifactError, OptionError
from sftlib.models.adapters import merged, with_adapter_of
from sftlib.models.device import resolve_device
from sftlib.models.language.output_layers import Hidden
from sftlib.models.outputs import logits
from sftlib.models.precision import Fp32, resolve_precision
from sftlib.models.sources import open_source
from sftlib.models.tempered import temper
from sftlib.models.ties import newly_apart
from sftlib.run.encodings import Encodings
from sftlib.run.fitted import Fitted
from sftlib.run.settle import settled
from sftlib.saved import artifact
from sftlib.train.comm import open_comm

_ROUNDING = 1e-4  # of the largest score, in fp32
_TWO = "merge: %s and %s were one weight, of which the adapter changed one alone; they are two weights now"


def save(
    fitted: Fitted, arguments: Arguments, path: str | os.PathLike[str], *, reload: Callable[[Any, Any], Fitted]
) -> None:
    """Write a folder, read it back, and compare predictions before it is put in its place.

    Args:
        fitted: what is saved, for this process by itself.
        arguments: of its tuner.
        path: of the folder.
        reload: opens a folder; its second argument is the model to fill, as in `FineTuner.load`.

    Raises:
        ArtifactError: the folder cannot be written, or what was read back differs.
        OptionError: its weights are in parts, as long as its run lasts.
    """
    if fitted.held.parted:
        raise OptionError("save: with shard=True the weights are in parts until fit has ended; save then")
    contents = artifact.Contents(
        task=fitted.task,
        model=fitted.model,
        encoder=fitted.encoder,
        settings=dict(fitted.settings),
        metrics=dict(fitted.metrics),
        base=base_in_full(fitted, arguments) if fitted.settings.get("quantize") else None,
    )
    rows = [*(fitted.task.inputs_of(example) for example in fitted.task.examples()), *fitted.samples]
    with artifact.writing(contents, path) as folder:
        again = reload(folder, artifact.to_fill(contents))
        if contents.base is None:
            artifact.require_same(_predictions(fitted, rows), _predictions(again, rows))
        else:  # in full precision it predicts a little differently, as it should
            artifact.require_same_adapter(fitted.model, again.model)


def opened(contents: artifact.Contents, arguments: Arguments, encodings: Encodings) -> Fitted:
    """What a folder holds, ready for use on this machine.

    Args:
        contents: of the folder.
        arguments: of the tuner that it is opened for.
        encodings: columns made so far.
    """
    device = resolve_device(arguments.device)
    model = contents.model.to(device).eval()
    if "tempered" in contents.settings:  # its weights are divided already
        temper(model, str(contents.settings["tempered"]), float(contents.settings["temperature"]))
    return Fitted(
        task=contents.task,
        model=model,
        encoder=contents.encoder,
        precision=resolve_precision(arguments.precision, device=device, model=model),
        device=device,
        settings=contents.settings,
        metrics=contents.metrics,
        encodings=encodings,
        comm=open_comm(),
    )


def plain_model(fitted: Fitted, arguments: Arguments) -> nn.Module:
    """A plain model with the adapter's weights added to its own, in full precision; it computes what the two did.

    Raises:
        ArtifactError: it does not.
    """
    model = fitted.model
    if fitted.settings.get("quantize"):  # added to weights in full precision, which is what will be saved
        model = with_adapter_of(fitted.model, base_in_full(fitted, arguments)).to(fitted.device)
    rows = [*(fitted.task.inputs_of(example) for example in fitted.task.examples()), *fitted.samples]
    expected = _scores(fitted, model.eval(), rows)
    off = 0.0
    for config_too in (True, False):  # in some families the config decides how an output layer is used
        plain = merged(model, config_too=config_too).eval()
        off = _largest_difference(expected, _scores(fitted, plain, rows))
        if off <= _ROUNDING:
            for names in newly_apart(model, plain):
                logging.getLogger("sftlib").warning(_TWO, *names)
            return plain
    raise ArtifactError(
        f"merge: the plain model does not compute what the model with its adapter did: scores differ by {off:.2g} of "
        "the largest; save the adapter itself, which loads with model=base"
    )


def _scores(fitted: Fitted, model: nn.Module, rows: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """The scores of a model for each pass over these rows, in fp32 and as it lies them out by itself."""
    seen = replace(fitted, model=model, layout=None, recall=None, precision=Fp32())
    encoded = seen.read(rows)[1]
    forward = settled(seen, encoded).forward()
    found = []
    with torch.no_grad(), forward.prepared():
        for _, batch in seen.feed(encoded).everything():
            said = forward(batch)
            scores = said.layer.scores(said.states) if isinstance(said, Hidden) else logits(said)
            found.append(fitted.encoder.visible(scores, batch.inputs).float().cpu())
    return found


def _largest_difference(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """As a share of the largest score."""
    largest = max((float(scores.abs().max()) for scores in left if scores.numel()), default=0.0)
    apart = max((float((a - b).abs().max()) for a, b in zip(left, right, strict=True) if a.numel()), default=0.0)
    return apart / max(largest, 1e-12)


def base_in_full(fitted: Fitted, arguments: Arguments) -> nn.Module:
    """The base of an adapter as its source holds it, whatever form it had beside the adapter."""
    source = open_source(replace(arguments.pretrained, quantize=None) if arguments.pretrained else arguments.model)
    model = fitted.task.build(source, dropout=None, seed=fitted.settings["seed"])
    fitted.encoder.settle(model, markers=fitted.task.markers, seed=fitted.settings["seed"])
    fitted.task.attach(model, fitted.encoder, seed=fitted.settings["seed"])
    return model


def _predictions(fitted: Fitted, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """With short answers: enough to see whether two models agree; rows of one kind at a time."""
    kinds: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(tuple(row), []).append(row)
    found = []
    for alike in kinds.values():
        data, encoded = fitted.read(alike)
        found += replace(settled(fitted, encoded), task=fitted.task.brief()).predict(data, encoded)
    return found
