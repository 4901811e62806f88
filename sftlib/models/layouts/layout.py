"""How a batch is laid out inside a model: rows end to end, without padding, or side by side, with it.

Rows end to end are the rule: every linear layer then works on real tokens alone. It takes a model that attends through
transformers' interface; whether a model gives the same answers that way is not believed but tried, once, before the
first step (`choose_layout`).

Letters: ``B`` rows, ``T`` tokens of the longest, ``N`` tokens of all rows, ``H`` hidden width.
"""

from __future__ import annotations

import contextlib
import inspect
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from sftlib.models.attempts import attempt
from sftlib.models.device import HOST
from sftlib.models.dropout import DropoutMasks, FunctionDropout
from sftlib.models.language.encoder_decoder import is_encoder_decoder
from sftlib.models.layouts import bert as encoder
from sftlib.models.layouts import llama as decoder
from sftlib.models.layouts.attention import FLAT, PADDED, attention
from sftlib.models.layouts.sequences import Sequences
from sftlib.models.layouts.stand_in import StandIn
from sftlib.models.sizes import NARROW, drops_out, typical_width
from sftlib.models.structure import hooked, layers_of

_TOLERANCE = 1e-4  # of the largest score; fp32 rounding of another order of summation stays far below


class Layout(ABC):
    """How a model is called on padded inputs.

    Attributes:
        name: for the start-up line.
        flat: whether rows lie end to end, so that no padding takes room.
        refused: why rows do not lie end to end, where that was wanted.
    """

    name: str
    flat: bool = False
    refused: str = ""

    @contextlib.contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        """Within this context the model can be called this way; afterwards it is as before."""
        yield

    def arguments(
        self,
        masks: DropoutMasks,
        inputs: Mapping[str, Tensor],
        known_by: Sequence[bytes] = (),
        *,
        device: torch.device = HOST,
    ) -> dict[str, Any]:
        """More keywords for the model.

        Args:
            masks: of this run.
            inputs: name -> (B, ...), as laid out, where the host reads them without waiting.
            known_by: what identifies the content of each row, where that is known.
            device: where the model lies.
        """
        return {}

    def watching(self, masks: DropoutMasks) -> AbstractContextManager[object]:
        """The context of a pass in training, in which dropout that is no module takes its masks from ``masks`` too."""
        return contextlib.nullcontext()

    def lifted(self, model: nn.Module) -> AbstractContextManager[object]:
        """Within this context, inside `installed`, the model attends by itself and takes calls as usual."""
        return contextlib.nullcontext()

    def works(self, masks: DropoutMasks) -> bool:
        """Whether a pass that was just made met everything that this layout handed the model."""
        return True

    def by_layer(self) -> Layout:
        """The same through the model's own layers, each called as a module."""
        return self


class Around(Layout):
    """A layout with something around it.

    Args:
        inner: how rows lie.
    """

    def __init__(self, inner: Layout) -> None:
        self.name, self.flat, self.refused = inner.name, inner.flat, inner.refused
        self.inner = inner

    def arguments(
        self,
        masks: DropoutMasks,
        inputs: Mapping[str, Tensor],
        known_by: Sequence[bytes] = (),
        *,
        device: torch.device = HOST,
    ) -> dict[str, Any]:
        return self.inner.arguments(masks, inputs, known_by, device=device)

    def watching(self, masks: DropoutMasks) -> AbstractContextManager[object]:
        return self.inner.watching(masks)

    def lifted(self, model: nn.Module) -> AbstractContextManager[object]:
        return self.inner.lifted(model)


@final
class SideBySide(Layout):
    """Rows of one size, as the model itself lays them; nothing is padded, and dropout that is a module is ours."""

    name = "side by side"


@final
class OwnAttention(Layout):
    """Padded, with the attention that the model came with; its dropout is ours only where it is a module."""

    name = "padded, with the model's own attention"


@final
class Watched(Layout):
    """The attention that the model came with, written out; dropout by plain function calls is ours too.

    Encoder-decoders call dropout that way, in attention and elsewhere, and so do models of patches.

    Args:
        name: what to call it; rows are padded, or of one size.
    """

    def __init__(self, name: str = "padded, with the model's own attention and our dropout") -> None:
        self.name = name

    @contextlib.contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        with attention(model, "eager"):
            yield

    def watching(self, masks: DropoutMasks) -> AbstractContextManager[object]:
        return FunctionDropout(masks)

    def lifted(self, model: nn.Module) -> AbstractContextManager[object]:
        return attention(model, own_attention(model))


@final
class Padded(Layout):
    """Padded, with our attention."""

    name = "padded"

    @contextlib.contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        with attention(model, PADDED):
            yield

    def arguments(
        self,
        masks: DropoutMasks,
        inputs: Mapping[str, Tensor],
        known_by: Sequence[bytes] = (),
        *,
        device: torch.device = HOST,
    ) -> dict[str, Any]:
        return {"dropout_masks": masks}

    def lifted(self, model: nn.Module) -> AbstractContextManager[object]:
        return attention(model, own_attention(model))

    def works(self, masks: DropoutMasks) -> bool:
        return masks.reached_attention


