"""Sounds that are heard a little differently in every epoch: pure functions of a sound and a `Draw`.

Each augmentation is a frozen value, and all that it draws comes from a generator of its own name, so that one that is
added or left out does not change the others. Some change samples; others what a feature extractor made of them.

Letters: ``S`` samples, ``T`` lines of a spectrogram, ``M`` its bands.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.problems import brief, listed
from sftlib.data.sounds import SUFFIXES, Samples
from sftlib.encoders.audio.decode import decode, resampled
from sftlib.encoders.draws import Draw
from sftlib.errors import OptionError
from sftlib.support.checking import checked_fields, choice, raise_together, real_number, whole_number

_WINDOW = "window"
_STEPS = 100  # of one: how finely a speed is resolved


class Axes(NamedTuple):
    """Where time and pitch lie in what a feature extractor makes.

    Attributes:
        time: the axis along which time passes.
        bands: the axis along which the bands of a spectrogram lie; None where there are samples.
    """

    time: int
    bands: int | None


class Augmentation(ABC):
    """One way of hearing a sound differently: a frozen value whose options are its fields."""

    #: The name under which it draws; two of one name would draw the same numbers.
    use: ClassVar[str]

    @property
    def shortest(self) -> float:
        """The smallest share of its length that a sound may be left with."""
        return 1.0


class SampleAugmentation(Augmentation):
    """One that changes samples."""

    @abstractmethod
    def of_samples(self, samples: Samples, draw: Draw, *, rate: int) -> Samples:
        """The sound as it is heard; what went in is not changed.

        Args:
            samples: (S,) full scale at 1.
            draw: of its row and epoch.
            rate: samples of a second.
        """


class FeatureAugmentation(Augmentation):
    """One that changes what a feature extractor made."""

    @abstractmethod
    def of_features(self, values: NDArray[np.float32], draw: Draw, *, axes: Axes) -> NDArray[np.float32]:
        """The values as the model reads them; what went in is not changed.

        Args:
            values: (S,) samples, or a spectrogram.
            draw: of its row and epoch.
            axes: where time and bands lie.
        """


def window_of(samples: Samples, count: int, draw: Draw) -> Samples:
    """A part of a sound that is as long as asked for, anywhere in it; all of it where it is no longer.

    Example:
        >>> window_of(np.arange(9, dtype=np.float32), 9, Draw(0, 0, 0)).tolist() == list(range(9))
        True
        >>> len(window_of(np.arange(9, dtype=np.float32), 4, Draw(0, 0, 0)))
        4
    """
    room = len(samples) - count
    if room <= 0:
        return samples
    start = int(draw.generator(_WINDOW).integers(room + 1))
    return samples[start : start + count]


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class Gain(SampleAugmentation):
    """Louder or softer.

    Args:
        decibels: the most by which it changes, either way.

    Raises:
        OptionError: no number from 0 to 60.
    """

    decibels: float = 6.0
    use: ClassVar[str] = "gain"

    def __post_init__(self) -> None:
        raise_together([real_number("decibels", self.decibels, 0, 60, expected="a number from 0 to 60")])

    def of_samples(self, samples: Samples, draw: Draw, *, rate: int) -> Samples:
        change = draw.generator(self.use).uniform(-self.decibels, self.decibels)
        return samples * np.float32(10 ** (change / 20))


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class Speed(SampleAugmentation):
    """Faster or slower, and with that higher or lower, by resampling (Ko et al., 2015).

    Args:
        factors: of which one is drawn; 1.1 is a tenth faster.

    Raises:
        OptionError: factors that are not from 0.5 to 2.

    Example:
        >>> len(Speed(factors=(1.25,)).of_samples(np.ones(100, np.float32), Draw(0, 0, 0), rate=16_000))
        80
    """

    factors: tuple[float, ...] = (0.9, 1.0, 1.1)
    use: ClassVar[str] = "speed"

    def __post_init__(self) -> None:
        given = self.factors if isinstance(self.factors, tuple) and self.factors else (math.nan,)
        expected = "numbers from 0.5 to 2, such as (0.9, 1.0, 1.1)"
        wrong = next((f for f in given if real_number("factors", f, 0.5, 2, expected=expected)), None)
        raise_together([None if wrong is None else f"factors={self.factors!r:.60}: expected {expected}"])

    @property
    def shortest(self) -> float:
        return 1 / max(self.factors)

    def of_samples(self, samples: Samples, draw: Draw, *, rate: int) -> Samples:
        factor = self.factors[int(draw.generator(self.use).integers(len(self.factors)))]
        return resampled(samples, round(_STEPS * factor), _STEPS)


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class Noise(SampleAugmentation):
    """Another sound in the background: a part of one of the files in a folder.

    Args:
        folder: of sounds, and of folders of them.
        snr: the smallest and the largest number of decibels by which the sound is louder than the noise.
        p: how often, from 0 to 1.

    Raises:
        OptionError: values that cannot be, or a folder without sounds.
    """

    folder: str | os.PathLike[str]
    snr: tuple[float, float] = (5.0, 20.0)
    p: float = 0.5
    use: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        good = isinstance(self.snr, tuple) and len(self.snr) == 2 and -20 <= self.snr[0] <= self.snr[1] <= 100
        raise_together(
            [
                None
                if good
                else f"snr={self.snr!r:.60}: expected two numbers of decibels in rising order: (5.0, 20.0)",
                real_number("p", self.p, 0, 1, expected="a number from 0 to 1"),
            ]
        )
        if not self._files():
            raise OptionError(f"folder={os.fspath(self.folder)!r}: there are no sounds in it")

    def _files(self) -> list[str]:
        """Every sound in the folder, sorted, so that a number means the same file on every machine."""
        found = Path(self.folder).expanduser().rglob("*")
        return sorted(str(file) for file in found if file.suffix.lower() in SUFFIXES and file.is_file())

    def of_samples(self, samples: Samples, draw: Draw, *, rate: int) -> Samples:
        numbers = draw.generator(self.use)
        if numbers.random() >= self.p:
            return samples
        files = self._files()
        noise = decode(files[int(numbers.integers(len(files)))], rate)
        start = int(numbers.integers(max(1, len(noise) - len(samples) + 1)))
        part = np.resize(noise[start:], len(samples)) if len(noise) else np.zeros_like(samples)
        strength = _power(samples) / max(_power(part), 1e-12) / 10 ** (numbers.uniform(*self.snr) / 10)
        return samples + part * np.float32(math.sqrt(strength))


def _power(samples: Samples) -> float:
    """The mean of the squares."""
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class Mask(FeatureAugmentation):
    """Stretches of time, and of spectrograms bands of pitch, are silenced (Park et al., 2019).

    Args:
        spans: how many stretches of time.
        share: the most that one of them takes of the whole.
        bands: how many bands.
        band_share: the most that one of them takes of all bands.

    Raises:
        OptionError: values that cannot be.
    """

    spans: int = 2
    share: float = 0.1
    bands: int = 2
    band_share: float = 0.15
    use: ClassVar[str] = "mask"

    def __post_init__(self) -> None:
        shares = [
            real_number(name, getattr(self, name), 0, 1, expected="a number from 0 to 1")
            for name in ("share", "band_share")
        ]
        counts = [whole_number(name, getattr(self, name), at_least=0, at_most=1000) for name in ("spans", "bands")]
        raise_together([*counts, *shares])

    def of_features(self, values: NDArray[np.float32], draw: Draw, *, axes: Axes) -> NDArray[np.float32]:
        numbers, masked = draw.generator(self.use), values.copy()
        _silence(masked, axes.time, self.spans, self.share, numbers)
        if axes.bands is not None:
            _silence(masked, axes.bands, self.bands, self.band_share, numbers)
        return masked


def _silence(values: NDArray[np.float32], axis: int, spans: int, share: float, numbers: np.random.Generator) -> None:
    """Put 0, which extractors make the mean or nearly so, into stretches along an axis."""
    along = np.moveaxis(values, axis, 0)
    for _ in range(spans):
        width = int(numbers.uniform(0, share) * len(along))
        start = int(numbers.integers(len(along) - width + 1))
        along[start : start + width] = 0


_LIGHT = (Gain(), Mask(spans=1, share=0.05, bands=1, band_share=0.1))
PRESETS: Mapping[str, tuple[Augmentation, ...]] = MappingProxyType(
    {"none": (), "light": _LIGHT, "medium": (Speed(), Gain(), Mask())}
)


def augmentations(given: object, *, option: str = "augment") -> tuple[Augmentation, ...]:
    """What a user wrote: the name of a preset, one augmentation, or several in their order.

    Raises:
        OptionError: anything else, or two that would draw the same numbers.

    Example:
        >>> augmentations("medium")[0]
        Speed(factors=(0.9, 1.0, 1.1))
    """
    if isinstance(given, str):
        raise_together([choice(option, given, PRESETS)])
        return PRESETS[given]
    steps = tuple(given) if isinstance(given, list | tuple) else (given,)
    if wrong := [step for step in steps if not isinstance(step, Augmentation)]:
        known = ", ".join(map(repr, PRESETS))
        raise OptionError(f"{option}={brief(wrong[0])}: expected one of {known}, an Augmentation, or a list of them")
    twice = [use for use, count in Counter(step.use for step in steps).items() if count > 1]
    if twice:
        raise OptionError(f"{option}: {listed(twice)} twice, which would draw the same numbers; give it once")
    return steps
