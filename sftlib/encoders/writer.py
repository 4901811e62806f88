"""The token store: chunk after chunk into flat arrays, and folders that keep them for later processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.scratch import Growing, Scratch, mapped
from sftlib.encoders.encoded import Encoded, IntArray, Ragged, offsets_of
from sftlib.support import storage

_KIND = "sftlib tokens"
_NARROW = ("token_type_ids",)  # inputs of a few small values, kept in one byte each
_LENGTHS, _UNCUT, _OWNERS = "lengths", "uncut_lengths", "owners"
_OF_ROWS = (_LENGTHS, _UNCUT, _OWNERS)


@final
class TokenWriter:
    """Collects the tokens of rows, chunk by chunk; used in a ``with`` block.

    Args:
        folder: write every array there; None to keep them in memory, or in a scratch file once they are large.

    Example:
        >>> with TokenWriter() as writer:
        ...     writer.add({"input_ids": np.array([7, 8, 9])}, lengths=np.array([2, 1]), uncut=np.array([2, 1]))
        ...     encoded = writer.done()
        >>> encoded.inputs["input_ids"][0].tolist()
        [7, 8]
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._scratch = Scratch()
        self._arrays: dict[str, Growing] = {}
        self._zeros: dict[str, int] = {}  # inputs that held nothing but 0 so far, and how many
        for name in (_LENGTHS, _UNCUT):
            self._arrays[name] = self._growing(name, np.int32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for array in self._arrays.values():
            array.close()

    def add(self, inputs: Mapping[str, IntArray], *, lengths: IntArray, uncut: IntArray) -> None:
        """Append rows.

        Args:
            inputs: name of a model input -> the tokens of these rows, one row after the other.
            lengths: of each row.
            uncut: length of each row before truncation.
        """
        for name, values in inputs.items():
            self._add(name, values)
        self._arrays[_LENGTHS].extend(lengths)
        self._arrays[_UNCUT].extend(uncut)

    def attach(
        self,
        *,
        targets: Mapping[str, NDArray[Any] | Ragged] | None = None,
        notes: Mapping[str, NDArray[Any] | Ragged] | None = None,
    ) -> None:
        """Append targets or notes, each by itself: they may be ahead of the tokens of their rows, or behind.

        Args:
            targets: name -> (N,) one number for each of the next rows, or several.
            notes: the same.
        """
        for kind, parts in (("targets", targets or {}), ("notes", notes or {})):
            for name, part in parts.items():
                if isinstance(part, Ragged):
                    self._append(f"{kind}.{name}.{_LENGTHS}", part.lengths, np.int32)
                values = part.values if isinstance(part, Ragged) else part
                self._append(f"{kind}.{name}", values, values.dtype)

    def extend(self, part: Encoded) -> None:
        """Append all there is of some rows, which may be windows; their owners are numbered in the whole."""
        inputs = {name: values.values for name, values in part.inputs.items()}
        self.add(inputs, lengths=part.lengths, uncut=part.uncut_lengths)
        self._append(_OWNERS, part.owners, np.int32)
        self.attach(targets=part.targets, notes=part.notes)

    def _append(self, name: str, values: NDArray[Any], dtype: Any) -> None:
        if name not in self._arrays:
            self._arrays[name] = self._growing(name, dtype)
        self._arrays[name].extend(values)

    def _add(self, name: str, values: IntArray) -> None:
        """Append to one input; as long as it is 0 throughout, as token types of single texts are, only count."""
        if name not in self._arrays and name != "input_ids" and not values.any():
            self._zeros[name] = self._zeros.get(name, 0) + len(values)
            return
        if name not in self._arrays:
            self._arrays[name] = self._growing(name, np.int8 if name in _NARROW else np.int32)
            self._arrays[name].extend(np.zeros(self._zeros.pop(name, 0), np.int8))
        if name in _NARROW and len(values) and values.max() > 127:
            raise ValueError(f"{name} has the value {values.max()}; at most 127 was expected")
        self._arrays[name].extend(values)

    def _growing(self, name: str, dtype: Any) -> Growing:
        if self._folder is not None:
            folder = self._folder
            return Growing(dtype, lambda: folder / f"{name}.npy", limit=0)
        return Growing(dtype, lambda: self._scratch.path(f"{name}.npy"))

    @property
    def zeros(self) -> list[str]:
        """The inputs that are 0 everywhere; they have no array."""
        return sorted(self._zeros)

    def done(self) -> Encoded:
        """All rows, with the targets and notes that were attached."""
        found = {name: array.done() for name, array in self._arrays.items()}
        self._scratch.release()
        return _encoded(found, self.zeros)


def write_tokens(folder: Path, fill: Callable[[TokenWriter], None]) -> None:
    """Write the tokens of a data set to a folder, whole or not at all.

    Args:
        folder: where it will be; one that is there is replaced.
        fill: adds every chunk to the writer it is given.

    Raises:
        OSError: the folder cannot be written.
    """
    with storage.written_whole(folder, private=True) as place:
        with TokenWriter(place) as writer:
            fill(writer)
            writer.done()
        storage.write_manifest(place, kind=_KIND, zeros=writer.zeros)


def read_tokens(folder: Path) -> Encoded | None:
    """The tokens in a folder, mapped into memory; None if it is not there, or not as it was written."""
    try:
        manifest = storage.verify(folder, kind=_KIND)
        arrays = {name.removesuffix(".npy"): mapped(folder / name) for name in manifest["files"]}
        return _encoded(arrays, manifest["zeros"])
    except (storage.StorageError, OSError, ValueError, KeyError, TypeError):
        return None


def _encoded(arrays: Mapping[str, NDArray[Any]], zeros: list[str]) -> Encoded:
    """Arrays put together, after a look at whether they belong together."""
    lengths, uncut = arrays[_LENGTHS], arrays[_UNCUT]
    offsets = offsets_of(lengths)
    flat = {name: values for name, values in arrays.items() if name not in _OF_ROWS and "." not in name}
    flat.setdefault("input_ids", np.empty(0, np.int32))
    flat |= {name: np.broadcast_to(np.int8(0), int(offsets[-1])) for name in zeros}
    ids = Ragged(flat.pop("input_ids"), offsets)
    inputs = {"input_ids": ids, **{name: ids.alike(flat[name]) for name in sorted(flat)}}
    owners = np.asarray(arrays[_OWNERS], np.int64) if _OWNERS in arrays else None
    attached: dict[str, dict[str, NDArray[Any] | Ragged]] = {"targets": {}, "notes": {}}
    for place in sorted(arrays):
        kind, dot, name = place.partition(".")
        if dot and not name.endswith(f".{_LENGTHS}"):
            attached[kind][name] = _attached(arrays[place], arrays.get(f"{place}.{_LENGTHS}"), ids)
    sizes = {len(part.values) for part in inputs.values()}
    counts = {len(part) for parts in attached.values() for part in parts.values()}
    counts |= {len(uncut), len(lengths if owners is None else owners)}
    astray = owners is not None and (owners.min(initial=0) < 0 or (np.diff(owners) < 0).any())
    if astray or lengths.min(initial=0) < 0 or sizes != {int(offsets[-1])} or counts != {len(lengths)}:
        raise ValueError("arrays that do not belong together")
    return Encoded(inputs, attached["targets"], np.array(uncut), owners, attached["notes"])


def _attached(values: NDArray[Any], lengths: IntArray | None, ids: Ragged) -> NDArray[Any] | Ragged:
    """What was attached to rows: a number each, several each, or one for each token."""
    if lengths is None:
        return values
    if np.array_equal(lengths, ids.lengths) and len(values) == len(ids.values):
        return ids.alike(values)
    offsets = offsets_of(lengths)
    if lengths.min(initial=0) < 0 or len(values) != offsets[-1]:
        raise ValueError("arrays that do not belong together")
    return Ragged(values, offsets)
