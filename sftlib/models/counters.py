"""Random numbers from counters: hashes of (seed, step, row, position), which nothing that happened before can change.

The finaliser of splitmix64 (Steele et al., 2014), on tensors and on Python's own integers.
"""

from __future__ import annotations

from torch import Tensor

_MIX_1, _MIX_2 = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
_LOW_34_BITS, _LOW_37_BITS, _LOW_33_BITS = 2**34 - 1, 2**37 - 1, 2**33 - 1


def mix(keys: Tensor) -> Tensor:
    """The finaliser of splitmix64 on int64 tensors; the shifts are logical, hence the masks."""
    keys = keys ^ ((keys >> 30) & _LOW_34_BITS)
    keys = keys * _MIX_1
    keys = keys ^ ((keys >> 27) & _LOW_37_BITS)
    keys = keys * _MIX_2
    return keys ^ ((keys >> 31) & _LOW_33_BITS)


def mix_numbers(*numbers: int) -> int:
    """One signed 64-bit hash of a few integers: the same function, on Python's own numbers."""
    key = 0
    for number in numbers:
        key = (key + number + 0x1E3779B97F4A7C15) % 2**64
        key = ((key ^ (key >> 30)) * (_MIX_1 % 2**64)) % 2**64
        key = ((key ^ (key >> 27)) * (_MIX_2 % 2**64)) % 2**64
        key ^= key >> 31
    return key - 2**64 if key >= 2**63 else key


def fractions(keys: Tensor) -> Tensor:
    """Numbers from 0 to below 1, in double precision, one for each key."""
    return ((mix(keys) >> 11) & (2**53 - 1)).double() / 2**53
