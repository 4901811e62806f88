"""How far two sequences are apart, in bits: one machine word, however long, holds a column of the table.

Letters: ``M`` and ``N`` elements of the two sequences. All functions take time O(N · M / 30) or so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import takewhile


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions that make one of the other (Myers 1999, Hyyrö 2003).

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    up, down = reduce(lambda _, column: column, _columns(first, second), (_all_ones(first), 0))
    return len(second) + up.bit_count() - down.bit_count()


def alignment(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[tuple[int | None, int | None]]:
    """Which elements stand for each other along the fewest edits that make one sequence of the other.

    Where several ways are as short it is jiwer's: what both begin and end with stands for itself; the rest is read from
    its end, and to leave an element of the first out goes before putting one of the second in, and that before taking
    one for another.

    Returns:
        Pairs of places, in order: without a second one of what is left out, without a first one of what is put in.

    Example:
        >>> alignment("the cat sat".split(), "cat sat down".split())
        [(0, None), (1, 0), (2, 1), (None, 2)]
    """
    before = _alike(zip(first, second, strict=False))
    rest = first[before:], second[before:]
    behind = _alike(zip(reversed(rest[0]), reversed(rest[1]), strict=False))
    i, j = len(first) - behind, len(second) - behind
    columns = list(_columns(first[before:i], second[before:j]))
    pairs: list[tuple[int | None, int | None]] = [(i + k, j + k) for k in reversed(range(behind))]
    while i > before or j > before:
        row, column = i - before - 1, j - before - 1
        if column < 0 or (row >= 0 and columns[column][0] >> row & 1):
            i -= 1
            pairs.append((i, None))
        elif row < 0 or (column and columns[column - 1][1] >> row & 1):
            j -= 1
            pairs.append((None, j))
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return [*((k, k) for k in range(before)), *reversed(pairs)]


def _alike(pairs: Iterable[tuple[Hashable, Hashable]]) -> int:
    """How many pairs are of two that are the same, before the first that is not."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _columns(first: Sequence[Hashable], second: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """After each element of the second, where its column of the table rises by one and where it falls by one."""
    places, all_ones = _places(first), _all_ones(first)
    up, down = all_ones, 0
    for element in second:
        same = places[element]
        vertical = same | down
        horizontal = (((same & up) + up) ^ up) | same
        rises = down | (all_ones & ~(horizontal | up))
        falls = up & horizontal
        rises, falls = (rises << 1) | 1, falls << 1
        up = (falls | ~(vertical | rises)) & all_ones
        down = rises & vertical & all_ones
        yield up, down


def _all_ones(sequence: Sequence[Hashable]) -> int:
    return (1 << len(sequence)) - 1


def common_length(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence (Hyyrö 2004).

    Example:
        >>> common_length("the cat sat".split(), "the dog sat".split())
        2
    """
    places, all_ones = _places(first), (1 << len(first)) - 1
    column = all_ones
    for element in second:
        hits = column & places[element]
        column = ((column + hits) | (column - hits)) & all_ones
    return len(first) - column.bit_count()


def _places(sequence: Sequence[Hashable]) -> dict[Hashable, int]:
    """For each element the bits of the places where it stands."""
    places: dict[Hashable, int] = defaultdict(int)
    for place, element in enumerate(sequence):
        places[element] |= 1 << place
    return places
