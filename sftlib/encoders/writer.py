"""Columns written chunk after chunk, into flat arrays; and folders that keep them for later processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.scratch import Growing, Scratch, mapped
from sftlib.encoders.encoded import Column, Encoded, Filed, IntArray, Ragged, offsets_of
from sftlib.support import storage

_KIND = "sftlib columns"
_LENGTHS, _CUT, _OWNERS = "lengths", "cut", "owners"
_OF_ROWS = (_LENGTHS, _CUT, _OWNERS)


@final
class Writer:
    """Collects the columns of rows, chunk by chunk; used in a ``with`` block.

    Args:
        folder: write every array there; None to keep them in memory, or in a scratch file once they are large.

    Example:
        >>> with Writer() as writer:
        ...     writer.add({"input_ids": np.array([7, 8, 9])}, lengths=np.array([2, 1]))
        ...     encoded = writer.done()
        >>> encoded.inputs["input_ids"][0].tolist()
        [7, 8]
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._scratch = Scratch()
        self._arrays: dict[str, Growing] = {}
        self._first = ""  # the input that all others stand beside
        self._zeros: dict[str, int] = {}  # inputs that held nothing but 0 so far, and how many
        self._shapes: dict[str, tuple[int, ...]] = {}  # of one value, where it is more than a number
        self._filed: dict[str, Filed] = {}
        self._cost: NDArray[np.int64] | None = None
        self._owners: NDArray[np.int64] | None = None
        for name in (_LENGTHS, _CUT):
            self._arrays[name] = self._growing(name, np.int32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for array in self._arrays.values():
            array.close()

    def add(self, inputs: Mapping[str, NDArray[Any]], *, lengths: IntArray, cut: IntArray | None = None) -> None:
        """Append rows.

        Args:
            inputs: name of a model input -> ``(L, *F)`` the values of these rows, one row after the other, kept in the
                type of the first of them.
            lengths: (N,) of each row.
            cut: (N,) how much was cut off of each row; nothing when None.
        """
        self._first = self._first or next(iter(inputs))
        for name, values in inputs.items():
            self._add(name, values)
        self._arrays[_LENGTHS].extend(lengths)
        self._arrays[_CUT].extend(np.zeros(len(lengths), np.int32) if cut is None else cut)

    def refer(
        self, inputs: Mapping[str, Filed], cost: NDArray[np.int64], *, owners: NDArray[np.int64] | None = None
    ) -> None:
        """Whole columns that refer to what is decoded later; such columns are never kept in a folder.

        Args:
            inputs: name -> (N,) references.
            cost: (N,) what each row takes of a pass.
            owners: (N,) ascending, the row of the data that each is a part of; each by itself when None.
        """
        self._filed, self._cost, self._owners = dict(inputs), cost, owners

    def attach(self, *, targets: Mapping[str, Column] | None = None, notes: Mapping[str, Column] | None = None) -> None:
        """Append targets or notes, each by itself: they may be ahead of the inputs of their rows, or behind.

        Args:
            targets: name -> (N,) one value for each of the next rows, or several.
            notes: the same.
        """
        for kind, parts in (("targets", targets or {}), ("notes", notes or {})):
            for name, part in parts.items():
                assert not isinstance(part, Filed)  # what the loss needs is at hand
                if isinstance(part, Ragged):
                    self._append(f"{kind}.{name}.{_LENGTHS}", part.lengths, np.int32)
                values = part.values if isinstance(part, Ragged) else part
                self._append(f"{kind}.{name}", values, values.dtype)

    def extend(self, part: Encoded) -> None:
        """Append all there is of some rows, which may be windows; their owners are numbered in the whole."""
        ragged = {name: values for name, values in part.inputs.items() if isinstance(values, Ragged)}
        lengths = next(iter(ragged.values())).lengths
        self.add({name: values.values for name, values in ragged.items()}, lengths=lengths, cut=part.cut)
        self._append(_OWNERS, part.owners, np.int32)
        self.attach(targets=part.targets, notes=part.notes)

    def _append(self, name: str, values: NDArray[Any], dtype: Any) -> None:
        if name not in self._arrays:
            self._arrays[name] = self._growing(name, dtype)
            if values.shape[1:]:
                self._shapes[name] = values.shape[1:]
        self._arrays[name].extend(values.reshape(-1))

    def _add(self, name: str, values: NDArray[Any]) -> None:
        """Append to one input; as long as one beside the first is 0 throughout, as types of texts are, only count."""
        if name not in self._arrays and name != self._first and not values.any():
            self._zeros[name] = self._zeros.get(name, 0) + len(values)
            return
        missing = self._zeros.pop(name, 0)
        if missing:
            self._append(name, np.zeros((missing, *values.shape[1:]), values.dtype), values.dtype)
        self._append(name, values, values.dtype)

    def _growing(self, name: str, dtype: Any) -> Growing:
        if self._folder is not None:
            folder = self._folder
            return Growing(dtype, lambda: folder / f"{name}.npy", limit=0)
        return Growing(dtype, lambda: self._scratch.path(f"{name}.npy"))

    @property
    def facts(self) -> dict[str, Any]:
        """What a reader of the arrays needs: the first input, those that are 0 everywhere, and the shapes of values."""
        shapes = {name: list(shape) for name, shape in self._shapes.items()}
        return {"first": self._first, "zeros": sorted(self._zeros), "shapes": shapes}

    def done(self) -> Encoded:
        """All rows, with the targets and notes that were attached."""
        found = {name: array.done() for name, array in self._arrays.items()}
        self._scratch.release()
        if self._filed:
            return Encoded(self._filed, {}, cost=self._cost, owners=self._owners)
        return _encoded(found, self.facts)


def write_columns(folder: Path, fill: Callable[[Writer], None]) -> None:
    """Write the columns of a data set to a folder, whole or not at all.

    Args:
        folder: where it will be; one that is there is replaced.
        fill: adds every chunk to the writer it is given.

    Raises:
        OSError: the folder cannot be written.
    """
    with storage.written_whole(folder, private=True) as place:
        with Writer(place) as writer:
            fill(writer)
            writer.done()
        storage.write_manifest(place, kind=_KIND, **writer.facts)


def read_columns(folder: Path) -> Encoded | None:
    """The columns in a folder, mapped into memory; None if it is not there, or not as it was written."""
    try:
        manifest = storage.verify(folder, kind=_KIND)
        arrays = {name.removesuffix(".npy"): mapped(folder / name) for name in manifest["files"]}
        return _encoded(arrays, manifest)
    except (storage.StorageError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _encoded(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Encoded:
    """Arrays put together, after a look at whether they belong together."""
    arrays = {name: part.reshape(-1, *facts["shapes"].get(name, ())) for name, part in arrays.items()}
    lengths, cut, name = arrays[_LENGTHS], arrays[_CUT], facts["first"]
    offsets = offsets_of(lengths)
    flat = {name: values for name, values in arrays.items() if name not in _OF_ROWS and "." not in name}
    flat |= {name: np.broadcast_to(np.int8(0), int(offsets[-1])) for name in facts["zeros"]}
    first = Ragged(flat.pop(name), offsets) if name else Ragged(np.empty(0, np.int32), offsets)
    inputs = {name or "input_ids": first, **{name: first.alike(flat[name]) for name in sorted(flat)}}
    owners = np.asarray(arrays[_OWNERS], np.int64) if _OWNERS in arrays else None
    attached: dict[str, dict[str, NDArray[Any] | Ragged]] = {"targets": {}, "notes": {}}
    for place in sorted(arrays):
        kind, dot, name = place.partition(".")
        if dot and not name.endswith(f".{_LENGTHS}"):
            attached[kind][name] = _attached(arrays[place], arrays.get(f"{place}.{_LENGTHS}"), first)
    sizes = {len(part.values) for part in inputs.values()}
    counts = {len(part) for parts in attached.values() for part in parts.values()}
    counts |= {len(cut), len(lengths if owners is None else owners)}
    astray = owners is not None and (owners.min(initial=0) < 0 or (np.diff(owners) < 0).any())
    if astray or lengths.min(initial=0) < 0 or sizes != {int(offsets[-1])} or counts != {len(lengths)}:
        raise ValueError("arrays that do not belong together")
    return Encoded(inputs, attached["targets"], cut=np.array(cut), owners=owners, notes=attached["notes"])


def _attached(values: NDArray[Any], lengths: IntArray | None, first: Ragged) -> NDArray[Any] | Ragged:
    """What was attached to rows: one value each, several each, or one beside each of the first input."""
    if lengths is None:
        return values
    if np.array_equal(lengths, first.lengths) and len(values) == len(first.values):
        return first.alike(values)
    offsets = offsets_of(lengths)
    if lengths.min(initial=0) < 0 or len(values) != offsets[-1]:
        raise ValueError("arrays that do not belong together")
    return Ragged(values, offsets)
