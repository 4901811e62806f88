"""How a raw text is cut into words: see `sftlib.data.words`, which readers of entities use too."""

from __future__ import annotations

from sftlib.data.words import SPLITTINGS, split_words, splitting_of

__all__ = ["SPLITTINGS", "split_words", "splitting_of"]
