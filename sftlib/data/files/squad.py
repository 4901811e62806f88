"""The files of SQuAD 1.1 and 2.0: articles, paragraphs, questions, answers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, final

from sftlib.data.files.json import parsed, table_of
from sftlib.data.files.paths import existing
from sftlib.data.files.tables import Table
from sftlib.data.kinds.base import kind_of
from sftlib.data.problems import SHOWN, brief
from sftlib.errors import DataError


def read_squad(path: str | os.PathLike[str]) -> Table:
    """One row a question: columns ``question``, ``context``, ``answers``, ``id`` and ``title``.

    Questions without an ``answers`` key, as in test files, give no such column when all lack it.

    Raises:
        DataError: the file is no JSON or of another layout; with each place.
    """
    file = existing(path)
    content = parsed(file)
    if isinstance(content, list) or not isinstance(content, dict) or "data" not in content:
        raise DataError(
            f"{file} holds {brief(content)}, expected SQuAD's layout, an object with 'data'; an array of objects is "
            "read by TaskDataset.from_json, an object a line by from_jsonl"
        )
    problems: list[str] = []
    rows = list(_Walk(problems).questions(content))
    if problems:
        more = [f"  and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([f"{file} is not of SQuAD's layout:", *problems[:SHOWN], *more]))
    return table_of(rows, file)


@final
class _Walk:
    """Goes through a file; what is not as it should be is noted with its place."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems

    def questions(self, content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for place, article in self._each(content, "data", ""):
            title = article.get("title", "")
            for inner, paragraph in self._each(article, "paragraphs", place):
                for where, entry in self._each(paragraph, "qas", inner):
                    if self._has(paragraph, "context", inner) and self._has(entry, "question", where):
                        yield _row(paragraph["context"], title, entry)

    def _each(self, owner: Mapping[str, Any], key: str, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        here = f"{place}.{key}".lstrip(".")
        members = owner.get(key)
        if not isinstance(members, list):
            self._problems.append(f"  {here} {_instead(members)}, expected a list")
            return
        for number, member in enumerate(members):
            if isinstance(member, dict):
                yield f"{here}[{number}]", member
            else:
                self._problems.append(f"  {here}[{number}] {_instead(member)}, expected an object")

    def _has(self, owner: Mapping[str, Any], key: str, place: str) -> bool:
        if not isinstance(owner.get(key), str):
            self._problems.append(f"  {place}.{key} {_instead(owner.get(key))}, expected a string")
            return False
        return True


def _instead(value: object) -> str:
    return "is missing" if value is None else f"is {kind_of(value)}"


def _row(context: str, title: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    row = {"question": entry["question"], "context": context, "id": entry.get("id"), "title": title}
    # A question marked impossible may list what looks like an answer; it counts as none.
    answers = [] if entry.get("is_impossible") is True else entry.get("answers")
    return row if answers is None and "answers" not in entry else row | {"answers": answers}
