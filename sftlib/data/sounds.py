"""Opening sounds: whatever holds one in, samples out, or what is wrong with it.

libsndfile decodes, through the package `soundfile`. It passes over the end of a file that is cut off without a word, so
what a file says of its own length is compared with what is there.

Letters: ``S`` samples of a sound, ``C`` channels.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sftlib.data.pictures import UnreadableError
from sftlib.data.pictures import opened as opened_file
from sftlib.data.problems import brief
from sftlib.support.extras import require

Samples: TypeAlias = NDArray[np.float32]

SUFFIXES = frozenset(".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .snd .w64 .wav .wave".split())

_AGAIN = "copy it again from where it came, or drop these rows"
_CONVERT = "sounds are read as wav, flac, ogg, mp3 and aiff: convert it with another program, or drop these rows"
_SCALE = "scale it to numbers from -1 to 1"

_BLOCK = 2**20  # samples read at once
_CLIPPED = 0.01  # share of samples at full scale from which it is said
_LOUDEST = 8.0  # beyond it the samples are whole numbers that nobody has scaled
_RATES = (100, 1_000_000)
_FULL_SCALE = {"int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
_UNKNOWN = (0, 0xFFFFFFFF)  # lengths that writers to a pipe leave behind


class Facts(NamedTuple):
    """What is known of a sound that was read once.

    Attributes:
        digest: SHA-256 of its file.
        frames: samples of each channel.
        rate: samples of a second.
        remarks: what is not read as it stands, as clauses.
    """

    digest: bytes
    frames: int
    rate: int
    remarks: tuple[str, ...]


class Length(NamedTuple):
    """How long a sound is.

    Attributes:
        frames: samples of each channel.
        rate: samples of a second.
    """

    frames: int
    rate: int


class Sound(NamedTuple):
    """A decoded sound.

    Attributes:
        samples: (S,) float32, the mean of its channels; full scale is 1.
        rate: samples of a second.
    """

    samples: Samples
    rate: int


def soundfile() -> Any:
    """The module ``soundfile``.

    Raises:
        MissingExtraError: it is not installed.
    """
    return require("soundfile", extra="audio", purpose="reading sound")


def facts_of(source: IO[bytes] | bytes) -> Facts:
    """Read a sound from its beginning to its end.

    Raises:
        UnreadableError: it is none, not whole, silent, or holds no samples.
    """
    stream = BytesIO(source) if isinstance(source, bytes) else source
    digest = hashlib.file_digest(stream, "sha256").digest()  # type: ignore[arg-type]
    stream.seek(0)
    _check_whole(stream)
    with _decoding(stream) as file:
        heard = _Heard()
        for block in _blocks(file):
            heard.add(block)
        declared, rate, channels = int(file.frames), int(file.samplerate), int(file.channels)
    if heard.frames < declared < 2**62:
        raise UnreadableError(
            "a sound that ends too early", _AGAIN, f"{heard.frames:,} of the {declared:,} samples it declares"
        )
    heard.check()
    return Facts(digest, heard.frames, rate, remarks_of(channels, heard.clipped / heard.frames))


def length_of(source: IO[bytes] | bytes) -> Length:
    """How long a sound is, by its header.

    Raises:
        UnreadableError: it is none.
    """
    with _decoding(BytesIO(source) if isinstance(source, bytes) else source) as file:
        return Length(int(file.frames), int(file.samplerate))


def decoded(source: IO[bytes] | bytes) -> Sound:
    """A sound of one channel.

    Raises:
        UnreadableError: it is none, or damaged.
    """
    with _decoding(BytesIO(source) if isinstance(source, bytes) else source) as file:
        parts = [mono(block) for block in _blocks(file)]
        return Sound(np.concatenate(parts) if parts else np.empty(0, np.float32), int(file.samplerate))


def mono(channels: NDArray[np.float32]) -> Samples:
    """(S,) the mean of (S, C)."""
    return channels[:, 0].copy() if channels.shape[1] == 1 else channels.mean(axis=1, dtype=np.float32)


@contextmanager
def _decoding(stream: IO[bytes]) -> Iterator[Any]:
    """A file of which the header was read; whatever is wrong with it later is told as well."""
    beginning = stream.read(64)
    stream.seek(0)
    if not beginning:
        raise UnreadableError("an empty file", _AGAIN)
    module = soundfile()
    try:
        file = module.SoundFile(stream)
    except (module.LibsndfileError, TypeError, ValueError) as error:
        raise _not_opened(beginning, error) from None
    with file:
        try:
            yield file
        except module.LibsndfileError as error:
            raise UnreadableError("a damaged sound", _AGAIN, _said(error)) from None


def _not_opened(beginning: bytes, error: Exception) -> UnreadableError:
    """Why libsndfile could not open a file."""
    known = (b"RIFF", b"fLaC", b"OggS", b"FORM", b"ID3")
    if beginning.startswith(known):
        return UnreadableError("a damaged sound", _AGAIN, _said(error))
    what = "a file that is no sound, or of no format that is read"
    return UnreadableError(what, _CONVERT, f"it begins with {beginning[:8]!r}")


def _said(error: Exception) -> str:
    """What libsndfile says, without the name of the stream that it read."""
    return brief(str(getattr(error, "error_string", error)).rstrip("."), 60)


def _blocks(file: Any) -> Iterator[NDArray[np.float32]]:
    """(S, C) the samples, a limited number at a time."""
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        yield block


class _Heard:
    """What is found out about samples as they go by."""

    def __init__(self) -> None:
        self.frames = 0
        self.clipped = 0
        self._peak = 0.0
        self._finite = True

    def add(self, block: NDArray[np.float32]) -> None:
        """Take in (S, C) samples."""
        whole = mono(block)
        self.frames += len(whole)
        self._finite = self._finite and bool(np.isfinite(whole).all())
        if self._finite:
            self._peak = max(self._peak, float(np.abs(whole).max(initial=0.0)))
            self.clipped += int((np.abs(block) >= 1 - 2**-14).any(axis=1).sum())

    def check(self) -> None:
        """Complain about what nothing can be learned from.

        Raises:
            UnreadableError: saying what.
        """
        if not self.frames:
            raise UnreadableError("a sound without samples", "drop these rows")
        if not self._finite:
            raise UnreadableError(
                "a sound with samples that are no numbers (NaN or infinite)", "mend or drop these rows"
            )
        if not self._peak:
            raise UnreadableError("a silent sound", "drop these rows", f"{self.frames:,} samples, all of them 0")
        if self._peak > _LOUDEST:
            raise UnreadableError("a sound far beyond full scale", _SCALE, f"up to {self._peak:.6g}")


def remarks_of(channels: int, clipped: float) -> tuple[str, ...]:
    """What of a sound is not read as it stands, or was recorded too loud."""
    found = {
        "with several channels, of which the mean is taken": channels > 1,
        "clipped (a hundredth of the samples, or more, at full scale)": clipped >= _CLIPPED,
    }
    return tuple(remark for remark, holds in found.items() if holds)


# Whether a file is all there, where libsndfile would not say.


def _check_whole(stream: IO[bytes]) -> None:
    """Refuse a file that ends before it says it does.

    Raises:
        UnreadableError: it does.
    """
    beginning = stream.read(12)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    note = None
    if beginning[:4] == b"RIFF" and beginning[8:] == b"WAVE":
        note = _of_wave(stream, size)
    elif beginning[:4] == b"OggS":
        note = _of_ogg(stream, size)
    stream.seek(0)
    if note:
        raise UnreadableError("a sound that ends too early", _AGAIN, note)


def _of_wave(stream: IO[bytes], size: int) -> str | None:
    """What lacks of the samples that a WAV file declares."""
    place = 12
    while place + 8 <= size:
        stream.seek(place)
        name, length = struct.unpack("<4sI", stream.read(8))
        if name == b"data":
            there = size - place - 8
            return None if length in _UNKNOWN or there >= length else f"{there:,} of the {length:,} bytes it declares"
        place += 8 + length + length % 2
    return "it holds no samples" if place > size else None


def _of_ogg(stream: IO[bytes], size: int) -> str | None:
    """Whether the last page of an Ogg file says that it is the last."""
    stream.seek(max(0, size - 2**17))
    end = stream.read()
    place = end.rfind(b"OggS")
    page = end[place:] if place >= 0 else b""
    whole = len(page) > 26 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])  # segments, and their sizes
    return None if whole and page[5] & 4 else "its last page is not all there"


# Sounds that are no files.


def is_array(value: object) -> bool:
    """Whether it is a sound as ``{"array": ..., "sampling_rate": ...}``."""
    return isinstance(value, Mapping) and "array" in value


def sound_of_array(value: Mapping[str, Any]) -> tuple[Sound, tuple[str, ...]]:
    """The sound that an array holds, and what is to be said of it.

    Args:
        value: ``array`` (S,), (C, S) or (S, C) of floats from -1 to 1, or of int8, int16 or int32; and
            ``sampling_rate``. What else it holds is not looked at.

    Raises:
        UnreadableError: it holds none.
    """
    rate = value.get("sampling_rate")
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.number) or not _RATES[0] <= rate <= _RATES[1]:
        form = '{"array": samples, "sampling_rate": 16000}'
        found = "no sampling rate" if rate is None else f"the sampling rate {brief(rate)}"
        raise UnreadableError("an array without a sampling rate that can be", f"give {form}", found)
    channels = _channels(value["array"])
    heard = _Heard()
    heard.add(channels)
    heard.check()
    return Sound(mono(channels), int(rate)), remarks_of(channels.shape[1], heard.clipped / heard.frames)


def _channels(given: Any) -> NDArray[np.float32]:
    """(S, C) float32 samples of an array.

    Raises:
        UnreadableError: it is no array of samples.
    """
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):
        array = np.empty((0, 0, 0))
    found = f"{array.dtype} of shape {array.shape}"
    if array.ndim not in (1, 2):
        raise UnreadableError("an array of another shape than (samples,)", "give one number for each sample", found)
    if array.dtype.kind == "f":
        samples = array.astype(np.float32)
    elif array.dtype.name in _FULL_SCALE:
        samples = (array / _FULL_SCALE[array.dtype.name]).astype(np.float32)
    else:
        raise UnreadableError("an array of other numbers than floats", _SCALE, found)
    if samples.ndim == 1:
        return samples[:, None]
    return samples if samples.shape[1] <= samples.shape[0] else samples.T  # channels are fewer than samples


def sound_of(value: Any) -> Sound:
    """The sound in a value of a data set: a path, the bytes of a file, or an array with its rate.

    Raises:
        UnreadableError: it cannot be read any more.
    """
    if is_array(value):
        return sound_of_array(value)[0]
    if isinstance(value, str):
        with opened_sound(value) as stream:
            return decoded(stream)
    return decoded(bytes(value))


def length_of_value(value: Any) -> Length:
    """How long the sound in a value of a data set is.

    Raises:
        UnreadableError: it cannot be read any more.
    """
    if is_array(value):
        return Length(len(value["array"]), int(value["sampling_rate"]))
    if isinstance(value, str):
        with opened_sound(value) as stream:
            return length_of(stream)
    return length_of(bytes(value))


def digest_of_value(value: Any) -> bytes:
    """SHA-256 of the file, of the bytes, or of the samples with their rate.

    Raises:
        UnreadableError: the file is not there any more.
    """
    if is_array(value):
        samples = np.ascontiguousarray(value["array"], np.float32)
        return hashlib.sha256(repr((samples.shape, int(value["sampling_rate"]))).encode() + samples.tobytes()).digest()
    if isinstance(value, str):
        with opened_sound(value) as stream:
            return hashlib.file_digest(stream, "sha256").digest()  # type: ignore[arg-type]
    return hashlib.sha256(value).digest()


@contextmanager
def opened_sound(path: str) -> Iterator[IO[bytes]]:
    """A file that is one, open for reading.

    Raises:
        UnreadableError: there is none, or it cannot be opened; pipes and devices are never opened.
    """
    with opened_file(path) as (stream, _):
        yield stream
