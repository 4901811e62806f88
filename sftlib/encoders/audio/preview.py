"""What a model hears of a sound, for people to look at and to listen to."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib
from dataclasses import dataclass
from html import escape
from typing import final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.sounds import Samples

_WIDTH, _WAVE, _BANDS, _LINE = 600, 70, 80, 15  # of the drawing, in pixels
_HEIGHT = 80  # of the waveform alone
_MARKS = " .:-=+*#%@"  # from soft to loud
_WINDOW, _FLOOR = 0.025, 70.0  # seconds that a spectrum is taken of; decibels below the loudest that are shown
_COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # from soft to loud

Mark = tuple[float, float, str]


@final
@dataclass(frozen=True, eq=False)
class SoundPreview:
    """A sound as a model hears it: one channel, at its rate.

    As a text its length, its strength, what is said of it and how loud it is over time; in a notebook a waveform, a
    spectrogram and a player.

    Attributes:
        samples: (S,) full scale at 1.
        rate: samples of a second.
        shape: of what the feature extractor makes of it; empty where none was asked.
        label: what is said of it, or what it says.
        marks: lines of (start, end, text) in seconds, drawn over it: one line above, one below.
    """

    samples: Samples
    rate: int
    shape: tuple[int, ...]
    label: str = ""
    marks: tuple[tuple[Mark, ...], ...] = ()

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def __repr__(self) -> str:
        peak = float(np.abs(self.samples).max(initial=0.0))
        facts = f"{self.seconds:.2f} s at {self.rate:,} Hz, up to {peak:.2f} of full scale{self._read}"
        said = f"\n{self.label}" if self.label else ""
        words = "".join(f"\n{start:6.2f} to {end:5.2f} s  {text}" for start, end, text in self._words)
        return f"{facts}{said}\n|{self.loudness()}|{words}"

    @property
    def _read(self) -> str:
        return f", read as {self.shape}" if self.shape else ""

    @property
    def _words(self) -> tuple[Mark, ...]:
        return self.marks[0] if self.marks else ()

    def loudness(self, columns: int = 60) -> str:
        """A character for each stretch of time, the darker the louder."""
        parts = np.array_split(self.samples, min(columns, max(1, len(self.samples))))
        loud = np.array([float(np.sqrt(np.mean(np.square(part)))) if len(part) else 0.0 for part in parts])
        steps = (loud / max(float(loud.max(initial=0.0)), 1e-9) * (len(_MARKS) - 1)).round().astype(int)
        return "".join(_MARKS[step] for step in steps)

    def _repr_html_(self) -> str:
        facts = f"{self.seconds:.2f} s at {self.rate:,} Hz{self._read}"
        said = f"<b>{escape(self.label)}</b><br>" if self.label else ""
        return f"<figure>{self.drawing()}<br>{self.player}<figcaption>{said}{facts}</figcaption></figure>"

    @property
    def player(self) -> str:
        """HTML: a player that holds the sound itself, in 16 bits."""
        stream = io.BytesIO()
        with wave.open(stream, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.rate)
            file.writeframes(np.round(np.clip(self.samples, -1, 1) * 32767).astype("<i2").tobytes())
        content = base64.b64encode(stream.getvalue()).decode()
        return f'<audio controls preload="none" src="data:audio/wav;base64,{content}"></audio>'

    def drawing(self) -> str:
        """The waveform, the spectrogram under it, a line of time, and what is marked."""
        above = _LINE if self._words else 0
        below = _LINE if len(self.marks) > 1 else 0
        bottom = above + _WAVE + _BANDS
        parts = [
            f'<path d="{self._path(above + _WAVE / 2, _WAVE)}" stroke="currentColor" fill="none"/>',
            f'<image x="0" y="{above + _WAVE}" width="{_WIDTH}" height="{_BANDS}" preserveAspectRatio="none" '
            f'href="data:image/png;base64,{base64.b64encode(_png(self._spectrogram())).decode()}"/>',
        ]
        for line, (marks, y) in enumerate(zip(self.marks, (above - 3, bottom + below - 3), strict=False)):
            top, height = (0, bottom) if line == 0 else (above + _WAVE, _BANDS)
            for start, end, text in marks:
                left, right = self._at(start), self._at(end)
                parts.append(
                    f'<rect x="{left:.1f}" y="{top}" width="{max(1.0, right - left):.1f}" height="{height}" '
                    f'fill="#f5a25d" opacity=".22"/><text x="{(left + right) / 2:.1f}" y="{y}" font-size="12" '
                    f'text-anchor="middle" fill="currentColor">{escape(text)}</text>'
                )
        parts += self._ticks(bottom + below)
        name = f"waveform and spectrogram{f' of {self.label}' if self.label else ''}"
        return (
            f'<svg viewBox="0 0 {_WIDTH} {bottom + below + _LINE}" width="{_WIDTH}" style="max-width:100%" role="img" '
            f'aria-label="{escape(name)}">{"".join(parts)}</svg>'
        )

    def waveform(self, behind: str = "") -> str:
        """From the lowest to the highest sample of every stretch of time, as SVG 600 wide and 80 high.

        Args:
            behind: shapes that are drawn first.
        """
        return (
            f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" style="max-width:100%" '
            f'role="img" aria-label="waveform">{behind}'
            f'<path d="{self._path(_HEIGHT / 2, _HEIGHT)}" stroke="currentColor" fill="none"/></svg>'
        )

    def _at(self, second: float) -> float:
        return min(float(_WIDTH), _WIDTH * second / max(self.seconds, 1e-9))

    def _ticks(self, y: int) -> list[str]:
        step = next((step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60) if self.seconds / step <= 10), 600)
        places = np.arange(0, self.seconds, step)
        return [
            f'<path d="M{self._at(place):.1f} {y}v3" stroke="currentColor"/><text x="{self._at(place) + 2:.1f}" '
            f'y="{y + 11}" font-size="10" fill="currentColor">{place:g} s</text>'
            for place in places.tolist()
        ]

    def _path(self, middle: float, height: float) -> str:
        """From the lowest to the highest sample of every stretch of time, around a line."""
        parts = [part for part in np.array_split(self.samples, min(_WIDTH, max(1, len(self.samples)))) if len(part)]
        wide, tall = _WIDTH / max(1, len(parts)), height / 2
        return "".join(
            f"M{(x + 0.5) * wide:.1f} {middle - tall * float(part.max()):.1f}"
            f"V{middle - tall * float(part.min()) + 0.5:.1f}"
            for x, part in enumerate(parts)
        )

    def _spectrogram(self) -> NDArray[np.uint8]:
        """(bands, columns) how loud each band is at each time, in decibels, 255 the loudest; high bands above."""
        width = max(16, round(_WINDOW * self.rate))
        padded = np.pad(self.samples, (width // 2, width))
        columns = int(np.clip(len(self.samples) // (width // 4), 1, _WIDTH))
        starts = np.linspace(0, max(0, len(self.samples) - 1), columns).astype(int)
        frames = np.stack([padded[start : start + width] for start in starts]) * np.hanning(width)
        power = np.abs(np.fft.rfft(frames, axis=1)) ** 2  # (columns, bins)
        edges = np.arange(_BANDS + 1) * (power.shape[1] - 1) // _BANDS
        sums = np.add.reduceat(power[:, 1:], edges[:-1], axis=1).T  # (bands, columns)
        loud = 10 * np.log10(np.maximum(sums / np.maximum(1, np.diff(edges))[:, None], 1e-12))
        shown = np.clip((loud - loud.max() + _FLOOR) / _FLOOR, 0, 1)
        found: NDArray[np.uint8] = np.round(255 * shown[::-1]).astype(np.uint8)
        return found


def _png(values: NDArray[np.uint8]) -> bytes:
    """(height, width) numbers as a picture with a palette (PNG, colour type 3)."""
    height, width = values.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), values], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", head), (b"PLTE", _palette()), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def _palette() -> bytes:
    """256 colours from dark to bright, that differ in brightness too."""
    steps, places = np.linspace(0, len(_COLOURS) - 1, 256), range(len(_COLOURS))
    channels = [np.interp(steps, places, [colour[i] for colour in _COLOURS]) for i in range(3)]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8).tobytes()
