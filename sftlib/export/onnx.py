"""From a tuned model to a file of ONNX, and that file in eight bits."""

from __future__ import annotations

import contextlib
import copy
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from sftlib.encoders.encoded import Encoded
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import OptionError
from sftlib.models.layouts.layout import SideBySide
from sftlib.models.outputs import logits
from sftlib.models.precision import Fp32
from sftlib.models.sizes import count_parameters
from sftlib.run.fitted import Fitted
from sftlib.support.extras import require
from sftlib.tasks.text.texts import SequenceTask

MODEL = "model.onnx"
_LARGEST = 1.9e9  # bytes of weights in one file
_EXTRA = "onnx"


def needed() -> None:
    """Find what exporting needs.

    Raises:
        MissingExtraError: it is not there, with the command that installs it.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, extra=_EXTRA, purpose="export(to='onnx')")


def check_exportable(fitted: Fitted) -> None:
    """Refuse what has no place in such a file.

    Raises:
        OptionError: a task over other things than whole texts, a tokenizer that runs code of its own, or too many
            weights.
    """
    if not isinstance(fitted.task, SequenceTask):
        raise OptionError(
            f"export: it is for one label, several labels or a number a text; not {fitted.task.name}, whose folder "
            "opens with transformers: save(folder)"
        )
    assert isinstance(fitted.encoder, TextEncoder)
    kind = type(fitted.encoder.tokenizer).__name__
    if not getattr(fitted.encoder.tokenizer, "is_fast", False):
        raise OptionError(f"export: only {kind}'s own code can read its texts; use a fast tokenizer")
    if 4 * count_parameters(fitted.model)[1] > _LARGEST:
        raise OptionError("export: the weights are too large for one file of ONNX (2 GB); distill() makes them fewer")


@final
class _Scores(nn.Module):
    """Token tensors in the order of their names in, scores out.

    Args:
        fitted: whose model is copied.
        names: of the inputs.
    """

    def __init__(self, fitted: Fitted, names: Sequence[str]) -> None:
        super().__init__()
        self.model = copy.deepcopy(fitted.model).cpu().float()
        self._call, self._names = fitted.encoder.calling(self.model), tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, K) of (B, T) each."""
        return logits(self._call(self.model, dict(zip(self._names, inputs, strict=True)))).float()


def write_onnx(fitted: Fitted, path: Path) -> None:
    """Write a model as it computes in fp32; rows and tokens may be any number.

    Args:
        fitted: checked.
        path: of the file.

    Raises:
        OptionError: torch cannot take the model apart.
    """
    batch = fitted.feed(fitted.examples()).of(np.arange(2))
    names = list(batch.inputs)
    inputs = tuple(value.cpu() for value in batch.inputs.values())
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    model = _Scores(fitted, names).eval()
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                model,
                inputs,
                str(path),
                dynamo=True,
                input_names=names,
                output_names=["scores"],
                dynamic_shapes=(tuple(free for _ in names),),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever it is that the tracer stumbles over
        kind = type(fitted.model).__name__
        raise OptionError(f"export: torch.onnx cannot take {kind} apart: {str(error).splitlines()[0]:.300}") from error


def write_int8(source: Path, target: Path, *, whole: bool) -> None:
    """Write the same in eight bits: weights by channel, what goes through them as it comes.

    Args:
        source: a file in fp32.
        target: the file to write.
        whole: whether the embedding and the last layer are in eight bits, too.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".prepared")
    with _quiet():
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            str(prepared),
            str(target),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gather"] if whole else ["MatMul"],
            nodes_to_exclude=[] if whole else _last(prepared),
        )
    prepared.unlink()


def _last(path: Path) -> list[str]:
    """Names of the last product with weights, as it is and as the quantizer rewrites it."""
    import onnx

    graph = onnx.load(str(path)).graph
    weights = {one.name for one in graph.initializer}
    products = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm") and weights & set(node.input)]
    return [products[-1], f"{products[-1]}_MatMul"] if products else []


def save_tokenizer(fitted: Fitted, folder: Path) -> None:
    """Write the one file of a fast tokenizer."""
    assert isinstance(fitted.encoder, TextEncoder)
    backend = copy.deepcopy(fitted.encoder.tokenizer).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.save(str(folder / "tokenizer.json"))


def write_reader(folder: Path) -> None:
    """Put a reader beside the model that needs no torch."""
    from sftlib.export import reader

    shutil.copyfile(reader.__file__, folder / "reader.py")


def torch_scores(fitted: Fitted, rows: Encoded) -> Tensor:
    """(N, K) of the model itself in fp32, of a few rows that are encoded."""
    batch = fitted.feed(rows).of(np.arange(len(rows)))
    forward = fitted.forward(SideBySide(), Fp32())
    assert isinstance(fitted.task, SequenceTask)
    fitted.model.eval()
    with torch.no_grad(), forward.prepared():
        return fitted.task.scores(forward(batch), batch).cpu()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters tell of themselves: of packages that are not needed, and of what will change one day."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in loggers:
            one.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)
