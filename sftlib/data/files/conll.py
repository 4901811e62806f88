"""Words in columns: one word a line, an empty line after each sentence, as the CoNLL tasks have them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias, final

from sftlib.data.files.packed import size_of
from sftlib.data.files.paths import BadLines, existing, opened, with_mark
from sftlib.data.files.spool import BLOCK, sink_for
from sftlib.data.files.tables import Table
from sftlib.data.problems import brief
from sftlib.errors import DataError, OptionError
from sftlib.support.display import counted

_BLANKS = re.compile("[ \t]+")
_DOCUMENT = "-DOCSTART-"

#: In files of CoNLL-U: surface words that stand over several, and words that were left out of the sentence.
_WIDTH = 10
_RANGE, _EMPTY = re.compile("[0-9]+-[0-9]+"), re.compile(r"[0-9]+\.[0-9]+")

Line: TypeAlias = tuple[int, list[str]]


def read_conll(
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, int],
    delimiter: str | None = None,
    comment: str | None = None,
    encoding: str = "utf-8",
) -> Table:
    """One row a sentence, one list of strings a column.

    In a file of CoNLL-U, whose first column numbers the words of a sentence, lines of ranges (``1-2``) and of empty
    nodes (``2.1``) stand beside the words and are passed over; the logger ``sftlib`` says how many.

    Args:
        path: the file.
        columns: name -> number of the column in the file, from 0; negative numbers count from the last.
        delimiter: what stands between columns; None for a tab where the first line has one, else spaces and tabs.
        comment: lines that begin with this are passed over.
        encoding: of the file.

    Raises:
        OptionError: columns that the file does not have.
        DataError: lines of other than the usual number of columns, all of them counted.
    """
    _check_options(columns, delimiter, comment)
    file = existing(path)
    encoding = with_mark(encoding)
    bad, beside = BadLines(file), _Beside(columns)
    sink = sink_for(size_of(file))
    sink.add({name: [] for name in columns}, 0)
    with opened(file, "r", encoding=encoding, named=True) as stream:
        sentences = map(beside.without, _sentences(_lines(stream, delimiter, comment), bad, columns, file))
        while block := list(islice(sentences, BLOCK)):
            picked = {name: [[cells[at] for _, cells in rows] for rows in block] for name, at in columns.items()}
            sink.add(picked, len(block))
    bad.raise_any()
    beside.tell(file)
    return Table(sink.columns(), sink.count, options=("columns", "delimiter", "comment", "encoding"))


@final
class _Beside:
    """Lines of CoNLL-U that are no words of the sentence: left out, and counted.

    Args:
        columns: name -> number; nothing is left out where the first column holds words itself.
    """

    def __init__(self, columns: Mapping[str, int]) -> None:
        self._may_number = all(at != 0 or name.lower() in ("id", "ids") for name, at in columns.items())
        self._ranges = self._empty = 0
        self._sentences = self._numbered = 0  # sentences, and those whose lines of ten cells begin with 1, 2, ...

    def without(self, sentence: list[Line]) -> list[Line]:
        """The words of a sentence."""
        first = [cells[0] for _, cells in sentence]
        if not self._may_number:
            numbers = [number for number in first if number.isdigit()]
            self._sentences += 1
            self._numbered += len(sentence[0][1]) == _WIDTH and numbers == [str(i + 1) for i in range(len(numbers))]
            return sentence
        if all(map(str.isdigit, first)):
            return sentence
        ranges, empty = sum(map(bool, map(_RANGE.fullmatch, first))), sum(map(bool, map(_EMPTY.fullmatch, first)))
        words = [line for line in sentence if line[1][0].isdigit()]
        in_order = [cells[0] for _, cells in words] == [str(number) for number in range(1, len(words) + 1)]
        if not in_order or len(words) + ranges + empty < len(sentence):
            return sentence
        self._ranges += ranges
        self._empty += empty
        return words

    def tell(self, file: Path) -> None:
        """Say what was left out.

        Raises:
            DataError: the first column was read as words, and numbers them.
        """
        if self._sentences and self._numbered == self._sentences:
            raise DataError(
                f"{file}: the first of {_WIDTH} columns numbers the words of each sentence, as in CoNLL-U; say which "
                "columns hold words and tags: columns={'tokens': 1, 'tags': 3}"
            )
        if self._ranges or self._empty:
            logging.getLogger("sftlib").warning(
                "%s: passed over %s and %s: they stand beside the words of a sentence",
                file,
                counted(self._ranges, "range (1-2)", "ranges (1-2)"),
                counted(self._empty, "empty node (2.1)", "empty nodes (2.1)"),
            )


def _check_options(columns: Any, delimiter: object, comment: object) -> None:
    problems = []
    form = "expected a mapping from names to numbers of columns, such as {'tokens': 0, 'tags': -1}"
    if not isinstance(columns, Mapping) or not columns:
        problems.append(f"columns={brief(columns)}: {form}")
    elif not all(isinstance(name, str) and type(at) is int for name, at in columns.items()):
        problems.append(f"columns={brief(dict(columns))}: {form}")
    if delimiter is not None and (not isinstance(delimiter, str) or not delimiter or delimiter in "\r\n"):
        problems.append(f"delimiter={delimiter!r}: expected what stands between columns, such as '\\t', or None")
    if comment is not None and (not isinstance(comment, str) or not comment):
        problems.append(f"comment={comment!r}: expected what comments begin with, such as '# ', or None")
    if problems:
        raise OptionError("\n".join(problems))


def _lines(stream: IO[str], delimiter: str | None, comment: str | None) -> Iterator[Line]:
    """The cells of each line, none for an empty one, with its number; comments are passed over."""
    known = delimiter
    for number, raw in enumerate(stream, 1):
        line = raw.rstrip("\n")
        if comment is not None and line.startswith(comment):
            continue
        if not line.strip(" \t"):
            yield number, []
            continue
        if known is None:
            known = "\t" if "\t" in line else " "
        blanks = delimiter is None and known == " "
        yield number, _BLANKS.split(line.strip(" \t")) if blanks else line.split(known)


def _sentences(lines: Iterator[Line], bad: BadLines, columns: Mapping[str, int], file: Path) -> Iterator[list[Line]]:
    """The lines of each sentence; those of another width than the first line are noted."""
    sentence: list[Line] = []
    width, comments = 0, False
    for number, cells in lines:
        if not cells or cells[0] == _DOCUMENT:
            if sentence:
                yield sentence
            sentence = []
            continue
        if not width:
            width, comments = len(cells), cells[0].startswith("#")
            _check_width(columns, width, file, number)
        if len(cells) == width:
            sentence.append((number, cells))
        else:
            bad.add(
                number,
                f"has {_columns(len(cells))}, the first has {width}{_hint(comments or cells[0].startswith('#'))}",
            )
    if sentence:
        yield sentence


def _check_width(columns: Mapping[str, int], width: int, file: Path, line: int) -> None:
    wrong = {name: at for name, at in columns.items() if not -width <= at < width}
    if wrong:
        raise OptionError(
            f"columns={wrong}: line {line} of {file} has {_columns(width)}, numbered from 0 (delimiter= says what "
            "stands between them)"
        )


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _hint(maybe: bool) -> str:
    return " (a comment? name what comments begin with, such as comment='# ')" if maybe else ""