class EndToEnd(Layout):
    """Rows end to end, whatever the layers are made of; one name for the user, and for the size of batches."""

    name = "padding-free"
    flat = True

    def arguments(
        self,
        masks: DropoutMasks,
        inputs: Mapping[str, Tensor],
        known_by: Sequence[bytes] = (),
        *,
        device: torch.device = HOST,
    ) -> dict[str, Any]:
        mask = inputs["attention_mask"]  # (B, T)
        return {"dropout_masks": masks, "sequences": Sequences(mask.sum(dim=1), mask.shape[1], device)}

    def lifted(self, model: nn.Module) -> AbstractContextManager[object]:
        return attention(model, own_attention(model))


@final
class Flat(EndToEnd):
    """Rows end to end through the model's body; its head sees them padded again.

    Two hooks on the body do it: the one before takes the padding out of its inputs, the one after puts it back into its
    hidden states.

    Args:
        first_only: whether the head sees the first token of each row alone.
    """

    def __init__(self, *, first_only: bool = False) -> None:
        self._first_only = first_only

    @contextlib.contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        if model.config._attn_implementation == FLAT:  # type: ignore[union-attr]
            yield  # a callback that predicts while the model is prepared for training
            return
        body: Any = model.base_model
        first_position = position_offset(model)
        # Heads that do not ask for it get one by default: of no use here, and it turns bf16 keys into fp32.
        no_cache = {"use_cache": False} if "use_cache" in inspect.signature(body.forward).parameters else {}

        def unpad(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            if "sequences" not in kwargs:
                return args, kwargs  # lifted
            sequences: Sequences = kwargs["sequences"]
            named = {**dict(zip(("input_ids",), args, strict=False)), **kwargs}
            flat = {
                name: named[name].flatten().index_select(0, sequences.tokens)[None]  # (1, N)
                for name in ("input_ids", "token_type_ids")
                if named.get(name) is not None
            }
            flat["position_ids"] = (sequences.positions + first_position)[None]
            kept = {name: value for name, value in kwargs.items() if name not in _REPLACED and value is not None}
            return (), {**kept, **flat, **no_cache}

        def repad(module: nn.Module, _: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> Any:
            if "sequences" not in kwargs:
                return outputs
            sequences: Sequences = kwargs["sequences"]
            if not hasattr(outputs, "last_hidden_state"):
                raise TypeError(f"the body returned {type(outputs).__name__} without hidden states")
            hidden = outputs.last_hidden_state[0]  # (N, H), or (B, H) when no other token left the last layer
            whole = len(hidden) == len(sequences.tokens)
            firsts = hidden.index_select(0, sequences.starts) if whole else hidden
            seen = firsts[:, None] if self._first_only else sequences.side_by_side(hidden)
            pooled = _pooled(module, firsts, kwargs["dropout_masks"])
            return type(outputs)(last_hidden_state=seen, **({} if pooled is None else {"pooler_output": pooled}))

        hooks = [
            body.register_forward_pre_hook(unpad, with_kwargs=True),
            body.register_forward_hook(repad, with_kwargs=True),
        ]
        with hooked(hooks), attention(model, FLAT):
            yield


@final
class Fused(EndToEnd):
    """Rows end to end, through layers that are two nodes of the graph each: those of `encoder` and `decoder`.

    The layers' stand-ins take their places while the body is called, and only then.

    Args:
        first_only: whether the head sees the first token of each row alone, and no other leaves the last layer.
    """

    def __init__(self, *, first_only: bool) -> None:
        self.first_only = first_only

    @contextlib.contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        if model.config._attn_implementation == FLAT:  # type: ignore[union-attr]
            yield
            return
        layers: Any = layers_of(model)
        body: Any = model.base_model
        stand_ins = self._stand_ins(layers)

        def put(_: nn.Module, __: object, kwargs: dict[str, Any]) -> None:
            for number, (original, fused) in stand_ins.items():
                if "sequences" in kwargs and layers[number] is original and fused.fits:
                    layers[number] = fused

        def put_back(_: nn.Module, __: object, ___: object) -> None:
            for number, (original, fused) in stand_ins.items():
                if layers[number] is fused:
                    layers[number] = original

        with Flat(first_only=self.first_only).installed(model):
            hooks = [
                body.register_forward_pre_hook(put, with_kwargs=True),
                body.register_forward_hook(put_back, always_call=True),
            ]
            with hooked(hooks):
                yield

    def works(self, masks: DropoutMasks) -> bool:
        return masks.reached_attention

    def by_layer(self) -> Layout:
        return Flat(first_only=self.first_only)

    def _stand_ins(self, layers: nn.ModuleList | None) -> dict[int, tuple[nn.Module, StandIn]]:
        """Number of a layer -> it, and what stands in for it.

        Raises:
            ValueError: there is none, or it is not measured on this device.
        """
        last = len(layers or []) - 1
        made = {
            number: (layer, _stand_in(layer, first_only=self.first_only and number == last))
            for number, layer in enumerate(layers or [])
        }
        found = {
            number: (layer, stand_in)
            for number, (layer, stand_in) in made.items()
            if stand_in is not None and next(layer.parameters()).device.type == "cpu"
        }
        if not found:
            raise ValueError("no layer that can be fused")
        return found


def _stand_in(layer: nn.Module, *, first_only: bool) -> StandIn | None:
    """What computes a layer of a known kind in fewer pieces; None for any other."""
    if (like_bert := encoder.parts_of(layer)) is not None:
        return encoder.FusedLayer(like_bert, first_only=first_only)
    if (like_llama := decoder.parts_of(layer)) is not None:
        return decoder.FusedDecoderLayer(like_llama)
    return None


_REPLACED = ("input_ids", "token_type_ids", "position_ids", "attention_mask", "inputs_embeds", "past_key_values")


def own_attention(model: nn.Module) -> str:
    """The name of the attention that a model would have without us."""
    return "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"


def position_offset(model: nn.Module) -> int:
    """The number of the first position: models of RoBERTa's kind count from ``padding_idx + 1``."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def unpacked_layout(model: nn.Module) -> Layout:
    """Rows side by side as the model itself lays them, with our dropout wherever it drops out."""
    config = getattr(model, "config", None)
    if drops_out(model) and isinstance(getattr(config, "_attn_implementation", None), str):
        return Watched("side by side, with our dropout")
    return SideBySide()


def choose_layout(
    model: nn.Module, run: Callable[[Layout], Tensor], *, padding_free: bool | None
) -> tuple[Layout, str]:
    """The leanest layout in which the model gives the answers that it gives by itself.

    A narrow model without dropout keeps its own attention, and with it every bit of what a plain loop would compute.

    Args:
        model: in evaluation mode.
        padding_free: whether to try rows end to end; None to decide by the width of the model.
        run: scores of a few rows, the longest among them, under a layout, in fp32 and without dropout.

    Returns:
        The layout, and why rows do not lie end to end in it; empty where they do, and where that was not wanted.
    """
    if is_encoder_decoder(model):  # never end to end
        own = Watched() if drops_out(model) else OwnAttention()
        return own, "its two stacks differ in lengths" if padding_free else ""
    flat = typical_width(model) >= NARROW if padding_free is None else padding_free
    if not getattr(model, "_supports_attention_backend", False):
        return _own(model, run), "it does not attend through transformers' interface" if flat else ""
    expected, refused = run(OwnAttention()), ""
    for end_to_end in [Fused(first_only=True), Fused(first_only=False), Flat()] if flat else []:
        refused = _refusal(run, end_to_end, expected)
        if not refused:
            return end_to_end, ""
    if drops_out(model) and not _refusal(run, padded := Padded(), expected):
        return padded, refused
    return _own(model, run), refused


def _own(model: nn.Module, run: Callable[[Layout], Tensor]) -> Layout:
    """The model's own attention, written out where its dropout would be drawn inside of one call of torch.

    There is no such call in MPNet and DeBERTa, whose dropout is made of modules. There is in ModernBERT of transformers
    before 5.1, and in GPT-2 before 5.3 under a head for classes, which hands nothing of ours to the body.
    """
    if not drops_out(model) or own_attention(model) != "sdpa":
        return OwnAttention()
    written_out = Watched()
    return OwnAttention() if _refusal(run, written_out, run(OwnAttention())) else written_out


def _refusal(run: Callable[[Layout], Tensor], layout: Layout, expected: Tensor) -> str:
    """Why a model cannot be called in a layout; empty where it can."""
    tried = attempt(partial(run, layout))
    if tried.value is None:
        return tried.reason
    if expected.shape != tried.value.shape:
        return f"scores of shape {tuple(tried.value.shape)} instead of {tuple(expected.shape)}"
    apart = float((expected - tried.value).abs().max()) / max(float(expected.abs().max()), 1e-3)
    return "" if apart <= _TOLERANCE else f"scores {apart:.1g} of the largest apart"


def _pooled(body: nn.Module, first: Tensor, masks: DropoutMasks) -> Tensor | None:
    """What the body makes of the first token of each row, where it has a pooler.

    Args:
        body: of the model.
        first: (B, H) hidden states.
        masks: of this pass, in which the body has called its pooler once already, on rows end to end.
    """
    pooler = getattr(body, "pooler", None)
    if pooler is None:
        return None
    masks.begin_again(pooler)
    if isinstance(pooler, nn.Linear):  # ALBERT keeps the layer and its activation apart
        activated: Tensor = body.pooler_activation(pooler(first))  # type: ignore[operator]
        return activated
    pooled: Tensor = pooler(first[:, None])
    return pooled
