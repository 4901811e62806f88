"""Sounds, by path or as they are, identified by what they hold and not by where they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np

from sftlib.data.kinds.base import DROP_OR_FILL, is_missing, kind_of
from sftlib.data.kinds.filed import FiledRole
from sftlib.data.kinds.stamped import stamp_of, unwrapped
from sftlib.data.kinds.values import Fault
from sftlib.data.pictures import UnreadableError, path_of
from sftlib.data.sounds import (
    Facts,
    Length,
    digest_of_value,
    facts_of,
    is_array,
    length_of_value,
    opened_sound,
    sound_of_array,
)

_FORM = 'give a path, bytes, or {"array": samples, "sampling_rate": 16000}'


@final
class AudioRole(FiledRole):
    r"""A sound in every row: a path, the bytes of a file, or ``{"array": samples, "sampling_rate": 16000}``.

    Every sound is decoded to its end before it passes, in threads. Paths become absolute; what the file holds is its
    identity, so that a copy of it is the same sound.

    Args:
        folder: what relative paths start from; None for the working directory.
        seen: what is known of files and bytes that were read; None to forget it. `bound` makes one for a data set.

    Example:
        >>> print(*AudioRole().check([None, b""]).lines("audio"), sep="\n")
        audio: 1 row with a missing value: row 0; drop these rows or fill them in
        audio: 1 row with an empty file: row 1 (0 bytes); copy it again from where it came, or drop these rows
        >>> AudioRole().identity(b"a") == AudioRole().identity(b"b")
        False
    """

    measure = "milliseconds"
    thing = "sound"

    def _looking(self) -> Callable[[object], Fault | None]:
        return self._fault

    def _fault(self, value: object) -> Fault | None:
        """What is wrong with one value."""
        value = unwrapped(value)
        if is_missing(value) or (isinstance(value, str) and not value):
            return Fault("a missing value", None, DROP_OR_FILL)
        if isinstance(value, np.ndarray | list | tuple):
            return Fault("an array without its sampling rate", None, _FORM)
        try:
            if is_array(value):
                sound_of_array(value)  # type: ignore[arg-type]
            elif isinstance(value, str | os.PathLike):
                self._of_file(path_of(value, self._folder))
            elif isinstance(value, bytes | bytearray | memoryview):
                self._of_bytes(bytes(value))
            else:
                return Fault(f"{kind_of(value)} instead of a sound", None, _FORM)
        except UnreadableError as problem:
            return self._unreadable(value, problem)
        return None

    def _of_file(self, path: str) -> Facts:
        """What is known of a file, which is read if it was not read before or has changed."""
        seen: dict[Any, Facts] = {} if self._seen is None else self._seen
        stamp = stamp_of(path)
        if stamp is not None and stamp in seen:
            return seen[stamp]
        with opened_sound(path) as stream:
            facts = facts_of(stream)
        if stamp is not None:
            seen[stamp] = facts
        return facts

    def _of_bytes(self, content: bytes) -> Facts:
        seen: dict[Any, Facts] = {} if self._seen is None else self._seen
        digest = hashlib.sha256(content).digest()
        if digest not in seen:
            seen[digest] = facts_of(content)
        return seen[digest]

    def normalise(self, values: Sequence[object]) -> list[object]:
        """Absolute paths, bytes, and arrays of one channel that nobody else holds."""
        return [self._plain(unwrapped(value)) for value in values]

    def _plain(self, value: Any) -> object:
        if isinstance(value, str | os.PathLike):
            return path_of(value, self._folder)
        if not is_array(value):
            return bytes(value)
        sound, _ = sound_of_array(value)
        sound.samples.flags.writeable = False
        return {"array": sound.samples, "sampling_rate": sound.rate}

    def identity(self, value: object) -> bytes:
        """SHA-256 of the file, of the bytes, or of the samples; of a file that did not change it is worked out once.

        Raises:
            DataError: the file is not there any more, or is no sound any more.
        """
        found: bytes = self._asked(
            lambda: self._of_file(value).digest if isinstance(value, str) else digest_of_value(value), value
        )
        return found

    def size(self, value: object) -> int:
        """Milliseconds."""
        length: Facts | Length = self._asked(
            lambda: self._of_file(value) if isinstance(value, str) else length_of_value(value), value
        )
        return round(1000 * length.frames / length.rate)

    def _asked(self, ask: Any, value: object) -> Any:
        try:
            return ask()
        except UnreadableError as problem:
            raise self._gone(value, problem) from None

    def comparable(self, value: object) -> bytes:
        """The same for two sounds that hold the same."""
        return self.identity(value)

    def _remarks(self, value: object) -> tuple[str, ...]:
        if isinstance(value, Mapping):
            return ()  # of several channels nothing is left to see here
        facts: Facts = self._asked(
            lambda: self._of_file(value) if isinstance(value, str) else self._of_bytes(value),  # type: ignore[arg-type]
            value,
        )
        return facts.remarks
