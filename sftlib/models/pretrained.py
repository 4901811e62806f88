"""A model that is opened in a form of its own: a GGUF file, weights in fewer bits, its lower layers alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import final

from sftlib.models.compressed import gguf_problem
from sftlib.models.pooling import POOLINGS
from sftlib.support.checking import checked_fields, choice, one_of_types, whole_number
from sftlib.support.values import Checked, Problem, shown


@final
@checked_fields
@dataclass(frozen=True, repr=False)
class Pretrained(Checked):
    """Where a model's weights come from, where its name alone does not say it.

    Args:
        name: a model's name on the hub, or a local folder.
        gguf_file: name of a GGUF file in that folder or repository, opened in full precision in place of other weights.
        quantize: ``"4bit"`` or ``"8bit"`` to hold the weights so beside an adapter; needs a CUDA GPU.
        pooling: what a new classifier reads of it: ``"mean"`` of the tokens, the ``"first"`` token, or ``"head"``: what
            its class in transformers does; None for what the folder of a sentence encoder says, else ``"head"``.
        layers: how many of its lowest layers are taken; None for all. The last ones say most about what a model was
            pretrained for; where that lies far from the task, what stands below them is read better, and costs less
            (Yosinski et al., 2014, "How transferable are features in deep neural networks?"; Pasad et al., 2021,
            of speech).

    Raises:
        OptionError: values that they cannot have.
        MissingExtraError: the package that reads such files is not installed.

    Example:
        >>> Pretrained("HuggingFaceTB/SmolLM2-135M", quantize="4bit")
        Pretrained(name='HuggingFaceTB/SmolLM2-135M', quantize='4bit')
    """

    name: str | os.PathLike[str]
    _: KW_ONLY
    gguf_file: str | None = None
    quantize: str | None = None
    pooling: str | None = None
    layers: int | None = None

    def problems(self) -> Iterable[Problem]:
        expected = "a model's name or its folder; an object has its weights already"
        yield one_of_types("name", self.name, str | os.PathLike, expected)
        if self.quantize is not None:
            problem = choice("quantize", self.quantize, ["4bit", "8bit"])
            yield problem and f"{problem}, or None"
        if self.pooling is not None:
            problem = choice("pooling", self.pooling, POOLINGS)
            yield problem and f"{problem}, or None"
        yield gguf_problem(self.gguf_file)
        if self.layers is not None:
            yield whole_number("layers", self.layers, at_least=1)
            if self.gguf_file is not None:
                yield f"gguf_file= and layers={self.layers!r} do not go together: a GGUF file is opened in full"
        if self.gguf_file is not None and self.quantize is not None:
            yield f"gguf_file= and quantize={self.quantize!r} do not go together: a GGUF file is opened in full"

    def __repr__(self) -> str:
        return shown(self)
