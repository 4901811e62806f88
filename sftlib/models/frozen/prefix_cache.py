"""Outputs of a frozen prefix of a model, computed once for each row and given in its place ever after.

The prefix is either the whole body under the head or its lowest layers. While the model is called, and only then,
stand-ins take the places of the modules that need not run; they return what is known of the rows. Hooks on the model
put them there and take them away, so that weights, their names and the list of modules are the model's own whenever
anybody looks. A batch with a row that is not known runs as if all this did not exist.

Letters: ``B`` rows, ``T`` positions, ``N`` tokens of all rows, ``H`` features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from sftlib.models.device import HOST
from sftlib.models.dropout import DropoutMasks
from sftlib.models.frozen.prefix_store import Place, Shelf
from sftlib.models.layouts.layout import Around, Layout
from sftlib.models.sizes import dropout_rates
from sftlib.models.structure import body_of, hooked, layers_of

_ABOVE = ("id2label", "label2id", "problem_type")  # fields of a config that the body does not read

Where = tuple[nn.Module, str]  # a parent, and the name of its child


@final
@dataclass(frozen=True)
class Prefix:
    """The constant part of a model that is computed once.

    Attributes:
        model: with its head.
        layers: how many of the lowest layers; None for the whole body.
        first_only: whether the first hidden state of each row is kept, and no other.
    """

    model: nn.Module
    layers: int | None
    first_only: bool = False

    @property
    def last(self) -> nn.Module:
        """The module whose output is kept."""
        if self.layers is None:
            body = body_of(self.model)
            assert body is not None
            return body
        return self._layers[self.layers - 1]

    @property
    def _layers(self) -> nn.ModuleList:
        layers = layers_of(self.model)
        assert layers is not None
        return layers

    @contextmanager
    def captured(self, *, whole: bool = False) -> Iterator[Outputs]:
        """Within this context every pass leaves the prefix's outputs behind.

        Args:
            whole: whether the layers above run too.
        """
        outputs = Outputs()

        def look(_: nn.Module, __: object, found: Any) -> None:
            outputs.take(found)

        hooks = [self.last.register_forward_hook(look)]
        above = [] if self.layers is None or whole else self._numbered(self.layers, len(self._layers))
        if above:
            hooks += _swapping(self.model, above, outputs, lambda: True)
        with hooked(hooks):
            yield outputs

    def places(self) -> list[Where]:
        """The modules that need not run when the output is known."""
        if self.layers is not None:
            return self._numbered(0, self.layers)
        return [(self.model, name) for name, child in self.model.named_children() if child is self.last]

    def _numbered(self, start: int, stop: int) -> list[Where]:
        return [(self._layers, str(i)) for i in range(start, stop)]

    def key(self, *facts: str) -> str:
        """A digest of everything that the outputs depend on, the rows apart.

        Args:
            facts: what else: precision, layout, device.
        """
        digest = hashlib.sha256(repr((type(self.model).__name__, self.layers, self.first_only, facts)).encode())
        config: Any = self.model.config
        settings = {name: value for name, value in config.to_dict().items() if name not in _ABOVE}
        for name in dropout_rates(config):
            del settings[name]
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        for weight in self.weights():
            digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def weights(self) -> list[Tensor]:
        """Frozen parameters of the body, and its buffers."""
        body = body_of(self.model)
        assert body is not None
        return [*(p for p in body.parameters() if not p.requires_grad), *body.buffers()]


def constant_prefix(model: nn.Module, constant: Sequence[str]) -> Prefix | None:
    """The longest prefix that is constant and worth keeping; None without one.

    Args:
        model: with its head.
        constant: names of modules whose outputs are constant, from `sftlib.models.frozen.freezing.constant_parts`.
    """
    body, layers = body_of(model), layers_of(model)
    covered = {child for name in constant for child in model.get_submodule(name).modules()}
    if body is None:
        return None
    if body in covered:
        return Prefix(model, None)
    count = 0 if layers is None else next((i for i, layer in enumerate(layers) if layer not in covered), len(layers))
    return Prefix(model, count) if count else None


@final
class Outputs:
    """What a prefix put out, as its own module put it.

    Attributes:
        hidden: (B, T, H), or (1, N, H) where rows lie end to end; of pictures (B, H, rows, columns) as well.
        pooled: (B, H) or (B, H, 1, 1), or None.
    """

    def __init__(self) -> None:
        self.hidden: Tensor | None = None
        self.pooled: Tensor | None = None
        self._form: Any = None

    def take(self, found: Any) -> None:
        """Remember an output, and what it looks like.

        Raises:
            TypeError: it is of no form that could be given again.
        """
        if isinstance(found, Tensor):
            self.hidden, self._form = found, None
        elif isinstance(found, Mapping) and isinstance(found.get("last_hidden_state"), Tensor):
            self.hidden, self.pooled = found["last_hidden_state"], found.get("pooler_output")
            self._form = type(found)
        elif isinstance(found, tuple) and isinstance(found[0], Tensor) and all(item is None for item in found[1:]):
            self.hidden, self._form = found[0], len(found)
        else:
            raise TypeError(f"an output of type {type(found).__name__} cannot be kept")

    def like(self, other: Outputs) -> None:
        """Give in the form of another."""
        self._form = other._form

    def give(self) -> Any:
        """The output again."""
        if self._form is None:
            return self.hidden
        if isinstance(self._form, int):
            return (self.hidden, *[None] * (self._form - 1))
        pooled = {} if self.pooled is None else {"pooler_output": self.pooled}
        return self._form(last_hidden_state=self.hidden, **pooled)


@final
class _StandIn(nn.Module):
    """Returns what is known; other than that it looks like the module whose place it takes."""

    def __init__(self, original: nn.Module, outputs: Outputs) -> None:
        super().__init__()
        self._original = (original,)  # in a tuple, so that it is no child
        self._outputs = outputs

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._original[0], name)

    def forward(self, *_: Any, **__: Any) -> Any:
        return self._outputs.give()


@final
class Recalling(Around):
    """A layout in which a prefix of known rows does not run.

    Args:
        inner: how rows lie, and how unknown rows are computed.
        prefix: what is known of them.
        form: an output of the prefix.
        shelf: their outputs.
    """

    def __init__(self, inner: Layout, prefix: Prefix, form: Outputs, shelf: Shelf) -> None:
        super().__init__(inner)
        self.prefix = prefix
        self.form = form
        self.shelf = shelf
        self._known_by: Sequence[bytes] = ()  # of the rows of the next call; other calls know nothing of their rows

    def of(self, model: nn.Module) -> Recalling:
        """The same for another model that is built alike, knowing nothing yet."""
        return Recalling(self.inner, replace(self.prefix, model=model), self.form, Shelf())

    def arguments(
        self,
        masks: DropoutMasks,
        inputs: Mapping[str, Tensor],
        known_by: Sequence[bytes] = (),
        *,
        device: torch.device = HOST,
    ) -> dict[str, Any]:
        self._known_by = known_by
        return self.inner.arguments(masks, inputs, known_by, device=device)

    @contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        outputs = Outputs()
        outputs.like(self.form)

        def recall(_: nn.Module, __: object, inputs: dict[str, Any]) -> None:
            known_by, self._known_by = self._known_by, ()
            outputs.hidden = outputs.pooled = None
            places = self.shelf.find(known_by) if known_by else None
            if places is not None:
                self._lay_out(outputs, places, inputs)

        hooks = [
            model.register_forward_pre_hook(recall, with_kwargs=True),
            *_swapping(model, self.prefix.places(), outputs, lambda: outputs.hidden is not None),
        ]
        with hooked(hooks), self.inner.installed(model):
            yield

    def _lay_out(self, outputs: Outputs, places: Sequence[Place], inputs: Mapping[str, Any]) -> None:
        """Turn stored vectors into what the prefix would have put out for this batch."""
        assert self.form.hidden is not None
        rows, shape = len(places), self.form.hidden.shape
        device = next(value.device for value in inputs.values() if isinstance(value, Tensor))
        stored, pooled = self.shelf.hidden(places).to(device), self.shelf.pooled(places)
        if pooled is not None and self.form.pooled is not None:
            outputs.pooled = pooled.to(device).view(rows, *self.form.pooled.shape[1:])
        mask = inputs.get("attention_mask")
        if self.prefix.first_only:
            outputs.hidden = stored.view(rows, 1, *shape[2:])
        elif mask is None:
            outputs.hidden = stored.view(rows, *shape[1:])
        elif self.prefix.layers is not None and "sequences" in inputs:
            outputs.hidden = stored[None]  # (1, N, H)
        else:
            counts = torch.tensor([stop - start for _, start, stop, _ in places], device=device)
            if int(counts.sum()) != int(mask.sum()):  # it counts samples, and these are frames
                mask = (torch.arange(int(counts.max()), device=device) < counts[:, None]).long()
            inside = (mask != 0).flatten().nonzero()[:, 0]
            hidden = stored.new_zeros(mask.numel(), stored.shape[1])
            outputs.hidden = hidden.index_copy_(0, inside, stored).view(*mask.shape, -1)


def kept(outputs: Outputs, prefix: Prefix, mask: Tensor | None, rows: int) -> tuple[list[int], Tensor, Tensor | None]:
    """What of an output is to be stored.

    Args:
        outputs: of a pass.
        prefix: says whether only the first hidden state of each row is read.
        mask: (B, T) where a token stands; None where every row has all positions.
        rows: B

    Returns:
        How many vectors of each row, the vectors one after the other, and the pooled output.
    """
    hidden = outputs.hidden
    assert hidden is not None
    pooled = None if outputs.pooled is None else outputs.pooled.reshape(rows, -1)
    if prefix.first_only:
        return [1] * rows, hidden[:, 0].reshape(rows, -1), pooled
    mask = _of_frames(prefix.model, mask, hidden)
    if mask is None:
        vectors = hidden.reshape(-1, hidden.shape[-1])
        return [len(vectors) // rows] * rows, vectors, pooled
    if hidden.shape[:2] == mask.shape:
        hidden = hidden[mask.bool()][None]
    return mask.sum(dim=1).tolist(), hidden[0], pooled


def _of_frames(model: nn.Module, mask: Tensor | None, hidden: Tensor) -> Tensor | None:
    """(B, T) where a hidden state stands, of a model whose mask counts samples, of which it has made fewer frames."""
    own: Any = getattr(model, "_get_feature_vector_attention_mask", None)
    if mask is None or own is None or hidden.shape[:2] == mask.shape:
        return mask
    frames: Tensor = own(hidden.shape[1], mask)
    return frames


def _swapping(model: nn.Module, places: Sequence[Where], outputs: Outputs, when: Callable[[], bool]) -> list[Any]:
    """Hooks that put stand-ins in the place of children while the model is called.

    Args:
        model: the hooks are its.
        places: of the children.
        outputs: what the stand-ins give.
        when: whether to do so in the call that begins.
    """
    originals = [getattr(parent, name) for parent, name in places]
    stand_ins = [_StandIn(original, outputs) for original in originals]

    def put(modules: Sequence[nn.Module]) -> None:
        for (parent, name), module in zip(places, modules, strict=True):
            setattr(parent, name, module)

    def before(_: nn.Module, __: object, ___: object) -> None:
        if when():
            put(stand_ins)

    def after(_: nn.Module, __: object, ___: object) -> None:
        put(originals)

    return [
        model.register_forward_pre_hook(before, with_kwargs=True),
        model.register_forward_hook(after, always_call=True),
    ]
