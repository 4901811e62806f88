"""Curves and bars as SVG: no script, and the colours of the page in the dark and in the light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 36
_COLOURS = ("var(--for)", "var(--against)", "var(--soft)")
_DASHES = ("", "5 3", "2 3")
Points = Sequence[tuple[float, float]]


def curves(
    title: str,
    series: Mapping[str, Points],
    *,
    across: str,
    unit: bool = False,
    diagonal: bool = False,
    level: float | None = None,
    dots: bool = False,
) -> str:
    """Lines over one axis each; told apart by dashes too.

    Args:
        title: what is shown.
        series: name -> points.
        across: what the horizontal axis counts.
        unit: whether both axes run from 0 to 1.
        diagonal: whether to draw where both are equal.
        level: a height to mark.
        dots: whether to mark the points.
    """
    filled = {name: points for name, points in series.items() if len(points)}
    values = np.array([point for points in filled.values() for point in points] or [(0.0, 0.0)])
    (left, low), (right, high) = ((0.0, 0.0), (1.0, 1.0)) if unit else (values.min(axis=0), values.max(axis=0))
    if not unit:
        low, high = min(low, 0.0) if low < 0.4 * high else low, high
    wide, tall = max(right - left, 1e-9), max(high - low, 1e-9)

    def at(x: float, y: float) -> tuple[float, float]:
        inside = (x - left) / wide, (y - low) / tall
        return (
            _LEFT + inside[0] * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - inside[1] * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [_axes(left, right, low, high, at, across)]
    if diagonal:
        parts.append(_line([at(0, 0), at(1, 1)], "var(--line)", ""))
    if level is not None and low <= level <= high:
        parts.append(_line([at(left, level), at(right, level)], "var(--soft)", "2 3"))
    for number, (name, points) in enumerate(filled.items()):
        colour, dash = _COLOURS[number % 3], _DASHES[number % 3]
        placed = [at(x, y) for x, y in points]
        parts.append(_line(placed, colour, dash))
        if dots or len(placed) == 1:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        place = _LEFT + 4 + number * 120
        parts.append(_line([(place, 14), (place + 18, 14)], colour, dash))
        parts.append(f'<text x="{place + 23}" y="18">{escape(name)}</text>')
    return _svg(title, parts)


def bars(title: str, values: Mapping[str, tuple[float, float, float]]) -> str:
    """Horizontal bars from 0 to 1, with an interval each.

    Args:
        title: what is shown.
        values: name -> value, low, high.
    """
    row, wide = 20, _WIDTH - 190
    parts = []
    for number, (name, (value, low, high)) in enumerate(values.items()):
        y = 8 + number * row
        parts.append(f'<text x="132" y="{y + 11}" text-anchor="end">{escape(name[:20])}</text>')
        parts.append(
            f'<rect x="138" y="{y + 2}" width="{wide * value:.1f}" height="11" rx="2" fill="var(--for)" opacity=".75"/>'
        )
        parts.append(_line([(138 + wide * low, y + 7.5), (138 + wide * high, y + 7.5)], "var(--ink)", ""))
        parts.append(f'<text x="{_WIDTH - 4}" y="{y + 11}" text-anchor="end">{value:.3f}</text>')
    return _svg(title, parts, height=16 + row * len(values))


def _svg(title: str, parts: Sequence[str], *, height: int = _HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg><figcaption>{escape(title)}</figcaption>"
    )


def _line(points: Sequence[tuple[float, float]], colour: str, dash: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dashed}/>'


def _axes(left: float, right: float, low: float, high: float, at: object, across: str) -> str:
    assert callable(at)
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = low + share * (high - low)
        x, y = at(left, value)
        end, _ = at(right, value)
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{end:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for share in (0.0, 0.5, 1.0):
        value = left + share * (right - left)
        x, y = at(value, low)
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{y + 15:.1f}" text-anchor="{anchor}">{value:.4g}</text>')
    middle, base = at((left + right) / 2, low)
    parts.append(f'<text x="{middle:.1f}" y="{base + 30:.1f}" text-anchor="middle">{escape(across)}</text>')
    return "".join(parts)
