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
Keys = npt.NDArray[np.bytes_]
KEY = 16  # bytes


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


def keys(columns: Sequence[Iterable[object]]) -> Keys:
    """One key of 16 bytes for each row over the given columns: equal rows have equal keys, others do not.

    Example:
        >>> same, other, again = keys([["a", "b", "a"], [1, 1, 1]])
        >>> same == again, same == other
        (True, False)
    """
    collected = bytearray()
    for row in zip(*columns, strict=True):
        collected += key(row)
    return as_keys(collected)


def key(row: Iterable[object]) -> bytes:
    """The key of one row."""
    return hashlib.blake2b(b"".join(map(encode, row)), digest_size=KEY).digest()


def as_keys(collected: bytes | bytearray) -> Keys:
    """Keys written one after the other, as an array."""
    return np.frombuffer(collected, f"S{KEY}")


def numbered(values: Iterable[Hashable]) -> Index:
    """The same small whole number for equal values, in order of first appearance.

    Example:
        >>> numbered(["b", "a", "b"]).tolist()
        [0, 1, 0]
    """
    if isinstance(values, np.ndarray):
        _, first, which = np.unique(values, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        return rank[which.reshape(-1)]
    known: dict[Hashable, int] = {}
    return np.fromiter((known.setdefault(value, len(known)) for value in values), np.int64)


def united(first: Index, second: Index) -> Index:
    """The same number for rows that are linked: that are alike in one of two ways, or both alike to a third.

    Example:
        >>> united(np.array([0, 1, 0, 2]), np.array([7, 7, 8, 9])).tolist()
        [0, 0, 0, 1]
    """
    parents = list(range(int(first.max(initial=-1)) + 1))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]  # a shorter way for the next one
            number = parents[number]
        return number

    met: dict[int, int] = {}
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        mine, theirs = root(one), root(met.setdefault(other, one))
        parents[max(mine, theirs)] = min(mine, theirs)
    return numbered([root(number) for number in first.tolist()])


def strata_of_groups(groups: Index, strata: Index) -> Index:
    """The stratum of each row's group: what all its rows have in common, if another group has that too.

    All others form one stratum, so that a group that is alone in its stratum is shuffled and not put to the front.

    Example:
        >>> strata_of_groups(np.array([0, 0, 1, 2, 2, 3]), np.array([5, 5, 5, 5, 6, 7])).tolist()
        [5, 5, 5, -1, -1, -1]
    """
    low = np.full(int(groups.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    high = np.full(len(low), np.iinfo(np.int64).min)
    np.minimum.at(low, groups, strata)
    np.maximum.at(high, groups, strata)
    common = np.where(low == high, low, -1)
    _, where, counts = np.unique(common, return_inverse=True, return_counts=True)
    alone = counts[where] < 2
    return np.where(alone | (common < 0), -1, common)[groups]


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


def sides(inputs: Keys | Index, strata: Index, fractions: Sequence[float], *, seed: int) -> list[Index]:
    """Cut rows into sides.

    Rows with equal inputs form a group, and groups stay whole. The groups of a stratum are shuffled and spread evenly
    over the line from 0 to 1 (group j of n at (j + u) / n, one random u per stratum); all groups in the order of their
    places are then cut where the count of rows passes the fractions. So each side has its size to within one group, and
    every stratum is spread as evenly as that allows. A stratum with a single group goes to the front.

    Args:
        inputs: (N,) one key per row.
        strata: (N,) the stratum of each row (a group belongs to that of its first row).
        fractions: positive, adding up to 1.
        seed: what decides the shuffle.

    Returns:
        For each fraction the positions of its rows, ascending.
    """
    groups = numbered(inputs)
    seen = np.maximum.accumulate(groups)
    opens = np.flatnonzero(np.diff(seen, prepend=-1))  # the first row of each group
    stratum = numbered(strata[opens])
    members = np.split(np.argsort(stratum, kind="stable"), np.cumsum(np.bincount(stratum))[:-1])
    places = _places(members, len(opens), seed)
    sizes = np.bincount(groups, minlength=len(opens))
    order = np.argsort(places, kind="stable")
    middles = np.cumsum(sizes[order]) - sizes[order] / 2
    cuts = np.cumsum(np.asarray(fractions, float))[:-1] * len(groups)
    side_of = np.empty(len(opens), np.int64)
    side_of[order] = np.searchsorted(cuts, middles, side="right")
    return [np.flatnonzero(side_of[groups] == side) for side in range(len(fractions))]


def sides_of_uneven(inputs: Keys | Index, strata: Index, fractions: Sequence[float], *, seed: int) -> list[Index]:
    """As `sides`, for groups of very different sizes: what would fill half of the smallest side goes to the largest.

    So a side that is meant to be small has many groups, as far as the largest side has room.
    """
    groups = numbered(inputs)
    sizes = np.bincount(groups)
    largest, room = int(np.argmax(fractions)), max(fractions) * len(groups)
    taken = np.zeros(len(sizes), bool)
    for group in np.argsort(-sizes, kind="stable").tolist():
        fits = sizes[taken].sum() + sizes[group] <= room
        if sizes[group] <= min(fractions) * len(groups) / 2 or len(fractions) < 2:
            break
        taken[group] = fits
    rest, there = np.flatnonzero(~taken[groups]), np.flatnonzero(taken[groups])
    wanted = np.asarray(fractions, float) * len(groups)
    wanted[largest] = max(wanted[largest] - len(there), 0.0)
    if not len(rest):
        return [there if side == largest else there[:0] for side in range(len(fractions))]
    parts = sides(groups[rest], strata[rest], list(wanted / wanted.sum()), seed=seed)
    found = [rest[part] for part in parts]
    found[largest] = np.sort(np.concatenate([found[largest], there]))
    return found


def _places(members: Sequence[Index], count: int, seed: int) -> npt.NDArray[np.float64]:
    """The place of each group on the line from 0 to 1."""
    generator = np.random.Generator(np.random.Philox(seed))
    places = np.empty(count)
    for groups in members:  # in order of first appearance, so a function of the rows alone
        shuffled = generator.permutation(groups)
        offset = generator.random() if len(groups) > 1 else 0.0
        places[shuffled] = (np.arange(len(groups)) + offset) / len(groups)
    return places
