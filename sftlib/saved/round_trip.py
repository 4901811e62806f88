"""What becomes of a tuned model: it is saved, opened again, or freed of its adapter."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from sftlib.arguments import Arguments
from sftlib.models.adapters import merged, with_adapter_of
from sftlib.models.device import resolve_device
from sftlib.models.precision import resolve_precision
from sftlib.models.sources import open_source
from sftlib.run.encodings import Encodings
from sftlib.run.fitted import Fitted
from sftlib.run.settle import settled
from sftlib.saved import artifact
from sftlib.train.comm import open_comm


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
    """
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
    device = resolve_device("auto")
    model = contents.model.to(device).eval()
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
    """A plain model with the adapter's weights added to its own, in full precision."""
    model = fitted.model
    if fitted.settings.get("quantize"):  # added to weights in full precision, which is what will be saved
        model = with_adapter_of(fitted.model, base_in_full(fitted, arguments)).to(fitted.device)
    return merged(model).eval()


def base_in_full(fitted: Fitted, arguments: Arguments) -> nn.Module:
    """The base of an adapter as its source holds it, whatever form it had beside the adapter."""
    source = open_source(replace(arguments.pretrained, quantize=None) if arguments.pretrained else arguments.model)
    model = fitted.task.build(source, dropout=None, seed=fitted.settings["seed"])
    fitted.encoder.settle(model, markers=fitted.task.markers, seed=fitted.settings["seed"])
    fitted.task.attach(model, fitted.encoder, seed=fitted.settings["seed"])
    return model


def _predictions(fitted: Fitted, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """With short answers: enough to see whether two models agree."""
    data, encoded = fitted.read(rows)
    return replace(settled(fitted, encoded), task=fitted.task.brief()).predict(data, encoded)
