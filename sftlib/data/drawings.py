"""Molecules as drawings, for tables in a notebook (extra ``chem``)."""

from __future__ import annotations

from typing import Any

from sftlib.data.alphabets import has_rdkit, molecule
from sftlib.support.display import Html


def drawn_molecule(smiles: str, *, width: int = 180, height: int = 120) -> Html | None:
    """A molecule as SVG; None for what is none, or where rdkit is not installed.

    Args:
        smiles: of the molecule.
        width: of the drawing, in pixels.
        height: of the drawing, in pixels.
    """
    found = molecule(smiles, purpose="drawing molecules") if has_rdkit() else None
    if found is None:
        return None
    from rdkit.Chem.Draw import rdMolDraw2D

    canvas: Any = rdMolDraw2D.MolDraw2DSVG(width, height)
    canvas.drawOptions().clearBackground = True  # black bonds must be seen in a dark notebook too
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, found)
    canvas.FinishDrawing()
    svg: str = canvas.GetDrawingText()
    return Html(svg[svg.index("<svg") :])
