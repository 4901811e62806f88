"""How far two sequences are apart, in bits: one machine word, however long, holds a column of the table.

Letters: ``M`` and ``N`` elements of the two sequences. Both functions take time O(N · M / 30) or so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions that make one of the other (Myers 1999, Hyyrö 2003).

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    if not first:
        return len(second)
    places, all_ones = _places(first), (1 << len(first)) - 1
    last, distance = 1 << (len(first) - 1), len(first)
    up, down = all_ones, 0  # where the column rises and falls by one
    for element in second:
        same = places[element]
        vertical = same | down
        horizontal = (((same & up) + up) ^ up) | same
        rises = down | (all_ones & ~(horizontal | up))
        falls = up & horizontal
        distance += bool(rises & last) - bool(falls & last)
        rises, falls = (rises << 1) | 1, falls << 1
        up = (falls | ~(vertical | rises)) & all_ones
        down = rises & vertical & all_ones
    return distance


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
