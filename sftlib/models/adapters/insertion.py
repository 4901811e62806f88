"""An adapter on its way into a model, new or saved, and its weights on their way out."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sftlib.errors import OptionError
from sftlib.models.adapters.base import stamps
from sftlib.models.adapters.config import settings_of
from sftlib.models.adapters.kinds import SavedAdapter
from sftlib.models.adapters.library import NAME, peft
from sftlib.models.adapters.targets import settled, train_new_rows
from sftlib.models.files.strict import Stored, bounded
from sftlib.models.head_rows import Seats, label_axes, seated
from sftlib.models.opening import first_line
from sftlib.models.sizes import typical_width

if TYPE_CHECKING:
    from sftlib.models.sources import Head
from sftlib.models.seeds import seeded


def adapt(
    model: nn.Module, adapter: Any, *, head: str, drawn: Collection[str], new_rows: Sequence[int], seed: int
) -> None:
    """Put an adapter into a model; afterwards nothing but the adapter and what is trained whole is trained.

    Parameters that are frozen already get no adapter, and stay frozen where they belong to the head.

    Args:
        model: with its head; changed.
        adapter: a value of ``adapter=``; None to leave the model as it is.
        head: transformers' Auto class of the task.
        drawn: names of weights that the source of the model does not hold.
        new_rows: rows of its input table that it does not hold; they are trained, and no others.
        seed: of the new weights.

    Raises:
        OptionError: the adapter does not fit the model.
    """
    if adapter is None:
        return
    if hasattr(model, "peft_config"):
        raise OptionError(
            f"adapter={adapter!r:.60}: this model has an adapter already; merge it first, or leave it out"
        )
    frozen = {
        name
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad and parameter.is_floating_point()  # quantised weights are no sign of a wish
    }
    before = stamps(model)
    if isinstance(adapter, SavedAdapter):
        stored = {name: Stored(tuple(value.shape), value.dtype) for name, value in adapter.weights.items()}
        with seeded(seed), bounded(stored):
            _inject(model, adapter.config(), adapter, on_meta=True)
        _fill(model, adapter.weights)
    else:
        config = settled(model, adapter, head, drawn, frozen)
        train_new_rows(model, config, new_rows)
        with seeded(seed):
            _inject(model, config, adapter, on_meta=False)
    if _sharing_memory(model):
        raise OptionError(
            f"adapter={adapter!r:.60}: two of its weights lie in the same memory and would be trained twice "
            "(ensure_weight_tying); leave that out: merge() keeps the two sides of tied weights apart"
        )
    if stamps(model) != before:
        raise OptionError(f"adapter={adapter!r:.60}: it changes weights of the model underneath; use another start")
    for name, parameter in model.named_parameters():
        if name.replace(f".modules_to_save.{NAME}", "") in frozen:
            parameter.requires_grad_(False)


def _inject(model: Any, config: Any, adapter: object, *, on_meta: bool) -> None:
    try:
        with warnings.catch_warnings():  # merging such a model is ours, and takes the two apart
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True` and a tied layer")
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")  # each layer's own kind decides
            peft().inject_adapter_in_model(config, model, adapter_name=NAME, low_cpu_mem_usage=on_meta)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise OptionError(
            f"adapter={adapter!r:.80}: it does not fit {type(model).__name__}: {first_line(error)}"
        ) from error
    if hasattr(model, "_hf_peft_config_loaded"):
        model._hf_peft_config_loaded = True  # so that the model's own disable_adapters() and save_pretrained() know


def _sharing_memory(model: nn.Module) -> bool:
    """Whether two weights that are trained are views of the same numbers."""
    trained = [
        weight for weight in model.parameters() if weight.requires_grad and not weight.is_meta and weight.numel()
    ]
    return len({weight.untyped_storage().data_ptr() for weight in trained}) < len(trained)


def _fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a model's adapter.

    Raises:
        OptionError: names, shapes or number formats are not those of the adapter.
    """
    expected = peft().get_peft_model_state_dict(model, save_embedding_layers=False)
    wrong = [f"{name} is not there" for name in expected if name not in weights]
    wrong += [f"{name} is not here" for name in weights if name not in expected]
    wrong += [
        f"{name} has {tuple(weights[name].shape)} {weights[name].dtype} there, {tuple(value.shape)} {value.dtype} here"
        for name, value in expected.items()
        if name in weights and (weights[name].shape, weights[name].dtype) != (value.shape, value.dtype)
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise OptionError(f"the adapter's weights do not fit {type(model).__name__}: {'; '.join(wrong[:3])}{more}")
    copies = {name: value.clone() for name, value in weights.items()}
    peft().set_peft_model_state_dict(model, copies, low_cpu_mem_usage=True)
    left = [name for name, value in model.state_dict().items() if value.device.type == "meta"]
    if left:
        raise OptionError(f"the adapter's weights do not fit {type(model).__name__}: {left[0]} is not there")


def following(adapter: Any, model: nn.Module, head: Head) -> tuple[Any, str]:
    """A saved adapter whose head has its rows where their labels are now, and what is to be said of that.

    Args:
        adapter: a value of ``adapter=``.
        model: with the new head, whose rows stay where the adapter knows no label of that name.
        head: what the task wants.

    Raises:
        OptionError: the rows of its head cannot be told from one another.
    """
    if not isinstance(adapter, SavedAdapter) or not adapter.labels or adapter.labels == head.labels:
        return adapter, ""
    seats = Seats.of(head.labels, adapter.labels)
    axes = label_axes(head.auto_class, model.config, len(head.labels)) if hasattr(model, "base_model_prefix") else {}
    whole = {name: dimensions for name, dimensions in axes.items() if name in adapter.weights}
    parts = tuple(f"{name.rpartition('.')[0]}." for name in axes)
    if not axes or any(name.startswith(parts) for name in adapter.weights if name not in axes):
        raise OptionError(
            f"adapter={adapter!r:.60}: its head was trained for other labels, and its rows cannot be told from one "
            "another; merge() it first, or begin from the base"
        )
    moved = dict(seated(seats, whole, adapter.weights, model.state_dict))
    return replace(adapter, weights={**adapter.weights, **moved}), seats.sentence()


def with_adapter_of(model: nn.Module, base: nn.Module) -> nn.Module:
    """A base, in place, with the adapter of another model."""
    adapter = SavedAdapter(adapter_settings(model), adapter_weights(model))
    adapt(base, adapter, head="", drawn=(), new_rows=(), seed=0)
    return base


def adapter_weights(model: nn.Module) -> dict[str, Tensor]:
    """Name in a PEFT folder, without its prefix -> weight: the adapter's, and those of what is trained whole."""
    # Embeddings are saved where they are trained; nothing is looked up elsewhere to decide that.
    found: dict[str, Tensor] = peft().get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def adapter_settings(model: nn.Module) -> dict[str, Any]:
    """The config of a model's adapter as JSON values: no place, and no path."""
    config: Any = model.peft_config[NAME]  # type: ignore[index]
    return {**settings_of(config), "base_model_name_or_path": None, "inference_mode": True}


def rate_of_adapters(model: nn.Module) -> float:
    """A good learning rate for an adapter: ten times the model's own, more in narrow models than in wide ones.

    The rule is that of Schulman and others (LoRA Without Regret, 2025), which they fitted to Llamas; held to the range
    that is usual in practice.

    Example:
        >>> [f"{_rate_at(width):.0e}" for width in (384, 2048, 4096)]
        ['1e-03', '5e-04', '3e-04']
    """
    config = getattr(model, "config", None)
    width = getattr(config, "hidden_size", None)
    return _rate_at(width if isinstance(width, int) and width > 0 else max(typical_width(model), 1))


def _rate_at(width: int) -> float:
    return float(min(1e-3, max(1e-4, 5e-4 * (2000 / width) ** 0.78)))
