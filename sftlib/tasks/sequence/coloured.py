"""A sequence with a colour for the label of each letter, and a mark where a prediction is not what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sftlib.errors import DataError
from sftlib.support.checking import raise_together

_LINE = 60  # letters


def coloured(
    letters: Sequence[str],
    labels: Sequence[str],
    *,
    names: Sequence[str],
    reference: Sequence[str | None] | None = None,
    mask: Sequence[object] | None = None,
    sure: Sequence[float] | None = None,
) -> str:
    """Lines of letters with their colours, and below them what each colour means.

    Args:
        letters: of the sequence.
        labels: of each letter.
        names: of all labels, in an order that decides their colours.
        reference: the label that each letter should have, None where that is not known: others are underlined.
        mask: ``1`` for letters that count; the others are grey and have no mark.
        sure: the probability of each label, 0 to 1: paler where it is less.

    Raises:
        DataError: not one label, reference or mark for each letter.
    """
    given = {"labels": labels, "reference": reference, "mask": mask, "probabilities": sure}
    raise_together(
        [
            f"{name}: {len(values)} of {len(letters)} letters"
            for name, values in given.items()
            if values is not None and len(values) != len(letters)
        ],
        DataError,
    )
    hue = {name: round(360 * place / len(names)) for place, name in enumerate(names)}
    cells = []
    for place, (letter, label) in enumerate(zip(letters, labels, strict=True)):
        counts = mask is None or str(int(mask[place])) == "1"  # type: ignore[call-overload]
        wanted = None if reference is None or not counts else reference[place]
        pale = 60 + 32 * (1 - (1.0 if sure is None else sure[place]))
        back = f"hsl({hue.get(label, 0)} 70% {pale:.0f}%)" if counts else "#ddd"
        odd = wanted is not None and wanted != label
        title = f"{place + 1} {letter}: {label}" + (f", not {wanted}" if odd else "")
        mark = "border-bottom:3px solid #c00" if odd else "border-bottom:3px solid transparent"
        cells.append(
            f'<span title="{escape(title)}" style="background:{back};color:#111;{mark}">{escape(letter)}</span>'
        )
    lines = ["".join(cells[start : start + _LINE]) for start in range(0, len(cells), _LINE)]
    key = " ".join(
        f'<span style="background:hsl({hue[name]} 70% 60%);color:#111;padding:0 .4em">{escape(name)}</span>'
        for name in names
    )
    wrong = "" if reference is None else ' <span style="border-bottom:3px solid #c00">not as expected</span>'
    return (
        f'<div style="font-family:monospace;line-height:1.7">{"<br>".join(lines)}'
        f'<div style="margin-top:.4em">{key}{wrong}</div></div>'
    )
