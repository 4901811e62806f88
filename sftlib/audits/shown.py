"""Inputs of rows as people look at them, or listen to them, in tables of HTML that load nothing."""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from html import escape
from typing import Any, Final, final

from sftlib.data.dataset import TaskDataset
from sftlib.data.kinds.media import ImageRole
from sftlib.data.kinds.sounds import AudioRole
from sftlib.data.pictures import pillow
from sftlib.data.pixels import decode as seen
from sftlib.encoders.audio.decode import decode as heard
from sftlib.encoders.audio.preview import SoundPreview
from sftlib.errors import DataError
from sftlib.support.display import Html

_SIDE, _RATE, _SECONDS = 96, 16_000, 10  # pixels; samples of a second; of a sound that are kept


class Shown(ABC):
    """How an input is shown."""

    @abstractmethod
    def html(self, value: Any) -> Html:
        """An input as a cell."""


@final
class AsText(Shown):
    """In words, as many as there is room for.

    Args:
        width: characters.
    """

    def __init__(self, width: int = 160) -> None:
        self._width = width

    def html(self, value: Any) -> Html:
        return Html(escape(" ".join(str(value).split())[: self._width]))


@final
class AsPicture(Shown):
    """As a small picture."""

    def html(self, value: Any) -> Html:
        image = pillow().fromarray(seen(value))
        image.thumbnail((_SIDE, _SIDE))
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return Html(f'<img alt="{_name(value)}" src="data:image/png;base64,{_text(stream.getvalue())}">')


@final
class AsSound(Shown):
    """As a player of its first seconds."""

    def html(self, value: Any) -> Html:
        samples = heard(value, _RATE)[: _SECONDS * _RATE]
        return Html(SoundPreview(samples, _RATE, samples.shape).player)


@final
class IfReadable(Shown):
    """As another shows it; where a file cannot be read any more, with what is wrong with it.

    Args:
        other: how it is shown.
    """

    def __init__(self, other: Shown) -> None:
        self._other = other

    def html(self, value: Any) -> Html:
        try:
            return self._other.html(value)
        except DataError as error:
            return Html(escape(str(error)))


TEXT: Final = AsText()


def shown_as(data: TaskDataset) -> Shown:
    """How the inputs of a data set are shown."""
    kinds = [data.kinds[role] for role in data.inputs]
    if len(kinds) == 1 and isinstance(kinds[0], ImageRole):
        return IfReadable(AsPicture())
    if len(kinds) == 1 and isinstance(kinds[0], AudioRole):
        return IfReadable(AsSound())
    return TEXT


def _name(value: Any) -> str:
    return escape(str(value)[-60:]) if isinstance(value, str) else "a picture"


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
