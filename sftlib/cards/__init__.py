"""One page for a person who has to answer for a model.

::

    report.py    `FineTuner.report_card`: which parts, in which order
    parts.py     the parts: each a heading and what stands under it
    sounds.py    parts of sounds: rows to listen to, words that were misheard
    drawings.py  curves and bars as SVG, without any script
    page.py      the page around them: dark, light, narrow, printed
"""
