"""Digests of rows, and cutting rows into sides without taking identical inputs apart."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from sftlib.errors import DataError, OptionError

Index = npt.NDArray[np.int64]


def encode(value: object) -> bytes:
    """A value as bytes that no other value has: a tag for its type, its length, its content.

    Example:
        >>> encode("ab") == encode(["a", "b"]), encode(1) == encode(True)
        (False, False)
    """
    if isinstance(value, str):
        return _framed(b"s", value.encode("utf-8", "surrogatepass"))
    if value is None:
        return _framed(b"n", b"")
    if isinstance(value, bool):
        return _framed(b"b", b"1" if value else b"0")
    if isinstance(value, int):
        return _framed(b"i", format(value, "x").encode())
    if isinstance(value, float):
        return _framed(b"f", struct.pack(">d", value))
    if isinstance(value, list | tuple):
        return _framed(b"l", b"".join(map(encode, value)))
    if isinstance(value, Mapping):
        return _framed(b"m", b"".join(sorted(encode(key) + encode(item) for key, item in value.items())))
    if isinstance(value, bytes):
        return _framed(b"y", value)
    raise DataError(f"a value of type {type(value).__name__} has no digest")


def _framed(tag: bytes, content: bytes) -> bytes:
    return tag + struct.pack(">Q", len(content)) + content


def digest(task: str | None, label_names: Sequence[object] | None, columns: Mapping[str, Iterable[object]]) -> str:
    """Hex SHA-256 over a task, its label names and every column in row order; equal in every process."""
    sha = hashlib.sha256(encode([task, label_names]))
    for role, values in columns.items():
        sha.update(encode(role))
        encoded = map(encode, values)
        while block := b"".join(islice(encoded, 1_000)):  # many at once: most of the time went into the calls
            sha.update(block)
    return sha.hexdigest()


def keys(columns: Sequence[Sequence[object]]) -> list[Hashable]:
    """One hashable key for each row over the given columns: equal keys, equal rows."""
    if len(columns) == 1 and all(type(value) is str for value in columns[0]):
        return list(columns[0])
    return [b"".join(map(encode, row)) for row in zip(*columns, strict=True)]


def check_fractions(fractions: Sequence[object], seed: object, stratify: object) -> None:
    """Raise every problem of the arguments of a split.

    Raises:
        OptionError: fractions that are not positive or do not add up to 1, a seed that is no whole number from 0.
    """
    problems = []
    good = [value for value in fractions if isinstance(value, int | float | np.number) and not isinstance(value, bool)]
    if not fractions or len(good) < len(fractions) or not all(value > 0 for value in good):
        problems.append(f"split{tuple(fractions)}: expected positive shares, such as split(0.8, 0.1, 0.1)")
    elif not abs(sum(map(float, good)) - 1) <= 1e-6:
        total = sum(map(float, good))
        mend = f"add the share {1 - total:.6g}" if total < 1 else "divide each by their sum"
        problems.append(f"split{tuple(fractions)}: the shares add up to {total:.6g}, expected 1: {mend}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        problems.append(f"seed={seed!r}: expected a whole number from 0")
    if not isinstance(stratify, bool):
        problems.append(f"stratify={stratify!r}: expected True or False")
    if problems:
        raise OptionError("\n".join(problems))


def sides(
    inputs: Sequence[Hashable], strata: Sequence[Hashable], fractions: Sequence[float], *, seed: int
) -> list[Index]:
    """Cut rows into sides.

    Rows with equal inputs form a group, and groups stay whole. The groups of a stratum are shuffled and spread evenly
    over the line from 0 to 1 (group j of n at (j + u) / n, one random u per stratum); all groups in the order of their
    places are then cut where the count of rows passes the fractions. So each side has its size to within one group, and
    every stratum is spread as evenly as that allows. A stratum with a single group goes to the front.

    Args:
        inputs: one key per row.
        strata: the stratum of each row (a group belongs to that of its first row).
        fractions: positive, adding up to 1.
        seed: what decides the shuffle.

    Returns:
        For each fraction the positions of its rows, ascending.
    """
    group_of: dict[Hashable, int] = {}
    groups = np.fromiter((group_of.setdefault(key, len(group_of)) for key in inputs), np.int64, len(inputs))
    members: dict[Hashable, list[int]] = {}
    seen = 0
    for group, stratum in zip(groups.tolist(), strata, strict=True):
        if group == seen:  # groups are numbered as they appear: this is the first row of a new one
            members.setdefault(stratum, []).append(group)
            seen += 1
    places = _places(members, len(group_of), seed)
    sizes = np.bincount(groups, minlength=len(group_of))
    order = np.argsort(places, kind="stable")
    middles = np.cumsum(sizes[order]) - sizes[order] / 2
    cuts = np.cumsum(np.asarray(fractions, float))[:-1] * len(groups)
    side_of = np.empty(len(group_of), np.int64)
    side_of[order] = np.searchsorted(cuts, middles, side="right")
    return [np.flatnonzero(side_of[groups] == side) for side in range(len(fractions))]


def _places(members: Mapping[Hashable, Sequence[int]], count: int, seed: int) -> npt.NDArray[np.float64]:
    """The place of each group on the line from 0 to 1."""
    generator = np.random.Generator(np.random.Philox(seed))
    places = np.empty(count)
    for groups in members.values():  # in order of first appearance, so a function of the rows alone
        shuffled = generator.permutation(np.asarray(groups, np.int64))
        offset = generator.random() if len(groups) > 1 else 0.0
        places[shuffled] = (np.arange(len(groups)) + offset) / len(groups)
    return places
