"""``python -m sftlib``: four verbs of `FineTuner` for people who do not write Python.

::

    python -m sftlib fit data.csv --text review --label sentiment
    python -m sftlib evaluate model test.csv --text review --label sentiment
    python -m sftlib predict model new.csv --text review --output answers.csv
    python -m sftlib report model test.csv --text review --label sentiment

    arguments.py  what may be written behind a verb, which is what the library itself takes
    files.py      files to rows, answers to files
    verbs.py      one function a verb

Names, checks and errors are those of the library: a role is ``--text COLUMN``, an option of the tuner ``--epochs 5``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sftlib.command.arguments import read_arguments
from sftlib.command.verbs import VERBS
from sftlib.errors import SftlibError

__all__ = ["main"]

_WRONG, _STOPPED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for.

    Args:
        arguments: words behind the name of the program; those of this process when None.

    Returns:
        The exit status: 0, or 2 for what the library refuses, with its message and without a traceback.
    """
    try:
        asked = read_arguments(sys.argv[1:] if arguments is None else arguments)
        VERBS[asked.verb](asked)
    except SftlibError as error:
        sys.stderr.write(f"{error}\n")
        return _WRONG
    except KeyboardInterrupt:
        return _STOPPED
    return 0
