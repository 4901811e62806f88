"""Files of sounds, whole and broken, made on the spot."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def tone(seconds: float = 0.5, *, rate: int = 16_000, pitch: float = 300.0, strength: float = 0.4) -> Samples:
    """A sine."""
    return (strength * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def saved(samples: NDArray[Any], *, rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """The bytes of a file."""
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
    return stream.getvalue()


def _with_nan() -> bytes:
    samples = tone()
    samples[7] = np.nan
    return saved(samples, subtype="FLOAT")


#: name -> a file that cannot be used, and what is said of it
BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.wav": (lambda: b"", "an empty file"),
    "nothing.wav": (lambda: saved(tone()[:0]), "a sound without samples"),
    "silent.flac": (lambda: saved(tone() * 0, kind="FLAC"), "a silent sound"),
    "nan.wav": (_with_nan, "a sound with samples that are no numbers"),
    "cut.wav": (lambda: saved(tone())[:9000], "a sound that ends too early"),
    "cut.ogg": (lambda: (whole := saved(tone(2), kind="OGG"))[: len(whole) * 2 // 3], "a sound that ends too early"),
    "text.wav": (lambda: b"not a sound at all, but a text", "a file that is no sound"),
    "header.flac": (lambda: saved(tone(), kind="FLAC")[:30], "a damaged sound"),
    "loud.wav": (lambda: saved(tone() * 20_000, subtype="FLOAT"), "a sound far beyond full scale"),
}
