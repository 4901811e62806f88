"""Training only the embedding rows whose tokens occur: exact, and far less memory and work for large vocabularies.

A token that never occurs has a zero gradient for ever, so AdamW does nothing to its row but decay it. While a run lasts
the table holds the rows that occur; afterwards they go back to their places, and the others get the decay that they
would have got, multiplication by multiplication, so that not a bit is different.

Letters: ``V`` tokens of the vocabulary, ``U`` tokens in use, ``H`` features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_SMALLEST_TABLE = 2**13  # below, the table is no burden
_LARGEST_SHARE = 0.75  # of the tokens in use; above, there is little to leave out
_ROWS_AT_ONCE = 2**10  # decayed while they lie in the processor's cache


@contextmanager
def compact_vocabulary(
    model: nn.Module, used: Callable[[], NDArray[np.integer[Any]]], decays: Callable[[], Sequence[float]]
) -> Iterator[bool]:
    """While this context lasts, the input embedding holds only the tokens in use, where that pays.

    Args:
        model: with its full table, on its device.
        used: every token id that any pass of this context will see; asked only for a table worth the trouble.
        decays: factor of every optimizer step that was taken, for the rows left out; asked at the end.

    Yields:
        Whether the table was made smaller.
    """
    table = _untied_table(model)
    tokens = None if table is None or len(table.weight) < _SMALLEST_TABLE else np.unique(used())
    if table is None or tokens is None or len(tokens) > _LARGEST_SHARE * len(table.weight):
        yield False
        return

    full, padding = table.weight, table.padding_idx
    kept = torch.from_numpy(np.union1d(tokens, [] if padding is None else [padding]).astype(np.int64)).to(full.device)
    place = torch.full((len(full),), -1, dtype=torch.int64, device=full.device)  # (V,) -> U
    place[kept] = torch.arange(len(kept), device=full.device)

    renumbering = _Renumbering(full, place, decays)
    table.weight = nn.Parameter(full.detach()[kept], requires_grad=full.requires_grad)  # (U, H)
    table.padding_idx = None if padding is None else int(place[padding])
    hooks = [
        table.register_forward_pre_hook(renumbering.before),
        table.register_forward_hook(renumbering.after),
    ]
    try:
        yield True
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            if full.requires_grad:
                _decay(full, (place < 0).nonzero()[:, 0], decays())
            full[kept] = table.weight.detach()
        table.weight, table.padding_idx = full, padding


@final
class _Renumbering:
    """Turns token ids into places of the smaller table on their way in.

    Tokens that are not in use occur only where a callback looks at other texts; their rows come from the full table.

    Args:
        full: (V, H) the full table.
        place: (V,) place of each token in the smaller table, -1 for those not in use.
        decays: factors of the steps so far, which the full table has not had yet.
    """

    def __init__(self, full: Tensor, place: Tensor, decays: Callable[[], Sequence[float]]) -> None:
        self._full = full
        self._place = place
        self._decays = decays
        self._tokens = place.new_empty(0)

    def before(self, _: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Renumber; in training every token is known, and nothing is checked."""
        self._tokens = arguments[0]
        places = self._place[self._tokens]
        return (places if torch.is_grad_enabled() else places.clamp(min=0), *arguments[1:])

    def after(self, _: nn.Module, __: tuple[Tensor, ...], found: Tensor) -> Tensor:
        """Put the rows of tokens that are not in use right."""
        unseen = None if torch.is_grad_enabled() else self._place[self._tokens] < 0
        if unseen is None or not unseen.any():
            return found
        rows = self._full[self._tokens[unseen]] * math.prod(self._decays())
        return found.masked_scatter(unseen[..., None], rows)


def _untied_table(model: nn.Module) -> nn.Embedding | None:
    """The input embedding of a transformers model, unless another module shares its weights."""
    table = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None  # type: ignore[operator]
    if not isinstance(table, nn.Embedding) or not table.weight.requires_grad:  # frozen rows cost nothing
        return None
    users = [name for name, p in model.named_parameters(remove_duplicate=False) if p is table.weight]
    return table if len(users) == 1 else None


def _decay(full: Tensor, rows: Tensor, factors: Iterable[float]) -> None:
    """Multiply rows by each factor in turn, as the optimizer would have; rounding included."""
    steps = [factor for factor in factors if factor != 1.0]
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        values = full[part]
        for factor in steps:
            values.mul_(factor)
        full[part] = values
