"""From whatever holds a sound to its samples: one channel, at the rate that a model hears.

Letters: ``S`` samples of a sound.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sftlib.data.pictures import UnreadableError
from sftlib.data.sounds import Length, Samples, length_of_value, sound_of
from sftlib.errors import DataError


def decode(value: Any, rate: int) -> Samples:
    """The samples of a sound: the mean of its channels, resampled by a polyphase filter where its rate is another.

    Args:
        value: a path, the bytes of a file, or ``{"array": samples, "sampling_rate": number}``, as a data set keeps it.
        rate: samples of a second that are wanted.

    Returns:
        (S,) float32, full scale at 1.

    Raises:
        DataError: it cannot be read; the message names the file.
        MissingExtraError: soundfile is not installed.

    Example:
        >>> decode({"array": np.zeros(8, np.float32) + 0.5, "sampling_rate": 8000}, 16000).shape
        (16,)
    """
    try:
        sound = sound_of(value)
    except UnreadableError as problem:
        raise _told(value, problem) from None
    return resampled(sound.samples, sound.rate, rate)


def samples_at(value: Any, rate: int) -> int:
    """How many samples `decode` makes of a sound, as its header says.

    Raises:
        DataError: it cannot be read; the message names the file.
    """
    return resampled_length(length_of(value), rate)


def length_of(value: Any) -> Length:
    """How long a sound is, as its header says.

    Raises:
        DataError: it cannot be read; the message names the file.
    """
    try:
        return length_of_value(value)
    except UnreadableError as problem:
        raise _told(value, problem) from None


def resampled(samples: Samples, own: int, rate: int) -> Samples:
    """Samples at another rate; the same ones where it is their own.

    Args:
        samples: (S,)
        own: their rate.
        rate: that is wanted.
    """
    if own == rate:
        return samples
    from scipy.signal import resample_poly  # type: ignore[import-untyped, unused-ignore]

    common = math.gcd(own, rate)
    made: Samples = resample_poly(samples, rate // common, own // common).astype(np.float32)
    return made


def resampled_length(length: Length, rate: int) -> int:
    """How many samples `resampled` makes of so many."""
    common = math.gcd(length.rate, rate)
    return -(-length.frames * (rate // common) // (length.rate // common))


def _told(value: Any, problem: UnreadableError) -> DataError:
    name = f"the sound {value!r}" if isinstance(value, str) else "a sound"
    note = f" ({problem.note})" if problem.note else ""
    return DataError(f"{name} is {problem.what}{note}: {problem.mend}")
