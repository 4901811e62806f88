"""Why a model says what it says: which words, places or moments brought it there, and which rows taught it so.

::

    front.py        the name `explain`, which is called, and has `summary` and `examples`
    explaining.py   `explain`: one input, or many
    questions.py    which number of a model's answer is explained
    continued.py    that of language models: prompt and answer in one row
    speech.py       that of what is said in a sound: a text, or a word of it
    pieces.py       what an input is made of: words by their characters
    dials.py        a model with a dial for each piece of one input: 1 as it is, 0 taken away
    methods.py      integrated gradients, leaving out, gradient: of any function of dials
    faithful.py     whether an explanation explains: what happens without the pieces that it names, and without others
    explanation.py  what comes out; for a terminal, a notebook, a picture file
    sound.py        the same of sounds
    overview.py     `summary` over many rows, `examples` from training rows

Everything stands beside `FineTuner` and changes nothing of it.
"""

from __future__ import annotations

import sys

from sftlib.explain.explanation import Explanation, PictureExplanation, Word
from sftlib.explain.front import Called, explain
from sftlib.explain.overview import Examples, Summary, examples, summary
from sftlib.explain.sound import SoundExplanation

__all__ = [
    "Examples",
    "Explanation",
    "PictureExplanation",
    "SoundExplanation",
    "Summary",
    "Word",
    "examples",
    "explain",
    "summary",
]

sys.modules[__name__].__class__ = Called
